"""Variational auto-encoders among which a Markov chain chooses: their common training objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import nn

from avse.contracts.prior import SwitchingPrior
from avse.contracts.types import Batch
from avse.priors.vae.base import VariationalPrior
from avse.signal.markov import MarkovChain, sticky


class VariationalParts(SwitchingPrior):
    """A switching prior made of variational auto-encoders, with one weight of the divergence for all of them."""

    @abstractmethod
    def variational_parts(self) -> Iterable[VariationalPrior]:
        """The auto-encoders, each once."""

    @property
    def kl_weight(self) -> float:
        """Weight of the divergence in the loss of all auto-encoders."""
        return self._kl_weight

    @kl_weight.setter
    def kl_weight(self, weight: float) -> None:
        self._kl_weight = weight
        for part in self.variational_parts():
            part.kl_weight = weight


class SwitchingVariationalPrior(VariationalParts):
    """Any number of variational auto-encoders, and a Markov chain over frames that chooses among them.

    All components are trained on the same clean speech, each by its own loss. The chain is trained on the evidence of
    each component in each frame, which for components with video is high where the video is clean and low where it is
    corrupted.

    Arguments
    ---------
    components : mapping of str to VariationalPrior
        By a name for the log. All with the same `fft_size` and `hop`.
    fallbacks : sequence of (int or None)
        See `SwitchingPrior`.
    stay : float or None
        Initial probability that the next choice is the last one. None: the choice has no memory.

    Raises
    ------
    ValueError
        If components do not fit together, or `stay` is no probability.
    """

    def __init__(
        self,
        components: Mapping[str, VariationalPrior],
        fallbacks: Sequence[int | None] = (),
        stay: float | None = 0.95,
    ) -> None:
        domains = {(part.fft_size, part.hop) for part in components.values()}
        if len(domains) != 1:
            raise ValueError(f"components must have one domain, got (fft_size, hop) = {sorted(domains)}.")
        if stay is not None and not 0.0 < stay < 1.0:
            raise ValueError(f"stay must be above 0 and below 1, got {stay}.")
        super().__init__(*domains.pop())
        self.names, self.fallbacks, self.memory = tuple(components), tuple(fallbacks), stay is not None
        self.components = nn.ModuleList(components.values())
        self.kl_weight = 1.0
        if any(part.complexity == "quadratic" for part in components.values()):
            self.complexity = "quadratic"
        self.initial = nn.Parameter(torch.zeros(len(components)))
        self.transition = nn.Parameter(sticky(len(components), stay).log()) if stay is not None else None

    def variational_parts(self) -> Iterable[VariationalPrior]:
        return (cast(VariationalPrior, component) for component in self.components)

    def calibrate(self, scale: float, shift: float) -> None:
        for component in self.variational_parts():
            if component.video_input.sees:
                component.calibrate(scale, shift)

    def switch(self) -> tuple[torch.Tensor, torch.Tensor]:
        initial = self.initial.log_softmax(dim=0)
        if self.transition is None:
            return initial, initial.expand(len(initial), -1)
        return initial, self.transition.log_softmax(dim=1)

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean loss of the components, and the negative log-likelihood of the chain; see `Prior.loss`.

        Evidence is divided by the number of bins, as inference does.

        Returns
        -------
        dict of str to scalar tensor
            `loss`; `switch`: the log-likelihood, by frame, that is lost because the best component is not known; and
            the terms of each component, followed by its name.
        """
        contexts = self.contexts(batch)
        losses, evidence = [], []
        terms: dict[str, torch.Tensor] = {}
        for name, component in zip(self.names, self.variational_parts()):
            component_terms, component_evidence = component.loss_and_evidence(batch)
            losses.append(component_terms.pop("loss"))
            evidence.append(component_evidence)
            terms |= {f"{term}_{name}": value for term, value in component_terms.items()}
        for state, fallback in enumerate(self.fallbacks):
            if fallback is not None:
                evidence[state] = torch.where(contexts[state].valid, evidence[state], evidence[fallback])
        stacked, mask = torch.stack(evidence, dim=2), contexts[0].mask
        relative = (stacked - stacked.amax(dim=2, keepdim=True)) / self.bins
        chain = MarkovChain.of(*self.switch(), batch=len(batch))
        switch = -chain.infer(relative, mask).log_evidence.sum() / mask.sum()
        loss = torch.stack(losses).mean()
        return {"loss": loss + switch.to(loss), "switch": switch.detach(), **terms}
