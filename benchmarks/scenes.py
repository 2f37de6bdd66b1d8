"""Scores of embeddings of scenes: retrieval between modalities, classes of unseen recordings, and ablations.

    python benchmarks/scenes.py MANIFEST CAPTIONS CACHE MODEL [MODEL ...] --ablate heads
    python benchmarks/scenes.py MANIFEST CAPTIONS CACHE NAME=MODEL [NAME=MODEL ...] --ablate networks

The models are seeds of one recipe. Writes `recipes/Scenes/results/*.json`, and the picture of the first. Sounds are
those of the test split, texts are captions of the validation split of AudioCaps in which all words of a class stand,
pictures and videos the quarter that training leaves out. Intervals: 95 % of a bootstrap over queries of the mean over
seeds. `--ablate` trains heads alone, on what the sound network of each model gives before its last layer, and scores
the development split: `heads` with each loss and switch, `heads_by_trunk` with each text trunk. `networks` scores whole
models on it, several of a name being its seeds.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from avse.contracts.embedding import MODALITIES
from avse.data.audio import read_audio
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance, is_left_out, read_manifest
from avse.data.mixing import mix_at_snr
from avse.data.noises import cut_or_loop
from avse.data.scene_set import SceneBatch, SceneSet, picture_features
from avse.embeddings.scene_clip import SceneClip
from avse.evaluation.runner import model_hash
from avse.nnet.scene_trunks import text_features
from avse.recipe import load_recipe
from avse.scene import load_embedding
from avse.training.contrastive import ContrastiveLearner, calibrate, class_texts
from avse.training.contrastive_losses import MultiPositiveLoss, SigmoidLoss

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes/Scenes/hparams/scene_clip.yaml"
CAPTIONS_OF_A_CLASS = 8
SPOKEN_SNR = 0.0  # dB
Pools = dict[str, tuple[torch.Tensor, np.ndarray]]
"""Of each modality: features or vectors, and the number of the class of each."""


def captions_of(classes: Sequence[str], path: Path) -> list[tuple[str, int]]:
    """Captions in which all words of a class stand, a few of each, with the number of the class."""
    found: list[tuple[str, int]] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, name in enumerate(classes):
        stems = [re.compile(rf"\b{re.escape(word[:5])}") for word in name.split("_")]
        hits = [line for line in lines if all(stem.search(line.lower()) for stem in stems)]
        found += [(line, number) for line in hits[:CAPTIONS_OF_A_CLASS]]
    return found


class Data:
    """What is scored: features by modality with their classes, and the training set that calibrates."""

    def __init__(self, manifest: str, captions: str, cache: str) -> None:
        values = load_recipe(RECIPE, {"manifest": manifest, "captions": captions, "cache_folder": cache}).build()
        rows = read_manifest(manifest, kinds=values["kinds"])
        self.classes: list[str] = values["classes"]
        training = [row for row in rows if row.split == "train"]
        self.train_of = partial(values["train_set"], training, ClipCache(cache), size=20 * 64, seed=1)
        self.train: SceneSet = self.train_of()
        recordings: dict[int, set[str]] = {}
        for row in rows:
            if row.kind == "noise" and (number := self.train.of(row)) is not None:
                recordings.setdefault(number, set()).add(row.recording)
        self.frequent = sorted(number for number, names in recordings.items() if len(names) >= 3)
        shown = [row for row in training if row.kind in ("image", "scene")]
        # The features of what is drawn are kept already; those that are left out are added.
        left = [row for row in shown if is_left_out(row.id, 4) and self.train.of(row) is not None]
        seen = picture_features(left, Path(cache))
        self.pictures = [(seen[row.id], self.train.of(row), row.kind) for row in left if row.id in seen]
        self.texts = captions_of(self.classes, Path(captions) / "audiocaps_val.txt")
        self.sounds = {split: self._sounds(rows, split) for split in ("dev", "test")}
        self.sounds |= {f"{split}, spoken": self._spoken(rows, split) for split in ("dev", "test")}

    def _sounds(self, rows: Sequence[Utterance], split: str) -> list[tuple[np.ndarray, int]]:
        return [
            (read_audio(row.audio)[: 10 * 16000], number)
            for row in rows
            if row.kind == "noise" and row.split == split and (number := self.train.of(row)) is not None
        ]

    def _spoken(self, rows: Sequence[Utterance], split: str) -> list[tuple[np.ndarray, int]]:
        """The same sounds under clean speech of the split, each of another clip."""
        rng = np.random.default_rng(0)
        speech = [row for row in rows if row.kind == "speech" and row.split == split and row.clean is not None]
        mixed = []
        for audio, number in self.sounds[split]:
            voice = read_audio(speech[int(rng.integers(len(speech)))].audio)
            mixed.append((mix_at_snr(cut_or_loop(voice, len(audio), 0), audio, SPOKEN_SNR)[0], number))
        return mixed

    def raw(self, embedding: SceneClip, split: str) -> Pools:
        """Vectors before they are aligned."""
        with torch.no_grad():
            sounds = [embedding.encode(torch.from_numpy(audio)[None], "sound") for audio, _ in self.sounds[split]]
            texts = embedding.encode(embedding.text_features([line for line, _ in self.texts]), "text")
            pools = {
                "sound": (torch.cat(sounds), np.array([number for _, number in self.sounds[split]])),
                "text": (texts, np.array([number for _, number in self.texts])),
            }
            for modality, kind in (("image", "image"), ("video", "scene")):
                chosen = [(torch.from_numpy(one), number) for one, number, of in self.pictures if of == kind]
                frames = [one[:1] if kind == "image" else one for one, _ in chosen]
                pools[modality] = (
                    torch.cat([embedding.encode(one[None], modality) for one in frames]),
                    np.array([number for _, number in chosen]),
                )
        return pools


def aligned(embedding: SceneClip, pools: Pools) -> Pools:
    """Vectors as `embed` gives them."""
    return {name: (embedding.aligned(vectors, name), classes) for name, (vectors, classes) in pools.items()}


def hits(query: str, target: str, pools: Pools) -> dict[str, np.ndarray]:
    """Recall at 1, 5 and 10 of each query that has an answer, and what chance gives at 1."""
    (asked, wanted), (given, there) = pools[query], pools[target]
    alike = wanted[:, None] == there[None]
    cosines = (asked @ given.T).numpy()
    if query == target:
        np.fill_diagonal(alike, False)
        np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)
    ranked = np.take_along_axis(alike, order, axis=1)[alike.any(axis=1)]
    found = {f"recall at {k}": ranked[:, :k].any(axis=1).astype(float) for k in (1, 5, 10)}
    return {**found, "chance at 1": alike[alike.any(axis=1)].mean(axis=1)}


def class_hits(table: torch.Tensor, pools: Pools, candidates: Sequence[int]) -> np.ndarray:
    """Whether the class of each sound, if it is a candidate, is found by its vector."""
    vectors, classes = pools["sound"]
    kept = np.isin(classes, candidates)
    best = (vectors @ table[list(candidates)].T).argmax(dim=1).numpy()
    return (np.array(candidates)[best] == classes)[kept].astype(float)


def cell(of_seeds: Sequence[np.ndarray], **dimensions: Any) -> dict[str, Any]:
    """A cell of a table: the mean over seeds, with an interval over queries."""
    values = np.mean(of_seeds, axis=0)
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    rounded = {
        name: round(float(number), 3) for name, number in (("mean", values.mean()), ("low", low), ("high", high))
    }
    return {**dimensions, **rounded, "n": len(values)}


def probe(features: torch.Tensor, classes: np.ndarray, unseen: torch.Tensor, wanted: np.ndarray) -> np.ndarray:
    """Hits of multinomial logistic regression on standardised features, with the weight decay 0.01."""
    mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-4)
    names = np.unique(classes)
    targets = torch.from_numpy(np.searchsorted(names, classes))
    layer = nn.Linear(features.shape[1], len(names))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.01)
    inputs = (features - mean) / std
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(layer(inputs), targets).backward()
        optimizer.step()
    with torch.no_grad():
        best = names[layer((unseen - mean) / std).argmax(dim=1).numpy()]
    return (best == wanted)[np.isin(wanted, names)].astype(float)


def probes(data: Data, split: str) -> list[dict[str, Any]]:
    """Linear probes: of the frozen networks for text and pictures, and of mean and deviation of log-mel bands."""
    torch.manual_seed(0)
    train = data.train
    levels = SceneClip().sound.levels

    def described(audio: np.ndarray) -> torch.Tensor:
        bands = levels(torch.from_numpy(audio.astype(np.float32))[None])[0]
        return torch.cat([bands.mean(dim=0), bands.std(dim=0)])

    cells = []
    known = [(described(read_audio(row.audio)[: 10 * 16000]), number) for row, number in train.noise]
    unseen = [(described(audio), number) for audio, number in data.sounds[split] if number in data.frequent]
    kept = [(one, number) for one, number in known if number in data.frequent]
    sounds = probe(*_split(kept), *_split(unseen))
    cells.append(
        cell([sounds], system="linear probe: mean and deviation of log-mel bands", metric="top-1", split=split)
    )
    texts = [(torch.from_numpy(one), number) for number, rows in train.texts.items() for one in rows]
    lines = list(zip(text_features([line for line, _ in data.texts]), [number for _, number in data.texts]))
    cells.append(cell([probe(*_split(texts), *_split(lines))], system="linear probe: WordLlama", metric="captions"))
    pictures = [
        (torch.from_numpy(view), number) for number, ones in train.pictures.items() for one in ones for view in one
    ]
    held = [(torch.from_numpy(one[0]), number) for one, number, kind in data.pictures if kind == "image"]
    cells.append(
        cell([probe(*_split(pictures), *_split(held))], system="linear probe: EfficientNet-Lite0", metric="pictures")
    )
    return cells


def _split(pairs: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, np.ndarray]:
    return torch.stack([one for one, _ in pairs]), np.array([number for _, number in pairs])


class Bank:
    """Items of training whose sounds went through the frozen sound network once; `calibrate` takes it for a set."""

    def __init__(self, embedding: SceneClip, train: SceneSet, sounds: Sequence[np.ndarray] = ()) -> None:
        self.train, self.group, self.texts, self.own = train, train.group, train.texts, train.own
        self.items: list[Any] = []
        self.sounds = list(sounds)  # of another bank, which drew the same
        for start in range(0, len(train), train.group):
            items = [train[start + index] for index in range(train.group)]
            if len(self.sounds) <= start:
                with torch.no_grad():
                    self.sounds.extend(penultimate(embedding, train.collate(items).features["sound"]).numpy())
            pooled = iter(self.sounds[start:])
            self.items += [
                [one._replace(features=next(pooled)) if one.modality == "sound" else one for one in item]
                for item in items
            ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def collate(self, items: Sequence[Any]) -> SceneBatch:
        return self.train.collate(items)


def penultimate(embedding: SceneClip, audio: torch.Tensor) -> torch.Tensor:
    """What the last layer of the sound network takes."""
    network = embedding.sound
    last, network.leave = network.leave, nn.Identity()
    try:
        return network(audio)
    finally:
        network.leave = last


VARIANTS: Mapping[str, dict[str, Any]] = {
    "sigmoid": {},
    "multi-positive softmax": {"loss": MultiPositiveLoss},
    "sigmoid, injected noise 0.3": {"injected_noise": 0.3},
    "sigmoid, query mixup": {"query_mixup": True},
    "softmax, noise and mixup": {"loss": MultiPositiveLoss, "injected_noise": 0.3, "query_mixup": True},
}
TRUNKS = ("wordllama", "sentencepiece", "minilm")
GAPS: Mapping[str, tuple[bool, int]] = {
    "as trained": (False, 0),
    "centred": (True, 0),
    "64 shared axes": (False, 64),
    "centred, 64 axes": (True, 64),
    "centred, 32 axes": (True, 32),
    "centred, 16 axes": (True, 16),
}


def heads(
    trained: SceneClip,
    bank: Bank,
    seed: int,
    loss: type = SigmoidLoss,
    steps: int = 400,
    embedding: SceneClip | None = None,
    **how: Any,
) -> SceneClip:
    """Heads trained anew on a bank; their `sound` is a linear layer."""
    torch.manual_seed(seed)
    embedding = embedding or SceneClip(classes=trained.classes)
    embedding.sound = nn.Linear(trained.sound.leave.in_features, embedding.output_dim)  # type: ignore[assignment]
    learner = ContrastiveLearner(embedding, loss(), **how)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        batch = bank.collate([bank[index] for index in rng.integers(len(bank), size=bank.group)])
        optimizer.zero_grad()
        learner.objective(learner(batch), batch).backward()
        optimizer.step()
        schedule.step()
    calibrate(embedding.eval(), bank)  # type: ignore[arg-type]
    return embedding


def variants(data: Data, models: Sequence[SceneClip], split: str = "dev") -> list[dict[str, Any]]:
    """Cells of losses and switches of training: heads alone, on the sound network of each model."""
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed, model in enumerate(models, 1):
        bank = Bank(model, data.train)
        for name, how in VARIANTS.items():
            learned = heads(model, bank, 10 * seed, **how)
            rows.setdefault(name, []).append(_with_heads(data, model, learned, bank, split))
            print(f"heads of model {seed}: {name}", flush=True)
    return _cells(rows)


def trunks(data: Data, models: Sequence[SceneClip], split: str = "dev") -> list[dict[str, Any]]:
    """The same of text trunks."""
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed, model in enumerate(models, 1):
        bank = Bank(model, data.train)
        for name in TRUNKS:
            torch.manual_seed(seed)
            embedding = SceneClip(classes=model.classes, text_trunk=name)
            other = Bank(model, data.train_of(embedding=embedding), bank.sounds)
            learned = heads(model, other, 10 * seed, embedding=embedding)
            rows.setdefault(name, []).append(_with_heads(data, model, learned, other, split))
    return _cells(rows)


def networks(data: Data, models: Sequence[tuple[str, SceneClip]], split: str = "dev") -> list[dict[str, Any]]:
    """The same of whole models, each with a name."""
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, model in models:
        rows.setdefault(name, []).append(summary(data, model, data.raw(model, split)))
    return _cells(rows)


def _with_heads(data: Data, model: SceneClip, learned: SceneClip, bank: Bank, split: str) -> dict[str, np.ndarray]:
    """Hits of heads on the sound network of a model."""
    whole = copy.copy(model)
    whole.text_trunk = learned.text_trunk
    whole._modules = {**learned._modules, "sound": copy.copy(model.sound)}
    whole.sound._modules = {**model.sound._modules, "leave": learned.sound}
    whole._buffers = learned._buffers
    return summary(data, whole, data.raw(whole, split), texts=bank)


def gaps(data: Data, models: Sequence[SceneClip], split: str = "dev") -> list[dict[str, Any]]:
    """Cells of what is done after training against the gap between modalities."""
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    for model in models:
        pools = data.raw(model, split)
        for name, (centred, axes) in GAPS.items():
            rows.setdefault(name, []).append(summary(data, model, pools, centred, axes))
        model.centred, model.shared_axes = True, 0
    return _cells(rows)


def _cells(rows: Mapping[str, list[dict[str, np.ndarray]]]) -> list[dict[str, Any]]:
    return [
        cell([one[metric] for one in ones], system=name, metric=metric)
        for name, ones in rows.items()
        for metric in ones[0]
    ]


def summary(
    data: Data, model: SceneClip, pools: Pools, centred: bool = True, axes: int = 0, texts: Any = None
) -> dict[str, np.ndarray]:
    """Hits that tell an embedding from another."""
    model.centred, model.shared_axes = centred, axes
    calibrated = aligned(model, pools)
    directions = (("text", "sound"), ("sound", "text"), ("image", "sound"), ("sound", "image"), ("image", "text"))
    found = {f"{one} to {other}": hits(one, other, calibrated)["recall at 10"] for one, other in directions}
    return {**found, "class by text": class_hits(class_texts(model, texts or data.train), calibrated, data.frequent)}


def picture(path: Path, embedding: SceneClip, data: Data) -> None:
    """Classes and items of all modalities in two dimensions, by t-SNE-like neighbours of principal components."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    pools = aligned(embedding, data.raw(embedding, "dev"))
    counts = np.bincount(np.concatenate([classes for _, classes in pools.values()]), minlength=len(data.classes))
    modal = np.sum([np.bincount(classes, minlength=len(data.classes)) > 0 for _, classes in pools.values()], axis=0)
    shown = sorted(np.argsort(-(1000 * modal + counts))[:14].tolist())
    vectors, classes, names = [], [], []
    for name, (ones, of) in pools.items():
        for number in shown:
            chosen = ones[of == number][:8]
            vectors.append(chosen)
            classes += [number] * len(chosen)
            names += [name] * len(chosen)
    vectors += [embedding.centroids[shown]]
    classes, names = np.array([*classes, *shown]), np.array([*names, *["class"] * len(shown)])
    places = neighbours(torch.cat(vectors))
    figure, axis = plt.subplots(figsize=(9, 7))
    marks = {"text": "s", "image": "^", "video": "D", "sound": "o"}
    colours = [plt.get_cmap("tab20")(index % 20) for index in range(len(shown))]
    for number, colour in zip(shown, colours):
        for name, mark in marks.items():
            one = (classes == number) & (names == name)
            axis.scatter(*places[one].T, marker=mark, color=colour, s=30, edgecolors="k", linewidths=0.3)
        centre = places[(classes == number) & (names == "class")][0]
        axis.annotate(
            data.classes[number].replace("_", " "), centre, fontsize=10, ha="center", weight="bold",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour, "alpha": 0.8},
        )  # fmt: skip
    for name, mark in marks.items():
        axis.scatter([], [], marker=mark, color="grey", edgecolors="k", linewidths=0.3, label=name)
    axis.legend(loc="best", frameon=False)
    axis.set(xticks=[], yticks=[], title="Noise classes in the space of scene-clip: unseen items of four modalities")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def neighbours(vectors: torch.Tensor, perplexity: float = 12.0, steps: int = 500) -> np.ndarray:
    """t-SNE in two dimensions (van der Maaten and Hinton, 2008), shape (items, 2)."""
    distances = torch.cdist(vectors, vectors).square().double()
    distances.fill_diagonal_(torch.inf)
    low, high = torch.full((len(vectors), 1), 1e-3).double(), torch.full((len(vectors), 1), 1e3).double()
    for _ in range(50):
        middle = (low * high).sqrt()
        likely = (-distances * middle).softmax(dim=1)
        entropy = -(likely * likely.clamp(min=1e-30).log()).sum(dim=1, keepdim=True)
        low = torch.where(entropy > np.log(perplexity), middle, low)
        high = torch.where(entropy > np.log(perplexity), high, middle)
    likely = ((likely + likely.T) / (2 * len(vectors))).clamp(min=1e-12)
    centred = vectors.double() - vectors.double().mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    places = (0.1 * centred @ axes.T).requires_grad_()
    optimizer = torch.optim.Adam([places], lr=0.5)
    for step in range(steps):
        kernel = 1 / (1 + (places[:, None] - places[None]).square().sum(dim=2))
        kernel = kernel * (1 - torch.eye(len(vectors)))
        model = (kernel / kernel.sum()).clamp(min=1e-12)
        loss = ((8 if step < 150 else 1) * likely * -model.log()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return places.detach().numpy()


def write(name: str, cells: Sequence[dict[str, Any]], folder: Path, provenance: str) -> None:
    """A file of results."""
    path = ROOT / "recipes/Scenes/results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n  ".join(json.dumps(one) for one in cells)
    path.write_text(
        f'{{\n "system": "",\n "model": "scene-clip",\n "settings": {{"model_sha256": "{model_hash(folder)}"}},\n'
        f' "provenance": {json.dumps(provenance)},\n "cells": [\n  {lines}\n ]\n}}\n',
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("manifest", "captions", "cache"):
        parser.add_argument(name)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--ablate", choices=("heads", "heads_by_trunk", "networks"))
    arguments = parser.parse_args()
    data = Data(arguments.manifest, arguments.captions, arguments.cache)
    named = [name.rpartition("=") for name in arguments.models]
    models = [load_embedding(model) for _, _, model in named]
    assert all(isinstance(model, SceneClip) for model in models)
    folder = ROOT / "avse/pretrained/scene-clip"
    seeds = f"{len(models)} seeds" if len(models) > 1 else "one seed"
    origin = f"benchmarks/scenes.py, {seeds}; intervals over queries"
    if arguments.ablate == "networks":
        found = networks(data, list(zip([name for name, _, _ in named], models)))
        write(arguments.ablate, found, folder, "benchmarks/scenes.py, 3 seeds; intervals over queries")
        return
    if arguments.ablate:
        found = (variants if arguments.ablate == "heads" else trunks)(data, models)
        origin = f"{origin}; heads trained anew on each"
        write(arguments.ablate, found, folder, origin)
        return
    cells, classes = [], []
    for split in ("dev", "test"):
        pools = [aligned(model, data.raw(model, split)) for model in models]
        for query in MODALITIES:
            for target in MODALITIES:
                if query != target:
                    found = [hits(query, target, one) for one in pools]
                    for metric in found[0]:
                        scores = [one[metric] for one in found]
                        cells.append(cell(scores, query=query, target=target, metric=metric, split=split))
        everything = sorted({*range(len(data.classes))})
        for system in ("nearest description", "nearest class vector"):
            for among, candidates in (("frequent", data.frequent), ("all", everything)):
                tables = [class_texts(one, data.train) if "desc" in system else one.centroids for one in models]
                found_classes = [class_hits(table, one, candidates) for table, one in zip(tables, pools)]
                metric = "top-1" if among == "frequent" else "top-1 among all classes"
                classes.append(cell(found_classes, system=system, metric=metric, split=split))
        spoken = [aligned(model, data.raw(model, f"{split}, spoken")) for model in models]
        found_classes = [class_hits(class_texts(one, data.train), of, data.frequent) for one, of in zip(models, spoken)]
        classes.append(cell(found_classes, system="nearest description, speech at 0 dB", metric="top-1", split=split))
        frequent = np.isin(pools[0]["sound"][1], data.frequent).sum()
        for metric, count in (("top-1", len(data.frequent)), ("top-1 among all classes", len(everything))):
            classes.append(cell([np.full(frequent, 1 / count)], system="chance", metric=metric, split=split))
        classes += probes(data, split) if split == "test" else []
    write("retrieval", cells, folder, origin)
    write("classes", classes, folder, origin)
    write("gap", gaps(data, models), folder, f"{origin}; development split")
    picture(ROOT / "docs/images/scenes.png", models[0], data)
    print({name: len(of) for name, (_, of) in pools[0].items()}, len(data.frequent), "frequent classes")


if __name__ == "__main__":
    main()
