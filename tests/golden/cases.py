"""What is pinned: each embedded model and each inference, on clips that never change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import avse
from avse.contracts.types import Estimate

from .clips import clips, mixture

MODELS = Path(__file__).parent / "models"
EVERY = 16  # of the samples are kept

SHORT = {"inference.iterations": 4}
GAINS = {"inference.gain_prior": [1.0, 1.0]}
DRAWS: dict[str, dict[str, Any]] = {
    "udiffse": {},
    "udiffse_plus": {},
    "posterior_sampling_noise_latent": {"inference.limited_guidance": True},  # three moves are long ones
    "posterior_sampling_lambda_free": {},
    "posterior_sampling_moments": {"inference.chains": 2},
}
FROZEN = (
    "tf_masker", "vae", "mixture_vae", "recurrent_vae", "transformer_vae", "switching_vae", "speaker_vae",
    "av_separator", "diffusion", "av_diffusion", "diffusion_enhancer", "one_step",
)  # fmt: skip


def _load(name: str, overrides: dict[str, Any]) -> avse.Model:
    return avse.load(MODELS / name if name in FROZEN else name, overrides=overrides or None)


def _values(estimates: list[Estimate]) -> dict[str, torch.Tensor]:
    return {
        f"{part}{row}": getattr(one, part)[..., :: EVERY if part == "speech" else 1].float()
        for row, one in enumerate(estimates)
        for part in ("speech", "reliability")
    }


def _enhance(name: str, overrides: dict[str, Any]) -> dict[str, torch.Tensor]:
    return _values(_load(name, overrides).enhance_batch(clips()))


def _separate(name: str, overrides: dict[str, Any], speakers: tuple[str | None, ...] = ()) -> dict[str, torch.Tensor]:
    audio, seen = mixture()
    return _values([_load(name, overrides).separate(audio, seen, others=1, speakers=speakers)])


def _generate(name: str) -> dict[str, torch.Tensor]:
    speech = avse.generate(_load(name, {}), clips()[1], sampler="euler", steps=3, guidance=0.5)
    return {"speech0": torch.as_tensor(speech)[::EVERY]}


def cases() -> dict[str, Callable[[], dict[str, torch.Tensor]]]:
    """Values by name of the case; each is found anew when its function is called."""
    found: dict[str, Callable[[], dict[str, torch.Tensor]]] = {}

    def enhance(case: str, name: str, **overrides: Any) -> None:
        found[case] = lambda: _enhance(name, overrides)

    def separate(case: str, name: str, *speakers: str | None, **overrides: Any) -> None:
        found[case] = lambda: _separate(name, overrides, speakers)

    for name in ("avse-small", "avse-live", "avse-free", "av-vae", "tf_masker", "diffusion_enhancer", "one_step"):
        enhance(name, name)
    enhance("av-separator", "av-separator")
    enhance("av-unrolled", "av-unrolled", **{"inference.refine": 1})
    enhance("av-vae joint", "av-vae", **{"inference": "joint", "inference.anderson": 2, **SHORT})
    for inference in ("vem", "langevin", "map", "mcem"):
        enhance(f"av-vae {inference}", "av-vae", **{"inference": inference, **SHORT})
        enhance(f"av-vae {inference} gains gate", "av-vae",
                **{"inference": inference, "inference.gate": "frame", **SHORT, **GAINS})  # fmt: skip
        separate(f"av-vae {inference} separate", "av-vae", **{"inference": inference, **SHORT})
    for noise_model in ("stationary", "nmf"):
        enhance(f"av-vae {noise_model}", "av-vae", noise_model=noise_model, **SHORT)
    for name in ("vae", "mixture_vae", "recurrent_vae", "transformer_vae", "switching_vae"):
        enhance(f"{name} langevin", name, **{"inference": "langevin", **SHORT})
        enhance(f"{name}", name, **SHORT)
    separate("speaker_vae", "speaker_vae", **SHORT)
    separate("speaker_vae told", "speaker_vae", "b", "a", None, **SHORT)
    separate("av-separator separate", "av-separator")
    separate("avse-small separate", "avse-small")
    for inference, others in DRAWS.items():
        sampler = {"inference": inference, "inference.sampler": "predictor_corrector", "inference.sampler.steps": 3}
        enhance(f"diffusion {inference}", "diffusion", **sampler, **others)
        enhance(f"av_diffusion {inference}", "av_diffusion", **sampler, **others)
    enhance("av_diffusion gate", "av_diffusion", **{"inference.gate": "frame"})
    enhance("av-diffusion-small", "av-diffusion-small", **{"inference.sampler.steps": 2, "inference.chains": 2})
    for name in ("av_diffusion", "av-diffusion-small"):
        found[f"{name} generate"] = lambda name=name: _generate(name)
    return found
