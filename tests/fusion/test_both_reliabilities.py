"""The reliability of the audio on its way from the fusion to the estimate, the JSON and the plot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch
from avse.contracts.types import Batch
from avse.evaluation import plot_estimate
from avse.inference.em.langevin import Langevin
from avse.inference.em.switching_vem import SwitchingVEM
from avse.inference.em.vem import VEM
from avse.jobs.enhance import enhance_file
from avse.model import Model
from avse.noise_models.nmf import NMF

EXPERTS = plugins.get("fusion", "product_of_experts")


def _prior(name: str, layers: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    cls = plugins.get("prior", name)
    return cls(**{**cls.example_arguments(), "fusion": EXPERTS, "noisy_encoder_layers": layers}).eval()


@pytest.mark.parametrize(
    ("name", "inference", "more"),
    [
        ("av_vae", VEM, {}),
        ("recurrent_vae", VEM, {"gate": "frame"}),
        ("av_vae", Langevin, {}),
        ("switching_vae", SwitchingVEM, {}),
    ],
)
def test_inference_tells_both_reliabilities_clip_by_clip(name: str, inference: type, more: dict) -> None:
    system = inference(_prior(name), NMF(rank=2), iterations=2, **more)
    batch = example_batch((6400, 1500, 3200), gap=(1, 2))
    estimate = system(batch)
    of_audio = estimate.audio_reliability
    assert of_audio is not None and of_audio.shape == batch.valid.shape
    assert of_audio[0].min() > 0.0 and of_audio.max() < 1.0 and not of_audio[1, 3:].any()
    for row, single in enumerate(estimate.unbind()):
        alone = system(batch.select([row]))
        assert alone.audio_reliability is not None
        assert torch.allclose(alone.audio_reliability[0], single.audio_reliability, atol=1e-5)
    unseen = system(batch.without_video())
    assert not unseen.reliability.any()
    assert (unseen.audio_reliability is None) == (
        name == "switching_vae"
    )  # its audio model runs alone, and has no fusion


def test_without_the_noisy_speech_encoder_the_audio_is_not_told() -> None:
    assert VEM(_prior("av_vae", layers=0), NMF(rank=2), iterations=1)(example_batch()).audio_reliability is None


def test_calibration_moves_what_is_reported() -> None:
    prior = _prior("av_vae")
    batch = example_batch((3200,))
    context, power = prior.context(batch), prior.analyse(batch.noisy).abs().square()
    before = prior.reliability_in_noise(power, power, context)[0]
    prior.calibrate(1.0, 2.0)
    after = prior.reliability_in_noise(power, power, context)[0]
    assert torch.allclose(after[context.valid].logit(), before[context.valid].logit() + 2.0, atol=1e-4)


def test_a_mouth_that_is_wrong_in_noise_is_not_held_against() -> None:
    """The loss counts frames that are not clean by the square of the audio's reliability."""
    prior = _prior("av_vae")
    batch: Batch = example_batch((3200,))
    batch.clean, batch.video_is_clean = batch.noisy, torch.zeros_like(batch.valid)
    context, reliability = prior.context(batch), torch.full((1, 11), 0.9, requires_grad=True)
    add = prior.video_input.add_reliability_loss
    plain, weighed = (
        add({"loss": torch.zeros(())}, reliability, batch, context, of_audio)["reliability"]
        for of_audio in (None, torch.full((1, 11), 0.5))
    )
    assert weighed == pytest.approx(0.25 * plain)


def test_an_enhancer_tells_the_json_and_the_plot(talk: Path, tmp_path: Path) -> None:
    cls = plugins.get("enhancer", "tf_masker")
    torch.manual_seed(0)
    system = cls(**{**cls.example_arguments(), "fusion": EXPERTS}).eval()
    report = enhance_file(
        Model(system, "model: null\n", "experts"), talk, tmp_path / "out.wav", plot=tmp_path / "a.png"
    )
    assert report.audio_reliability is not None and len(report.audio_reliability) == len(report.reliability)
    assert all(0.0 < value < 1.0 for value in report.audio_reliability)
    noisy = torch.randn(32000).numpy()
    figure = plot_estimate(
        None, noisy, noisy, reliability=torch.ones(50).numpy(), audio_reliability=torch.ones(50).numpy()
    )
    axes = figure.axes[2]
    assert axes.get_title(loc="left") == "reliability"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["video", "audio"]
