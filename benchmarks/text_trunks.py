"""The class of unseen captions, by each text trunk of `scene_clip`.

    python benchmarks/text_trunks.py MANIFEST CAPTIONS CACHE

Linear probes on the frozen trunks; and a `TextNetwork` that is trained from scratch on the same captions with the
cross-entropy of their classes and of masked pieces of all captions of AudioCaps, with three seeds. Writes
`recipes/Scenes/results/trunks.json`. Intervals: 95 % of a bootstrap over captions of the mean over seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scenes import RECIPE, ROOT, captions_of, cell, probe, write
from torch.nn import functional as F

from avse.nnet.scene_trunks import minilm_features, text_features
from avse.nnet.text_network import TextNetwork
from avse.recipe import load_recipe

SEEDS, STEPS, GROUP = (1, 2, 3), 300, 64
Texts = Sequence[tuple[str, int]]


def learned(texts: Texts, lines: Sequence[str], unseen: Texts, classes: int, seed: int) -> np.ndarray:
    """Hits of a network that is trained from scratch."""
    torch.manual_seed(seed)
    rng, known = np.random.default_rng(seed), np.array([number for _, number in texts])
    network = TextNetwork(classes)
    network.learn_pieces([*lines, *(text for text, _ in texts)])
    tokens, free = network.tokens([text for text, _ in texts]), network.tokens(lines)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    weights = np.bincount(known)[known] ** -0.5
    for _ in range(STEPS):
        chosen = rng.choice(len(tokens), GROUP, p=weights / weights.sum())
        optimizer.zero_grad()
        loss = F.cross_entropy(network(tokens[chosen]), torch.tensor(known[chosen]))
        (loss + network.masked_loss(free[rng.integers(len(free), size=GROUP)])).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        logits = [network.eval()(part) for part in network.tokens([text for text, _ in unseen]).split(GROUP)]
    return (torch.cat(logits).argmax(dim=1).numpy() == [number for _, number in unseen]).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("manifest", "captions", "cache"):
        parser.add_argument(name)
    asked = parser.parse_args()
    places = {"manifest": asked.manifest, "captions": asked.captions, "cache_folder": asked.cache}
    values, folder = load_recipe(RECIPE, places).build(), Path(asked.captions)
    number = {name: place for place, name in enumerate(values["classes"])}
    texts = [(text, place) for name, place in number.items() for text in values["descriptions"].get(name, [name])]
    with open(folder / "by_keyword.csv", newline="", encoding="utf-8") as file:
        named = [(values["same"].get(line["class"], line["class"]), line["caption"]) for line in csv.DictReader(file)]
    texts += [(caption, number[name]) for name, caption in named if name in number]
    unseen = captions_of(values["classes"], folder / "audiocaps_val.txt")
    lines = [line for line in (folder / "audiocaps_train.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    known, wanted = (np.array([place for _, place in part]) for part in (texts, unseen))
    found = {}
    for name, read in (("WordLlama, frozen", text_features), ("all-MiniLM-L6-v2, frozen", minilm_features)):
        torch.manual_seed(0)
        vectors = [read([text for text, _ in part]) for part in (texts, unseen)]
        found[name] = [probe(vectors[0], known, vectors[1], wanted)]
    found["SentencePiece, from scratch"] = [learned(texts, lines, unseen, len(number), seed) for seed in SEEDS]
    cells = [cell(hits, system=name, metric="top-1 of captions") for name, hits in found.items()]
    write("trunks", cells, ROOT / "avse/pretrained/scene-clip", "benchmarks/text_trunks.py; intervals over captions")


if __name__ == "__main__":
    main()
