"""Training: one Brain a family, and `train`, which runs a recipe."""

from avse.training.run import train

__all__ = ["train"]
