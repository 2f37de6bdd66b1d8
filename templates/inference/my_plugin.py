"""Inference `my_plugin`: finds speech under a prior and a noise model.

A comment with CHANGE stands where your idea goes; one with KEEP tells what the
checks hold you to.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from avse.contracts.inference import Inference
from avse.contracts.noise_model import NoiseModel
from avse.contracts.prior import LatentPrior
from avse.contracts.types import Batch, Estimate
from avse.plugins import register
from avse.signal.stft import overlap_gain

# KEEP variances above this, so that silence divides by no zero.
FLOOR = 1e-10


@register("inference", "my_plugin")
class MyPlugin(Inference):
    """Expectation-maximisation with the prior's encoder as E-step.

    Each iteration guesses z from the speech found so far, separates by the Wiener
    filter of the two variances, and fits the noise to what is left.

    Arguments
    ---------
    prior : LatentPrior
        The model of speech.
    noise_model : NoiseModel
        The model of noise.
    iterations : int
        Number of iterations.

    Takes a Batch of noisy (batch, samples); gives Estimates of the same shape.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> estimate = MyPlugin.example()(example_batch((3200,)))
    >>> estimate.speech.shape, len(estimate.trace)
    (torch.Size([1, 3200]), 3)
    """

    # CHANGE: where the method comes from, such as "Doe et al., An inference, 2026".
    paper = ""
    # CHANGE: the families of priors it works with.
    accepts = (LatentPrior,)

    def __init__(
        self,
        prior: LatentPrior,
        noise_model: NoiseModel,
        iterations: int = 20,
    ) -> None:
        super().__init__(prior, noise_model, iterations)

    @classmethod
    def example_arguments(cls) -> dict:
        # KEEP it small: the checks build the plugin with these. Other plugins come
        # by their names.
        from avse import plugins

        prior = plugins.get("prior", "av_vae").example()
        noise_model = plugins.get("noise_model", "nmf").example()
        return {"prior": prior, "noise_model": noise_model, "iterations": 3}

    def iterate(
        self,
        batch: Batch,
    ) -> Iterator[Estimate]:
        """See `Inference.iterate`."""
        context = self.prior.context(batch)
        noisy = self.prior.analyse(batch.noisy)
        power = noisy.abs().square()
        mask = context.mask
        state = self.noise_model.initial_state(power, mask, batch.scene)
        speech_power, trace = power, []
        for _ in range(self.iterations):
            # CHANGE: how z is found. Random numbers are drawn for each clip by itself,
            # so that a batch gives what its clips give one by one.
            latent = self.prior.encode(speech_power, context).mean
            speech = self.prior.decode(latent, context).exp() + FLOOR
            noise = self.noise_model.variance(state)
            gain = speech / (speech + noise)
            spread = gain * noise
            speech_power = gain.square() * power + spread
            # CHANGE: how the noise is fitted; see also `NoiseModel.update`.
            noise_power = (1 - gain).square() * power + spread
            state = self.noise_model.update_from_power(state, noise_power, mask)
            # KEEP: the objective after every iteration so far, lower is better.
            total = speech + self.noise_model.variance(state)
            trace.append((power / total + total.log())[mask].mean().item())
            # KEEP: one whole estimate after each iteration, so that it can be stopped.
            yield self._estimate(batch, gain * noisy * mask[..., None], trace)

    def _estimate(
        self,
        batch: Batch,
        spectrum: torch.Tensor,
        trace: list[float],
    ) -> Estimate:
        """The estimate for a spectrum (batch, frames, bins) of speech."""
        samples = batch.noisy.shape[1]
        speech = self.prior.synthesise(spectrum, samples)
        # KEEP: speech is that of the clip alone, zero beyond its end; with the noise it
        # is the input.
        prior = self.prior
        gain = overlap_gain(batch.lengths, prior.fft_size, prior.hop, samples)
        speech = speech * gain.to(speech)
        # CHANGE where the prior tells its reliability.
        reliability = batch.valid.to(speech.dtype)
        noise = batch.noisy - speech
        return Estimate(speech, noise, reliability, batch.lengths, trace=list(trace))
