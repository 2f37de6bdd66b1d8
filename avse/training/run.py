"""`avse train`: a recipe in, a run folder out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch

from avse.data.cache import ClipCache
from avse.data.manifest import read_manifest


def run(values, text):
    from speechbrain.utils.checkpoints import Checkpointer
    from speechbrain.utils.epoch_loop import EpochCounter
    from speechbrain.utils.train_logger import FileTrainLogger

    from avse.training.supervised import SupervisedBrain

    seed = values["seed"]
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    folder = Path(values["output_folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(text)
    cache = ClipCache(values["cache_folder"])
    train = read_manifest(values["manifest"], splits=["train"])
    dev = read_manifest(values["manifest"], splits=["dev"])
    size = values["steps_per_epoch"] * values["batch_size"]
    train_set = values["train_set"](train, cache, size=size, seed=seed)
    valid_set = values["valid_set"](dev, cache, size=values["valid_size"], seed=0)
    cache.fill(train, video=train_set.use_video)
    cache.fill(dev, video=valid_set.use_video)
    counter = EpochCounter(limit=values["epochs"])
    checkpointer = Checkpointer(folder / "save", recoverables={"model": values["model"], "epoch_counter": counter})
    if values["initial_weights"]:
        state = torch.load(values["initial_weights"], weights_only=True)
        state = {k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"}
        print(values["model"].load_state_dict(state, strict=False))

    def on_best(model, scores):
        torch.save(model.state_dict(), folder / "best.pt")
        (folder / "best.json").write_text(json.dumps(scores))
        print(scores, flush=True)

    brain = SupervisedBrain(
        modules={"model": values["model"]},
        opt_class=values["optimizer"],
        hparams={
            **values,
            "epoch_counter": counter,
            "mixtures": train_set,
            "logger": FileTrainLogger(str(folder / "train_log.txt")),
            "on_best": on_best,
        },
        run_opts={
            "device": "cpu",
            "max_grad_norm": values["max_grad_norm"],
            "ckpt_interval_minutes": values["ckpt_interval_minutes"],
            "precision": values["precision"],
        },
        checkpointer=checkpointer,
    )
    loader = {"batch_size": values["batch_size"], "num_workers": values["num_workers"], "collate_fn": train_set.collate}
    brain.fit(counter, train_set, valid_set, train_loader_kwargs=loader, valid_loader_kwargs=loader)
