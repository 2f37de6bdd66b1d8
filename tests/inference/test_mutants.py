"""The exact tests of posterior sampling and of the noisy-speech encoder find the mutants that once survived."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable

import pytest
from test_published_sampling import check_draws, check_encoder, check_moments

from avse.inference.em.steps import encode
from avse.inference.posterior_sampling.moments import Moments
from avse.inference.posterior_sampling.published import guidance_step

MUTANTS = {
    "guidance_sign": (guidance_step, "state + fraction", "state - fraction", lambda: check_draws("udiffse_plus")),
    "guidance_scale": (guidance_step, " / scale.square() /", " /", lambda: check_draws("udiffse_plus")),
    "noise_not_subtracted": (
        guidance_step,
        "(draw.noisy - noise)",
        "draw.noisy",
        lambda: check_draws("posterior_sampling_noise_latent"),
    ),
    "fit_without_variance": (Moments.noise_power, " + draw.speech_variance", "", check_moments),
    "encoder_with_gain": (encode, "state.power / gain, noise / gain", "state.power, noise", check_encoder),
}


@pytest.mark.parametrize(("function", "right", "wrong", "check"), MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_found(
    monkeypatch: pytest.MonkeyPatch, function: Callable, right: str, wrong: str, check: Callable[[], None]
) -> None:
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"write the mutant anew: {right!r} does not stand once in {function.__qualname__}"
    scope = dict(vars(inspect.getmodule(function)))
    exec(source.replace(right, wrong), scope)
    check()
    monkeypatch.setattr(function, "__code__", scope[function.__name__].__code__)
    with pytest.raises(AssertionError):
        check()
