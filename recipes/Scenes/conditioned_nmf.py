"""Trains the network of the noise model `conditioned_nmf`, and scores noise models that are told what the noise is.

    python recipes/Scenes/conditioned_nmf.py train MANIFEST CAPTIONS -o WORK
    python recipes/Scenes/conditioned_nmf.py score MIXTURES MANIFEST CAPTIONS -o RESULTS.json
    python recipes/Scenes/conditioned_nmf.py exchange MIXTURES MANIFEST CAPTIONS -o RESULTS.json

`train` goes on where it was stopped. First the network learns from noise of the training split, told the code of its
class; then a linear layer from the embedding `scene-clip` to the codes is fitted on texts, pictures and sounds of
the same split. `score` takes recorded mixtures of `avse mix`, audio alone, at each SNR under each description;
`exchange` fits the layer from one modality alone, and describes the noise by each modality. Both keep the gain of each
mixture in a file of lines beside the results, and go on where they were stopped; another `--inference` adds to the
same file. `--noise_model` names another model than `conditioned_nmf`, `--every 3` takes every third mixture. Repetition
r of `--seeds` has draws of its own and, where `--embeddings` are given, the r-th, for which the layer is fitted anew.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from torch.nn import functional as F

import avse
from avse import plugins
from avse.contracts.types import Batch, Clip
from avse.data.audio import read_audio
from avse.data.manifest import Utterance, read_manifest
from avse.data.noises import cut_or_loop, draw_offset
from avse.evaluation.statistics import bootstrap_means
from avse.files import append_line, read_lines, write_json
from avse.model import scene_dim
from avse.nnet.noise_estimator import SceneNoiseEstimator
from avse.noise_models import described
from avse.noise_models.conditioned_nmf import ConditionedNMF
from avse.scene import load_embedding, read_scene
from avse.signal.metrics import si_sdr
from avse.signal.scenes import combined, fitted, sound_spectra, with_sound
from avse.training.noise_estimator import class_code, fit_entrance, learn_noise_estimator

DIM, STEPS, RIDGE = 128, 1100, 0.03
INFERENCES = {
    "vem": {"iterations": 5, "m_steps": 1},
    "langevin": {"iterations": 10, "m_steps": 1, "step_size": 0.05},
    "posterior_sampling_moments": {"quantile": 0.0},
}
FREE = {  # with `nmf`, at which it is best
    "vem": {"iterations": 30},
    "langevin": {"iterations": 15},
    "posterior_sampling_moments": {"quantile": 0.5},
}
RANDOM = ("langevin", "posterior_sampling_moments")  # whose result depends on the seed
DIMENSIONS = ("system", "test", "inference", "snr")
OTHERS = {"none (`nmf`)": "nmf", "none (`prior_nmf`)": "prior_nmf"}
MODALITIES = ("text", "image", "video", "sound")
Audio = Sequence[Sequence[np.ndarray]]  # noisy, clean and noise of each mixture
Cell = tuple[dict[str, str], Callable[[], torch.nn.Module], Sequence[torch.Tensor | None] | None, bool]
"""Its place, what builds the noise model, what is told of each mixture (None: it is left out), and whether the model is
`nmf`."""
_PART, _ALIKE = 4000, 0.5  # samples that are compared, and the correlation from which they are the same
_OF_A_CLASS = 10  # mixtures at all SNRs, for a row of its own


class Descriptions:
    """Vectors of the texts and pictures of each class of noise."""

    def __init__(self, manifest: Path, captions: Path, embedding: str = "scene-clip") -> None:
        classes = yaml.safe_load((Path(__file__).parent / "classes.yaml").read_text(encoding="utf-8"))
        self.same, self.texts = classes["same"], classes["descriptions"]
        self.embedding, self._kept = load_embedding(embedding), dict[tuple[str, str], torch.Tensor]()
        with open(captions / "classmap.csv", encoding="utf-8") as file:
            self.shown = {row["noise_class"]: row["image_class"] for row in csv.DictReader(file)}
        self.pictures, self.videos = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        with open(manifest, encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["kind"] == "image":
                    self.pictures[row["label"]].append(str(manifest.parent / row["image"]))
                elif row["kind"] == "scene" and row["video"] and row["label"]:
                    self.videos[self.name(row["label"])].append(str(manifest.parent / row["video"]))

    def name(self, label: str) -> str:
        return str(self.same.get(label, label))

    def sound(self, samples: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return self.embedding([samples.astype(np.float32)], "sound")[0]

    def sounding(self, samples: np.ndarray) -> torch.Tensor:
        """The vector of a noise alone, with how it sounds."""
        return with_sound(self.sound(samples), [sound_spectra(torch.as_tensor(samples))])

    def of(self, modality: str, item: str) -> torch.Tensor:
        if (modality, item) not in self._kept:
            with torch.no_grad():
                read = item if modality == "text" else read_scene(item)[1]
                self._kept[modality, item] = self.embedding([read], modality)[0]
        return self._kept[modality, item]

    def items(self, modality: str, label: str) -> list[str]:
        """Texts, or the first pictures or videos, of a class."""
        if modality == "text":
            return list(self.texts.get(self.name(label), ()))
        return (
            self.pictures[self.shown.get(label) or label] if modality == "image" else self.videos[self.name(label)]
        )[:3]

    def of_class(self, label: str) -> Iterator[torch.Tensor]:
        for modality in ("text", "image"):
            yield from (self.of(modality, item) for item in self.items(modality, label))


@dataclass
class Recordings:
    """Noise of the training split with its labels, and excerpts of speech, (samples,) each."""

    noise: list[np.ndarray]
    labels: list[str]
    speech: list[np.ndarray]

    @classmethod
    def read(cls, manifest: Path, rng: np.random.Generator) -> Recordings:
        of_kind = partial(read_manifest, manifest, splits=["train"])
        rows = [row for row in of_kind(kinds=["noise"]) if row.noise is not None]
        spoken = [row for row in of_kind(kinds=["speech", "av_speech"]) if row.clean is not None]

        def excerpt(path: Path, seconds: float) -> np.ndarray:
            audio = read_audio(path)
            length = min(len(audio), int(seconds * 16000))
            return cut_or_loop(audio, length, draw_offset(audio, length, rng))

        noise = [excerpt(row.noise, 10.0) for row in rows if row.noise is not None]
        chosen = [spoken[place].clean for place in rng.permutation(len(spoken))[:1100]]
        speech = [audio for path in chosen if path is not None and len(audio := excerpt(path, 3.0)) >= 16000]
        return cls(noise, [row.label for row in rows], speech)

    def heard(self, told: Descriptions, place: int, rng: np.random.Generator) -> list[torch.Tensor]:
        """Vectors of a recording, and of it under speech at -6 to 6 dB."""
        clean = self.speech[int(rng.integers(len(self.speech)))]
        cut = cut_or_loop(self.noise[place], len(clean), 0)
        loud = np.sqrt(np.square(clean).mean() / max(float(np.square(cut).mean()), 1e-12))
        return [told.sound(cut), told.sound(clean + loud * 10 ** (rng.uniform(-6, 6) / 20) * cut)]


def training_data(arguments: argparse.Namespace) -> tuple[Recordings, Descriptions, np.random.Generator]:
    """What a training learns from, and its random numbers; the folder `arguments.output` is made."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    return Recordings.read(arguments.manifest, rng), Descriptions(arguments.manifest, arguments.captions), rng


def train(arguments: argparse.Namespace) -> None:
    (data, told, rng), work = training_data(arguments), arguments.output
    codes = [class_code(told.name(label), DIM) for label in data.labels]
    generator = torch.Generator().manual_seed(1)
    scenes = [F.normalize(code + 0.03 * torch.randn(4, DIM, generator=generator), dim=1) for code in codes]
    estimator = SceneNoiseEstimator(DIM)
    begun = safetensors.torch.load_file(Path(described.__file__).with_name("prior_nmf.safetensors"))
    estimator.load_state_dict({name: value.float() for name, value in begun.items()}, strict=False)
    estimator.enter.requires_grad_(False)
    prior = avse.load("av-vae").system.prior.requires_grad_(False)
    common = {"steps": STEPS, "rate": 2e-3, "scenes": scenes, "checkpoint": work / "checkpoint.pt"}
    learn_noise_estimator(estimator, prior, data.speech, data.noise, **common)
    fit(estimator, told, data, rng)
    kept = {name: value.detach().half().contiguous() for name, value in estimator.state_dict().items()}
    safetensors.torch.save_file(kept, work / "conditioned_nmf.safetensors")
    nearest = {name: value.half() for name, value in recordings_of(told, data).items()}
    safetensors.torch.save_file(nearest, work / "noise_recordings.safetensors")


def recordings_of(told: Descriptions, data: Recordings, modality: str = "sound") -> dict[str, torch.Tensor]:
    """Embedding and spectra of each recording, of which the noise model finds the nearest.

    The embedding is that of the sound, or the mean of those of another modality that its class has; without any, zeros.
    """

    def described(noise: np.ndarray, label: str) -> torch.Tensor:
        if modality == "sound":
            return told.sound(noise[: 4 * 16000])
        found = [told.of(modality, item) for item in told.items(modality, label)]
        return combined(found) if found else torch.zeros(DIM)

    return {
        "embeddings": torch.stack([described(noise, label) for noise, label in zip(data.noise, data.labels)]),
        "levels": torch.stack([sound_spectra(torch.as_tensor(noise), 4) for noise in data.noise]),
    }


def fit(estimator: SceneNoiseEstimator, told: Descriptions, data: Recordings, rng: np.random.Generator) -> None:
    """The layer from the embedding to the codes, from all that is told of each recording."""
    vectors, names, weights = [], [], []
    count = Counter(map(told.name, data.labels))
    for place, label in enumerate(data.labels):
        found = [*told.of_class(label), *data.heard(told, place, rng)]
        vectors += found
        names += [told.name(label)] * len(found)
        weights += [count[told.name(label)] ** -0.5 / len(found)] * len(found)
    fit_entrance(estimator, torch.stack(vectors), names, torch.tensor(weights), RIDGE)


class Sources:
    """From where the noise of each mixture is, as the file of the scenes says."""

    def __init__(self, scenes: Path, manifest: Path) -> None:
        self.recordings = {row.id: row for row in read_manifest(manifest, kinds=["noise"])}
        with open(scenes, encoding="utf-8") as file:
            lines = csv.DictReader(line for line in file if not line.startswith("#"))
            self.of = {line["id"]: line["sources"] for line in lines}

    def other_seconds(self, row: Utterance, noise: np.ndarray) -> np.ndarray | None:
        """Up to two seconds of a recording that the noise of a mixture, taken from it, has not.

        None where there is less than half a second, or where the recording repeats itself, as looped ones do.
        """
        name, _, offset = self.of[row.id].partition(" @ ")
        whole, start = read_audio(self.recordings[name].audio), int(offset or 0)
        rest = np.concatenate([whole[:start], whole[start + len(noise) :]])[: 2 * 16000]
        return rest if len(rest) > 8000 and not is_repeated(rest, noise) else None


def is_repeated(rest: np.ndarray, noise: np.ndarray) -> bool:
    """Whether a quarter of a second of one sound is in the other: a correlation above 0.5, of their differences."""
    sought, heard = np.diff(rest).astype(float), np.diff(noise).astype(float)
    energy = np.convolve(heard**2, np.ones(_PART), "valid") + 1e-12
    size = 2 ** int(np.ceil(np.log2(len(heard) + _PART)))
    spectrum = np.fft.rfft(heard, size)
    for first in range(0, len(sought) - _PART + 1, _PART):
        part = sought[first : first + _PART]
        product = np.fft.irfft(spectrum * np.fft.rfft(part, size).conj(), size)[: len(energy)]
        if float((product**2 / (energy * (np.sum(part**2) + 1e-12))).max()) > _ALIKE**2:
            return True
    return False


class World:
    """What a repetition of the trials has: descriptions by one embedding, and noise models that read them."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        embeddings = arguments.embeddings or ["scene-clip"]
        self.arguments, self.embedding = arguments, embeddings[seed % len(embeddings)]
        self.told = Descriptions(arguments.manifest, arguments.captions, self.embedding)
        self.rng = np.random.default_rng(seed)

    @cached_property
    def data(self) -> Recordings:
        return Recordings.read(self.arguments.manifest, self.rng)

    @cached_property
    def entrance(self) -> torch.Tensor:
        estimator = SceneNoiseEstimator(DIM)
        fit(estimator, self.told, self.data, self.rng)
        return estimator.enter.weight

    @cached_property
    def recordings(self) -> dict[str, torch.Tensor]:
        return recordings_of(self.told, self.data)

    def build(self, name: str | None = None) -> torch.nn.Module:
        """A noise model; by default the one that is asked for."""
        if name == "nmf":
            return plugins.get("noise_model", name)(rank=4 if self.arguments.inference.startswith("posterior") else 2)
        model = plugins.get("noise_model", name or self.arguments.noise_model)()
        if name is None and self.embedding != "scene-clip":
            scene_estimator(model).enter.weight = torch.nn.Parameter(self.entrance, requires_grad=False)
            find_among(model, self.recordings)
        return model


def score(arguments: argparse.Namespace) -> None:
    def cells(world: World, at: Sequence[Utterance], audio: Audio) -> Iterator[Cell]:
        for name, scenes in descriptions(world.told, at, audio):
            of = OTHERS.get(name)
            yield {"system": name}, partial(world.build, of), scenes, of == "nmf"
        if arguments.scenes:
            sources = Sources(arguments.scenes, arguments.manifest)
            rest = [sources.other_seconds(row, noise) for row, (_, _, noise) in zip(at, audio)]
            told = [None if one is None else world.told.sounding(one) for one in rest]
            yield {"system": "other seconds of it, sound"}, world.build, told, False

    _write(arguments, cells)


def exchange(arguments: argparse.Namespace) -> None:
    def cells(world: World, at: Sequence[Utterance], audio: Audio) -> Iterator[Cell]:
        told = world.told
        asked = {
            modality: [
                next(map(partial(told.of, modality), told.items(modality, row.label)), torch.zeros(DIM)) for row in at
            ]
            for modality in MODALITIES[:3]
        } | {"sound": [told.sounding(noise) for _, _, noise in audio]}
        yield {"system": "none", "test": "none"}, world.build, None, False
        for learned in MODALITIES:
            for modality, scenes in asked.items():
                yield {"system": learned, "test": modality}, partial(_fitted_on, learned, world), scenes, False

    _write(arguments, cells)


@cache
def _entrance_of(modality: str, world: World) -> torch.Tensor:
    told = world.told
    if modality == "sound":
        found = [
            (told.name(label), world.data.heard(told, at, world.rng)) for at, label in enumerate(world.data.labels)
        ]
    else:
        classes = sorted({told.name(label): label for label in world.data.labels}.items())
        found = [(name, [told.of(modality, item) for item in told.items(modality, label)]) for name, label in classes]
    names, vectors = zip(*[(name, vector) for name, each in found for vector in each])
    estimator = SceneNoiseEstimator(DIM)
    fit_entrance(estimator, torch.stack(vectors), names, torch.ones(len(names)), RIDGE)
    return estimator.enter.weight


@cache
def _recordings_of(modality: str, world: World) -> dict[str, torch.Tensor]:
    return recordings_of(world.told, world.data, modality)


def _fitted_on(modality: str, world: World) -> torch.nn.Module:
    model = world.build()
    scene_estimator(model).enter.weight = torch.nn.Parameter(_entrance_of(modality, world), requires_grad=False)
    find_among(model, _recordings_of(modality, world))
    return model


def find_among(noise_model: torch.nn.Module, recordings: Mapping[str, torch.Tensor]) -> None:
    """Let a model that is told spectra find them among other recordings."""
    if isinstance(noise_model, ConditionedNMF):
        for name, value in recordings.items():
            setattr(noise_model, name, value)


def scene_estimator(noise_model: torch.nn.Module) -> SceneNoiseEstimator:
    return next(part for part in noise_model.modules() if isinstance(part, SceneNoiseEstimator))


def _write(
    arguments: argparse.Namespace, cells_of: Callable[[World, Sequence[Utterance], Audio], Iterator[Cell]]
) -> None:
    torch.set_num_threads(1)
    rows = [row for row in read_manifest(arguments.mixtures) if row.extra.get("condition") == "recorded"]
    inference, kept = arguments.inference, arguments.output.with_suffix(".jsonl")
    prior = avse.load("av-diffusion-small" if inference.startswith("posterior") else "av-vae").system.prior
    gains = read_lines(kept) if kept.exists() else []
    worlds = [World(arguments, seed) for seed in range(arguments.seeds)]
    for seed, snr in itertools.product(range(arguments.seeds), arguments.snr):
        at = sorted((row for row in rows if row.snr == snr), key=lambda row: (row.speaker, row.id))[:: arguments.every]
        at.sort(key=lambda row: row.duration or 0)
        audio = [[read_audio(path) for path in (row.noisy, row.clean, row.noise)] for row in at]
        for place, build, scenes, untold in cells_of(worlds[seed], at, audio):
            place = {"test": "", "inference": inference, "snr": f"{snr:g}"} | place
            done = {row["id"] for row in gains if row["seed"] == str(seed) and all(row[k] == place[k] for k in place)}
            chosen = [number for number in range(len(at)) if scenes is None or scenes[number] is not None]
            if {at[number].id for number in chosen} <= done or (seed and scenes is None and inference not in RANDOM):
                continue
            used = INFERENCES[inference] | (FREE[inference] if untold else {})
            told = None if scenes is None else [scene for scene in scenes if scene is not None]
            found = gains_of(
                plugins.get("inference", inference)(prior, build(), seed=seed, **used),
                [audio[number] for number in chosen],
                told,
            )
            for row, gain in zip([at[number] for number in chosen], found):
                of = {"seed": str(seed), "id": row.id, "speaker": row.speaker, "label": row.label}
                append_line(kept, place | of | {"gain": round(float(gain), 4)})
                gains.append(place | of | {"gain": float(gain)})
            about = "Measured by recipes/Scenes/conditioned_nmf.py " + (arguments.note or "")
            write_json(
                arguments.output, {"system": arguments.noise_model, "provenance": about.strip(), "cells": _cells(gains)}
            )
            print(f"{place}, seed {seed}: {found.mean():.2f} dB", flush=True)


def _cells(gains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over repetitions, with intervals over speakers: gains, what is over none, and that by class of noise."""
    found = defaultdict[tuple[str, ...], dict[str, list[float]]](lambda: defaultdict(list))
    about = {row["id"]: row for row in gains}
    for row in gains:
        found[tuple(row[name] for name in DIMENSIONS)][row["id"]].append(row["gain"])
    means = {place: {name: float(np.mean(each)) for name, each in of.items()} for place, of in found.items()}
    cells, by_class = [], defaultdict[tuple[str, ...], dict[str, float]](dict)

    def add(place: Mapping[str, str], metric: str, values: Mapping[str, float]) -> None:
        speakers = [about[name]["speaker"] for name in values]
        [interval] = bootstrap_means(np.array(list(values.values()))[:, None], speakers)
        cells.append({**place, "metric": metric, "condition": "recorded", **asdict(interval)})

    for key, values in means.items():
        place = dict(zip(DIMENSIONS, key))
        add(place, "si_sdr_improvement", values)
        test = "none" if place["test"] else ""
        none = means.get(tuple({**place, "system": "none", "test": test}.values()), {})
        over = {name: value - none[name] for name, value in values.items() if name in none}
        if over and none is not values:
            add(place, "over none", over)
            for name, value in over.items():
                by_class[place["system"], place["test"], place["inference"], about[name]["label"]][name] = value
    for (system, test, inference, label), over in by_class.items():
        if not test and len(over) >= _OF_A_CLASS:
            add({"system": system, "test": "", "inference": inference, "snr": "all", "class": label}, "over none", over)
    return cells


def descriptions(
    told: Descriptions, rows: Sequence[Utterance], audio: Audio
) -> Iterator[tuple[str, Sequence[torch.Tensor] | None]]:
    """Names of descriptions, and the vectors of each mixture."""
    rng, labels = np.random.default_rng(0), [row.label for row in rows]
    others = [str(rng.choice([m for m in sorted(set(labels)) if told.name(m) != told.name(one)])) for one in labels]
    pictures = {label: told.pictures[told.shown.get(label) or label] for label in labels}
    texts, heard = ([told.of("text", one.replace("_", " ")) for one in names] for names in (labels, others))
    itself = [told.sound(noisy) for noisy, _, _ in audio]
    for name in OTHERS:
        yield name, None
    yield "none", None
    yield "right, text", texts
    yield "wrong, text", heard
    yield (
        "right, image, where there is one",
        [told.of("image", pictures[one][0]) if pictures[one] else torch.zeros(DIM) for one in labels],
    )
    yield "from the clip itself", itself
    yield "right, text, and the clip itself", [combined(both) for both in zip(texts, itself)]
    sounds = [told.sounding(noise) for _, _, noise in audio]
    yield "shuffled, sound", [sounds[(place + 7) % len(sounds)] for place in range(len(sounds))]
    yield "oracle, sound", sounds


def gains_of(
    system: torch.nn.Module, audio: Sequence[Sequence[np.ndarray]], scenes: Sequence[torch.Tensor] | None, size: int = 8
) -> np.ndarray:
    """SI-SDR improvement of each mixture."""
    gained = []
    for first in range(0, len(audio), size):
        part = audio[first : first + size]
        batch = Batch.from_clips([Clip(noisy) for noisy, _, _ in part], [clean for _, clean, _ in part])
        if scenes is not None:
            batch.scene = torch.stack([fitted(scene, scene_dim(system)) for scene in scenes[first : first + size]])
        with torch.no_grad():
            speech = system.eval()(batch).speech
        assert batch.clean is not None
        gained += (si_sdr(speech, batch.clean) - si_sdr(batch.noisy, batch.clean)).tolist()
    return np.array(gained)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    mixed = ("mixtures", "manifest", "captions")
    for verb, places in ((train, mixed[1:]), (score, mixed), (exchange, mixed)):
        chosen = verbs.add_parser(verb.__name__)
        for place in places:
            chosen.add_argument(place, type=Path)
        chosen.add_argument("-o", "--output", type=Path, required=True)
        if "mixtures" in places:
            chosen.add_argument("--noise_model", default="conditioned_nmf")
            chosen.add_argument("--inference", default="vem", choices=INFERENCES)
            chosen.add_argument("--snr", type=float, nargs="+", default=[-5.0])
            chosen.add_argument("--every", type=int, default=1)
            chosen.add_argument("--scenes", type=Path, help="scenes of the mixtures, which say where a noise is from")
            chosen.add_argument("--seeds", type=int, default=3)
            chosen.add_argument("--embeddings", nargs="+", help="model folders, one for each repetition")
            chosen.add_argument("--note", help="what the results say of themselves")
        chosen.set_defaults(verb=verb)
    asked = parser.parse_args()
    asked.verb(asked)
