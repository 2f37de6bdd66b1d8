"""What a network is told of the noise of training mixtures: vectors of texts, of recordings and of the mixture."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from avse import model_folder
from avse.contracts.embedding import Embedding
from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.files import atomic_path
from avse.scene import NAME, load_embedding
from avse.signal.scenes import combined

_LONGEST = 10 * SAMPLE_RATE  # of a recording


class ToldNoise:
    """Descriptions of noise for `MixtureSet`: its label in words, its sound, the noisy audio, or nothing, at random.

    A mixture of two recordings has the mean of both. Other noise (babble, colours) is described by noisy audio alone.
    Vectors of texts and recordings are made once and kept.

    Arguments
    ---------
    noises : sequence of Utterance
        Recordings of noise; those without a `label` are described by their sound alone.
    folder : Path
        Where the vectors are kept.
    text, sound : float
        Shares of mixtures that are described by a text, and by the sound of the recording; nothing is said of others.
    noisy : float
        Share that is described by the sound of the noisy audio itself, as `auto` does in use.
    wrong : float
        Share of the first two that are told of another recording, so that the network learns to doubt.
    embedding : str or Path
        Name or folder of the embedding of scenes.
    same, descriptions : dict
        Class of a label, and texts of a class, of which one is drawn; see `SceneSet`. Default: the label itself.
    """

    def __init__(
        self,
        noises: Sequence[Utterance],
        folder: Path,
        *,
        text: float = 0.4,
        sound: float = 0.3,
        noisy: float = 0.0,
        wrong: float = 0.1,
        embedding: str | Path = NAME,
        same: Mapping[str, str] | None = None,
        descriptions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.text, self.sound, self.noisy, self.wrong = text, sound, noisy, wrong
        self.noises = list(noises)
        if not self.noises:
            raise AvseError("scenes: the manifest has no noise that could be described.")
        texts = {}
        for label in sorted({row.label for row in self.noises} - {""}):
            texts[label] = [*(descriptions or {}).get((same or {}).get(label, label), ()), label.replace("_", " ")]
        model = (model_folder.find(embedding) / model_folder.DESCRIPTION).read_text(encoding="utf-8")
        audio = sorted((row.id, str(row.audio)) for row in self.noises)
        path = folder / f"told-{zlib.crc32(json.dumps([model, texts, audio]).encode()):08x}.npz"
        self.network = load_embedding(embedding) if noisy or not path.is_file() else None
        if not path.is_file():
            network = cast(Embedding, self.network)
            with torch.no_grad():
                vectors = {f"text {label}": network(lines, "text").numpy() for label, lines in texts.items()}
                for row in self.noises:
                    vectors[f"sound {row.id}"] = network([read_audio(row.audio)[:_LONGEST]], "sound").numpy()
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, **vectors)
        with np.load(path) as kept:
            self.vectors = {name: kept[name] for name in kept.files}
        self.dim = next(iter(self.vectors.values())).shape[1]

    def __call__(self, recordings: Sequence[Utterance], noisy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A vector of length one, shape (dim,), of the recordings in a mixture or of its audio; zeros say nothing."""
        place = rng.random()
        if place >= self.text + self.sound:
            if self.network is None or place >= self.text + self.sound + self.noisy:
                return np.zeros(self.dim, dtype=np.float32)
            with torch.no_grad():
                return self.network([noisy[:_LONGEST]], "sound")[0].numpy()
        if rng.random() < self.wrong:
            recordings = [self.noises[rng.integers(len(self.noises))]]
        names = [f"text {row.label}" if place < self.text else f"sound {row.id}" for row in recordings]
        known = [self.vectors[name] for name in names if name in self.vectors]
        if not known:
            return np.zeros(self.dim, dtype=np.float32)
        return combined([torch.from_numpy(one[rng.integers(len(one))]) for one in known]).numpy()
