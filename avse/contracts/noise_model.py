"""Kind `noise_model`: the variance of noise over time and frequency, fitted on the clip or given by its scene."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import nn

from avse.contracts.plugin import Plugin

State = dict[str, torch.Tensor]


class NoiseModel(nn.Module, Plugin):
    """Noise as a zero-mean complex Gaussian, n ~ N_c(0, V), whose variance V an inference refines step by step.

    What is fitted on a clip is a `State`: a dictionary of tensors with the batch first. Methods return new states and
    change none, so that an iteration can be a layer of a network (unrolled inference) and gradients pass through it.

    The M-step reads only two non-negative statistics, the parts of the objective's gradient with respect to the
    variance, d objective / d V = denominator - numerator. With draws r of speech (Monte-Carlo EM) they are
    numerator = mean_r |x|^2 / Vx_r^2 and denominator = mean_r 1 / Vx_r; with a posterior noise power P (variational EM)
    numerator = P / V^2 and denominator = 1 / V. A factorisation makes multiplicative rules of them, another model
    gradient steps.

    Attributes
    ----------
    scene_dim : int
        Features of the embedding of the noise that the model takes as `scene`; 0: it takes none. Such a model may leave
        `trust` in its states, (batch,), in [0, 1]: how far it trusts the embedding.
    scene_sound : int
        Features behind the embedding that say how the noise sounds (`avse.signal.scenes`); 0: it takes none.
    learnable : tuple of str
        Arguments that an unrolled inference may learn: positive numbers, kept as attributes of the same names. An
        inference then sets a copy's attribute to a tensor without axes.
    fitted : tuple of str
        Entries that the M-step changes where the state has them, all positive; empty: all of the state.
    """

    scene_dim: int = 0
    scene_sound: int = 0
    learnable: ClassVar[tuple[str, ...]] = ()
    fitted: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def initial_state(self, power: torch.Tensor, mask: torch.Tensor, scene: torch.Tensor | None = None) -> State:
        """The state from which the fit begins.

        Arguments
        ---------
        power : tensor, shape (batch, frames, bins)
            `|x|^2` of the noisy audio.
        mask : tensor, shape (batch, frames), bool
            False beyond each clip's end; those frames must not count.
        scene : tensor, shape (batch, dim), or None
            An embedding of what is known of the noise (text, image, video, sound), and `scene_sound` features of how it
            sounds, which may be left out; most models ignore it. Zeros say nothing.
        """

    @abstractmethod
    def variance(self, state: State) -> torch.Tensor:
        """V, positive, shape (batch, frames, bins)."""

    @abstractmethod
    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        """One M-step.

        Arguments
        ---------
        state : State
            Not changed.
        numerator, denominator : tensor, shape (batch, frames, bins), non-negative
            See the class; zero beyond each clip's end.
        """

    def update_from_power(self, state: State, power: torch.Tensor, mask: torch.Tensor) -> State:
        """One M-step that fits the variance to a posterior noise power.

        Arguments
        ---------
        state : State
        power : tensor, shape (batch, frames, bins)
            `E |n|^2` under the posterior.
        mask : tensor, shape (batch, frames), bool
        """
        weight = mask[..., None] / self.variance(state)
        return self.update(state, power * weight.square(), weight)


class ScoreNoiseModel(NoiseModel):
    """A noise model that also knows a score, beside which V is a first guess.

    Noise is diffused as speech is by a `ScorePrior`, in a domain that depends on the state: y = domain_of(n) + r z, z
    white with E |z|^2 = 1. So the score follows by Tweedie's formula. An inference that draws noise beside speech keeps
    the state while it draws; others use V alone.

    Attributes
    ----------
    score_bins : int
        Frequency bins of the score.
    """

    score_bins: int

    @abstractmethod
    def domain_of(self, noise: torch.Tensor, state: State) -> torch.Tensor:
        """Noise in the domain in which it is diffused; linear in the noise.

        Arguments
        ---------
        noise : tensor, shape (batch, frames, bins), complex
            A short-time Fourier transform.
        state : State

        Returns
        -------
        tensor, shape (batch, frames, bins), complex
        """

    @abstractmethod
    def noise_given(
        self, noisy: torch.Tensor, ratio: torch.Tensor, state: State, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of noise, as a short-time Fourier transform, given its diffused state.

        Arguments
        ---------
        noisy : tensor, shape (batch, frames, bins), complex
            y above.
        ratio : tensor, shape (batch,)
            r above.
        state : State
        mask : tensor, shape (batch, frames), bool

        Returns
        -------
        mean : tensor, shape (batch, frames, bins), complex
        variance : tensor, shape (batch, frames, bins)
            Of real and imaginary part together.
        """
