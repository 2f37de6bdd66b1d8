"""Export to ONNX: the graphs, driven by the example without PyTorch, give what the model gives."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

from avse import export, plugins
from avse.contracts.types import Clip
from avse.errors import AvseError
from avse.export import export_onnx
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.model import Model

EXAMPLE = Path(__file__).parents[2] / "examples" / "enhance_onnx.py"


def _model(causal: bool, sees: bool = True) -> Model:
    torch.manual_seed(0)
    frontend = plugins.get("visual_frontend", "conv3d")(output_dim=6, channels=(4, 6), size=12, causal=causal)
    fusion = ReliabilityAttention(16, 6, heads=2, context=3, window=7, causal=causal, trust_layers=2)
    system = plugins.get("enhancer", "tf_masker")(
        *((frontend, fusion) if sees else ()),
        channels=16,
        blocks=2,
        fusion_block=1,
        context=9,
        causal=causal,
        speaking=True,
        noise_aware=True,
    )
    torch.nn.init.normal_(system.noise_encoder.weight)
    return Model(system.eval(), "", "tiny", {"licence": "CC BY 4.0"})


def _example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("enhance_onnx", EXAMPLE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("causal", [True, False])
def test_the_example_gives_what_the_model_gives(causal: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'avse[onnx]'")
    pytest.importorskip("onnxruntime", reason="pip install 'avse[onnx]'")
    model, rng = _model(causal), np.random.default_rng(0)
    files = export_onnx(model, tmp_path / "exported")
    assert [file.name for file in files if file.suffix == ".onnx"] == ["audio.onnx", "video.onnx"]
    about = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert (about["licence"], about["causal"]) == ("CC BY 4.0", causal)
    for samples in (9000, 6411, 100):  # no frame count is that of the example which was traced
        noisy = rng.standard_normal(samples).astype(np.float32) * np.linspace(0.01, 1, samples, dtype=np.float32)
        noisy[: samples // 3] = 0
        mouth = rng.integers(1, 255, (-(-samples // 640), 88, 88), dtype=np.uint8)
        mouth[4:7] = 0
        seen = Clip(noisy, mouth, mouth.any(axis=(1, 2)))
        for crops, clip in ((mouth, seen), (None, Clip(noisy))):
            found = _example().enhance(tmp_path / "exported", noisy, crops)
            np.testing.assert_allclose(found, model.enhance(clip).speech, atol=1e-4 * np.abs(noisy).max())


def test_the_example_runs_as_a_command_without_torch_and_8_bits_are_smaller_and_near(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'avse[onnx]'")
    pytest.importorskip("onnxruntime", reason="pip install 'avse[onnx]'")
    model, noisy = _model(True, sees=False), np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    soundfile.write(tmp_path / "noisy.wav", noisy, 16000, "FLOAT")
    code = "import sys, runpy; sys.modules['torch'] = sys.modules['avse'] = None; sys.argv = sys.argv[1:]; "
    found, size = {}, {}
    for bits in (32, 8):
        [graph, *_] = export_onnx(model, tmp_path / f"{bits}", bits)
        size[bits] = graph.stat().st_size
        names = [f"{bits}", "noisy.wav", f"{bits}.wav"]
        command = [
            sys.executable,
            "-c",
            code + "runpy.run_path(sys.argv[0], run_name='__main__')",
            str(EXAMPLE),
            *names,
        ]
        subprocess.run(command, cwd=tmp_path, check=True)
        found[bits], rate = soundfile.read(tmp_path / f"{bits}.wav")
        assert rate == 16000
    np.testing.assert_allclose(found[32], model.enhance(Clip(noisy)).speech, atol=1e-4)
    assert 0 < np.square(found[8] - found[32]).sum() < 0.01 * np.square(found[32]).sum() and size[8] < size[32]


@pytest.mark.parametrize(
    ("model", "bits", "message"),
    [
        ("av-vae", 32, "cannot be exported: that needs"),
        ("av-separator", 32, "one speaker"),
        ("avse-live", 16, "32 or 8"),
    ],
)
def test_what_cannot_be_exported_is_told(model: str, bits: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(AvseError, match=message):
        export_onnx(model, tmp_path / "exported", bits)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("to", ["onnx", "speechbrain"])
def test_an_interrupted_export_leaves_nothing(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it touch what an earlier one wrote."""
    from avse.integrations import speechbrain

    pytest.importorskip("onnxscript", reason="pip install 'avse[onnx]'")
    owner, name = (export, "write_json") if to == "onnx" else (torch, "save")
    write = export_onnx if to == "onnx" else speechbrain.export
    monkeypatch.setattr(export, "_write", lambda graph, past, path, *_, **__: path.write_text("graph") and {})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    folder, model = tmp_path / "exported", _model(True)
    for is_there in (False, True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, interrupt)
            write(model, folder)
        assert [path.name for path in tmp_path.rglob("*")] == (["exported", "own.txt"] if is_there else [])
        folder.mkdir(exist_ok=True)
        (folder / "own.txt").touch()
    files = write(model, folder)
    assert {*folder.iterdir()} == {*files, folder / "own.txt"} and [*tmp_path.iterdir()] == [folder]


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    pytest.importorskip("onnx")
    with pytest.raises(AvseError, match=r"onnxscript.*pip install 'avse\[onnx\]'"):
        export_onnx(_model(True), tmp_path)
