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
    "contracts.latent_inference": "inference.em.driver",
    "contracts.latent_run": "inference.em.driver",
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
    "evaluation.workers": "workers",
    "evaluation.lips": "evaluation.studies.lips",
    "evaluation.probe": "evaluation.studies.probe",
    "evaluation.robustness": "evaluation.studies.robustness",
    "evaluation.robustness_plots": "evaluation.plots.robustness",
    "evaluation.separation_plot": "evaluation.plots.separation",
    "generation": "api",
    "inference.langevin": "inference.em.langevin",
    "inference.map": "inference.em.map",
    "inference.mcem": "inference.em.mcem",
    "inference.posterior_sampling_lambda_free": "inference.posterior_sampling.lambda_free",
    "inference.posterior_sampling_moments": "inference.posterior_sampling.moments",
    "inference.posterior_sampling_noise_latent": "inference.posterior_sampling.noise_latent",
    "inference.switching_vem": "inference.em.switching_vem",
    "inference.vem": "inference.em.vem",
    "media.mouth": "media.faces.crop",
    "media.talkers": "media.faces.speakers",
    "metrics.estoi": "metrics.stoi",
    "metrics.si_sdr_improvement": "metrics.si_sdr",
    "priors.recurrent_vae": "priors.vae.recurrent_vae",
    "priors.speaker_vae": "priors.vae.speaker_vae",
    "priors.switching_vae": "priors.vae.switching_vae",
    "priors.transformer_vae": "priors.vae.transformer_vae",
    "separate_files": "jobs.separate",
    "signal.attention": "nnet.attention",
    "signal.conformer": "nnet.conformer",
    "signal.face_shape": "media.faces.shape_model",
    "signal.frontalization": "media.faces.head_pose",
    "signal.level": "signal.levels",
    "signal.looks": "priors.vae.mouth_gallery",
    "signal.masking": "signal.masks",
    "signal.mixture": "signal.wiener",
    "training.denoising": "training.losses",
    "training.separation": "training.losses",
}
# Classes and functions that plugins import and recipes name, by dotted name.
NAMES = {
    "avse.data.synthetic.recording.write_film": "avse.data.synthetic.recording.write_video",
    "avse.media.Talker": "avse.media.Speaker",
    "avse.media.find_talkers": "avse.media.find_speakers",
    "avse.contracts.fusion.check_fusion": "avse.nnet.video_input.check_fusion",
    "avse.contracts.fusion.reliability_loss": "avse.nnet.video_input.reliability_loss",
    "avse.contracts.prior.context_of": "avse.contracts.prior.Context.of",
    "avse.contracts.corruption.spoiled_frames": "avse.contracts.corruption.corrupted_frames",
    "avse.signal.level.floor_over_steps": "avse.signal.levels.floor_over_frames",
    "avse.evaluation.separation.evaluate_separation": "avse.evaluation.runner.evaluate_separation",
    "avse.signal.metrics.check_sounds": "avse.signal.metrics.check_audio",
    "avse.signal.mixture.typical_power": "avse.signal.wiener.geometric_mean_power",
    "avse.signal.stft.repeat_to_steps": "avse.signal.stft.repeat_to_frames",
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
# Members of plugin classes, as plugins outside the package may still call them.
MEMBERS = {"growth": "complexity", "recognise": "encode_noisy", "recognises": "encodes_noisy", "stand_ins": "fallbacks"}
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
    """Say that a name is old.

    Arguments
    ---------
    old, new : str
    place : str
        Where it stands: `file:line`.
    """
    at = f"{place}: " if place else ""
    warnings.warn(f"{at}{old} is now called {new}. The old name works until the next release.", OldName, 3)


def old_names(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__` that serves the names its functions and classes had before.

    Arguments
    ---------
    module : str
        Its `__name__`.
    """

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

    Arguments
    ---------
    name : str
    known : container of str
        Names of today; one of them stays, such as that of a plugin outside the package.
    written_format : int

    Example
    -------
    >>> weight_name("prior.recognition.out.bias")
    'prior.noisy_encoder.out.bias'
    """
    if name in known:
        return name
    for number in sorted(WEIGHTS):
        if number >= written_format:
            for pattern, new in WEIGHTS[number]:
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
