"""The folder of a model: weights, recipe, description with hashes; how it is written, found and read.

The number of the format is in `model.json`. Folders of older formats are read for ever; names of weights are converted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from avse import hub
from avse.compatibility import MODELS, warn, weight_name
from avse.contracts.types import MOUTH_SIZE, SAMPLE_RATE, VIDEO_RATE
from avse.errors import AvseError
from avse.files import atomic_path, write_json, write_text

if TYPE_CHECKING:
    from avse.recipe import Recipe

FORMAT = 3
PRETRAINED = Path(__file__).parent / "pretrained"
SYSTEM = "inference"  # the recipe's key of a system that wraps what was trained, its key `model`
WEIGHTS, RECIPE, DESCRIPTION = "model.safetensors", "recipe.yaml", "model.json"
_AUDIO = {"rate": SAMPLE_RATE, "shape": ["samples"], "full_scale": 1.0}
_FRAMES = {"rate": VIDEO_RATE, "shape": ["video_frames"]}
_INTERFACE: dict[str, Any] = {  # of every system, as `model.json` states it
    "task": "audio-visual speech enhancement",
    "inputs": {
        "audio": _AUDIO,
        "mouth": {**_FRAMES, "shape": ["video_frames", MOUTH_SIZE, MOUTH_SIZE], "dtype": "uint8", "optional": True},
        "valid": {**_FRAMES, "dtype": "bool", "optional": True},
    },
    "outputs": {"speech": _AUDIO, "noise": _AUDIO, "reliability": {**_FRAMES, "range": [0, 1]}},
}
_PARTS = ("prior", "noise_model", "inference")
_STEP = "@step"  # of the 8-bit steps of a tensor, a tensor of its own


@dataclass
class Content:
    """What a model folder holds: the system with its weights, the recipe's text, a name, and what `model.json` says."""

    system: nn.Module
    recipe: str
    name: str
    description: dict[str, Any]


def write(folder: Path, content: Content, card: str | None = None, bits: int = 32) -> None:
    """Write a model folder; see `avse.model.Model.save`."""
    import safetensors.torch

    from avse import __version__

    system = content.system
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in system.state_dict().items()}
    weights = packed(weights, bits)
    with atomic_path(folder / WEIGHTS) as path:
        safetensors.torch.save_file(weights, path)
    write_text(folder / RECIPE, content.recipe)
    description = {
        "format": FORMAT,
        "name": content.name,
        "avse": __version__,
        "torch": torch.__version__,
        "parameters": sum(tensor.numel() for tensor in system.parameters()),
        "sha256": {name: _sha256(folder / name) for name in (WEIGHTS, RECIPE)},
        **({} if "kind" in content.description else _INTERFACE),
        **content.description,
    }
    write_json(folder / DESCRIPTION, description)
    if card is not None:
        write_text(folder / "README.md", card)


def packed(weights: Mapping[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    """Weights kept in fewer bits: in 8, a matrix as whole steps, whose size its row sets, and the rest in 16.

    Arguments
    ---------
    weights : dict of tensor
    bits : int
        32, 16 or 8.

    Raises
    ------
    AvseError
        If there is no such number of bits.

    Example
    -------
    >>> weights = {"a": torch.tensor([[1.0, -0.5], [0.01, 0.02]])}
    >>> (127 * unpacked(packed(weights, 8))["a"][0]).round(decimals=3).tolist()
    [127.0, -64.0]
    """
    if bits not in (32, 16, 8):
        raise AvseError(f"bits: weights are kept in 32, 16 or 8 bits, not in {bits}.")
    result = {}
    for name, tensor in weights.items():
        if bits == 32 or tensor.dtype != torch.float32:
            result[name] = tensor
        elif bits == 8 and tensor.ndim > 1:
            step = tensor.flatten(1).abs().amax(dim=1).clamp(min=1e-12) / 127
            result[name] = (tensor / step.view(-1, *[1] * (tensor.ndim - 1))).round().to(torch.int8)
            result[name + _STEP] = step
        else:
            result[name] = tensor.half()
    return result


def unpacked(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that `packed` gave, those of 8 bits as numbers of 32 bits."""
    return {
        name: tensor * weights[name + _STEP].view(-1, *[1] * (tensor.ndim - 1)) if name + _STEP in weights else tensor
        for name, tensor in weights.items()
        if not name.endswith(_STEP)
    }


def embedded() -> dict[str, dict[str, Any]]:
    """What `model.json` says of each model that `avse` carries, by name.

    >>> "avse-small" in embedded()
    True
    """
    return {path.parent.name: _read_description(path.parent) for path in sorted(PRETRAINED.glob(f"*/{DESCRIPTION}"))}


def licence_of(description: Mapping[str, Any]) -> str:
    """On what terms the weights of a model may be used.

    >>> licence_of({"licence": "CC BY 4.0"}), licence_of({})
    ('CC BY 4.0', 'licence not stated')
    """
    return description.get("licence") or "licence not stated"


def find(name_or_folder: str | Path) -> Path:
    """The folder of a model that `avse` carries, of one on the hub (`hf://ORGANISATION/NAME`), or a folder itself."""
    if hub.is_address(name_or_folder):
        return hub.fetch(str(name_or_folder))
    if (name := str(name_or_folder)) in MODELS and not Path(name).is_dir():
        warn(f"The model {name}", MODELS[name])
        name_or_folder = MODELS[name]
    for folder in (PRETRAINED / str(name_or_folder), Path(name_or_folder), Path(name_or_folder) / "model"):
        if (folder / DESCRIPTION).is_file():
            return folder
    if Path(name_or_folder).is_dir():
        raise AvseError(f"{name_or_folder}: is not a model folder ({DESCRIPTION} is missing).")
    raise AvseError(
        f"There is no model {str(name_or_folder)!r}. Embedded models: {', '.join(embedded()) or 'none'}; or give a "
        f"model folder, such as results/.../model."
    )


def kind_of(name_or_folder: str | Path) -> str:
    """What a model is, where it is no enhancer; else empty.

    >>> kind_of("lip-synchrony"), kind_of("avse-small")
    ('lip_synchrony', '')
    """
    return str(_read_description(find(name_or_folder)).get("kind", ""))


def read(folder: Path, overrides: Mapping[str, Any] | None = None) -> Content:
    """Read a model folder; see `avse.model.load`."""
    from avse.recipe import load_trusted

    description = _read_description(folder)
    name = description.get("name", folder.name)
    if "kind" in description:
        raise AvseError(f"{name} is no enhancer. {description.get('description', description['kind'])}.")
    old = description["format"] < FORMAT
    if {option.partition(".")[0] for option in overrides or ()} & set(_PARTS):
        _check_parts(load_trusted(folder / RECIPE, old=old), name, overrides or {})
    recipe = load_trusted(folder / RECIPE, overrides, old=old)
    key = SYSTEM if SYSTEM in recipe.keys else "model"
    system = recipe.build(key)[key]
    weights = _read_weights(folder)
    expected = system.state_dict()
    weights = {weight_name(name, expected, description["format"]): weight for name, weight in weights.items()}
    if overrides:
        # A replaced part leaves weights behind; its replacement has buffers and frozen weights of its own.
        learned = {name for name, weight in system.named_parameters() if weight.requires_grad}
        weights = {
            name: weights.get(name, value) for name, value in expected.items() if name in weights or name not in learned
        }
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    if wrong:
        listed = f"{len(wrong)} differ: {', '.join(wrong[:8])}{' ...' if len(wrong) > 8 else ''}"
        if overrides:
            raise AvseError(
                f"{folder}: the weights do not fit the recipe with {', '.join(f'--{name}' for name in overrides)}; "
                f"{listed}. Only parts that need no training can be replaced in a trained model."
            )
        raise AvseError(
            f"{folder}: the weights do not fit the recipe; {listed}. Were they made with another version of a plugin? "
            f"The folder was written by avse {description.get('avse')}."
        )
    system.load_state_dict(weights)
    return Content(system, recipe.text, name, description)


def recipe_keys(folder: Path) -> set[str]:
    """The keys of the recipe of a model folder."""
    from avse.recipe import load_trusted

    return set(load_trusted(folder / RECIPE, old=_read_description(folder)["format"] < FORMAT).keys)


def read_network(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """What the keys of the recipe stand for, the weights, and `model.json`, of a network of a kind that is no system.

    Raises
    ------
    AvseError
        If the folder holds something else, or a file is missing or altered.
    """
    from avse.recipe import load_trusted

    description = _read_description(folder)
    if description.get("kind") != kind:
        raise AvseError(f"{folder}: holds no network of the kind {kind}.")
    return load_trusted(folder / RECIPE).build(), _read_weights(folder), description


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    try:
        return unpacked(safetensors.torch.load_file(folder / WEIGHTS))
    except (safetensors.SafetensorError, OSError) as error:
        raise AvseError(f"{folder / WEIGHTS}: holds no weights ({error}). Fetch the model again.") from error


def _check_parts(recipe: Recipe, name: str, overrides: Mapping[str, Any]) -> None:
    """Refuse an override of a part that this kind of model lacks, or that stands elsewhere in its recipe."""
    for option in overrides:
        part = option.partition(".")[0]
        if part not in _PARTS or part in recipe.keys:
            continue
        called = part.replace("_", " ")
        if SYSTEM not in recipe.keys:
            names = (f"{part.kind}/{part.name}" for part in recipe.components() if part.key == "model")
            raise AvseError(
                f"--{option}: {name} has no {called}: it is a network trained to enhance ({next(names, 'no plugin')}). "
                f"Models with a prior, a noise model and an inference are those of recipes with the key `{SYSTEM}`, "
                f"such as recipes/Manifest/hparams/av_vae.yaml; there, --{SYSTEM} and --noise_model choose others."
            )
        if part == "prior":
            raise AvseError(f"--{option}: the prior of {name} is what was trained. Another one is another --model.")
        raise AvseError(f"--{option}: the {called} of {name} is an argument; give --{SYSTEM}.{option}.")


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        hashes = dict(description["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvseError(
            f"{folder / DESCRIPTION}: does not describe a model ({type(error).__name__}: {error}). Fetch it again."
        ) from error
    if description.get("format") not in range(1, FORMAT + 1):
        raise AvseError(f"{folder}: has format {description.get('format')}, this avse reads formats 1 to {FORMAT}.")
    for name in (WEIGHTS, RECIPE):
        path = folder / name
        if not path.is_file():
            raise AvseError(f"{path}: is missing. Fetch the model again.")
        if _sha256(path) != hashes.get(name):
            raise AvseError(f"{path}: was altered: its SHA-256 is not the one in {DESCRIPTION}. Fetch the model again.")
    return description


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
