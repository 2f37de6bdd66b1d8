"""Optimizers that PyTorch does not have in the form needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

# Coefficients of the quintic iteration, which brings singular values near one in a few steps (Jordan et al., 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_SMALLEST_SIDE = 16


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, for weight matrices; AdamW for the rest.

    A matrix moves along `U V^T` instead of the momentum `U S V^T`, so that rare directions learn as fast as common
    ones. On a masking network and a CPU's budget it needs several times fewer steps than AdamW. Convolutions count
    as matrices of output by all else; biases, norms, depthwise convolutions and other small tensors go to AdamW.

    `torch.optim.Muon` takes matrices alone and iterates in bfloat16, which processors without it do slowly.

    Arguments
    ---------
    params : iterable of tensor
    lr : float
        Of matrices. A step has a root mean square of 0.2 lr whatever the matrix's shape, as a step of AdamW has
        (Liu et al., 2025).
    momentum : float
        Nesterov momentum of matrices.
    weight_decay : float
        Decoupled, per unit of learning rate.
    vector_lr : float
        Learning rate of AdamW relative to `lr`.
    betas : (float, float)
        Of AdamW.
    iterations : int
        Steps of the orthogonalisation.

    Raises
    ------
    ValueError
        If a number is out of range.

    Papers: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is scalable
    for LLM training, 2025.

    Example
    -------
    >>> layer = torch.nn.Linear(16, 16)
    >>> optimizer = Muon(layer.parameters(), lr=0.01)
    >>> layer(torch.ones(1, 16)).sum().backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        vector_lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.98),
        iterations: int = 5,
    ) -> None:
        if lr < 0 or vector_lr < 0 or weight_decay < 0:
            raise ValueError(f"lr, vector_lr and weight_decay must not be negative: {lr}, {vector_lr}, {weight_decay}.")
        if not 0 <= momentum < 1 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"momentum and betas must be in [0, 1), got {momentum} and {tuple(betas)}.")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}.")
        defaults: dict[str, Any] = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "vector_lr": vector_lr,
            "betas": tuple(betas),
            "iterations": iterations,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], torch.Tensor] | None = None
    ) -> torch.Tensor | None:
        """One update.

        Arguments
        ---------
        closure : callable, optional
            Evaluates the loss anew and returns it, as for any optimizer of PyTorch.

        Returns
        -------
        tensor or None
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            matrices = [parameter for parameter in parameters if _is_matrix(parameter)]
            vectors = [parameter for parameter in parameters if not _is_matrix(parameter)]
            if matrices:
                self._orthogonal(matrices, group)
            if vectors:
                self._adam(vectors, group)
        return loss

    # One call for many tensors: with one for each, a GPU waits for thousands of small calls.
    def _orthogonal(self, matrices: list[torch.Tensor], group: dict[str, Any]) -> None:
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        for parameter in matrices:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in matrices]
        gradients = _gradients(matrices)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        directions = torch._foreach_add(gradients, momenta, alpha=group["momentum"])
        # Matrices of one shape are orthogonalised together.
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, direction in enumerate(directions):
            by_shape.setdefault((len(direction), direction.numel() // len(direction)), []).append(index)
        for shape, indices in by_shape.items():
            flat = torch.stack([directions[index].reshape(shape) for index in indices])
            members = [matrices[index] for index in indices]
            steps = orthogonalise(flat, group["iterations"]).reshape(len(indices), *members[0].shape)
            scale = 0.2 * max(shape) ** 0.5 * group["lr"]
            if all(member.shape == members[0].shape for member in members):
                torch._foreach_add_(members, list(steps), alpha=-scale)
            else:
                for member, step in zip(members, steps):
                    member.add_(step.reshape(member.shape), alpha=-scale)

    def _adam(self, vectors: list[torch.Tensor], group: dict[str, Any]) -> None:
        rate = group["lr"] * group["vector_lr"]
        torch._foreach_mul_(vectors, 1 - rate * group["weight_decay"])
        for parameter in vectors:
            state = self.state[parameter]
            if not state:
                state["count"] = torch.zeros((), dtype=torch.float64)
                state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["count"] += 1
        first, second = ([self.state[parameter][name] for parameter in vectors] for name in ("first", "second"))
        counts = [float(self.state[parameter]["count"]) for parameter in vectors]
        gradients = _gradients(vectors)
        low, high = group["betas"]
        torch._foreach_lerp_(first, gradients, 1 - low)
        torch._foreach_mul_(second, high)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - high)
        stds = torch._foreach_div(second, [1 - high**count for count in counts])
        torch._foreach_sqrt_(stds)
        torch._foreach_add_(stds, 1e-8)
        torch._foreach_addcdiv_(vectors, first, stds, [-rate / (1 - low**count) for count in counts])


def orthogonalise(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest matrices with singular values near one, by a Newton-Schulz iteration.

    Arguments
    ---------
    matrices : tensor, shape (count, rows, columns)
    iterations : int

    Returns
    -------
    tensor, shape (count, rows, columns)
        Singular values between about 0.7 and 1.2, where those given were not tiny.

    Example
    -------
    >>> values = torch.linalg.svdvals(orthogonalise(torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))))
    >>> bool(((values > 0.6) & (values < 1.3)).all())
    True
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    result = matrices if wide else matrices.mT
    result = result / (torch.linalg.matrix_norm(result, keepdim=True) + 1e-7)
    one, three, five = _QUINTIC
    for _ in range(iterations):
        gram = result @ result.mT
        result = one * result + torch.baddbmm(three * gram, gram, gram, alpha=five) @ result
    return result if wide else result.mT


def _gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _is_matrix(parameter: torch.Tensor) -> bool:
    if parameter.ndim < 2:
        return False
    rows = parameter.shape[0]
    return min(rows, parameter.numel() // max(1, rows)) >= _SMALLEST_SIDE
