"""What the weights of an exported model cost in 8 bits: size, and scores beside those of the model itself.

    python benchmarks/exported.py MODEL MIXTURES.csv OUTPUT [LIMIT]

MIXTURES.csv is a manifest of mixtures, as `avse evaluate` takes it; development data will do. Scores of the model and
of its exports go to folders of OUTPUT, and `avse compare` says which differences are clear.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

import avse
from avse.contracts.types import Clip, Estimate
from avse.evaluation.runner import evaluate
from avse.export import BITS, export_onnx


class Exported:
    """Enhances clips by the graphs of a folder."""

    def __init__(self, folder: Path) -> None:
        place = Path(__file__).parents[1] / "examples" / "enhance_onnx.py"
        specification = importlib.util.spec_from_file_location("enhance_onnx", place)
        assert specification is not None and specification.loader is not None
        self.example = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.example)
        # A session is made once, not for each clip.
        session = self.example.onnxruntime.InferenceSession
        self.example.onnxruntime.InferenceSession = functools.cache(session)
        self.folder, self.name = folder, folder.name

    def enhance(self, clip: Clip) -> Estimate:
        """The speech of a clip; nothing is said of the reliability."""
        mouth = clip.mouth * clip.valid[:, None, None]
        speech = torch.from_numpy(self.example.enhance(self.folder, clip.audio, mouth if clip.valid.any() else None))
        return Estimate(speech, torch.from_numpy(clip.audio) - speech, torch.zeros(len(clip.valid)))


def main(name: str, manifest: str, output: str, limit: str | None = None) -> None:
    """Export, score, and print what to compare."""
    common: dict[str, Any] = {"without_video": True, "metrics": ("si_sdr_improvement",), "progress": True}
    scored = [Path(output) / "model"]
    evaluate(manifest, scored[0], model=avse.load(name), limit=int(limit) if limit else None, **common)
    for bits in BITS:
        folder = Path(output) / f"{bits} bits"
        files = export_onnx(name, folder / "onnx", bits)
        print(f"{bits} bits: {sum(file.stat().st_size for file in files if file.suffix == '.onnx') / 1e6:.1f} MB")
        evaluate(manifest, folder, model=Exported(folder / "onnx"), limit=int(limit) if limit else None, **common)
        scored.append(folder)
    print("avse compare", *(f"'{folder}'" for folder in scored))


if __name__ == "__main__":
    main(*sys.argv[1:])
