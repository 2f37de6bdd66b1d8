"""Every inference with every latent prior there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch
from avse.contracts.prior import LatentPrior
from avse.fusion.reliability_attention import ReliabilityAttention
from avse.inference.em.mcem import MCEM
from avse.noise_models.nmf import NMF
from avse.priors.vae.vae import AVVAE
from avse.visual_frontends.pixel_mlp import PixelMLP

INFERENCES = ["vem", "map", "langevin", "mcem"]
PRIORS = [name for name in plugins.names("prior") if issubclass(plugins.get("prior", name), LatentPrior)]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("inference", INFERENCES)
def test_a_batch_gives_what_its_clips_give_one_by_one(prior: str, inference: str) -> None:
    torch.manual_seed(0)
    system = plugins.get("inference", inference)(
        prior=plugins.get("prior", prior).example().eval(), noise_model=NMF(rank=2), iterations=3
    ).double()

    def run(lengths: tuple[int, ...]) -> torch.Tensor:
        batch = example_batch(lengths, gap=(1, 2))
        return system(replace(batch, noisy=batch.noisy.double())).speech

    together = run((5000, 2500))
    assert bool(together.isfinite().all())
    torch.testing.assert_close(together[1, :2500], run((2500,))[0], rtol=1e-4, atol=1e-6)


def test_a_fusion_that_looks_over_time_is_noticed_clip_by_clip() -> None:
    torch.manual_seed(0)
    prior = AVVAE(PixelMLP(6, 8, 11), ReliabilityAttention(8, 6, heads=2), latent_dim=4, hidden_dim=8, fft_size=640)
    for parameter in prior.parameters():  # what begins at zero would show no connection
        parameter.data += 0.3 * torch.randn_like(parameter)
    batch = example_batch((6400, 6400))
    batch.valid[1] = False
    [run] = MCEM(prior.eval(), NMF(rank=2), iterations=1, draws=2, burn_in=0).progress(batch)
    assert run.speakers[0].memory.independent[:, 0, 0, 0].tolist() == [False, True]
