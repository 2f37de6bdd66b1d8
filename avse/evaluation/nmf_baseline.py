"""Separation by non-negative matrix factorisation with spectra of each talker: the classical way to know a voice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from avse.contracts.types import Clip, Estimate
from avse.data.audio import read_audio
from avse.data.manifest import read_manifest
from avse.data.scenes import sound_path
from avse.data.separation_scenes import Mixture
from avse.errors import AvseError
from avse.signal.nmf import update_ratio
from avse.signal.stft import istft, stft

_FFT, _HOP = 1024, 320
_LEARNT = 30.0  # seconds of a talker's speech that are enough
_FLOOR = 1e-10


class NMFBaseline:
    """Spectra of each talker, learned on other clips of theirs, explain the mixture together with free ones for noise.

    Itakura-Saito divergence, multiplicative updates, and a Wiener filter. Needs no video, but must be told who talks
    and have heard them before.

    Arguments
    ---------
    enrolment : path
        Manifest of clean speech of the talkers; clips of the mixture are not learned from.
    rank : int
        Spectra of each talker.
    noise_rank : int
        Spectra of the noise.
    iterations : int
    seed : int

    Raises
    ------
    AvseError
        If a talker has no other clip.
    """

    def __init__(
        self, enrolment: str | Path, rank: int = 32, noise_rank: int = 2, iterations: int = 100, seed: int = 0
    ) -> None:
        self.speech = [one for one in read_manifest(enrolment) if one.kind != "noise" and one.clean and one.speaker]
        self.rank, self.noise_rank, self.iterations, self.seed = rank, noise_rank, iterations, seed
        self.learned: dict[tuple[str, str], torch.Tensor] = {}

    def __call__(self, mixture: Mixture, clips: Sequence[Clip]) -> Estimate:
        """The voices of one mixture."""
        sound = torch.from_numpy(clips[0].audio)[None]
        spectrum = stft(sound, _FFT, _HOP)
        spectra = [self._spectra_of(who, name) for who, name in zip(mixture.speaker, mixture.talkers)]
        draw = torch.Generator().manual_seed(self.seed)
        free = torch.rand(self.noise_rank, _FFT // 2 + 1, generator=draw)
        gains, spectra_all = _factorise(
            spectrum[0].abs().square(), torch.cat([*spectra, free / free.sum(dim=1, keepdim=True)]),
            self.iterations, draw, held=self.rank * len(spectra),
        )  # fmt: skip
        total = gains @ spectra_all + _FLOOR
        voices = []
        for place in range(len(spectra)):
            own = slice(place * self.rank, (place + 1) * self.rank)
            share = (gains[:, own] @ spectra_all[own]) / total
            voices.append(istft(share * spectrum, _FFT, _HOP, sound.shape[1])[0])
        speech = torch.stack(voices)
        return Estimate(speech, sound[0] - speech.sum(dim=0), torch.zeros(len(clips), len(clips[0].valid)))

    def _spectra_of(self, speaker: str, but: str) -> torch.Tensor:
        if (speaker, but) not in self.learned:
            sounds: list[np.ndarray] = []
            for one in self.speech:
                if one.speaker == speaker and one.id != but and sum(map(len, sounds)) < _LEARNT * 16_000:
                    sounds.append(read_audio(sound_path(one)))
            if not sounds:
                raise AvseError(f"{speaker}: there is no other clip of this talker to learn from.")
            power = stft(torch.from_numpy(np.concatenate(sounds))[None], _FFT, _HOP)[0].abs().square()
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
