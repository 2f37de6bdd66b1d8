"""Names of the last release. They work for one more release, each with a warning that says the new name."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import warnings
from collections.abc import Callable, Container, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "check": "conformance.runner",
    "cli_generative": "cli.use",
    "cli_tools": "cli.options",
    "contracts.checks": "conformance",
    "contracts.competition": "inference.em.model_selection",
    "contracts.diffusion": "priors.diffusion.base",
    "contracts.fit": "inference.em.state",
    **dict.fromkeys(("contracts.latent_inference", "contracts.latent_run"), "inference.em.driver"),
    "contracts.posterior_sampling": "inference.posterior_sampling.base",
    "contracts.recognition": "priors.vae.noisy_speech_encoder",
    "contracts.score_network": "nnet.score_network",
    "contracts.separation": "inference.em.speakers",
    "contracts.switching": "priors.vae.switching",
    "contracts.variational": "priors.vae.base",
    "data.reverb": "data.rooms",
    "data.separation_scenes": "data.scenes",
    "enhance_files": "jobs.enhance",
    "evaluation.calibrate": "evaluation.studies.calibration",
    **{f"evaluation.{name}": f"evaluation.studies.{name}" for name in ("lips", "probe", "robustness")},
    "evaluation.robustness_plots": "evaluation.plots.robustness",
    "evaluation.separation_plot": "evaluation.plots.separation",
    "evaluation.workers": "workers",
    "generation": "api",
    **{f"inference.{name}": f"inference.em.{name}" for name in ("langevin", "map", "mcem", "switching_vem", "vem")},
    **{
        f"inference.posterior_sampling_{name}": f"inference.posterior_sampling.{name}"
        for name in ("lambda_free", "moments", "noise_latent")
    },
    "media.mouth": "media.faces.crop",
    "media.talkers": "media.faces.speakers",
    "metrics.estoi": "metrics.stoi",
    "metrics.si_sdr_improvement": "metrics.si_sdr",
    **{f"priors.{name}_vae": f"priors.vae.{name}_vae" for name in ("recurrent", "speaker", "switching", "transformer")},
    "separate_files": "jobs.separate",
    **{f"signal.{name}": f"nnet.{name}" for name in ("attention", "conformer")},
    "signal.face_shape": "media.faces.shape_model",
    "signal.frontalization": "media.faces.head_pose",
    "signal.level": "signal.levels",
    "signal.looks": "priors.vae.mouth_gallery",
    "signal.masking": "signal.masks",
    "signal.mixture": "signal.wiener",
    **dict.fromkeys(("training.denoising", "training.separation"), "training.losses"),
}
_IMAGE = ("blur", "compression", "flicker", "low_light", "low_resolution", "null", "pixel_noise")
MODULES |= {f"corruptions.{name}": "corruptions.image" for name in _IMAGE}
_TIMING = ("dropped_frames", "frame_rate", "frozen", "missing", "time_shift")
MODULES |= {f"corruptions.{name}": "corruptions.timing" for name in _TIMING}
# Classes and functions that plugins import and recipes name, by dotted name.
NAMES = {
    "avse.cli.main": "avse.cli.app.main",  # the entry point of installations of that release
    "avse.data.synthetic.recording.write_film": "avse.data.synthetic.recording.write_video",
    "avse.jobs.separate.Voice": "avse.jobs.separate.SeparatedSpeaker",
    "avse.media.Talker": "avse.media.Speaker",
    "avse.media.find_talkers": "avse.media.find_speakers",
    "avse.contracts.fusion.check_fusion": "avse.nnet.video_input.check_fusion",
    "avse.contracts.fusion.reliability_loss": "avse.nnet.video_input.frame_cross_entropy",
    "avse.contracts.prior.context_of": "avse.contracts.prior.Context.of",
    "avse.contracts.corruption.spoiled_frames": "avse.contracts.corruption.corrupted_frames",
    "avse.signal.level.floor_over_steps": "avse.signal.levels.floor_over_frames",
    "avse.evaluation.separation.evaluate_separation": "avse.evaluation.runner.evaluate_separation",
    "avse.signal.metrics.check_sounds": "avse.signal.metrics.check_audio",
    "avse.signal.mixture.typical_power": "avse.signal.wiener.geometric_mean_power",
    "avse.signal.stft.repeat_to_steps": "avse.signal.stft.repeat_to_frames",
    "avse.training.lip_reading.LipSynchrony": "avse.nnet.lip_synchrony.LipSynchrony",
    "avse.signal.stft.stft_steps": "avse.signal.stft.stft_frames",
}
# Keys of recipes: what a top-level key is called today, or the argument that has taken its place.
KEYS = {
    "channels": "model.channels",
    "hidden_dim": "model.hidden_dim",
    "size": "model.size",
    "video_dim": "visual_frontend.output_dim",
}
# By kind of plugin: plugins. By kind of plugin or by dotted name of another class: arguments.
PLUGINS = {
    "inference": {"posterior_sampling": "udiffse", "posterior_sampling_single_pass": "udiffse_plus"},
}
ARGUMENTS = {
    "prior": {"recognition_layers": "noisy_encoder_layers", "anybody": "universal"},
    "fusion": {"doubt": "reliability_exponent"},
    "avse.data.training_set.MixtureSet": {"talkers": "interfering_speakers"},
    "avse.data.separation_set.SeparationSet": {"talkers": "interfering_speakers"},
}
# Keys of SpeechBrain's recipes that are called otherwise here.
SPEECHBRAIN = {
    **dict.fromkeys(("number_of_epochs", "N_epochs", "num_epochs"), "epochs"),
    **dict.fromkeys(("lr", "learning_rate", "lr_adam"), "optimizer.lr"),
    **dict.fromkeys(("data_folder", "train_csv", "train_annotation", "train_json"), "manifest"),
    **dict.fromkeys(("save_folder", "output_dir"), "output_folder"),
    "opt_class": "optimizer",
    "Enhance_model": "model",
    "compute_cost": "loss",
    "max_grad_norm_value": "max_grad_norm",
    "N_batch": "batch_size",
}
# Members of plugin classes, as plugins outside the package may still call them.
MEMBERS = {"growth": "complexity", "recognise": "encode_noisy", "recognises": "encodes_noisy", "stand_ins": "fallbacks"}
# Models that `avse` carried, and those that replace them.
MODELS = {"avse-faces": "avse-small"}
# By format of a model folder: names of weights that were written by it, as patterns, and what they are called since.
WEIGHTS = {
    1: (
        (r"(^|\.)trunks\.", r"\1backbones."),
        (r"(^|\.)manners\.", r"\1adapters."),
        (r"(^|\.)faces\.", r"\1gallery."),
        (r"(^|\.)meetings\.", r"\1exchanges."),
        (r"(^|\.)recognition\.", r"\1noisy_encoder."),
        (r"(^|(?<!video_input)\.)visual_frontend\.", r"\1video_input.visual_frontend."),
        (r"^fusion\.", r"video_input.fusions.main."),
        (r"(^|\.)(encoder|decoder)_fusion\.", r"\1video_input.fusions.\2."),
        (r"(^|\.)noisy_encoder\.fusion\.", r"\1video_input.fusions.noisy_encoder."),
        (r"(^|\.)network\.fusions\.", r"\1video_input.fusions."),
        (r"(^|\.)network\.((?:refine\.)?enter)_given\.", r"\1network.\2_condition."),
        (r"(^|\.)network\.rest\.", r"\1network.noise_level_head."),
    )
}


class OldName(FutureWarning):
    """A name of the last release was used. The command line prints it in one line."""


def warn(old: str, new: str, place: str = "") -> None:
    """Say that a name is old, and where it stands (`file:line`)."""
    at = f"{place}: " if place else ""
    warnings.warn(f"{at}{old} is now called {new}. The old name works until the next release.", OldName, 3)


def old_names(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for the module of this name: serves the names that its functions and classes had before."""

    def getattribute(name: str) -> Any:
        new = NAMES.get(f"{module}.{name}")
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", new)
        return pkgutil.resolve_name(new)

    return getattribute


def old_attribute(cls: type, old: str, new: str) -> None:
    """Let instances of a class be asked for an attribute by the name that it had before."""

    def get(self: Any) -> Any:
        warn(f"{cls.__name__}.{old}", new)
        return getattr(self, new)

    setattr(cls, old, property(get))


def dotted_name(name: str) -> str:
    """What a class or function that a recipe names is called today, where it or its module has another name."""
    module, _, last = name.rpartition(".")
    return NAMES.get(name) or (f"{_moved(module)}.{last}" if _moved(module) else name)


def weight_name(name: str, known: Container[str] = (), written_format: int = 1) -> str:
    """What a weight of a model folder of an older format is called today.

    A name that is among the `known` names of today stays, such as that of a plugin outside the package.

    Example
    -------
    >>> weight_name("prior.recognition.out.bias")
    'prior.noisy_encoder.out.bias'
    """
    if name in known:
        return name
    for pattern, new in [pair for number in sorted(WEIGHTS) if number >= written_format for pair in WEIGHTS[number]]:
        name = re.sub(pattern, new, name)
    return name


class _MovedModules(MetaPathFinder, Loader):
    """Finds modules that have moved, after all other finders have found nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = _moved(fullname)
        if new is None or importlib.util.find_spec(new) is None:
            return None
        warn(fullname, new)
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(str(_moved(module.__name__)))
        vars(module).update({name: value for name, value in vars(new).items() if not name.startswith("__")})
        vars(module)["__getattr__"] = old_names(module.__name__)


def _moved(module: str) -> str | None:
    package, _, name = module.partition(".")
    if package != "avse":
        return None
    if name in MODULES:
        return f"avse.{MODULES[name]}"
    parent, _, last = name.rpartition(".")
    return f"avse.{MODULES[parent]}.{last}" if parent in MODULES else None


def install() -> None:
    """Let old names of modules be imported."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
