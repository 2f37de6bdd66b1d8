"""Models for the tests of evaluation; a module of its own so that other processes can import it."""

from __future__ import annotations

import os

import numpy as np
import torch

from avse.contracts.types import Clip, Estimate


class Smoother:
    """A moving average: takes white noise from a low voice. Remembers the clips that it was given."""

    name = "smoother"

    def __init__(self, width: int = 5) -> None:
        self.width, self.clips = width, []

    def enhance(self, clip: Clip) -> Estimate:
        self.clips.append(clip)
        speech = np.convolve(clip.audio, np.ones(self.width, np.float32) / self.width, "same")
        reliability = 0.5 * clip.valid.astype(np.float32)
        return estimate(clip, speech, reliability)


class Watcher(Smoother):
    """Trusts bright crops, and smooths the more the brighter they are."""

    def enhance(self, clip: Clip) -> Estimate:
        self.clips.append(clip)
        trust = np.where(clip.valid, clip.mouth.mean(axis=(1, 2)) / 255, 0).astype(np.float32)
        smooth = np.convolve(clip.audio, np.ones(self.width, np.float32) / self.width, "same")
        share = float(trust.mean())
        return estimate(clip, share * smooth + (1 - share) * clip.audio, trust)


class Faulty(Smoother):
    """Fails as told for the n-th clip: a key of `faults` is an index, its value changes the speech or raises."""

    def __init__(self, faults: dict) -> None:
        super().__init__()
        self.faults = faults

    def enhance(self, clip: Clip) -> Estimate:
        found = super().enhance(clip)
        fault = self.faults.get(len(self.clips) - 1)
        return found if fault is None else estimate(clip, fault(found.speech.numpy()), found.reliability.numpy())


class Deadly:
    """Ends its process."""

    name = "deadly"

    def enhance(self, clip: Clip) -> Estimate:
        os._exit(3)


def estimate(clip: Clip, speech: np.ndarray, reliability: np.ndarray) -> Estimate:
    speech = torch.from_numpy(np.ascontiguousarray(speech, dtype=np.float32))
    return Estimate(speech, torch.zeros_like(speech), torch.from_numpy(reliability))
