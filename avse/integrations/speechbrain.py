"""For users of SpeechBrain: a `Pretrained` interface of any model of `avse`, and the folder that theirs loads.

`AudioVisualEnhancement.from_hparams(source="avse-small")` takes a model as `avse.load` does, or a folder that `export`
wrote, which SpeechBrain's own fetching finds on disk and on the hub.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.inference.interfaces import Pretrained

from avse import model_folder
from avse.contracts.types import SAMPLE_RATE, Clip
from avse.errors import AvseError
from avse.files import atomic_folder, atomic_path, write_text
from avse.model import Model, load

HPARAMS = "hyperparams.yaml"
_SYSTEM = """
# For avse.integrations.speechbrain.AudioVisualEnhancement.from_hparams(source=FOLDER)
sample_rate: 16000
modules:
    system: !ref <{key}>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        system: !ref <{key}>
"""


class AudioVisualEnhancement(Pretrained):
    """A model of `avse` as SpeechBrain's users know it.

    Example
    -------
    >>> import tempfile, torch
    >>> enhancer = AudioVisualEnhancement.from_hparams("avse-small", savedir=tempfile.mkdtemp())
    >>> enhancer.enhance_batch(torch.zeros(2, 16000), lengths=torch.tensor([1.0, 0.5])).shape
    torch.Size([2, 16000])
    """

    MODULES_NEEDED = ["system"]
    HPARAMS_NEEDED = ["sample_rate"]

    @classmethod
    def from_hparams(cls, source: str | Path, hparams_file: str = HPARAMS, **options: Any) -> AudioVisualEnhancement:
        """Load a model.

        Arguments
        ---------
        source : str or path
            A model as of `avse.load` (a name, a model folder, `hf://ORGANISATION/NAME`), or what SpeechBrain takes: a
            folder or a repository with a `hyperparams.yaml`. SpeechBrain runs what a `hyperparams.yaml` names.
        hparams_file : str
        options
            Of SpeechBrain: `savedir`, `run_opts={"device": "cuda"}`, `overrides`, ...
        """
        known = str(source) in model_folder.embedded() or str(source).startswith("hf:/")
        if not known and (not Path(source).is_dir() or (Path(source) / hparams_file).is_file()):
            return super().from_hparams(source, hparams_file, **options)
        folder = options.pop("savedir", None) or tempfile.mkdtemp(prefix="avse-speechbrain-")
        export(load(source, "cpu"), folder)
        return super().from_hparams(str(folder), hparams_file, savedir=str(folder), **options)

    def enhance_batch(
        self,
        noisy: torch.Tensor,
        lengths: torch.Tensor | None = None,
        mouth: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Enhance clips that were padded together.

        Arguments
        ---------
        noisy : tensor, shape (batch, samples)
            At 16 kHz.
        lengths : tensor, shape (batch,), optional
            Of each clip, as a share of the longest. Default: 1.
        mouth : tensor, shape (batch, video_frames, 88, 88), uint8, optional
            Mouth crops, one for each 640 samples. Default: audio only.
        valid : tensor, shape (batch, video_frames), bool, optional
            Where a mouth was seen. Default: everywhere in `mouth`.

        Returns
        -------
        tensor, shape (batch, samples)
            Zero beyond each clip's length.
        """
        if noisy.ndim != 2:
            raise AvseError(f"enhance_batch takes noisy audio of shape (batch, samples), not {tuple(noisy.shape)}.")
        share = torch.ones(len(noisy)) if lengths is None else lengths.cpu()
        samples = (share * noisy.shape[1]).round().long().clamp(1, noisy.shape[1]).tolist()
        clips = []
        for row, length in enumerate(samples):
            frames = -(-length // 640)
            crops = None if mouth is None else mouth[row, :frames].cpu().numpy()
            seen = None if crops is None else np.ones(len(crops), bool)
            if valid is not None and crops is not None:
                seen = valid[row, :frames].cpu().numpy()
            clips.append(Clip(noisy[row, :length].cpu().numpy().astype(np.float32), crops, seen))
        enhanced = torch.zeros(noisy.shape)
        for row, estimate in enumerate(self._model().enhance_batch(clips)):
            enhanced[row, : samples[row]] = estimate.speech
        return enhanced.to(self.device)

    def enhance_file(
        self, filename: str | Path, output_filename: str | Path | None = None, **reading: Any
    ) -> torch.Tensor:
        """Enhance a media file, with the video that it has.

        Arguments
        ---------
        filename : path
        output_filename : path, optional
            Audio file to write, at 16 kHz.
        reading
            Of `avse.Model.enhance`: `video=`, `use_video=`, `face=`, ...

        Returns
        -------
        tensor, shape (samples,)
        """
        import soundfile

        speech = self._model().enhance(filename, **reading).speech.cpu()
        if output_filename is not None:
            with atomic_path(output_filename) as path:
                soundfile.write(str(path), speech.numpy(), SAMPLE_RATE)
        return speech

    def forward(self, noisy: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`enhance_batch`."""
        return self.enhance_batch(noisy, lengths)

    def _model(self) -> Model:
        return Model(self.mods.system, "")


def export(model: Model, folder: str | Path) -> list[Path]:
    """Write what `Pretrained.from_hparams` loads: `hyperparams.yaml`, and the weights as `system.ckpt`.

    Returns
    -------
    list of path
        Both files.
    """
    folder = Path(folder)
    key = model_folder.SYSTEM if f"\n{model_folder.SYSTEM}:" in f"\n{model.recipe}" else "model"
    with atomic_folder(folder) as made:
        write_text(made / HPARAMS, model.recipe.rstrip() + "\n" + _SYSTEM.format(key=key))
        torch.save({name: weight.cpu() for name, weight in model.system.state_dict().items()}, made / "system.ckpt")
    return [folder / HPARAMS, folder / "system.ckpt"]
