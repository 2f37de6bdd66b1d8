"""What conformance checks do not cover: the options of the masker and the mistakes it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avse.contracts.types import Batch, Clip
from avse.enhancers.tf_masker import TFMasker, noise_profile
from avse.fusion.concat import Concat
from avse.fusion.cross_attention import CrossAttention
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.visual_frontends.conv3d import Conv3d


def _batch(samples: int = 9600) -> Batch:
    rng = np.random.default_rng(0)
    mouth = rng.integers(0, 255, (samples // 640, 88, 88), dtype=np.uint8)
    return Batch.from_clips([Clip(0.1 * rng.standard_normal(samples), mouth)])


def _causal() -> TFMasker:
    torch.manual_seed(0)
    frontend = Conv3d(output_dim=6, channels=(4, 6), size=12, causal=True)
    fusion = ReliabilityAttention(16, 6, heads=2, window=9, causal=True, trust_layers=2)
    model = TFMasker(frontend, fusion, 16, blocks=2, fusion_block=1, heads=2, causal=True, noise_aware=True).eval()
    torch.nn.init.normal_(model.noise_encoder.weight)
    return model


def test_causal_output_waits_no_longer_than_one_window() -> None:
    model, batch = _causal(), _batch()
    before = model(batch).speech
    changed = 6400
    batch.noisy = batch.noisy.clone()
    batch.noisy[:, changed:] = torch.randn(1, 9600 - changed, generator=torch.Generator().manual_seed(1))
    batch.mouth = batch.mouth.clone()
    batch.mouth[:, changed // 640 :] = 0
    after = model(batch).speech
    settled = changed - model.latency
    assert torch.allclose(before[:, :settled], after[:, :settled], atol=1e-6)
    assert not torch.allclose(before[:, changed:], after[:, changed:], atol=1e-3)


def test_noise_profile_is_two_quantiles_of_the_power_in_bands_whatever_follows_the_clip() -> None:
    power = torch.rand(2, 31, 321, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.ones(2, 31, dtype=torch.bool)
    mask[1, 21:] = False
    found = noise_profile(power, mask)
    for row, steps in enumerate((31, 21)):
        edges = [((band * 321) // 40, -(-(band + 1) * 321 // 40)) for band in range(40)]
        bands = np.stack([power[row, :steps, low:high].numpy().mean(axis=1) for low, high in edges], axis=1)
        for part, share in zip(found[row, 0].chunk(2), (0.1, 0.5)):
            expected = np.quantile(bands, share, axis=0, method="lower")
            assert np.allclose(part, 0.25 * np.log(expected + 1e-8))


def test_a_noise_aware_network_hears_the_noise_between_words_and_is_the_same_in_any_batch() -> None:
    torch.manual_seed(0)
    model = TFMasker(channels=16, blocks=1, fusion_block=0, noise_aware=True).eval()
    torch.nn.init.normal_(model.noise_encoder.weight)
    rng = np.random.default_rng(0)
    clips = [Clip(0.1 * rng.standard_normal(samples)) for samples in (9600, 4800)]
    both = model(Batch.from_clips(clips)).speech
    assert torch.allclose(both[1, :4800], model(Batch.from_clips(clips[1:])).speech[0], atol=1e-5)
    model.noise_encoder = None
    assert not torch.allclose(both, model(Batch.from_clips(clips)).speech, atol=1e-3)


def test_level_of_the_input_does_not_matter() -> None:
    torch.manual_seed(0)
    model, batch = TFMasker(channels=16, blocks=1, fusion_block=0).eval(), _batch()
    quiet = Batch(batch.noisy * 1e-3, batch.lengths, batch.mouth, batch.valid)
    assert torch.allclose(model(quiet).speech * 1e3, model(batch).speech, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mask": "phase"}, "'complex' or 'magnitude'"),
        ({"hop": 300}, "hop must divide"),
        ({"channels": 30, "heads": 4}, "multiple of 2"),
        ({"blocks": 2, "fusion_block": 3}, "fusion_block"),
        ({"fusion": Concat(192, 6)}, "or neither"),
        ({"visual_frontend": Conv3d(output_dim=7, channels=(4,), size=12), "fusion": Concat(192, 6)}, "output_dim 7"),
        (
            {
                "visual_frontend": Conv3d(output_dim=6, channels=(4,), size=12, causal=True),
                "fusion": CrossAttention(192, 6),
                "causal": True,
            },
            "causal",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TFMasker(**arguments)


def test_dropout_acts_in_training_alone() -> None:
    models = [TFMasker(channels=16, blocks=1, fusion_block=0, heads=2, dropout=share) for share in (0.0, 0.5)]
    models[1].load_state_dict(models[0].state_dict())
    without, dropped = (model(_batch()).speech for model in models)
    assert not torch.equal(without, dropped)
    assert torch.equal(models[0].eval()(_batch()).speech, models[1].eval()(_batch()).speech)


def test_who_speaks_is_told_frame_by_frame_in_any_batch_and_changes_no_speech() -> None:
    torch.manual_seed(0)
    frontend = Conv3d(output_dim=6, channels=(4, 6), size=12)
    plain = TFMasker(frontend, Concat, 16, blocks=2, fusion_block=1, heads=2).eval()
    model = TFMasker(frontend, Concat, 16, blocks=2, fusion_block=1, heads=2, speaking=True).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["speaking.weight", "speaking.bias"], [])
    clips = [_batch(9600), _batch(6400)]
    assert plain(clips[0]).speaking is None
    single = [model(batch) for batch in clips]
    together = model(Batch.from_clips([Clip(batch.noisy[0].numpy(), batch.mouth[0].numpy()) for batch in clips]))
    assert together.speaking.shape == together.reliability.shape == (2, 15)
    assert bool(((together.speaking > 0) & (together.speaking < 1)).all())
    assert torch.equal(single[0].speech, plain(clips[0]).speech)
    for row, estimate in enumerate(together.unbind()):
        assert torch.allclose(estimate.speaking, single[row].speaking[0], atol=1e-5)


def test_a_scene_changes_nothing_before_training_and_then_what_it_is_told() -> None:
    torch.manual_seed(0)
    plain = TFMasker(None, None, 16, blocks=2, fusion_block=1, heads=2).eval()
    model = TFMasker(None, None, 16, blocks=2, fusion_block=1, heads=2, scene_dim=5).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("scene_encoder") for name in missing) and not unexpected
    batch, scene = _batch(), torch.nn.functional.normalize(torch.randn(1, 5), dim=1)
    wanted = plain(batch).speech
    for told in (None, torch.zeros(1, 5), scene):
        assert torch.equal(model(replace(batch, scene=told)).speech, wanted)
    model.train()
    (model(replace(batch, scene=scene)).speech - batch.noisy).square().sum().backward()
    assert model.scene_encoder[-1].weight.grad.any()
    with torch.no_grad():
        torch.nn.init.normal_(model.eval().scene_encoder[-1].weight)
    assert torch.equal(model(replace(batch, scene=torch.zeros(1, 5))).speech, wanted)
    assert not torch.allclose(model(replace(batch, scene=scene)).speech, wanted, atol=1e-4)


def test_a_long_clip_in_chunks_has_who_speaks_for_all_its_frames() -> None:
    from avse.overlap import concatenate, overlap_add

    model = TFMasker(None, None, 16, blocks=2, fusion_block=1, heads=2, speaking=True).eval()
    parts = [model(_batch(6400)).unbind()[0] for _ in range(2)]
    whole = concatenate(list(overlap_add([(0, parts[0]), (3200, parts[1])])))
    assert whole.speaking.shape == whole.reliability.shape == (15,)
    assert torch.equal(whole.speaking[:5], parts[0].speaking[:5])
