"""Switching and mixture priors: their objective against loops, what their chain learns, and how they are built."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_priors import small

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.priors.vae.base import VariationalPrior
from avse.priors.vae.switching import SwitchingVariationalPrior


def _switching(name: str, **arguments: object) -> SwitchingVariationalPrior:
    cls = plugins.get("prior", name)
    with seeded(1):
        return cls(**{**cls.example_arguments(), **arguments})


@pytest.mark.parametrize("name", ["switching_vae", "mixture_vae"])
def test_the_loss_is_that_of_the_components_and_of_the_chain(name: str) -> None:
    prior = _switching(name)
    with torch.no_grad():
        prior.initial.copy_(torch.tensor([0.3, -0.4]))
    batch = example_batch((1600, 900))
    batch.clean = batch.noisy
    batch.valid[:, 1] = False
    with seeded(5):
        terms = prior.loss(batch)
    with seeded(5):
        (one, heard), (two, seen) = (component.loss_and_evidence(batch) for component in prior.components)
    context, lost, count = prior.components[1].context(batch), 0.0, 0
    initial, transition = (table.exp().tolist() for table in prior.switch())
    for row in range(2):
        steps = int(context.mask[row].sum())
        count += steps
        total = 0.0
        for path in itertools.product(range(2), repeat=steps):
            likely = initial[path[0]] * math.prod(transition[j][k] for j, k in itertools.pairwise(path))
            for n, k in enumerate(path):
                told = [float(heard[row, n]), float(seen[row, n] if context.valid[row, n] else heard[row, n])]
                likely *= math.exp((told[k] - max(told)) / prior.bins)
            total += likely
        lost -= math.log(total)
    assert float(terms["switch"]) == pytest.approx(lost / count, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((one["loss"] + two["loss"]).item() / 2 + lost / count, rel=1e-5)
    assert float(terms["nll_audio"]) == float(one["nll"])
    assert float(terms["divergence_audio_visual"]) == float(two["divergence"])


class _Told(VariationalPrior):
    """A component whose evidence is given."""

    encode_stream = decode_stream = prior = None

    def loss_and_evidence(self, batch):
        return {"loss": self.latent_in.weight.sum() * 0.0}, self.evidence


@pytest.mark.parametrize("stay", [0.8, None], ids=["chain", "mixture"])
def test_the_chain_learns_how_often_and_how_long_a_component_is_the_best(stay: float | None) -> None:
    batch = example_batch((48_000, 48_000, 40_000))
    truth, draw, steps = np.array([[0.9, 0.1], [0.05, 0.95]]), np.random.default_rng(0), 151
    prior = SwitchingVariationalPrior(
        {name: _Told(latent_dim=2, hidden_dim=4, fft_size=640) for name in ("one", "two")}, stay=stay
    )
    states = np.zeros((3, steps), dtype=np.int64)
    for row, n in itertools.product(range(3), range(1, steps)):
        states[row, n] = draw.random() < truth[states[row, n - 1], 1]
    for k, component in enumerate(prior.components):
        component.evidence = torch.from_numpy(4.0 * prior.bins * (states == k))
    optimizer = torch.optim.Adam([p for p in (prior.initial, prior.transition) if p is not None], lr=0.15)
    for _ in range(40):
        optimizer.zero_grad()
        prior.loss(batch)["loss"].backward()
        optimizer.step()
    initial, transition = (table.detach().exp().numpy() for table in prior.switch())
    if stay is None:
        share = states[:2].mean()  # nearly: the third clip is shorter
        np.testing.assert_allclose(transition, np.tile(initial, (2, 1)))
        np.testing.assert_allclose(initial[1], share, atol=0.06)
    else:
        assert initial[0] > 0.9
        np.testing.assert_allclose(transition, truth, atol=0.05)


def test_invalid_frames_say_nothing_about_the_chain() -> None:
    prior, batch = _switching("switching_vae"), example_batch((3200,)).without_video()
    batch.clean = batch.noisy
    terms = prior.loss(batch)
    assert float(terms["switch"]) == pytest.approx(0.0, abs=1e-6)
    terms["loss"].backward()
    assert float(prior.transition.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("component", ["recurrent_vae", "transformer_vae"])
def test_components_of_other_kinds(component: str) -> None:
    prior = _switching("switching_vae", component=component)
    assert [type(one).plugin_name for one in prior.components] == [component] * 2
    assert getattr(prior, "complexity", "") == getattr(type(prior.components[0]), "complexity", "")
    prior.kl_weight = 0.25
    assert prior.kl_weight == 0.25 and {one.kl_weight for one in prior.components} == {0.25}
    batch = example_batch((1600,))
    assert math.isfinite(prior.loss(replace(batch, clean=batch.noisy))["loss"].item())


def test_without_a_visual_frontend_there_is_nothing_to_choose() -> None:
    prior = _switching("switching_vae", visual_frontend=None, fusion=None)
    assert len(prior.components) == 1
    [context] = prior.contexts(example_batch((1600,)))
    assert context.video is None
    initial, transition = prior.switch()
    assert initial.tolist() == [0.0] and transition.tolist() == [[0.0]]


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one domain"):
        SwitchingVariationalPrior({"one": small("vae"), "two": small("vae", fft_size=320)})
    with pytest.raises(ValueError, match="give both visual_frontend and fusion"):
        _switching("switching_vae", fusion=None)
