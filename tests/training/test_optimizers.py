"""Muon against a plain float64 implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avse.training.optimizers import Muon, orthogonalise


def naive_orthogonalise(matrix: np.ndarray, iterations: int) -> np.ndarray:
    x = matrix / np.linalg.norm(matrix)
    for _ in range(iterations):
        left, values, right = np.linalg.svd(x, full_matrices=False)
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        x = left @ np.diag(values) @ right
    return x


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (40, 16)])
def test_orthogonalise_moves_the_singular_values_alone(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    got = orthogonalise(torch.tensor(matrix)[None])[0].numpy()
    np.testing.assert_allclose(got, naive_orthogonalise(matrix, 5), atol=1e-6)


def test_steps_follow_the_equations() -> None:
    rng = np.random.default_rng(1)
    matrix, bias = rng.standard_normal((16, 24)), rng.standard_normal(24)
    parameters = [torch.tensor(matrix, requires_grad=True), torch.tensor(bias, requires_grad=True)]
    optimizer = Muon(parameters, lr=0.02, momentum=0.9, weight_decay=0.1, vector_lr=0.5, betas=(0.8, 0.95))
    velocity, first, second = np.zeros_like(matrix), np.zeros_like(bias), np.zeros_like(bias)
    for count in range(1, 4):
        gradients = rng.standard_normal(matrix.shape), rng.standard_normal(bias.shape)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
        velocity = 0.9 * velocity + gradients[0]
        step = naive_orthogonalise(gradients[0] + 0.9 * velocity, 5)
        matrix = matrix * (1 - 0.02 * 0.1) - 0.02 * 0.2 * np.sqrt(24) * step
        first, second = 0.8 * first + 0.2 * gradients[1], 0.95 * second + 0.05 * gradients[1] ** 2
        moved = (first / (1 - 0.8**count)) / (np.sqrt(second / (1 - 0.95**count)) + 1e-8)
        bias = bias * (1 - 0.01 * 0.1) - 0.01 * moved
        np.testing.assert_allclose(parameters[0].detach().numpy(), matrix, atol=1e-6)
        np.testing.assert_allclose(parameters[1].detach().numpy(), bias, atol=1e-6)


def test_the_rest_is_left_to_adamw() -> None:
    torch.manual_seed(0)
    small = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(20, 1, 9))]
    twins = [torch.nn.Parameter(parameter.detach().clone()) for parameter in small]
    ours = Muon(small, lr=0.1, vector_lr=0.1, weight_decay=0.3, betas=(0.9, 0.98))
    theirs = torch.optim.AdamW(twins, lr=0.01, betas=(0.9, 0.98), weight_decay=0.3)
    for _ in range(5):
        for one, other in zip(small, twins):
            one.grad = other.grad = torch.randn_like(one)
        ours.step()
        theirs.step()
    for one, other in zip(small, twins):
        torch.testing.assert_close(one, other)


def test_a_saved_state_goes_on_exactly() -> None:
    def run(steps: int, layer: torch.nn.Linear, optimizer: Muon, begin: int = 0) -> None:
        for step in range(begin, steps):
            generator = torch.Generator().manual_seed(step)
            optimizer.zero_grad()
            layer(torch.randn(4, 32, generator=generator)).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    whole, parted = torch.nn.Linear(32, 24), torch.nn.Linear(32, 24)
    parted.load_state_dict(whole.state_dict())
    run(6, whole, Muon(whole.parameters()))
    first = Muon(parted.parameters())
    run(3, parted, first)
    second = Muon(parted.parameters())
    second.load_state_dict(first.state_dict())
    run(6, parted, second, begin=3)
    assert torch.equal(whole.weight, parted.weight) and torch.equal(whole.bias, parted.bias)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"lr": -1.0}, "negative"), ({"momentum": 1.0}, "momentum"), ({"iterations": 0}, "least")],
)
def test_wrong_numbers_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([torch.nn.Parameter(torch.zeros(2))], **arguments)
