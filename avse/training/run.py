"""`avse train`: a recipe in, a run folder out."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import random
import re
import signal
import sys
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

from avse.compatibility import weight_name
from avse.devices import AUTO, find_device
from avse.errors import AvseError
from avse.files import atomic_path, check_apart, locked

# Keys that say how long and where to train, not what: a run may be resumed with other values.
_RUN_KEYS = (
    "epochs",
    "patience",
    "device",
    "num_workers",
    "ckpt_interval_steps",
    "cache_folder",
    "in_memory",
    "manifest",
    "inference",
    "plugins",
)
# Least and greatest value of the keys of a recipe that are numbers.
_RANGES = {
    **dict.fromkeys(("epochs", "steps_per_epoch", "batch_size", "valid_size"), (1, math.inf)),
    **dict.fromkeys(
        ("warmup_steps", "kl_warmup_steps", "patience", "num_workers", "ckpt_interval_steps"), (0, math.inf)
    ),
    **dict.fromkeys(("final_rate", "ema_decay"), (0, 1)),
    "max_grad_norm": (0, 1e6),
    "seed": (0, 2**32 - 1),
}
_PACKAGES = ("avse", "torch", "torchaudio", "speechbrain", "hyperpyyaml", "numpy", "opencv-python", "av")


def train(
    recipe: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    plugins: list[str | Path] | None = None,
    debug: bool = False,
    device: str = AUTO,
    progress: bool = True,
) -> Path:
    """Train what a recipe describes, or go on where an interrupted run stopped.

    The run folder (`output_folder`) holds the resolved recipe, `environment.json`, `train_log.txt`, checkpoints in
    `save/`, TensorBoard events where `tensorboard` is installed, `scores.json`, and in `model/` the best model so
    far, ready for `avse.load`.

    Arguments
    ---------
    recipe : path
    overrides : dict
        Values by key or dotted key, and plugin names that replace components: see `avse.recipe.load_recipe`.
    plugins : list of paths
        Folders or files with more plugins.
    debug : bool
        Two epochs of two steps on a few clips; checkpoints go to a temporary folder.
    device : str
        `cpu`, `cuda`, `cuda:1`, ... or `auto`: a GPU if there is one.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    AvseError
        If the recipe or its data cannot be used, or the run folder holds another recipe's run.
    """
    from avse.recipe import load_recipe

    loaded = load_recipe(recipe, overrides, plugins)
    device = str(find_device(device))
    # Seeds come first: building the network already draws from them.
    seed = int(loaded.scalar("seed"))
    _check_ranges({"seed": seed})
    _set_seeds(seed)
    values = loaded.build()
    _check_ranges(values)
    distributed = _init_distributed(device)
    from speechbrain.utils.distributed import if_main_process, run_on_main

    folder = Path(values["output_folder"])
    with locked(folder) if if_main_process() else nullcontext():
        run_on_main(_prepare_folder, args=[folder, loaded.text, recipe])
        _fit(values, loaded, folder, seed=seed, debug=debug, device=device, progress=progress)
    if distributed:
        import torch

        torch.distributed.barrier()  # one that ends earlier would break the connections of the others
        torch.distributed.destroy_process_group()
    return folder


def _check_ranges(values: dict[str, Any]) -> None:
    for key, (least, greatest) in _RANGES.items():
        value = values.get(key)
        if value is not None and not (isinstance(value, int | float) and least <= value <= greatest):
            limits = f"at least {least}" if math.isinf(greatest) else f"from {least} to {greatest:g}"
            raise AvseError(f"--{key} must be a number, {limits}; got {value}.")


def _fit(
    values: dict[str, Any],
    recipe: Any,
    folder: Path,
    *,
    seed: int,
    debug: bool,
    device: str,
    progress: bool,
) -> None:
    import torch
    from speechbrain.utils.checkpoints import Checkpointer
    from speechbrain.utils.distributed import run_on_main
    from speechbrain.utils.epoch_loop import EpochCounter

    from avse.data.cache import ClipCache
    from avse.data.manifest import check_splits, described, keep_licences, read_manifest

    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    share, rest = divmod(values["batch_size"], processes)
    if rest:
        raise AvseError(f"--batch_size {values['batch_size']}: give a multiple of the {processes} processes.")
    rows = read_manifest(values["manifest"], kinds=values.get("kinds"))
    if values.get("licences"):
        rows, left_out = keep_licences(rows, values["licences"])
        print(f"Licences: {len(rows)} rows of the manifest are used; left out:")
        print("\n".join(f"{count:7} {licence}" for licence, count in left_out.most_common()) or "      0")
    check_splits(rows, values.get("allow_speakers", ()))
    cache = ClipCache(values["cache_folder"], values.get("mouth_tracker"), bool(values.get("in_memory")))
    sets = {}
    for split, key, size, data_seed in (
        ("train", "train_set", values["steps_per_epoch"] * values["batch_size"], seed),
        ("dev", "valid_set", values["valid_size"], 0),
    ):
        utterances = [row for row in rows if row.split == split]
        try:
            mixtures = values[key](utterances, cache, size=min(size, 4) if debug else size, seed=data_seed)
        except AvseError as error:
            raise AvseError(f"split {split}: {error}") from error
        if not debug:
            run_on_main(cache.fill, args=[mixtures.utterances, mixtures.use_video, progress])
        sets[split] = mixtures
    data = described(sets["train"].utterances or [row for row in rows if row.split == "train"])
    model = values["model"]
    counter = EpochCounter(limit=values["epochs"])
    checkpointer = Checkpointer(folder / "save", recoverables={"model": model, "epoch_counter": counter})
    if values.get("initial_weights"):
        begins = checkpointer.find_checkpoint() is None
        parts = _initial(values["initial_weights"], begins)
        data += _learned_before(parts, data)
        if begins:
            _load_initial(model, parts)

    def on_best(averaged: Any, scores: dict[str, float]) -> None:
        with atomic_path(folder / "scores.json") as path:
            path.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        _export(averaged, values, recipe, folder, {"training_data": data, "seed": seed, "validation": scores})

    brain = _brain_of(model)(
        modules={"model": model},
        opt_class=values["optimizer"],
        hparams={
            **values,
            "epoch_counter": counter,
            "mixtures": sets["train"],
            "corpora": {u.id: u.dataset for u in sets["dev"].utterances if u.dataset},
            "logger": _RunLog(folder),
            "sorting": "as drawn",  # SpeechBrain would shuffle the items between processes
            "on_best": on_best,
        },
        run_opts={
            "device": device,
            "distributed_backend": _backend(device),
            "debug": debug,
            "noprogressbar": not progress,
            "max_grad_norm": values["max_grad_norm"],
            "precision": values["precision"],
            "ckpt_interval_steps": values["ckpt_interval_steps"],
            # A batch without any valid video leaves the visual front-end without a gradient.
            "find_unused_parameters": True,
        },
        checkpointer=checkpointer,
    )
    loader = {
        "batch_size": values["batch_size"],
        "num_workers": values["num_workers"],
        "collate_fn": sets["train"].collate,
        "worker_init_fn": _begin_worker,
        "pin_memory": device.startswith("cuda"),
    }
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    with brain.saving_when_interrupted():
        # Each process takes its share of every batch, and validates alone.
        kwargs = {"train_loader_kwargs": {**loader, "batch_size": share}, "valid_loader_kwargs": dict(loader)}
        brain.fit(counter, sets["train"], sets["dev"], **kwargs)


def _brain_of(model: Any) -> type:
    """The Brain that trains a model: the objective comes with a prior, and from the recipe for everything else."""
    from avse.contracts.prior import Prior
    from avse.inference.em.driver import LatentInference
    from avse.training.contrastive import ContrastiveBrain, ContrastiveLearner
    from avse.training.prior import PriorBrain
    from avse.training.supervised import SupervisedBrain
    from avse.training.unrolled import UnrolledBrain

    if isinstance(model, ContrastiveLearner):
        return ContrastiveBrain
    if isinstance(model, LatentInference):
        return UnrolledBrain
    return PriorBrain if isinstance(model, Prior) else SupervisedBrain


class _RunLog:
    """Statistics to `train_log.txt`, and to TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        # SpeechBrain looks for torchvision, for figures that are never drawn here, when this module is imported.
        log = logging.getLogger("speechbrain.utils.train_logger")
        log.addFilter(_not_on_torchvision)
        try:
            from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger
        finally:
            log.removeFilter(_not_on_torchvision)

        self.loggers: list[Any] = [FileTrainLogger(str(folder / "train_log.txt"))]
        try:
            metadata.version("tensorboard")
        except metadata.PackageNotFoundError:
            return
        self.loggers.append(TensorboardLogger(str(folder / "tensorboard")))

    def log_stats(self, stats_meta: dict, train_stats: dict, valid_stats: dict) -> None:
        """As in SpeechBrain's train loggers."""
        for logger in self.loggers:
            logger.log_stats(stats_meta, train_stats=train_stats, valid_stats=valid_stats)


def _not_on_torchvision(record: logging.LogRecord) -> bool:
    return "torchvision is not available" not in record.getMessage()


def _set_seeds(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _begin_worker(worker: int) -> None:
    """In a process that loads data: one thread for OpenCV; interruptions are the parent's to handle."""
    import cv2

    cv2.setNumThreads(1)
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _backend(device: str) -> str:
    return "nccl" if device.startswith("cuda") else "gloo"


def _init_distributed(device: str) -> bool:
    """Join the processes that `torchrun` started, if it did."""
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        return False
    import torch

    torch.distributed.init_process_group(_backend(device))
    return True


def _prepare_folder(folder: Path, text: str, recipe: str | Path) -> None:
    """Write the resolved recipe and the environment; refuse that of another recipe's run or of the recipe."""
    import yaml

    path = folder / "recipe.yaml"
    if path.is_file() and (folder / "save").is_dir():
        before, now = (_plain(yaml, content) for content in (path.read_text(encoding="utf-8"), text))
        changed = sorted(
            key
            for key in before.keys() | now.keys()
            if key not in _RUN_KEYS and not key.startswith("__") and before.get(key) != now.get(key)
        )
        if changed:
            raise AvseError(
                f"{folder}: holds a run of another recipe (other values of {', '.join(changed)}). Give another "
                f"--output_folder, or delete this one."
            )
    elif path.is_file() and path.read_text(encoding="utf-8") != text:
        check_apart([recipe], [path])
    with atomic_path(path) as target:
        target.write_text(text, encoding="utf-8")
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    facts = {"python": platform.python_version(), "packages": packages, "command": sys.argv}
    with atomic_path(folder / "environment.json") as target:
        target.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _plain(yaml: Any, text: str) -> dict[str, Any]:
    """A recipe as plain values, its tags kept as text, to compare two."""

    class Loader(yaml.SafeLoader):
        pass

    def keep(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.MappingNode):
            return [suffix, loader.construct_mapping(node, deep=True)]
        if isinstance(node, yaml.SequenceNode):
            return [suffix, loader.construct_sequence(node, deep=True)]
        return [suffix, loader.construct_scalar(node)]

    Loader.add_multi_constructor("!", keep)
    return yaml.load(text, Loader) or {}


def _initial(sources: str | list[str] | dict[str, str], needed: bool) -> list[tuple[str, Path]]:
    """The parts of the model that start from given weights (the empty name: all of it), with the files of these.

    Files that are absent are passed over where they are not needed any more: by a run that goes on.
    """
    if isinstance(sources, dict):
        parts = [(f"{part}.", source) for part, source in sources.items()]
    else:
        parts = [("", source) for source in ([sources] if isinstance(sources, str) else sources)]
    found = []
    for part, source in parts:
        places = (Path(source, "model", "model.safetensors"), Path(source, "model.safetensors"), Path(source))
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            found.append((part, path))
        elif needed:
            raise AvseError(f"initial_weights: {source} holds no model.safetensors. Train that recipe first.")
    return found


def _learned_before(parts: list[tuple[str, Path]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training data of the models that a training starts from, where they state it, without what is known."""
    seen = {(one["dataset"], one["kind"]) for one in known}
    told = [path.with_name("model.json") for _, path in parts]
    texts = [json.loads(path.read_text(encoding="utf-8")) for path in told if path.is_file()]
    before = [one for text in texts for one in text.get("training_data", ())]
    return list({key: one for one in before if (key := (one["dataset"], one["kind"])) not in seen}.values())


def _load_initial(model: Any, parts: list[tuple[str, Path]]) -> None:
    """Start from given weights, later ones over earlier ones, wherever names and shapes agree."""
    import safetensors.torch

    from avse.model_folder import unpacked

    own = model.state_dict()
    for part, path in parts:
        # A trained prior was saved inside its inference.
        given = {}
        for name, tensor in unpacked(safetensors.torch.load_file(path)).items():
            names = [weight_name(part + name, own), weight_name(part + name.removeprefix("prior."), own)]
            given[next((name for name in names if name in own), names[0])] = tensor
        fitting = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
        if not fitting:
            place = f"the part {part[:-1]!r} of this recipe's model" if part else "this recipe's model"
            raise AvseError(f"initial_weights: none of the {len(given)} tensors of {path} fits {place}.")
        model.load_state_dict(fitting, strict=False)
        print(f"Initial weights{f' of {part[:-1]}' if part else ''}: {len(fitting)} of {len(given)} tensors of {path}")


def _export(averaged: Any, values: dict[str, Any], recipe: Any, folder: Path, about: dict[str, Any]) -> None:
    """The best model so far as a model folder: inside the recipe's `inference`, or itself; else its weights alone."""
    import copy

    import safetensors.torch

    from avse.contracts.enhancer import Enhancer
    from avse.contracts.inference import Inference
    from avse.model import Model
    from avse.model_folder import SYSTEM, Content, write
    from avse.scene import KIND
    from avse.training.contrastive import ContrastiveLearner

    if isinstance(averaged, ContrastiveLearner):
        content = Content(averaged.embedding, recipe.subrecipe(KIND), folder.parent.name, {"kind": KIND, **about})
        write(folder / "model", content)
        return
    key, system = "model", averaged
    if values.get(SYSTEM) is not None:
        key, system = SYSTEM, copy.deepcopy(values[SYSTEM], {id(values["model"]): averaged})
    if isinstance(system, Enhancer | Inference):
        # Run folders are named by their seed, in a folder that is named by the recipe.
        name = f"{folder.parent.name}-{folder.name}" if folder.name.isdigit() else folder.name
        text = recipe.subrecipe(key)
        if key == "model" and isinstance(system, Inference):  # which a user may change by this name
            text = re.sub("^model:", f"{SYSTEM}:", text, flags=re.MULTILINE)
        Model(system, text, name).save(folder / "model", description=about)
        return
    with atomic_path(folder / "model" / "model.safetensors") as path:
        safetensors.torch.save_file({k: v.contiguous() for k, v in averaged.state_dict().items()}, path)
