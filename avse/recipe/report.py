"""What a recipe is made of, and whether its model runs."""

from __future__ import annotations

import inspect
import time
from dataclasses import asdict
from typing import Any

from avse import plugins as registry
from avse.errors import AvseError
from avse.recipe.recipe import Recipe
from avse.recipe.rules import locate, signature_of
from avse.recipe.tree import as_text

_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def explain(recipe: Recipe) -> dict[str, Any]:
    """What a recipe is made of, as plain data.

    Returns
    -------
    dict
        `components`: a list of dicts with `key`, `kind`, `name`, `place`, `summary`, `arguments` (list of dicts `name`,
        `given`, `default`, `type`; None where there is none) and `alternatives` (other names of the kind). `settings`:
        the remaining top-level keys with their values as text. `missing`: keys that must be given.
    """
    described = []
    for one in recipe.components():
        name = f"avse.plugins.{one.kind}.{one.name}" if one.kind else one.name
        signature = signature_of(name)
        parameters = [p for p in signature.parameters.values() if p.kind not in _ANY] if signature else []
        known = {parameter.name for parameter in parameters}
        parameters += [inspect.Parameter(name, _ANY[1]) for name in one.arguments if name not in known]
        rows = [
            {
                "name": parameter.name,
                "given": one.arguments.get(parameter.name),
                "default": None if parameter.default is parameter.empty else repr(parameter.default),
                "type": None if parameter.annotation is parameter.empty else _type_text(parameter.annotation),
            }
            for parameter in parameters
        ]
        described.append(
            {
                **asdict(one),
                "summary": summary_of(locate(name)),
                "arguments": rows,
                "alternatives": [n for n in registry.names(one.kind) if n != one.name] if one.kind else [],
            }
        )
    top = {one.key for one in recipe.components()}
    settings = {key: as_text(recipe.tree.find((key,))) for key in recipe.keys if key not in top}
    return {"components": described, "settings": settings, "missing": recipe.placeholders()}


def check(recipe: Recipe, key: str = "model") -> dict[str, Any]:
    """Build a recipe's model and run one forward and one backward pass on two short random clips.

    Returns
    -------
    dict
        `parameters`, `trainable` (counts), `shapes` (of the outputs), `loss`, `idle` (parameters that no gradient
        reached), `forward_seconds`, `backward_seconds`.

    Raises
    ------
    AvseError
        If the model cannot be built or does not run.
    """
    import torch

    from avse.conformance import example_batch, seeded

    wanted = [key, "loss"] if "loss" in recipe.keys else [key]
    with seeded():
        built = recipe.build(*wanted)
        model = built[key]
        batch = example_batch((16000, 12800), gap=(5, 10))
        batch.clean, batch.video_is_clean = 0.5 * batch.noisy, batch.valid
        model.train()
        begin = time.perf_counter()
        try:
            outputs, loss = _forward(model, batch, built.get("loss"))
            middle = time.perf_counter()
            if loss.requires_grad:
                loss.backward()
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise AvseError(
                f"{recipe.path}: {key} was built but does not run: {type(error).__name__}: {error}"
            ) from error
        end = time.perf_counter()
    learnable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in learnable.values()),
        "shapes": {n: tuple(v.shape) for n, v in outputs.items() if isinstance(v, torch.Tensor)},
        "loss": loss.item(),
        "idle": [name for name, p in learnable.items() if p.grad is None],
        "forward_seconds": middle - begin,
        "backward_seconds": end - middle,
    }


def summary_of(found: Any) -> str:
    """First line of a docstring of its own; empty where there is none."""
    text = (getattr(found, "__doc__", None) or "").strip()
    return text.splitlines()[0].strip() if text else ""


def _forward(model: Any, batch: Any, loss: Any) -> tuple[dict[str, Any], Any]:
    if hasattr(model, "loss"):  # a prior
        outputs = model.loss(batch)
        return outputs, outputs["loss"]
    estimate = model(batch)
    return vars(estimate), estimate.speech.square().mean() if loss is None else loss(estimate, batch)


def _type_text(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
