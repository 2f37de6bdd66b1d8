"""Linear probes: how many words of a fixed grammar features of audio and mouth tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avse.contracts.types import Clip
from avse.data.cache import ClipCache
from avse.data.manifest import Utterance
from avse.errors import AvseError
from avse.evaluation.runner import model_hash
from avse.evaluation.studies.clips import mean_and_interval, scores_of, visible_speech, write_study
from avse.model import Model, load
from avse.priors.diffusion.generation import diffusion_prior

_RIDGES = np.logspace(-4, 3, 15)  # relative to the mean power of the centred features

FEATURES = {
    "both": "the network's, of audio and mouth",
    "sound": "the network's, of the audio alone",
    "mouth": "the network's, of the mouth and silence",
    "front-end": "the visual front-end's, of the mouth",
}


class RidgeProbe:
    """A linear classifier fitted in closed form, its weight decay chosen by leaving out one clip at a time.

    Arguments
    ---------
    features : array, shape (clips, dim)
    labels : sequence of str, of the same length

    Example
    -------
    >>> rng = np.random.default_rng(0)
    >>> labels = ["a", "b"] * 20
    >>> features = rng.normal(size=(40, 100)) + 2 * (np.array(labels) == "a")[:, None]
    >>> RidgeProbe(features[:30], labels[:30]).predict(features[30:]) == labels[30:]
    True
    """

    def __init__(self, features: np.ndarray, labels: Sequence[str]) -> None:
        features = np.asarray(features, np.float64)
        self.classes = sorted(set(labels))
        targets = np.array([[label == name for name in self.classes] for label in labels], np.float64)
        self.centre, self.bias = features.mean(axis=0), targets.mean(axis=0)
        centred, targets = features - self.centre, targets - self.bias
        values, vectors = np.linalg.eigh(centred @ centred.T)
        values = values.clip(min=0.0)
        turned = vectors.T @ targets
        best = np.inf
        for ridge in _RIDGES * max(values.mean(), 1e-12):
            inverse = 1.0 / (values + ridge)
            dual = vectors @ (inverse[:, None] * turned)
            error = np.square(dual / (vectors**2 @ inverse)[:, None]).sum()  # of each clip by all others
            if error < best:
                best, self.weights = error, centred.T @ dual

    def predict(self, features: np.ndarray) -> list[str]:
        """The likeliest label of each clip: (clips, dim) to a list of as many."""
        scores = (np.asarray(features, np.float64) - self.centre) @ self.weights + self.bias
        return [self.classes[place] for place in scores.argmax(axis=1)]


def pool(features: np.ndarray, segments: int) -> np.ndarray:
    """Means over equal parts of the time, one after the other: (video_frames, dim) to (segments x dim,).

    >>> pool(np.arange(8.0).reshape(4, 2), 2).tolist()
    [1.0, 2.0, 5.0, 6.0]
    """
    edges = np.linspace(0, len(features), segments + 1)
    parts = [features[int(low) : max(int(high), int(low) + 1)] for low, high in zip(edges, edges[1:])]
    return np.concatenate([part.mean(axis=0) for part in parts])


def measure_probe(
    model: str | Path,
    manifest: str | Path,
    out: str | Path,
    *,
    train: Sequence[str] = ("train",),
    test: Sequence[str] = ("test",),
    words: int = 6,
    segments: int = 18,
    limit: int | None = None,
    crops: str | Path | None = None,
    tracker: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """How many words of clean clips a linear probe tells from each kind of features (`FEATURES`).

    Each place of the sentence has a probe of its own, as in GRID, whose sentences have six words of a fixed grammar. A
    probe sees a clip's features in `segments` means over time.

    Arguments
    ---------
    model : str or path
        With an audio-visual diffusion prior.
    manifest : path
        Rows with `clean`, `video` and a `text` of as many words count.
    out : path
        Folder that gets `probe.csv`, a row for each clip, place and kind of features, and `probe.json`.
    train, test : sequence of str
        Splits of the clips that the probes learn from and are asked about.
    words : int
        Of a sentence.
    limit : int, optional
        The first so many clips of each only.
    crops : path, optional
        Folder that keeps tracked mouths. Default: a folder in `out`.

    Returns
    -------
    dict
        `scores`: by kind of features, the share of words that are told right, with `mean`, `low`, `high` (a bootstrap
        over speakers) and `n`; `places`: the same share by place; `chance`: what the most frequent word of each place
        gets, likewise; `clips`: how many there were of each.

    Raises
    ------
    AvseError
        If the model has no audio-visual diffusion prior, or there are too few clips.
    """
    out = Path(out)
    loaded = load(model, device=device)
    diffusion_prior(loaded.system, loaded.name, sees=True)  # or an error that says what is asked for
    cache = ClipCache(crops or out / "crops", tracker)
    chosen = {
        name: [row for row in visible_speech(manifest, splits) if len(_words(row)) == words][:limit]
        for name, splits in (("train", train), ("test", test))
    }
    for name, utterances in chosen.items():
        if len(utterances) < 2:
            raise AvseError(f"{manifest}: fewer than two clips of {words} words to {name} on, with speech and video.")
    total = sum(map(len, chosen.values()))
    pooled: dict[str, dict[str, np.ndarray]] = {}
    done = 0
    for name, utterances in chosen.items():
        rows: dict[str, list[np.ndarray]] = {}
        for utterance in list(utterances):
            clip = cache.clip(utterance)
            if clip.valid.any():
                for kind, features in _features(loaded, clip):
                    rows.setdefault(kind, []).append(pool(features, segments))
            else:
                utterances.remove(utterance)
            done += 1
            if progress is not None:
                progress(done, total)
        if len(utterances) < 2:
            raise AvseError(f"{manifest}: a mouth was found in fewer than two clips to {name} on.")
        pooled[name] = {kind: np.stack(means) for kind, means in rows.items()}
    told = {name: np.array([_words(row) for row in utterances]) for name, utterances in chosen.items()}
    right = {}
    for kind in FEATURES:
        probes = [RidgeProbe(pooled["train"][kind], told["train"][:, place].tolist()) for place in range(words)]
        guessed = np.array([probe.predict(pooled["test"][kind]) for probe in probes]).T
        right[kind] = guessed == told["test"]
    right["chance"] = told["test"] == np.array([_most_frequent(told["train"][:, place]) for place in range(words)])
    speakers = [row.speaker for row in chosen["test"]]
    summary = {
        "clips": {name: len(utterances) for name, utterances in chosen.items()},
        "speakers": len(set(speakers)),
        "settings": {"model_sha256": model_hash(model), "seed": seed},
        "scores": scores_of({kind: hits.mean(axis=1) for kind, hits in right.items()}, speakers, seed),
        "places": {kind: hits.mean(axis=0).tolist() for kind, hits in right.items()},
        "meaning": FEATURES | {"chance": "the most frequent word of each place"},
    }
    header = ["id", "place", "word", *right]
    cells = [
        [clip.id, place, word, *(int(hits[row, place]) for hits in right.values())]
        for row, clip in enumerate(chosen["test"])
        for place, word in enumerate(told["test"][row])
    ]
    write_study(out, "probe", [header, *cells], summary)
    return summary


def probe_table(summary: dict[str, Any]) -> str:
    """What `measure_probe` found, as lines of text."""
    clips = summary["clips"]
    asked = f"asked about {clips['test']} of {summary['speakers']} speakers"
    lines = [f"words told right; probes of {clips['train']} clips, {asked}"]
    for kind, score in summary["scores"].items():
        places = " ".join(f"{share:5.1%}" for share in summary["places"][kind])
        mean = mean_and_interval(score, "6.1%", " ")
        lines.append(f"{kind:10} {mean}  by place: {places}   {summary['meaning'][kind]}")
    return "\n".join(lines)


def _words(utterance: Utterance) -> list[str]:
    return (utterance.text or "").lower().split()


def _features(model: Model, clip: Clip) -> Iterator[tuple[str, np.ndarray]]:
    features = model.embed(clip)
    yield "both", features["features"]
    yield "sound", model.embed(clip, use_video=False)["features"]
    silent = Clip(np.zeros_like(clip.audio), clip.mouth, clip.valid)
    yield "mouth", model.embed(silent)["features"]
    yield "front-end", features["visual"]


def _most_frequent(words: np.ndarray) -> str:
    kinds, counts = np.unique(words, return_counts=True)
    return str(kinds[counts.argmax()])
