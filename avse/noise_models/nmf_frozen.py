"""Noise model `nmf_frozen`: spectra learned from recordings of noise; only their gains are fitted to the clip."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F

from avse.contracts.noise_model import NoiseModel, State
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.nmf import Exponent, multiply, normalise, update_ratio
from avse.signal.stft import stft

_FLOOR = 1e-10
_QUIET = 1e-4  # frames whose power relative to the recording's mean is below this are left out


@register("noise_model", "nmf_frozen")
class FrozenNMF(NoiseModel):
    """Non-negative matrix factorisation with a dictionary that was learned before: V = gains x dictionary.

    For comparison: `nmf` is better. The gains are free in each frame, and many spectra of any noise also make up
    speech: with 16 spectra the model explains clean speech as well as the prior of `av-vae` does (negative log-
    likelihood per bin of 10 development clips -6.1, and -6.3 with 64 spectra), and it explains the clip's own noise
    less well than two spectra that are fitted to it (-2.9 and -3.1; -3.2). So it takes speech for noise. In recorded
    noise at -5 dB `av-vae` without video gains 0.4 dB with it (32 spectra, `vem`; 1.7 with `langevin`), and 4.8 dB with
    `nmf`. That holds where classes of noise with voices and music are left out of the learning (0.9 and 1.5 dB), where
    the gains begin steady (1.8 dB at most), and where they are sparse (2.3 dB).

    Until `learn` is called the dictionary holds overlapping frequency bands. `avse.data.noises.noise_recordings` reads
    the noise of a manifest for it.

    Arguments
    ---------
    rank : int
        Number of spectra.
    fft_size, hop : int
        Of the transform that the dictionary is learned with, in samples.
    exponent : float
        Of the multiplicative updates.
    seed : int
        Of the random beginning of `learn`.

    Attributes
    ----------
    dictionary : tensor, shape (rank, bins)
        Each spectrum sums to one.

    State: `gains` (batch, frames, rank); for a prior with another number of bins also `dictionary` (batch, rank, bins),
    interpolated over frequency.

    Example
    -------
    >>> model = FrozenNMF(rank=4, fft_size=640)
    >>> hum = np.sin(np.arange(16000) / 8.0)
    >>> model.learn([hum]).dictionary.shape
    torch.Size([4, 321])
    """

    learnable = ("exponent",)
    fitted = ("gains",)
    paper = "Smaragdis, Raj and Shashanka, Supervised and semi-supervised separation of sounds, 2007"
    dictionary: torch.Tensor

    def __init__(
        self, rank: int = 32, fft_size: int = 1024, hop: int = 320, exponent: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}.")
        if not 0.0 < exponent <= 1.0:
            raise ValueError(f"exponent must be above 0 and at most 1, got {exponent}.")
        self.rank, self.fft_size, self.hop, self.seed = rank, fft_size, hop, seed
        self.exponent: Exponent = exponent
        bins = fft_size // 2 + 1
        # Bands of one width on a scale between linear and logarithmic.
        place = torch.linspace(0, 1, bins).sqrt()[None]
        centre = torch.linspace(0, 1, rank)[:, None]
        bands = (-0.5 * ((place - centre) * rank).square()).exp() + 1e-3
        self.register_buffer("dictionary", bands / bands.sum(dim=1, keepdim=True))

    @classmethod
    def example_arguments(cls) -> dict:
        return {"rank": 8, "fft_size": 640}

    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """All spectra have one gain, at the level of each frame; see `NoiseModel.initial_state`."""
        level = power.sum(dim=-1, keepdim=True) + _FLOOR
        state = {"gains": (level / self.rank).expand(-1, -1, self.rank).clone()}
        if power.shape[-1] != self.dictionary.shape[1]:
            resampled = F.interpolate(self.dictionary[None], power.shape[-1], mode="linear", align_corners=True)
            state["dictionary"] = (resampled / resampled.sum(dim=-1, keepdim=True)).expand(len(power), -1, -1)
        return state

    def variance(self, state: State) -> torch.Tensor:
        return (state["gains"] @ self._spectra(state)).clamp(min=_FLOOR)

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        dictionary = self._spectra(state)
        ratio = update_ratio(numerator @ dictionary.mT, denominator @ dictionary.mT, self.exponent)
        return state | {"gains": (state["gains"] * ratio).clamp(min=_FLOOR)}

    def _spectra(self, state: State) -> torch.Tensor:
        return state.get("dictionary", self.dictionary).to(state["gains"])

    def learn(self, recordings: Iterable[np.ndarray], iterations: int = 100) -> FrozenNMF:
        """Learn the dictionary from noise.

        Arguments
        ---------
        recordings : iterable of arrays, shape (samples,)
            At 16 kHz. A recording counts by its length, whatever its level.
        iterations : int
            Of the factorisation.

        Returns
        -------
        FrozenNMF
            This one.

        Raises
        ------
        AvseError
            If all recordings are silent, or there is none.
        """
        spectrograms = []
        for recording in recordings:
            signal = torch.as_tensor(np.asarray(recording, dtype=np.float32))[None]
            power = stft(signal, self.fft_size, self.hop)[0].abs().square()
            level = power.mean(dim=1)
            power = power[level > _QUIET * level.mean()]
            if len(power):
                spectrograms.append(power / power.mean())
        if not spectrograms:
            raise AvseError("nmf_frozen: there is no noise to learn from; every recording is silent.")
        # Bins are kept off zero: a band that a recording lost (by coding) has no infinitely small variance.
        power = torch.cat(spectrograms)[None] + 1e-5
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randint(power.shape[1], (self.rank,), generator=generator)
        with torch.no_grad():
            # Begins with the spectra of random frames, blurred towards the mean.
            spectra = power[:, chosen] + power.mean(dim=1, keepdim=True)
            gains, spectra = normalise(torch.full((1, power.shape[1], self.rank), 1.0 / self.rank), spectra)
            for _ in range(iterations):
                variance = gains @ spectra
                precision = variance.reciprocal()
                gains, spectra = multiply(gains, spectra, power * precision.square(), precision, self.exponent)
            self.dictionary.copy_(spectra[0])
        return self
