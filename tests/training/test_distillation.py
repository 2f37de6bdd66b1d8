"""The loss of distillation against its two parts, worked out one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avse.conformance import example_batch
from avse.contracts.types import Batch
from avse.enhancers.tf_masker import TFMasker
from avse.errors import AvseError
from avse.training.distillation import DistillationLoss
from avse.training.losses import EnhancementLoss


def _network(seed: int) -> TFMasker:
    torch.manual_seed(seed)
    return TFMasker(channels=16, blocks=2, fusion_block=1).eval()


def _batch() -> Batch:
    batch = example_batch((3200, 3200))
    clean = 0.5 * batch.noisy
    clean[1] = 0  # the wanted speaker of the second clip is silent
    return replace(batch, clean=clean)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_it_is_the_weighted_sum_of_two_distances(weight: float) -> None:
    teacher, batch = _network(0), _batch()
    estimate = _network(1)(batch)
    taught = teacher(batch).speech.detach()
    taught[1] = 0
    plain = EnhancementLoss()
    wanted = (1 - weight) * plain(estimate, batch) + weight * plain(estimate, replace(batch, clean=taught))
    assert torch.allclose(DistillationLoss(teacher, weight)(estimate, batch), wanted)


def test_the_student_alone_learns() -> None:
    teacher, student, batch = _network(0), _network(1), _batch()
    DistillationLoss(teacher, 0.5)(student(batch), batch).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.decoder.weight.grad is not None


def test_what_is_no_teacher_is_refused() -> None:
    with pytest.raises(AvseError, match="nobody"):
        DistillationLoss("nobody")
    with pytest.raises(ValueError, match="teacher_weight"):
        DistillationLoss("avse-small", teacher_weight=1.5)
