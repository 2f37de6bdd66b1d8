"""Sounds, texts, pictures and videos of scenes, drawn on the fly for embeddings that are trained by contrast."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch

from avse.contracts.embedding import Embedding
from avse.contracts.types import SAMPLE_RATE
from avse.data.audio import read_audio
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, is_left_out
from avse.data.mixing import mix_at_snr
from avse.data.noises import cut_or_loop, draw_offset
from avse.data.speech_set import ItemSet, equalise
from avse.errors import AvseError
from avse.files import atomic_path
from avse.nnet.scene_trunks import image_features, text_features

_FRAMES, _VIEWS, _LONGEST = 8, 4, 30 * SAMPLE_RATE


class Example(NamedTuple):
    """One input of one modality, with the numbers of what it shows: of classes, and above those of single scenes."""

    modality: str
    features: np.ndarray
    labels: tuple[int, ...]


@dataclass
class SceneBatch:
    """What is in a batch of each modality; a modality that is absent from it is no key.

    Arguments
    ---------
    features : dict of str to tensor
        As `SceneClip.features` gives them; `captions`: features of texts without a label.
    labels : dict of str to tensor, shape (items, labels), bool
    """

    features: dict[str, torch.Tensor] = field(default_factory=dict)
    labels: dict[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: str | torch.device) -> SceneBatch:
        """The batch on another device."""
        moved = [{name: tensor.to(device) for name, tensor in one.items()} for one in (self.features, self.labels)]
        return SceneBatch(*moved)


class SceneSet(ItemSet):
    """Sounds with noise of a class, and whatever describes that class or that recording.

    An item is a sound, a text of its class, with some chance a picture of it, or a scene of the manifest with all that
    it has, and a caption of nothing in particular. In training the sound is a cut of noise, often mixed with noise of
    another class (then it has both labels) or with clean speech, and coloured at random.

    Arguments
    ---------
    utterances : sequence of Utterance
        Noise, speech, scenes and images of one split.
    cache : ClipCache
        Features of pictures are kept in its folder.
    size : int
        Items in an epoch.
    seed : int
    classes : sequence of str
    same : dict of str to str
        Class of a label that is not the name of one.
    descriptions : dict of str to list of str
        Texts of a class.
    captions : str or Path, optional
        A folder with `by_keyword.csv` (columns class and caption) and `audiocaps_train.txt` (a caption a line).
    seconds : (float, float)
        Range of lengths of sounds; one for the items of a batch.
    group : int
        Items of a batch.
    mixed, spoken, pictured, scenes : float
        Shares of items: with a second noise, with speech, with a picture if the class has one, of scenes.
    snr : (float, float)
        Range of the ratio of speech to noise in dB.
    embedding : Embedding, optional
        That is trained, whose `text_features` reads texts and whose `learn_words` learns a tokenizer from them; see
        `SceneClip`. Default: texts are read by WordLlama.
    leave_out : int
        One scene and picture in so many is not drawn; see `is_left_out`.
    """

    use_video = False

    def __init__(
        self,
        utterances: Sequence[Utterance],
        cache: ClipCache,
        size: int,
        seed: int = 0,
        *,
        classes: Sequence[str],
        same: Mapping[str, str],
        descriptions: Mapping[str, Sequence[str]],
        captions: str | Path | None = None,
        seconds: tuple[float, float] = (1.0, 4.0),
        group: int = 64,
        mixed: float = 0.3,
        spoken: float = 0.5,
        pictured: float = 0.5,
        scenes: float = 0.1,
        snr: tuple[float, float] = (-5.0, 10.0),
        leave_out: int = 4,
        embedding: Embedding | None = None,
    ) -> None:
        super().__init__(size, seed)
        self.utterances = []  # nothing that the cache of faces should fill
        self.number = {name: index for index, name in enumerate(classes)}
        self.same, self.seconds, self.group, self.snr = same, seconds, group, snr
        self.mixed, self.spoken, self.pictured, self.scene_share = mixed, spoken, pictured, scenes
        self.noise = [
            (row, number) for row in utterances if row.kind == "noise" and (number := self.of(row)) is not None
        ]
        self.speech = [row for row in utterances if row.kind == "speech" and row.clean is not None][::12]
        if not self.noise:
            raise AvseError("The manifest has no noise of the recipe's classes. Check its columns label and split.")
        counts = np.bincount([number for _, number in self.noise], minlength=len(classes))
        weights = np.array([counts[number] for _, number in self.noise]) ** -0.5
        self.weights = weights / weights.sum()
        self.sounds: dict[Path, np.ndarray] = {}
        texts = {number: list(descriptions.get(name, [name])) for name, number in self.number.items()}
        lines: list[str] = []
        if captions is not None:
            lines = _lines(Path(captions) / "audiocaps_train.txt")
            with open(Path(captions) / "by_keyword.csv", newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    if (found := self.number.get(same.get(line["class"], line["class"]))) is not None:
                        texts[found].append(line["caption"])
        read, trained = text_features, cast(Any, embedding)
        if trained is not None:
            trained.learn_words([*lines, *chain(*texts.values())])
            read = trained.text_features
        self.captions = read(lines[::3]).numpy() if lines else None
        self.texts = {number: read(lines).numpy() for number, lines in texts.items()}
        self.own = {number: len(descriptions.get(name, [name])) for name, number in self.number.items()}
        shown = [u for u in utterances if u.kind in ("image", "scene") and not is_left_out(u.id, leave_out)]
        seen = picture_features(shown, cache.folder)
        self.pictures: dict[int, list[np.ndarray]] = {}
        self.scenes: list[tuple[Utterance, tuple[int, ...], np.ndarray | None, np.ndarray | None]] = []
        for row in shown:
            number = self.of(row)
            if row.kind == "image" and number is not None:
                self.pictures.setdefault(number, []).append(seen[row.id])
            elif row.kind == "scene":
                labels = (*([] if number is None else [number]), len(classes) + len(self.scenes))
                text = read([row.text]).numpy()[0] if row.text else None
                self.scenes.append((row, labels, text, seen.get(row.id)))
        self.labels = len(classes) + len(self.scenes)

    def of(self, row: Utterance) -> int | None:
        """Number of the class of a row."""
        return self.number.get(self.same.get(row.label, row.label))

    def __getitem__(self, index: int) -> list[Example]:  # type: ignore[override]
        """Examples of item `index` of the epoch."""
        low, high = self.seconds
        shared = np.random.default_rng((self.seed, self.epoch, index // self.group, 1))
        samples = round(shared.uniform(low, high) * 4) * SAMPLE_RATE // 4
        return self.examples(np.random.default_rng((self.seed, self.epoch, index)), samples)

    def examples(self, rng: np.random.Generator, samples: int) -> list[Example]:
        """What an item holds, its sound of so many samples."""
        found = []
        if self.captions is not None:
            found.append(Example("captions", self.captions[rng.integers(len(self.captions))], ()))
        if self.scenes and rng.random() < self.scene_share:
            row, labels, text, frames = self.scenes[rng.integers(len(self.scenes))]
            found.append(Example("sound", self.cut(row, samples, rng), labels))
            if text is not None:
                found.append(Example("text", text, labels))
            if frames is not None:
                found.append(Example("video", frames, labels))
            return found
        row, number = self.draw(rng)
        sound = self.cut(row, samples, rng)
        numbers = {number}
        if rng.random() < self.mixed:
            other, second = self.draw(rng)
            sound = mix_at_snr(sound, self.cut(other, samples, rng), rng.uniform(-5, 5))[0]
            numbers.add(second)
        if self.speech and rng.random() < self.spoken:
            voice = self.cut(self.speech[rng.integers(len(self.speech))], samples, rng)
            sound = mix_at_snr(voice, sound, rng.uniform(*self.snr))[0]
        found.append(Example("sound", sound.astype(np.float32), tuple(numbers)))
        texts, own = self.texts[number], self.own[number]
        # As many of its own as of the captions, which tell of other things too.
        chosen = rng.integers(own) if rng.random() < 0.5 else rng.integers(len(texts))
        found.append(Example("text", texts[chosen], (number,)))
        pictures = self.pictures.get(number)
        if rng.random() < self.pictured:
            if not pictures:  # a picture of something else, with a text of that
                number = list(self.pictures)[rng.integers(len(self.pictures))] if self.pictures else -1
                pictures = self.pictures.get(number)
                if pictures:
                    found.append(Example("text", self.texts[number][rng.integers(self.own[number])], (number,)))
            if pictures:
                views = pictures[rng.integers(len(pictures))]
                found.append(Example("image", views[rng.integers(len(views))][None], (number,)))
        return found

    def draw(self, rng: np.random.Generator) -> tuple[Utterance, int]:
        """A recording of noise and its class; rare classes more often than their share."""
        return self.noise[rng.choice(len(self.noise), p=self.weights)]

    def cut(self, row: Utterance, samples: int, rng: np.random.Generator) -> np.ndarray:
        """So many samples of a recording, coloured at random, of power one."""
        if row.audio not in self.sounds:
            audio = read_audio(row.audio)[:_LONGEST]
            self.sounds[row.audio] = (audio / (np.abs(audio).max() + 1e-6)).astype(np.float16)
        whole = self.sounds[row.audio]
        sound = cut_or_loop(whole, samples, draw_offset(whole, samples, rng)).astype(np.float32)
        if self.mixed or self.spoken:
            sound = equalise(sound, rng)
        return sound / (np.sqrt(np.mean(sound**2)) + 1e-5)

    def collate(self, items: Sequence[list[Example]]) -> SceneBatch:  # type: ignore[override]
        """A batch of items."""
        batch = SceneBatch()
        examples = [example for item in items for example in item]
        for modality in sorted({example.modality for example in examples}):
            chosen = [example for example in examples if example.modality == modality]
            if modality == "video":  # an image is a video of one frame
                chosen = [one._replace(features=one.features[:_FRAMES]) for one in chosen]
            batch.features[modality] = torch.as_tensor(np.stack([one.features for one in chosen])).float()
            labels = torch.zeros(len(chosen), self.labels, dtype=torch.bool)
            for row, one in zip(labels, chosen):
                row[list(one.labels)] = True
            batch.labels[modality] = labels
        return batch


def picture_features(rows: Sequence[Utterance], folder: Path) -> dict[str, np.ndarray]:
    """Features of the pictures and videos of rows, by id, kept in a folder.

    Returns
    -------
    dict of str to array, shape (views, 1280)
        Of an image: of the whole, of its mirror image and of cuts. Of a video: of frames, evenly spaced.
    """
    paths = {row.id: str(row.video or row.extra["image"]) for row in rows if row.video or row.extra.get("image")}
    key = zlib.crc32(json.dumps(sorted(paths.items())).encode())
    path = folder / f"pictures-{key:08x}.npz"
    if not path.is_file():
        found = {name: image_features(_views(Path(one))).numpy().astype(np.float16) for name, one in paths.items()}
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **found)
    with np.load(path) as kept:
        return {name: kept[name].astype(np.float32) for name in kept.files}


def _views(path: Path) -> list[np.ndarray]:
    """Pictures of a file, RGB: all `_FRAMES` frames of a video, or views of an image."""
    image = cv2.imread(str(path))
    if image is not None:
        image = np.ascontiguousarray(image[..., ::-1])
        height, width = image.shape[:2]
        cuts = [image, image[:, ::-1], image[: 3 * height // 4, : 3 * width // 4], image[height // 4 :, width // 4 :]]
        return cuts[:_VIEWS]
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for place in np.linspace(0, max(0, count - 2), _FRAMES).astype(int):
        video.set(cv2.CAP_PROP_POS_FRAMES, int(place))
        there, frame = video.read()
        if there:
            frames.append(np.ascontiguousarray(frame[..., ::-1]))
    video.release()
    if not frames:
        raise AvseError(f"{path}: holds no picture that can be read.")
    return [frames[min(index, len(frames) - 1)] for index in range(_FRAMES)]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
