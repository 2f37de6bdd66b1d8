"""What each family claims of its structure: who depends on whom, batches, video, and refused arguments."""

from __future__ import annotations

import pytest
import torch
from small_priors import AUDIO_VISUAL, randomise, small, to_double

from avse.conformance import example_batch
from avse.contracts.prior import Context
from avse.fusion.concat import Concat
from avse.visual_frontends.pixel_mlp import PixelMLP

FUSIONS = ("concat", "cross_attention", "reliability_attention")


def _depends(function, latent: torch.Tensor) -> torch.Tensor:
    """Which steps of the output depend on which of the input, shape (output steps, input steps), bool."""
    jacobian = torch.autograd.functional.jacobian(lambda given: function(given).sum(dim=(0, 2)), latent)
    return (jacobian.abs().sum(dim=(1, 3)) > 0).squeeze()


def _context(batch: int, steps: int, dtype: torch.dtype = torch.float64) -> Context:
    mask = torch.ones(batch, steps, dtype=torch.bool)
    return Context(mask, mask, torch.randn(batch, steps, 6, dtype=dtype))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_transformer_prior_sees_all_latents_before_a_step_and_none_after(fusion: str) -> None:
    prior = small("transformer_vae", fusion, context=20).double()
    randomise(prior)
    context = _context(1, 9)
    seen = _depends(
        lambda z: prior.prior(z, context).mean + prior.prior(z, context).log_variance, torch.randn(1, 9, 4).double()
    )
    assert torch.equal(seen, torch.ones(9, 9, dtype=torch.bool).tril(-1))


def test_transformer_decoder_does_not_look_ahead_and_its_context_is_bounded() -> None:
    prior = small("transformer_vae", context=3).double()
    randomise(prior)
    seen = _depends(lambda z: prior.decode(z, _context(1, 9)), torch.randn(1, 9, 4).double())
    expected = torch.ones(9, 9, dtype=torch.bool)
    assert torch.equal(seen, expected.tril() & expected.triu(-3))


@pytest.mark.parametrize(("decoder", "expected"), [("none", "diagonal"), ("forward", "past"), ("both", "all")])
def test_recurrent_prior_is_markov_and_the_decoder_sees_what_it_says(decoder: str, expected: str) -> None:
    prior = small("recurrent_vae", decoder=decoder).double()
    randomise(prior)
    ones, latent = torch.ones(7, 7, dtype=torch.bool), torch.randn(1, 7, 4).double()
    context = _context(1, 7)
    assert torch.equal(_depends(lambda z: prior.prior(z, context).mean, latent), ones.tril(-1).triu(-1))
    shown = {"diagonal": ones.tril().triu(), "past": ones.tril(), "all": ones}[expected]
    assert torch.equal(_depends(lambda z: prior.decode(z, context), latent), shown)


@pytest.mark.parametrize("name", ["vae", "av_vae"])
def test_frame_wise_priors_do_not_look_at_the_latent(name: str) -> None:
    prior = small(name)
    assert not prior.dynamical
    context = _context(1, 5, torch.float32)
    one, two = (prior.prior(torch.randn(1, 5, 4), context) for _ in range(2))
    assert torch.equal(one.mean, two.mean) and torch.equal(one.log_variance, two.log_variance)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", AUDIO_VISUAL)
def test_a_clip_in_a_batch_is_what_it_is_alone(name: str, fusion: str) -> None:
    more = {"decoder": "both"} if name == "recurrent_vae" else {}
    prior = small(name, fusion, **more).double()
    randomise(prior)
    lengths = (6400, 1500, 3200)
    latents = {length: torch.randn(1, 30, 4).double() for length in lengths}

    def run(chosen: tuple[int, ...]) -> list[torch.Tensor]:
        batch = to_double(example_batch(chosen, gap=(1, 3)))
        context = prior.context(batch)
        latent = torch.cat([latents[length] for length in chosen])[:, : context.mask.shape[1]]
        posterior = prior.encode(prior.analyse(batch.noisy).abs().square(), context)
        expected = prior.prior(latent, context)
        shown = [
            posterior.mean,
            expected.mean,
            prior.decode(latent, context),
            prior.reliability(latent, context)[..., None],
        ]
        return [torch.cat(shown, dim=2)[row][mask] for row, mask in enumerate(context.mask)]

    with torch.no_grad():
        together = run(lengths)
        for length, beside in zip(lengths, together):
            [alone] = run((length,))
            assert torch.allclose(alone, beside, atol=1e-10)


@pytest.mark.parametrize("name", AUDIO_VISUAL)
def test_video_reaches_posterior_prior_and_decoder_and_only_where_it_is_valid(name: str) -> None:
    prior = small(name, "reliability_attention")
    randomise(prior)
    batch = example_batch((6400,), gap=(4, 8))
    batch.clean = batch.noisy
    latent = torch.randn(1, 21, 4)
    power = prior.analyse(batch.noisy).abs().square()
    with torch.no_grad():
        context = prior.context(batch)
        seen, unseen = context, context.without_video()
        for use in (
            lambda context: prior.encode(power, context).mean,
            lambda context: prior.prior(latent, context).mean,
            lambda context: prior.decode(latent, context),
        ):
            differs = (use(seen) != use(unseen)).any(dim=2)
            assert bool(differs[context.valid].all())
        trust = prior.reliability(latent, context)
    assert bool(((trust > 0) & (trust < 1))[context.valid].all()) and not bool(trust[~context.valid].any())
    if name == "av_vae":
        assert not bool(prior.prior(latent, context).mean[~context.valid].any())


@pytest.mark.parametrize("name", AUDIO_VISUAL)
def test_without_a_front_end_it_is_an_audio_only_prior(name: str) -> None:
    prior = small(name, video=False)
    batch = example_batch((3200,))
    batch.clean = batch.noisy
    assert prior.context(batch).video is None
    assert bool(torch.isfinite(prior.loss(batch)["loss"]))


@pytest.mark.parametrize("name", ["vae", *AUDIO_VISUAL])
def test_silence_clipping_and_huge_sound_stay_finite(name: str) -> None:
    prior = small(name)
    batch = example_batch((3200,))
    for sound in (batch.noisy * 0, (1e3 * batch.noisy).clamp(-1, 1), 1e4 * batch.noisy, 1e-9 * batch.noisy):
        batch.clean = batch.noisy = sound
        assert all(bool(torch.isfinite(value)) for value in prior.loss(batch).values())


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("av_vae", {"fusion": Concat(9, 6)}, "audio_dim to 8"),
        ("av_vae", {"visual_frontend": PixelMLP(output_dim=5), "fusion": Concat(8, 6)}, "output_dim 5"),
        ("av_vae", {"fusion": None}, "or neither"),
        ("av_vae", {"prior_weight": 1.0}, "prior_weight"),
        ("recurrent_vae", {"decoder": "backward"}, "none, forward, both"),
        ("vae", {"hop": 256}, "hop must divide"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, arguments: dict, said: str) -> None:
    from avse import plugins

    cls = plugins.get("prior", name)
    with pytest.raises(ValueError, match=said):
        cls(**{**cls.example_arguments(), **arguments})
