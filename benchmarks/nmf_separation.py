"""Separation by non-negative matrix factorisation with spectra of each speaker, the classical baseline.

python benchmarks/nmf_separation.py --manifest mixtures/seen --enrolment manifest.csv --out scores/nmf
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from avse.contracts.types import Clip, Estimate
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.data.scenes import audio_path
from avse.errors import AvseError
from avse.signal.nmf import update_ratio
from avse.signal.stft import istft, stft

_FFT, _HOP = 1024, 320
_ENOUGH = 30.0  # seconds of a speaker's speech to learn from
_FLOOR = 1e-10


class NMFBaseline:
    """Spectra of each speaker, learned on other clips of theirs, explain the mixture together with free ones for noise.

    Itakura-Saito divergence, multiplicative updates, and a Wiener filter. It needs no video, but the names
    of the speakers and clean speech of theirs.

    Arguments
    ---------
    enrolment : path
        Manifest of clean speech of the speakers; clips of the mixture are not learned from.
    rank : int
        Spectra of each speaker.
    noise_rank : int
        Spectra of the noise.
    iterations : int
    seed : int

    Raises
    ------
    AvseError
        If a speaker has no other clip.
    """

    name = "nmf"

    def __init__(
        self, enrolment: str | Path, rank: int = 32, noise_rank: int = 2, iterations: int = 100, seed: int = 0
    ) -> None:
        self.speech = [row for row in read_manifest(enrolment) if row.kind != "noise" and row.clean and row.speaker]
        self.rank, self.noise_rank, self.iterations, self.seed = rank, noise_rank, iterations, seed
        self.learned: dict[tuple[str, str], torch.Tensor] = {}

    def separate_clips(self, clips: Sequence[Clip], names: Sequence[str] = ()) -> Estimate:
        """The speech of each speaker; clips have the audio of the mixture, and the id and speaker of the clean clip."""
        audio = torch.from_numpy(clips[0].audio)[None]
        spectrum = stft(audio, _FFT, _HOP)
        spectra = [self._spectra_of(clip.speaker, clip.clip_id) for clip in clips]
        draw = torch.Generator().manual_seed(self.seed)
        free = torch.rand(self.noise_rank, _FFT // 2 + 1, generator=draw)
        gains, spectra_all = _factorise(
            spectrum[0].abs().square(), torch.cat([*spectra, free / free.sum(dim=1, keepdim=True)]),
            self.iterations, draw, held=self.rank * len(spectra),
        )  # fmt: skip
        total = gains @ spectra_all + _FLOOR
        estimates = []
        for place in range(len(spectra)):
            rows = slice(place * self.rank, (place + 1) * self.rank)
            ratio = (gains[:, rows] @ spectra_all[rows]) / total
            estimates.append(istft(ratio * spectrum, _FFT, _HOP, audio.shape[1])[0])
        speech = torch.stack(estimates)
        return Estimate(speech, audio[0] - speech.sum(dim=0), torch.zeros(len(clips), len(clips[0].valid)))

    def _spectra_of(self, speaker: str, but: str) -> torch.Tensor:
        if (speaker, but) not in self.learned:
            parts: list[np.ndarray] = []
            for row in self.speech:
                if row.speaker == speaker and row.id != but and sum(map(len, parts)) < _ENOUGH * 16_000:
                    parts.append(read_audio(audio_path(row)))
            if not parts:
                raise AvseError(f"{speaker}: there is no other clip of this speaker to learn from.")
            power = stft(torch.from_numpy(np.concatenate(parts))[None], _FFT, _HOP)[0].abs().square()
            draw = torch.Generator().manual_seed(self.seed)
            start = torch.rand(self.rank, power.shape[1], generator=draw) * power.mean(dim=0)
            start = start / start.sum(dim=1, keepdim=True)
            self.learned[speaker, but] = _factorise(power, start, self.iterations, draw)[1]
        return self.learned[speaker, but]


def _factorise(
    power: torch.Tensor, spectra: torch.Tensor, iterations: int, draw: torch.Generator, held: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gains (frames, rank) and spectra (rank, bins) of power (frames, bins); the first `held` spectra stay."""
    power = power + _FLOOR
    level = power.sum(dim=1, keepdim=True) / len(spectra)
    gains = level * (0.5 + torch.rand(len(power), len(spectra), generator=draw))
    for _ in range(iterations):
        variance = gains @ spectra + _FLOOR
        up, down = power / variance.square(), 1 / variance
        gains = gains * update_ratio(up @ spectra.mT, down @ spectra.mT)
        variance = gains @ spectra + _FLOOR
        up, down = power / variance.square(), 1 / variance
        ratio = update_ratio(gains.mT @ up, gains.mT @ down)
        ratio[:held] = 1.0
        spectra = (spectra * ratio).clamp(min=1e-12)
        size = torch.where(torch.arange(len(spectra)) < held, 1.0, spectra.sum(dim=1))
        gains, spectra = gains * size, spectra / size[:, None]
    return gains, spectra


def main() -> None:
    """Score the baseline as `avse evaluate` scores a model."""
    from avse.evaluation import evaluate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, help="mixtures.csv, or its folder")
    parser.add_argument("--enrolment", required=True, help="manifest of clean speech of the speakers")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    model = NMFBaseline(options.enrolment)
    evaluate(options.manifest, options.out, model=model, jobs=options.jobs, keep_estimates=False, progress=True)
    print((options.out / "table.md").read_text())


if __name__ == "__main__":
    main()
