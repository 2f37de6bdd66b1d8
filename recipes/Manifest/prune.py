"""A model with fewer conformer blocks.

    python recipes/Manifest/prune.py avse-small -o results/pruned --keep 0 1 2 4 5

It begins as good as the blocks that stay let it be, and is the start of a training (`initial_weights`). The first and
the last blocks do most of the work: on development mixtures avse-small loses 0.7 dB without one of the blocks 2 to 4,
2.7 and 3.8 dB without block 0 and block 5 (recorded noise at -5 dB).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import avse


def prune(name: str, folder: Path, keep: list[int]) -> None:
    """Write a model that has these blocks of a masker's, counted from 0."""
    whole = avse.load(name, device="cpu")
    pruned = avse.load(name, device="cpu", overrides={"model.blocks": len(keep)})
    weights = whole.system.state_dict()
    kept = {key: value for key, value in weights.items() if not key.startswith("blocks.")}
    for new, old in enumerate(keep):
        of_block = {key: value for key, value in weights.items() if key.startswith(f"blocks.{old}.")}
        kept |= {key.replace(f"blocks.{old}.", f"blocks.{new}.", 1): value for key, value in of_block.items()}
    pruned.system.load_state_dict(kept)
    pruned.save(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model with conformer blocks (tf_masker)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--keep", type=int, nargs="+", required=True, help="blocks that stay, counted from 0")
    given = parser.parse_args()
    prune(given.model, given.output, given.keep)
