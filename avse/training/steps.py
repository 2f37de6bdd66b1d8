"""The loop in which the networks of noise models learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from avse.files import atomic_path

_KEPT_EVERY = 25  # steps


def learn(
    network: nn.Module,
    loss_of: Callable[[np.random.Generator, int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> list[float]:
    """AdamW with warm-up and a cosine; the weights that are kept are an average over the last steps.

    Arguments
    ---------
    network : nn.Module
        Is changed.
    loss_of : callable
        Gives the loss of a step, of which it is told the number, from zero; it draws with the generator and with that
        of torch.
    steps : int
    rate : float
        Of learning, at its highest.
    seed : int
    checkpoint : path, optional
        File that is written every 25 steps; a training that was stopped goes on from it.

    Returns
    -------
    list of float
        The loss at each step.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=1e-3)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    losses: list[float] = []
    if checkpoint is not None and Path(checkpoint).exists():
        kept = torch.load(checkpoint, weights_only=True)
        losses = kept["losses"]
        parts: list[Any] = [network, optimizer, average]
        for part, state in zip(parts, kept["states"]):
            part.load_state_dict(state)
        rng = np.random.default_rng((seed, len(losses)))
        torch.manual_seed(seed + len(losses))
    for step in range(len(losses), steps):
        for group in optimizer.param_groups:
            cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            group["lr"] = rate * min(1.0, (step + 1) / 40) * max(cosine, 0.03)
        loss = loss_of(rng, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        losses.append(loss.item())
        if checkpoint is not None and (step + 1) % _KEPT_EVERY == 0:
            states = [part.state_dict() for part in (network, optimizer, average)]
            with atomic_path(checkpoint) as temporary:
                torch.save({"losses": losses, "states": states}, temporary)
    network.load_state_dict(average.module.state_dict())
    return losses
