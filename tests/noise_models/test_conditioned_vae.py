"""The noise model `conditioned_vae`: against a naive majorant, what it is untold, and a world of tones by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

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
from avse.signal.stft import stft
from avse.training.noise_vae import learn_noise_vae, negative_bound
from avse.training.steps import learn


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
        return total + (at["precision"][0] * away**2).sum().item() / 2

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


@pytest.mark.parametrize("inference", [VEM, partial(Langevin, step_size=0.05), MAP], ids=["vem", "langevin", "map"])
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


def _tones() -> list[np.ndarray]:
    time = np.arange(32000) / 16000
    return [sum(np.sin(2 * np.pi * (hz + shift) * time + shift) for shift in range(0, 200, 9)) for hz in (500, 4000)]


def test_modalities_are_exchanged_in_a_world_of_tones_by_name_and_colour() -> None:
    """Trained by names, asked by pictures that lie near them: the prior of each is of its own band."""
    torch.manual_seed(0)
    network, names = NoiseVAE(4, bands=16, latent_dim=2, hidden_dim=16, layers=1), torch.eye(4)[:2]
    power = stft(torch.tensor(np.stack(_tones()), dtype=torch.float32), 640, 320).abs().square()

    def loss_of(rng: np.random.Generator, step: int) -> torch.Tensor:
        heard = names * torch.as_tensor(rng.random((2, 1)) < 0.5)
        return negative_bound(network, power, power, names, heard)

    learn(network, loss_of, steps=300, rate=0.02)
    pictures = torch.nn.functional.normalize(names + torch.tensor([0.0, 0.0, 0.3, -0.3]), dim=1)
    for scenes in (names, pictures):
        with torch.no_grad():
            levels = network.decode(network.prior(scenes, 2).mean, network.told(scenes, 2), 321)[:, 0]
        low, high = levels[:, 20:28].mean(dim=1), levels[:, 160:168].mean(dim=1)
        assert low[0] - low[1] > 2 and high[1] - high[0] > 2


def test_a_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    describer = DescribedNoise(scene_dim=4, pretrained=False).requires_grad_(False)
    speech, noise, scenes = [np.random.default_rng(0).standard_normal(32000)], _tones(), [*torch.eye(4)[:2, None]]

    def losses(steps: int, name: str) -> list[float]:
        torch.manual_seed(0)
        network = NoiseVAE(4, bands=8, latent_dim=2, hidden_dim=8, layers=1)
        common = {"batch_size": 2, "transform": (640, 320), "checkpoint": tmp_path / name}
        return learn_noise_vae(network, describer, speech, noise, scenes, steps=steps, **common)  # type: ignore[arg-type]

    first = losses(25, "one.pt")
    again = losses(27, "one.pt")
    assert again[:25] == first and len(again) == 27 and np.isfinite(again).all() and again[-1] < again[0]


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
