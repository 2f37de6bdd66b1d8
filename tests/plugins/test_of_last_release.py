"""Plugins written for the last release load, run, and are told what is called otherwise today."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avse import plugins
from avse.contracts.system import run
from avse.contracts.types import Batch

FILE = Path(__file__).parent / "data" / "of_last_release.py"


@pytest.fixture(scope="module")
def said() -> Iterator[list[str]]:
    """What was warned of when the file was loaded."""
    moved = [name for name in sys.modules if name in ("avse.signal.level", "avse.contracts.latent_inference")]
    for name in moved:
        del sys.modules[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert plugins.load_path(FILE) == []
    yield [str(warning.message) for warning in caught if issubclass(warning.category, FutureWarning)]
    for kind, name in plugins.of_path(FILE):
        plugins.forget(kind, name)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 6400, generator=generator)
    mouth = torch.randint(0, 255, (2, 10, 88, 88), generator=generator, dtype=torch.uint8)
    return Batch(noisy, torch.tensor([6400, 3200]), mouth, torch.ones(2, 10, dtype=torch.bool), clean=0.5 * noisy)


def test_every_old_name_is_told_with_the_new_one(said: list[str]) -> None:
    for old, new in (
        ("avse.signal.level", "avse.signal.levels"),
        ("avse.contracts.latent_inference", "avse.inference.em.driver"),
        ("avse.signal.stft.repeat_to_steps", "avse.signal.stft.repeat_to_frames"),
        ("avse.signal.mixture.typical_power", "avse.signal.wiener.geometric_mean_power"),
        ("OldSum.growth", "complexity"),
        ("OldLinear.recognises", "encodes_noisy"),
        ("OldLinear.recognise", "encode_noisy"),
    ):
        assert any(f"{old} is now called {new}." in message for message in said), old


def test_an_enhancer_with_a_fusion_runs(said: list[str], batch: Batch) -> None:
    frontend = plugins.get("visual_frontend", "pixel_mlp")(output_dim=4, hidden_dim=4, size=11)
    fusion = plugins.get("fusion", "old_sum")(audio_dim=8, video_dim=4, scale=2.0)
    assert fusion.config == {"audio_dim": 8, "video_dim": 4, "scale": 2.0}
    estimate = run(plugins.get("enhancer", "old_gate")(frontend, fusion), batch)
    assert estimate.speech.shape == batch.noisy.shape and bool((estimate.reliability[0] == 1).all())


@pytest.mark.parametrize("name", ["old_shrink", "old_latent", "vem", "langevin"])
def test_a_prior_and_a_noise_model_serve_old_and_new_inferences(said: list[str], batch: Batch, name: str) -> None:
    prior, noise_model = plugins.get("prior", "old_linear")(), plugins.get("noise_model", "old_mean")()
    assert bool(prior.loss(batch)["loss"].isfinite()) and prior.complexity == "quadratic"
    estimate = run(plugins.get("inference", name)(prior, noise_model, iterations=2), batch)
    assert estimate.speech.shape == batch.noisy.shape and bool(estimate.speech.isfinite().all())


@pytest.mark.parametrize(("prior", "noise_model"), [("vae", "old_mean"), ("old_linear", "nmf")])
def test_they_go_together_with_plugins_of_the_toolkit(
    said: list[str], batch: Batch, prior: str, noise_model: str
) -> None:
    parts = [plugins.get(kind, name).example() for kind, name in (("prior", prior), ("noise_model", noise_model))]
    estimate = run(plugins.get("inference", "old_latent")(*parts, iterations=1), batch)
    assert bool(estimate.speech.isfinite().all())
