"""What a prior with `product_of_experts` trusts in noise, after a short training on the synthetic corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avse import plugins
from avse.contracts.types import Batch
from avse.data.cache import ClipCache
from avse.data.manifest import read_manifest
from avse.data.speech_set import SpeechSet
from avse.data.training_set import VideoDegradation
from avse.fusion.product_of_experts import ProductOfExperts
from avse.inference.em.vem import VEM
from avse.noise_models.nmf import NMF
from avse.priors.vae.vae import AVVAE
from avse.visual_frontends.motion import Motion

STEPS, BATCH = 120, 8
WRONG = VideoDegradation(0.0, 0.0, 0.0, wrong_clip=0.35, corrupt=0.0, augment=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = plugins.get("dataset", "synthetic")(clips=24, speakers=6, noises=3, seconds=(1.6, 2.0), noise_seconds=1.0)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


def _items(corpus: Path, degradation: VideoDegradation, count: int) -> SpeechSet:
    rows = [row for row in read_manifest(corpus) if row.split == "train"]
    cache = ClipCache(corpus.parent / "cache", None, in_memory=True)
    return SpeechSet(
        rows, cache, count, seconds=1.6, video_share=1.0, degradation=degradation, joined=False, same_speaker=0.5
    )


@pytest.mark.slow
def test_audio_is_trusted_less_in_noise_and_the_own_mouth_no_less(corpus: Path) -> None:
    torch.manual_seed(0)
    fusion = ProductOfExperts(32, Motion(grid=4).output_dim, agreement_dim=16)
    prior = AVVAE(Motion(grid=4), fusion, latent_dim=8, hidden_dim=32, fft_size=640, noisy_encoder_layers=2)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=0.005)
    items = _items(corpus, WRONG, STEPS * BATCH)
    for step in range(STEPS):
        batch = items.collate([items[step * BATCH + row] for row in range(BATCH)])
        loss = prior(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    inference = VEM(prior.eval(), NMF(rank=2), iterations=5)

    def trusted(snr: float, wrong: float) -> tuple[float, float]:
        clips = _items(corpus, VideoDegradation(0.0, 0.0, 0.0, wrong_clip=wrong, corrupt=0.0, augment=False), 12)
        batch: Batch = clips.collate([clips[row] for row in range(12)])
        noise = torch.randn(batch.noisy.shape, generator=torch.Generator().manual_seed(0))
        batch.noisy = batch.clean + noise * batch.clean.std(dim=1, keepdim=True) * 10 ** (-snr / 20)
        estimate = inference(batch)
        assert estimate.audio_reliability is not None
        return estimate.reliability[batch.valid].mean().item(), estimate.audio_reliability[batch.valid].mean().item()

    (own, clear), (own_in_noise, noisy) = trusted(40.0, 0.0), trusted(-15.0, 0.0)
    assert noisy < clear - 0.2
    assert own_in_noise > own - 0.02
    assert trusted(40.0, 1.0)[0] < own - 0.05
