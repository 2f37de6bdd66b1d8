"""The noise model `conditioned_vae`: against a naive majorant, what it is untold, and a world of tones by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from avse.contracts.types import Batch, Clip
from avse.inference.em.langevin import Langevin
from avse.inference.em.map import MAP
from avse.inference.em.vem import VEM
from avse.nnet.noise_vae import NoiseVAE
from avse.noise_models.conditioned_vae import ConditionedVAE
from avse.noise_models.described import DescribedNoise
from avse.priors.vae.vae import VAE
from avse.training.noise_vae import learn_noise_vae, negative_bound


def _power(*lengths: int, bins: int = 65) -> tuple[torch.Tensor, torch.Tensor]:
    power = torch.rand(len(lengths), max(lengths), bins, generator=torch.Generator().manual_seed(1)).square()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return power * mask[..., None], mask


def _scene(dim: int = 128) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(1, dim, generator=torch.Generator().manual_seed(0)), dim=1)


def test_zeros_say_nothing_bit_for_bit() -> None:
    (power, mask), model = _power(30, 22), ConditionedVAE()
    mixed = torch.cat([torch.zeros(1, 128), _scene()])
    states = [model.initial_state(power, mask), model.initial_state(power, mask, mixed)]
    assert "trust" not in states[0] and states[1]["trust"][0] == 0 < states[1]["trust"][1]
    for _ in range(3):
        wanted, found = (model.variance(state) for state in states)
        assert torch.equal(found[0], wanted[0]) and not torch.equal(found[1], wanted[1])
        states = [model.update_from_power(state, power, mask) for state in states]


@pytest.mark.parametrize("told", [False, True])
def test_an_update_lowers_the_majorant_of_a_naive_version(told: bool) -> None:
    torch.manual_seed(0)
    (power, mask), model = _power(12), ConditionedVAE(pretrained=False, presence_exponent=0.0).double()
    state = model.initial_state(power.double(), mask, _scene().double() if told else None)
    generator = torch.Generator().manual_seed(2)
    numerator, denominator = torch.rand(2, 1, 12, 65, generator=generator).double().add(0.01)
    old = _loops(model.network, state)
    torch.testing.assert_close(model.variance(state)[0], torch.tensor(old), rtol=1e-5, atol=0)

    def majorant(at: dict[str, torch.Tensor]) -> float:
        new, total = _loops(model.network, at), 0.0
        for n, f in np.ndindex(12, 65):
            total += float(numerator[0, n, f]) * old[n, f] ** 2 / new[n, f] + float(denominator[0, n, f]) * new[n, f]
        away = at["latent"][0] - at["expected"][0]
        return total + float((at["precision"][0] * away**2).sum()) / 2

    with torch.no_grad():
        updated = model.update(state, numerator, denominator)
    costs = [majorant({**state, "latent": updated["latent"]}), majorant(updated)]
    assert costs[1] < costs[0] < majorant(state)


def _loops(network: NoiseVAE, state: dict[str, torch.Tensor]) -> np.ndarray:
    """g c exp(d(z)) of the first clip, interpolated between bands by hand."""
    z, told, gains, spectrum = (state[name][0].detach().numpy() for name in ("latent", "told", "gains", "spectrum"))
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    hidden = np.tanh(z @ weights["widen.weight"].T + weights["widen.bias"] + told)
    bands = 4 * (hidden @ weights["write.weight"].T + weights["write.bias"])
    scale = np.log1p(np.linspace(0, 8000, spectrum.shape[1]) / 500)
    centres = np.linspace(0, scale[-1], bands.shape[1])
    return gains * spectrum * np.exp([np.interp(scale, centres, band) for band in bands])


@pytest.mark.parametrize(
    "inference", [lambda *a: VEM(*a), lambda *a: Langevin(*a, step_size=0.05), lambda *a: MAP(*a)], ids=str
)
def test_inferences_fit_it_beside_the_prior_of_speech(inference: object) -> None:
    torch.manual_seed(0)
    prior = VAE(latent_dim=4, hidden_dim=8, fft_size=640, noisy_encoder_layers=1)
    system = inference(prior, ConditionedVAE()).eval()  # type: ignore[operator]
    system.iterations = 3
    batch = Batch.from_clips([Clip(np.random.default_rng(0).standard_normal(6400).astype(np.float32))])
    batch.scene = _scene()
    speech = system(batch).speech
    batch.scene = None
    assert speech.isfinite().all() and not torch.equal(speech, system(batch).speech)


def _named_tones(steps: int) -> tuple[NoiseVAE, Callable[[torch.Tensor], torch.Tensor]]:
    """Noise in two bands, with its name; the VAE, and how its model reads a scene."""
    torch.manual_seed(0)
    time = np.arange(32000) / 16000
    tones = [sum(np.sin(2 * np.pi * (hz + shift) * time + shift) for shift in range(0, 200, 9)) for hz in (500, 4000)]
    network = NoiseVAE(4, bands=16, latent_dim=2, hidden_dim=16, layers=1)
    describer = DescribedNoise(scene_dim=4, pretrained=False).requires_grad_(False)
    names = [torch.eye(4)[place : place + 1] for place in range(2)]
    speech = [np.random.default_rng(0).standard_normal(32000)]
    common = {"snr": (-40.0, -40.0), "simulated": 0.0, "transform": (640, 320), "batch_size": 4, "rate": 0.02}
    learn_noise_vae(network, describer, speech, tones, names, steps=steps, **common)  # type: ignore[arg-type]
    return network, lambda scene: describer.code(scene, torch.ones(1))


def test_modalities_are_exchanged_in_a_world_of_tones_by_name_and_colour() -> None:
    """Trained by names, asked by pictures that lie near them: the prior of each is of its own band."""
    network, read = _named_tones(250)
    names = torch.eye(4)[:2, None]
    pictures = torch.nn.functional.normalize(names + torch.tensor([0.0, 0.0, 0.3, -0.3]), dim=2)
    for scenes in (names, pictures):
        with torch.no_grad():
            told = [read(scene) for scene in scenes]
            levels = [network.decode(network.prior(e, 1).mean, network.told(e, 1), 321)[0, 0] for e in told]
        low, high = slice(20, 28), slice(160, 168)
        assert (levels[0][low] - levels[1][low]).mean() > 2 and (levels[1][high] - levels[0][high]).mean() > 2


def test_the_bound_against_loops() -> None:
    torch.manual_seed(0)
    network = NoiseVAE(4, bands=8, latent_dim=2, hidden_dim=8, layers=1).double()
    power, expected = torch.rand(2, 1, 6, 33).double() + 0.1
    told, heard = _scene(4).double(), torch.zeros(1, 4).double()
    torch.nn.init.normal_(network.tell_prior.weight)
    torch.manual_seed(3)
    got = float(negative_bound(network, power, expected, told, heard, 0.7))
    q, p = network.encode(expected, torch.ones(1, 6, dtype=torch.bool), heard), network.prior(told, 1)
    torch.manual_seed(3)
    z = q.mean + (q.log_variance / 2).exp() * torch.randn_like(q.mean)
    d = network.decode(z, network.told(told, 1), 33)[0].detach().numpy()
    relative = power[0].numpy() / power.mean().item() + 1e-6
    wanted = 0.0
    for n, f in np.ndindex(6, 33):
        wanted += relative[n, f] / np.exp(d[n, f]) + d[n, f]
    for n, k in np.ndindex(6, 2):
        mean, log = q.mean[0, n, k].item() - p.mean[0, 0, k].item(), q.log_variance[0, n, k].item()
        prior = p.log_variance[0, 0, k].item()
        wanted += 0.7 * 0.5 * ((np.exp(log) + mean**2) / np.exp(prior) - 1 + prior - log)
    assert got == pytest.approx(wanted / (6 * 33), rel=1e-5)
