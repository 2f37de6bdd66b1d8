"""The models that come with `avse`: put new weights there, and measure what each costs.

    python benchmarks/models.py embed results/Manifest/avse_live/1 avse-live --bits 8 --change "trained for longer"
    python benchmarks/models.py cost [MODEL ...]

`embed` writes a model folder of `avse train` or `avse study calibration` as `avse/pretrained/NAME`. It keeps what the
old `model.json` says and the new one does not (sentence, licence, recipe, training data), adds the change with its date
to `changes`, and measures the cost. Results of the old weights are then stale: measure them again, and `add` them with
`benchmarks/results.py`, which writes `scores`. Write by hand what is new in the card, and `training_data` where it
is not what the run says.

`cost` writes what `avse models` shows. Each model takes a clip of 10 s with mouth crops in a process of its own, on
one thread: once to begin, then three times. The real-time factor is the median of CPU seconds by second of audio; the
memory is the peak of the process. A separator gets the clip of two speakers, an embedding the audio alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import avse
from avse.contracts.types import SAMPLE_RATE, Batch, Clip
from avse.errors import AvseError
from avse.files import write_json
from avse.model_folder import (
    DESCRIPTION,
    PRETRAINED,
    RECIPE,
    Content,
    embedded,
    find,
    kind_of,
    read,
    read_network,
    write,
)
from avse.nnet.lip_synchrony import LipSynchrony

SECONDS, TIMES = 10, 3
# Keys of `model.json` that `write` sets anew.
WRITTEN = ("format", "name", "avse", "torch", "parameters", "sha256")


def content_of(folder: Path) -> Content:
    """What a model folder holds, also one of a network that is no system."""
    kind = kind_of(folder)
    if not kind:
        return read(find(folder))
    built, weights, about = read_network(find(folder), kind)
    network = LipSynchrony(**built) if kind == "lip_synchrony" else built[kind]
    network.load_state_dict(weights)
    return Content(network, (find(folder) / RECIPE).read_text(encoding="utf-8"), about["name"], about)


def embed(folder: Path, name: str, change: str, bits: int) -> None:
    """Write a model folder as an embedded model; see above."""
    new, target = content_of(folder), PRETRAINED / name
    before = json.loads((target / DESCRIPTION).read_text(encoding="utf-8")) if target.is_dir() else {}
    before.pop("reliability", None)  # of the old weights
    about = {key: value for key, value in (before | new.description).items() if key not in WRITTEN}
    about["changes"] = [{"date": datetime.date.today().isoformat(), "change": change}, *before.get("changes", ())]
    write(target, Content(new.system, new.recipe, name, about), bits=bits)


def cost(name: str) -> dict[str, Any]:
    """Real-time factor, peak memory in MB, and latency in s (None: the whole clip) of a model."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    swell = 0.05 + np.abs(np.sin(np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE * 4 * np.pi))
    audio = (0.1 * swell * rng.standard_normal(len(swell))).astype(np.float32)
    mouth = rng.integers(1, 255, (SECONDS * 25, 88, 88), dtype=np.uint8)
    clip = Clip(audio, mouth, np.ones(len(mouth), dtype=bool))
    system: Any
    task: Callable[[], Any]
    if kind_of(name):
        system = content_of(find(name)).system.eval()
        batch = Batch.from_clips([clip])
        task = (lambda: system([audio], "sound")) if kind_of(name) == "embedding" else (lambda: system(batch))
    else:
        model = avse.load(name, device="cpu")
        system = model.system
        two = type(system).__name__ == "AVSeparator"
        task = (lambda: model.separate_clips([clip, clip])) if two else (lambda: model.enhance(clip))
    taken = []
    for _ in range(1 + TIMES):
        began = time.process_time()
        with torch.inference_mode():
            task()
        taken.append(time.process_time() - began)
    samples = getattr(system, "latency", None)
    return {
        "rtf": round(statistics.median(taken[1:]) / SECONDS, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, -1),
        "latency_s": None if samples is None else samples / SAMPLE_RATE,
    }


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    embedding = verbs.add_parser("embed", help="write a model folder as an embedded model")
    embedding.add_argument("folder", type=Path)
    embedding.add_argument("name")
    embedding.add_argument("--change", required=True, help="what changed, in a few words")
    embedding.add_argument("--bits", type=int, default=8, help="in which the weights are kept")
    verbs.add_parser("cost", help="measure what models cost").add_argument("models", nargs="*", metavar="MODEL")
    given = parser.parse_args()
    try:
        if given.verb == "embed":
            embed(given.folder, given.name, given.change, given.bits)
        for name in [given.name] if given.verb == "embed" else given.models or embedded():
            path = PRETRAINED / name / DESCRIPTION
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(cost, (name,))
            write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"cost": found})
            print(name, found, flush=True)
    except AvseError as error:
        sys.exit(f"models: {error}")


if __name__ == "__main__":
    main()
