"""Video enters every network in the same way: dimensions, reliability, calibration, and names of weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from avse import plugins
from avse.compatibility import weight_name
from avse.conformance import example_batch, seeded
from avse.conformance.modules import perturb
from avse.contracts.system import System
from avse.errors import AvseError
from avse.fusion.film import FiLM
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.nnet.video_input import VideoInput
from avse.visual_frontends.motion import Motion
from avse.visual_frontends.pixel_mlp import PixelMLP

NETWORKS = {
    ("enhancer", "tf_masker"): {"channels": 16, "blocks": 2, "fusion_block": 1},
    ("enhancer", "av_separator"): {"channels": 16, "blocks": 2, "fusion_block": 1},
    ("enhancer", "one_step"): {"size": "tiny"},
    ("enhancer", "diffusion_enhancer"): {"size": "tiny", "chains": 1},
    ("prior", "av_vae"): {"hidden_dim": 8},
    ("prior", "recurrent_vae"): {"hidden_dim": 8},
    ("prior", "transformer_vae"): {"hidden_dim": 8},
    ("prior", "switching_vae"): {"hidden_dim": 8},
    ("prior", "speaker_vae"): {"hidden_dim": 8, "speakers": ["ann"]},
    ("prior", "av_diffusion"): {"size": "tiny"},
}


def _network(kind: str, name: str, **arguments: object) -> torch.nn.Module:
    with seeded(1):
        return plugins.get(kind, name)(**{**NETWORKS[kind, name], **arguments}).eval()


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_any_fusion_and_front_end_fit_without_a_dimension_given(kind: str, name: str) -> None:
    batch = example_batch((1280,))
    for frontend in (Motion, partial(PixelMLP, output_dim=5, hidden_dim=4), Motion(grid=2)):
        for fusion in (FiLM, partial(plugins.get("fusion", "cross_attention"), heads=2)):
            network = _network(kind, name, visual_frontend=frontend, fusion=fusion)
            with torch.no_grad():
                if isinstance(network, System):
                    assert network(batch).speech.shape == batch.noisy.shape
                elif name in ("switching_vae", "speaker_vae"):
                    assert network.contexts(batch)[-1].video is not None
                else:
                    assert network.context(batch).video is not None


def test_dimensions_of_a_fusion_that_is_built_already_are_checked() -> None:
    with pytest.raises(ValueError, match="audio_dim to 8 and video_dim to 18"):
        VideoInput(Motion(grid=2), FiLM(4, 18), audio_dim=8, fft_size=640, hop=320)
    with pytest.raises(ValueError, match="or neither"):
        VideoInput(Motion, None, audio_dim=8, fft_size=640, hop=320)
    with pytest.raises(ValueError, match="hop must divide 640"):
        VideoInput(None, None, audio_dim=8, fft_size=640, hop=300)


@pytest.mark.parametrize("name", ["tf_masker", "av_separator", "one_step", "diffusion_enhancer"])
def test_enhancers_report_the_reliability_of_their_fusion_and_can_be_calibrated(name: str) -> None:
    batch = example_batch((3200, 2000))
    system = _network("enhancer", name, visual_frontend=Motion, fusion=partial(ReliabilityAttention, heads=2))
    with torch.no_grad():
        before = system(batch)
        assert bool((before.reliability[batch.valid] < 1).all()) and not bool(before.reliability[~batch.valid].any())
        system.calibrate(1.0, -100.0)
        after = system(batch)
        blind = system(batch.without_video())
    assert float(after.reliability.max()) < 1e-6
    torch.testing.assert_close(after.speech, blind.speech, rtol=1e-4, atol=1e-6)
    with pytest.raises(AvseError, match="does not estimate"):
        _network("enhancer", name, visual_frontend=Motion, fusion=FiLM).calibrate(1.0, 0.0)
    with pytest.raises(AvseError, match="without video"):
        _network("enhancer", name).calibrate(1.0, 0.0)


@pytest.mark.parametrize("name", ["av_vae", "switching_vae", "speaker_vae", "av_diffusion"])
def test_priors_can_be_calibrated(name: str) -> None:
    prior = _network("prior", name, visual_frontend=Motion, fusion=partial(ReliabilityAttention, heads=2))
    gate = {} if name in ("switching_vae", "speaker_vae") else {"gate": "none"}
    kind = {"av_diffusion": "posterior_sampling_moments", "switching_vae": "switching_vem"}.get(name, "vem")
    short = {"sampler": plugins.get("sampler", "ancestral")(steps=2)} if name == "av_diffusion" else {"iterations": 2}
    system = plugins.get("inference", kind)(prior, plugins.get("noise_model", "nmf")(rank=2), **gate, **short)
    system.calibrate(1.0, -100.0)
    if gate:
        assert float(system(example_batch((3200,))).reliability.max()) < 1e-6
    with pytest.raises(AvseError, match="does not estimate"):
        _network("prior", name, visual_frontend=Motion, fusion=FiLM).calibrate(1.0, 0.0)


def test_the_video_is_weighed_by_the_reliability_to_its_exponent() -> None:
    with seeded(2):
        fusion = ReliabilityAttention(8, 6, heads=2, reliability_exponent=3.5).double()
        audio, video = torch.randn(2, 9, 8).double(), torch.randn(2, 9, 6).double()
    valid = torch.ones(2, 9, dtype=torch.bool)
    fused, reliability = fusion(audio, video, valid)
    delta, _ = fusion.delta(audio, video, valid)
    torch.testing.assert_close(fused, audio + fusion.weight(reliability)[..., None] * delta)
    torch.testing.assert_close(fusion.weight(reliability), reliability**3.5)


@pytest.mark.parametrize("exponent", [1.0, 3.5])
def test_what_a_network_that_normalises_adds_is_weighed_after_the_normalisation(exponent: float) -> None:
    """As the video enters a diffusion prior: audio + r^e g linear(norm(delta)), term by term."""
    arguments = {"fusion": partial(ReliabilityAttention, heads=2), "visual_frontend": Motion(grid=2)}
    prior = _network("prior", "av_diffusion", **arguments).double()
    perturb(prior)
    place = next(iter(prior.video_input.fusions.values()))
    place.fusion.reliability_exponent = exponent
    generator = torch.Generator().manual_seed(0)
    audio, video = (torch.randn(2, 9, dim, generator=generator).double() for dim in (32, 18))
    valid = torch.arange(9).expand(2, 9) != 4
    fused, reliability = place(audio, video, valid)
    delta = place.fusion.delta(audio, video * valid[..., None], valid)[0]
    centred = delta - delta.mean(dim=2, keepdim=True)
    normed = centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()
    expected = reliability[..., None] ** exponent * (normed @ place.out.weight.T)
    torch.testing.assert_close(fused - audio, expected)
    assert float(expected.detach().abs().mean()) > 0.05


@pytest.mark.parametrize("normalised", [False, True])
def test_a_gate_of_features_scales_what_is_added(normalised: bool) -> None:
    with seeded(3):
        arguments = {"audio_dim": 8, "fft_size": 640, "hop": 320, "normalised": normalised}
        [fusion] = VideoInput(Motion(grid=2), plugins.get("fusion", "gated"), **arguments).fusions.values()
        fusion = fusion.double()
        perturb(fusion)
        audio, video = torch.randn(2, 9, 8).double(), torch.randn(2, 9, 18).double()
    valid, inner = torch.ones(2, 9, dtype=torch.bool), getattr(fusion, "fusion", fusion)
    torch.nn.init.zeros_(inner.gate.weight)
    added = []
    for share in (0.8, 0.008):
        torch.nn.init.constant_(inner.gate.bias, float(torch.logit(torch.tensor(share, dtype=torch.float64))))
        added.append(fusion(audio, video, valid)[0] - audio)
    torch.testing.assert_close(added[0], 100 * added[1])
    assert float(added[0].detach().abs().mean()) > 0.05


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("visual_frontend.norm.bias", "video_input.visual_frontend.norm.bias"),
        ("fusion.norm.bias", "video_input.fusions.main.norm.bias"),
        ("meetings.0.mixed.bias", "exchanges.0.mixed.bias"),
        ("prior.decoder_fusion.norm.bias", "prior.video_input.fusions.decoder.norm.bias"),
        ("prior.recognition.fusion.norm.bias", "prior.video_input.fusions.noisy_encoder.norm.bias"),
        ("prior.trunks.0.encoder_fusion.norm.bias", "prior.backbones.0.video_input.fusions.encoder.norm.bias"),
        ("prior.manners.1.code", "prior.adapters.1.code"),
        ("prior.network.fusions.2.fusion.norm.bias", "prior.video_input.fusions.2.fusion.norm.bias"),
        ("network.refine.enter_given.weight", "network.refine.enter_condition.weight"),
        ("prior.faces.count", "prior.gallery.count"),
    ],
)
def test_weights_of_format_1_have_names_of_today(old: str, new: str) -> None:
    assert weight_name(old) == new and weight_name(new) == new
    assert weight_name(old, {old}) == old  # as of a plugin outside the package
