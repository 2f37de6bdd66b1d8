"""The supervised separator, its mixtures and its loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.contracts.system import run
from avse.contracts.types import Batch
from avse.data.cache import ClipCache
from avse.data.manifest import read_manifest
from avse.data.separation_set import SeparationSet
from avse.errors import AvseError
from avse.training.losses import SeparationLoss


def _separator() -> torch.nn.Module:
    cls = plugins.get("enhancer", "av_separator")
    with seeded(1):
        model = cls(**cls.example_arguments()).eval()
        for exchange in model.exchanges:
            exchange.mixed.reset_parameters()  # from zero, where talkers do not yet know of each other
    return model


def _talkers() -> list:
    one = example_batch((3200, 2000))
    return [one, replace(one, mouth=one.mouth.flip(1)), one.without_video()]


@torch.no_grad()
def test_talkers_look_at_each_other_in_any_order() -> None:
    model, talkers = _separator(), _talkers()
    found = run(model, Batch.of_speakers(talkers))
    turned = run(model, Batch.of_speakers([talkers[j] for j in (2, 0, 1)]))
    torch.testing.assert_close(found.speech[:, [2, 0, 1]], turned.speech, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.speech.sum(dim=1) + found.noise, talkers[0].noisy)
    pair = run(model, Batch.of_speakers(talkers[:2]))
    assert not torch.allclose(pair.speech[:, 0], found.speech[:, 0], atol=1e-5)
    # Mixtures beside each other do not: the second clip is the same alone.
    second = [
        replace(one, noisy=one.noisy[1:, :2000], lengths=one.lengths[1:], mouth=one.mouth[1:, :4],
                valid=one.valid[1:, :4])
        for one in talkers
    ]  # fmt: skip
    torch.testing.assert_close(
        run(model, Batch.of_speakers(second)).speech, found.speech[1:, :, :2000], rtol=1e-3, atol=1e-5
    )
    alone = model(talkers[0])
    torch.testing.assert_close(
        run(model, Batch.of_speakers(talkers[:1])).speech[:, 0], alone.speech, rtol=1e-4, atol=1e-6
    )


@torch.no_grad()
def test_it_starts_as_the_masking_network_whose_weights_it_takes() -> None:
    masker = plugins.get("enhancer", "tf_masker")
    cls = plugins.get("enhancer", "av_separator")
    arguments = cls.example_arguments()
    with seeded(2):
        taught = masker(**arguments).eval()
    separator = cls(**cls.example_arguments()).eval()
    separator.load_state_dict(taught.state_dict(), strict=False)
    batch = example_batch((3200, 2000))
    alone = torch.stack([taught(one).speech for one in (batch, replace(batch, mouth=batch.mouth.flip(1)))], dim=1)
    found = run(separator, Batch.of_speakers([batch, replace(batch, mouth=batch.mouth.flip(1))]))
    torch.testing.assert_close(found.speech, alone, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    synthetic = plugins.get("dataset", "synthetic")
    made = synthetic(clips=8, speakers=6, noises=3, seconds=(0.6, 0.7), noise_seconds=0.6)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


def test_mixtures_have_a_row_for_each_talker(corpus: Path, tmp_path: Path) -> None:
    utterances = read_manifest(corpus, splits=["train"])
    mixtures = SeparationSet(
        utterances, ClipCache(tmp_path), size=4, seconds=0.6, interfering_speakers=[0.5, 0.5], noise_share=0.5
    )
    items = [mixtures[index] for index in range(4)]
    batch = mixtures.collate(items)
    assert len(batch) == sum(map(len, items)) and {len(item) for item in items} == {2, 3}
    assert bool(batch.valid.any(dim=1).all()) and batch.clean.shape == batch.noisy.shape
    for number, item in enumerate(items):
        rows = (batch.mixture == number).nonzero()[:, 0]
        assert len({batch.speakers[row] for row in rows}) == len(item)
        assert all(torch.equal(batch.noisy[row], batch.noisy[rows[0]]) for row in rows)
        rest = batch.noisy[rows[0]] - batch.clean[rows].sum(dim=0)
        power = float(rest.square().mean() / batch.noisy[rows[0]].square().mean())
        assert power < 1e-9 or 0.01 < power < 1  # without noise and with
        levels = 10 * batch.clean[rows].square().mean(dim=1).log10()
        assert float(levels.max() - levels.min()) < 7
    again = mixtures[2]
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(again, items[2]))
    loss = SeparationLoss()(_separator()(batch), batch)
    assert bool(torch.isfinite(loss))
    with pytest.raises(AvseError, match="speakers with a video"):
        SeparationSet(utterances, ClipCache(tmp_path), size=4, interfering_speakers=[1, 1, 1, 1, 1])


def test_the_wrong_speaker_is_counted() -> None:
    with seeded(1):
        batch = Batch.of_speakers(_talkers())
        batch.clean = torch.randn_like(batch.noisy)
    estimate = _separator()(batch)
    given = batch.clean.clone()
    given[[0, 1]] = given[[1, 0]]  # of the first mixture
    found = SeparationLoss().scores(replace(estimate, speech=given), batch)
    assert found["wrong_speaker"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert len(found["si_sdr_improvement"]) == 6
