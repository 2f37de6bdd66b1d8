"""The law of unrolled inference, which inferences, priors and noise models keep together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from avse import plugins
from avse.conformance.core import CheckFailed, NotApplicable, build, example_batch, expect, expect_close, expect_equal
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior, SwitchingPrior
from avse.contracts.types import Batch

PROMISE = "unrolled with initial values it gives its iterations bit for bit, the right gradients, and each clip alone"
HINT = "change no tensor in place, detach nothing, and compute learned numbers as tensors without axes"
_LAYERS, _STEP = 2, 1e-6
_UNUSED = ("temperature",)  # without an effect where a single model stands


def check_unrolled(make: Callable[..., Any]) -> None:
    """Layers with initial values are iterations bit for bit; gradients are right; a batch gives what its clips give.

    Arguments
    ---------
    make : callable
        Builds an inference of the EM family from keyword arguments of `LatentInference`.
    """
    # Where no weight needs a gradient, as in layers, torch may multiply matrices in another order.
    plain = make(iterations=_LAYERS, tolerance=0.0).requires_grad_(False)
    competing = isinstance(plain.prior, SwitchingPrior)
    learn = [name for name in (*plain.noise_model.learnable, *plain.learnable) if competing or name not in _UNUSED]
    owners = {name: plain.noise_model for name in plain.noise_model.learnable}
    learn = [name for name in learn if getattr(owners.get(name, plain), name)]  # those that are set and not zero
    for tied in (True, False):
        unrolled = make(unroll=_LAYERS, learn=learn, tied=tied)
        batch = example_batch((3200, 1600))
        with torch.no_grad():
            expected, found = plain(batch), unrolled(batch)
        expect_equal(found.speech, expected.speech, f"speech of {_LAYERS} layers and of {_LAYERS} iterations")
        expect(
            found.trace == expected.trace, f"the trace of layers is {found.trace}, that of iterations {expected.trace}"
        )
    batch = replace(batch, noisy=batch.noisy.double())
    _check_gradients(unrolled.double(), batch)
    learn, start = [*learn, "start_variance"], plugins.get("enhancer", "tf_masker").example()
    started = make(unroll=_LAYERS, learn=learn, tied=False, start=start, start_variance=0.5).double()
    _check_gradients(started, batch)
    _check_batch(started, batch)


def _check_gradients(unrolled: Any, batch: Batch) -> None:
    def loss() -> torch.Tensor:
        *_, (_, objective) = unrolled.layers(batch)
        return objective.sum()

    values = list(unrolled.learned.log_ratio.items())
    if not values:
        return
    gradients = torch.autograd.grad(loss(), [value for _, value in values], allow_unused=True)
    reached = {name: gradient for (name, _), gradient in zip(values, gradients) if gradient is not None}
    lost = [name for name, _ in values if name not in reached]
    expect(not lost, f"no gradient reaches {', '.join(lost)}")
    for name, value in values:
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                value[0] += sign * _STEP
                ends.append(loss().item())
                value[0] -= sign * _STEP
        wanted, found = (ends[0] - ends[1]) / (2 * _STEP), reached[name][0].sum().item()
        if not abs(found - wanted) <= 1e-3 * max(abs(wanted), 1e-3):
            raise CheckFailed(
                f"the gradient of {name} in the first layer is {found:.6g}, finite differences {wanted:.6g}"
            )


def _check_batch(unrolled: Any, batch: Batch) -> None:
    with torch.no_grad():
        whole = unrolled(batch)
        for row in range(len(batch)):
            samples = int(batch.lengths[row])
            alone = unrolled(batch.select([row]))
            expect_close(whole.speech[row, :samples], alone.speech[0, :samples], f"speech of clip {row}", 1e-4)


def check_inference(cls: type[Any]) -> None:
    """See `check_unrolled`; of an inference."""
    if "unroll" not in cls.__signature__.parameters:
        raise NotApplicable("no inference of the EM family")
    arguments = cls.example_arguments()
    noise_model = plugins.get("noise_model", "nmf")
    check_unrolled(lambda **given: cls(**copy.deepcopy({**arguments, "noise_model": noise_model(rank=2), **given})))


def check_prior(cls: type[Any]) -> None:
    """See `check_unrolled`; of a prior, by the encoder as E-step."""
    if not issubclass(cls, (LatentPrior, SwitchingPrior)):
        raise NotApplicable("no prior with latent variables")
    check_unrolled(partial(_vem, build(cls), plugins.get("noise_model", "nmf")(rank=2)))


def check_noise_model(cls: type[NoiseModel]) -> None:
    """See `check_unrolled`; of a noise model, by the encoder as E-step."""
    check_unrolled(partial(_vem, plugins.get("prior", "vae").example(), build(cls)))


def _vem(prior: Any, noise_model: Any, **given: Any) -> Any:
    vem: Any = plugins.get("inference", "vem")
    return vem(copy.deepcopy(prior), copy.deepcopy(noise_model), **given)
