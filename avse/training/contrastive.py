"""The family of embeddings: modalities of a scene drawn together by contrast."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from speechbrain.core import Stage
from torch import nn
from torch.nn import functional as F

from avse.contracts.embedding import MODALITIES
from avse.data.scene_set import SceneBatch, SceneSet
from avse.embeddings.scene_clip import SceneClip
from avse.nnet.text_network import TextNetwork
from avse.training.brain import ScheduledBrain
from avse.training.contrastive_losses import soft_cross_entropy

_CLASS_SCALE = 12.0  # of cosines of sounds and classes
_CALIBRATED_ON = 24  # batches from which means and shared axes are taken


class ContrastiveLearner(nn.Module):
    """An embedding with what only its training needs: a loss with its scale, and a classifier of sounds.

        loss = mean over pairs of modalities of contrast(a, b)
               + class_weight CE(classes of sounds) + caption_weight |cos(captions) - cos(their features)|^2

    Where the text trunk is not frozen, the last term is the cross-entropy of masked pieces of the captions.

    Pairs of which a batch lacks a side, or that have no match in it, add nothing.

    Arguments
    ---------
    embedding : SceneClip
    loss : module (vectors, vectors, matches) -> scalar
        `avse.training.contrastive_losses`.
    pairs : sequence of (str, str)
        Modalities that are drawn together.
    class_weight, caption_weight : float
        Of the other two terms.
    injected_noise : float
        Standard deviation of the noise that is added to vectors of text and pictures, as a length.
    query_mixup : bool
        Also match sounds with random mixtures of a text and a picture of one class.

    Papers: Radford et al., CLIP, 2021; Ma et al., OmniSep (mixed queries), 2025; Gu et al., I can't believe there's no
    images (injected noise), 2023.
    """

    def __init__(
        self,
        embedding: SceneClip,
        loss: nn.Module,
        pairs: Sequence[Sequence[str]] = (("sound", "text"), ("image", "text"), ("video", "sound"), ("sound", "image")),
        class_weight: float = 1.0,
        caption_weight: float = 1.0,
        injected_noise: float = 0.0,
        query_mixup: bool = False,
    ) -> None:
        super().__init__()
        self.embedding, self.loss, self.pairs = embedding, loss, [(first, second) for first, second in pairs]
        self.class_weight, self.caption_weight = class_weight, caption_weight
        self.injected_noise, self.query_mixup = injected_noise, query_mixup
        self.classifier = nn.Linear(embedding.output_dim, len(embedding.classes), bias=False)

    def forward(self, batch: SceneBatch) -> dict[str, torch.Tensor]:
        """Vectors of each modality of a batch, each of length one."""
        return {
            name: self.embedding.encode(features, "text" if name == "captions" else name)
            for name, features in batch.features.items()
        }

    def objective(self, vectors: dict[str, torch.Tensor], batch: SceneBatch) -> torch.Tensor:
        """The loss, a scalar."""
        vectors = {name: one.float() for name, one in vectors.items()}
        terms = []
        noisy = {name: self.perturbed(one) if name != "sound" else one for name, one in vectors.items()}
        for first, second in self.pairs:
            if first in noisy and second in noisy:
                matches = _matches(batch.labels[first], batch.labels[second])
                if matches.any():
                    terms.append(self.loss(noisy[first], noisy[second], matches))
        if self.query_mixup and {"image", "text", "sound"} <= vectors.keys():
            partner = _matches(batch.labels["image"], batch.labels["text"]).float()
            rows = partner.any(dim=1)
            if rows.any():
                text = noisy["text"][partner[rows].multinomial(1)[:, 0]]
                share = torch.rand(len(text), 1, device=text.device)
                query = F.normalize(share * text + (1 - share) * noisy["image"][rows], dim=1)
                matches = _matches(batch.labels["image"][rows], batch.labels["sound"])
                if matches.any():
                    terms.append(self.loss(query, noisy["sound"], matches))
        nothing = 0.0 * torch.stack([one.sum() for one in vectors.values()]).sum()
        total = torch.stack(terms).mean() if terms else nothing
        if "sound" in vectors and self.class_weight:
            logits = _CLASS_SCALE * vectors["sound"] @ F.normalize(self.classifier.weight.float(), dim=1).T
            total = total + self.class_weight * soft_cross_entropy(logits, batch.labels["sound"][:, : logits.shape[1]])
        if "captions" in vectors and self.caption_weight:
            captions, network = batch.features["captions"].float(), self.embedding.text
            if isinstance(network, TextNetwork):
                return total + self.caption_weight * network.masked_loss(captions)
            frozen = F.normalize(captions, dim=1)
            error = vectors["captions"] @ vectors["captions"].T - frozen @ frozen.T
            total = total + self.caption_weight * error.square().mean()
        return total

    def perturbed(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors with injected noise, in training."""
        if not self.injected_noise or not self.training:
            return vectors
        noise = torch.randn_like(vectors) * (self.injected_noise / math.sqrt(vectors.shape[1]))
        return F.normalize(vectors + noise, dim=1)


class ContrastiveBrain(ScheduledBrain):
    """Trains a `ContrastiveLearner`; validation finds the class of sounds by their nearest description.

    Scores: `top_1`, among all classes that the validation set has sounds of, by text; `centroid_top_1`, by the vectors
    of classes. For hyper-parameters see `ScheduledBrain`.
    """

    def compute_forward(self, batch: SceneBatch, stage: Stage) -> tuple[SceneBatch, dict[str, torch.Tensor]]:
        """Vectors of a batch."""
        batch = batch.to(self.device)
        learner: Any = self.modules.model if stage == Stage.TRAIN else self.averaged.module
        return batch, learner(batch)

    def compute_objectives(self, predictions: Any, batch: SceneBatch, stage: Stage) -> torch.Tensor:
        """The learner's loss."""
        batch, vectors = predictions
        learner: Any = self.model if stage == Stage.TRAIN else self.averaged.module
        if stage != Stage.TRAIN:
            self.heard.append((vectors["sound"].float(), batch.labels["sound"]))
        return learner.objective(vectors, batch)

    def on_stage_start(self, stage: Stage, epoch: int | None = None) -> None:
        """As in every family; begin the sounds of a validation."""
        super().on_stage_start(stage, epoch)
        self.heard: list[tuple[torch.Tensor, torch.Tensor]] = []

    def exported(self) -> nn.Module:
        """The averaged learner, its embedding calibrated."""
        return self.calibrated

    def validation_scores(self, epoch: int | None) -> dict[str, float]:
        """Calibrate a copy of the averaged embedding, and find the class of each sound by it."""
        self.calibrated = cast(ContrastiveLearner, copy.deepcopy(self.averaged.module)).eval()
        embedding, mixtures = self.calibrated.embedding, self.hparams.mixtures
        calibrate(embedding, mixtures)
        sounds = embedding.aligned(torch.cat([vectors for vectors, _ in self.heard]), "sound")
        labels = torch.cat([labels for _, labels in self.heard])[:, : len(embedding.classes)].int().argmax(dim=1)
        present = labels.unique()
        texts = class_texts(embedding, mixtures)
        scores = {}
        for name, table in (("top_1", texts), ("centroid_top_1", embedding.centroids)):
            found = present[(sounds @ table[present].T).argmax(dim=1)]
            scores[name] = float((found == labels).float().mean())
        return scores


@torch.no_grad()
def calibrate(embedding: SceneClip, mixtures: SceneSet) -> None:
    """Set the mean of each modality, the shared axes, and the vectors of the classes, from items of training.

    The axes are the left singular vectors of the cross-covariance of class means, summed over pairs of modalities
    (partial least squares); vectors of classes are means over modalities.

    Arguments
    ---------
    embedding : SceneClip
        Is changed.
    mixtures : SceneSet
        Of training.
    """
    device = embedding.axes.device
    items = [mixtures[index] for index in range(min(len(mixtures), _CALIBRATED_ON * mixtures.group))]
    vectors: dict[str, list[torch.Tensor]] = {}
    labels: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(items), mixtures.group):
        batch = mixtures.collate(items[start : start + mixtures.group]).to(device)
        for name in batch.features.keys() & set(MODALITIES):
            vectors.setdefault(name, []).append(embedding.encode(batch.features[name], name).float())
            labels.setdefault(name, []).append(batch.labels[name][:, : len(embedding.classes)])
    means: dict[str, torch.Tensor] = {}
    there: dict[str, torch.Tensor] = {}
    for index, name in enumerate(MODALITIES):
        if name not in vectors:
            continue
        shown = torch.cat(labels[name]).float()
        there[name] = shown.sum(dim=0) > 0
        means[name] = shown.T @ torch.cat(vectors[name]) / shown.sum(dim=0).clamp(min=1)[:, None]
        # The mean over classes: a video of training is of few of them, and has the mean of images.
        source = "image" if name == "video" and "image" in means else name
        embedding.means[index] = means[source][there[source]].mean(dim=0)
    covariance = torch.zeros_like(embedding.axes)
    names = [name for name in means if name != "video"]
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = there[first] & there[second]
            one, other = (means[name][both] - embedding.means[MODALITIES.index(name)] for name in (first, second))
            covariance += one.T @ other + other.T @ one
    values, axes = torch.linalg.eigh(covariance)
    embedding.axes.copy_(axes.T[values.argsort(descending=True)])
    total = torch.zeros_like(embedding.centroids)
    for name in names:
        total += F.normalize(embedding.aligned(means[name], name), dim=1) * there[name][:, None]
    embedding.centroids.copy_(F.normalize(total, dim=1))


@torch.no_grad()
def class_texts(embedding: SceneClip, mixtures: SceneSet) -> torch.Tensor:
    """The mean vector of the descriptions of each class, shape (classes, output_dim)."""
    rows = []
    for number in range(len(embedding.classes)):
        features = torch.as_tensor(mixtures.texts[number][: mixtures.own[number]]).to(embedding.axes)
        rows.append(embedding.aligned(embedding.encode(features, "text"), "text").mean(dim=0))
    return F.normalize(torch.stack(rows), dim=1)


def _matches(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Which items share a label, shape (items, items), bool."""
    return (first.float() @ second.float().T) > 0
