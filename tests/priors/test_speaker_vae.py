"""The prior of several speakers: its states, what each voice learns from, and weights that are kept once."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from avse import plugins
from avse.conformance import example_batch, seeded
from avse.contracts.prior import SwitchingPrior
from avse.contracts.system import run
from avse.contracts.types import Batch
from avse.priors.vae.base import divergence_with_free_bits


def _prior(**arguments: object) -> SwitchingPrior:
    cls = plugins.get("prior", "speaker_vae")
    with seeded(1):
        return cls(**{**cls.example_arguments(), **arguments})


def _batch(speakers: list[str]) -> Batch:
    batch = example_batch((3200, 2000, 3200)[: len(speakers)])
    batch.clean, batch.speakers = batch.noisy, speakers
    return batch


def _move(prior: torch.nn.Module) -> None:
    with torch.no_grad(), seeded(2):
        for parameter in prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def test_each_voice_learns_from_its_own_clips_and_anybody_from_all() -> None:
    prior, batch = _prior(), _batch(["bob", "", "ann"])
    _move(prior)
    with seeded(3):
        terms = prior.loss(batch)
    [backbone] = prior.backbones
    with seeded(3):
        reading = backbone.read(batch)
        universal, _ = backbone.loss_and_evidence(batch, reading)
    nll, divergence, steps = 0.0, 0.0, 0
    for row, name in ((0, "bob"), (2, "ann")):
        own = reading.map(lambda value, row=row: value[[row]])
        mask = own.context.mask
        log_variance = prior.of(name).decode(own.latent, own.context)
        told = ((own.power + backbone.floor) / log_variance.exp() + log_variance)[mask].mean()
        from_prior = prior.of(name).prior(own.latent, own.context)
        nll += told * mask.sum()
        divergence += divergence_with_free_bits(own.posterior, from_prior, mask, backbone.free_bits) * mask.sum()
        steps += mask.sum()
    expected = (universal["loss"] + (nll + divergence / prior.bins) / steps) / 2
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    terms["loss"].backward()
    # Nobody but bob and ann was heard, and both learn.
    assert all(bool(parameter.grad.any()) for adapter in prior.adapters for parameter in adapter.parameters())


def test_a_speaker_who_is_not_heard_does_not_change() -> None:
    prior = _prior()
    prior.loss(_batch(["ann", "somebody"]))["loss"].backward()
    ann, bob = prior.adapters
    assert bool(ann.weight.grad.any()) and bob.weight.grad is None


def test_voices_begin_as_anybody() -> None:
    prior, batch = _prior(), _batch(["ann", "bob"])
    context = prior.contexts(batch)[0]
    latent = torch.randn(2, context.mask.shape[1], prior.of("ann").latent_dim)
    for name in ("ann", "bob"):
        assert torch.equal(prior.of(name).decode(latent, context), prior.of("anybody").decode(latent, context))


def test_audio_states_do_not_look_at_the_video() -> None:
    prior, batch = _prior(audio_states=True), _batch(["ann", "bob"])
    assert prior.names == ("anybody/audio", "ann/audio", "bob/audio", "anybody", "ann", "bob")
    assert prior.fallbacks == [None, None, None, 0, 1, 2]
    assert [one.video is None for one in prior.contexts(batch)] == [True] * 3 + [False] * 3
    assert [prior.speaker_of(state) for state in (1, 4)] == ["ann", "ann"]
    transition = prior.switch()[1].exp()
    # From ann with video to ann without, and to bob without.
    assert transition[4, 1].item() == pytest.approx(0.05 * 0.95)
    assert transition[4, 2].item() == pytest.approx(0.05 * 0.025)


def test_without_a_backbone_each_speaker_has_a_whole_model() -> None:
    prior, batch = _prior(shared=False, universal=False), _batch(["bob", "bob", ""])
    prior.loss(batch)["loss"].backward()
    ann, bob = prior.backbones
    assert all(p.grad is None for p in ann.parameters()) and bool(bob.log_variance.weight.grad.any())
    alone = _prior(shared=False, universal=False)
    with seeded(4):
        loss = alone.loss(_batch(["bob", "", ""]))["loss"]
    with seeded(4):
        whole = _batch(["bob"])
        expected = alone.backbones[1].loss(whole)["loss"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_are_kept_once_and_copies_stand_on_their_own() -> None:
    prior = _prior(audio_states=True)
    pointers = [tensor.data_ptr() for tensor in prior.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
    copied = deepcopy(prior)
    assert copied.of("ann").backbone is copied.backbones[0] and copied.of("ann").backbone is not prior.backbones[0]


@pytest.mark.parametrize("speakers", [[], ["ann", "ann"], ["anybody"]])
def test_names_are_those_of_different_people(speakers: list[str]) -> None:
    with pytest.raises(ValueError, match="speakers"):
        _prior(speakers=speakers)
    with pytest.raises(ValueError, match="carl"):
        _prior().of("carl")


@pytest.mark.parametrize("audio_states", [False, True])
def test_voices_of_one_backbone_read_the_sound_once(audio_states: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = _prior(audio_states=audio_states, noisy_encoder_layers=1)
    _move(prior)
    [backbone] = prior.backbones
    inference = plugins.get("inference", "vem")(
        prior=prior, noise_model=plugins.get("noise_model", "nmf")(rank=2), iterations=3
    )
    reads = []
    encode_noisy = backbone.encode_noisy
    monkeypatch.setattr(backbone, "encode_noisy", lambda *given: reads.append(given) or encode_noisy(*given))
    batch = example_batch((3200, 2000))
    together = inference(batch)
    once = len(reads)
    monkeypatch.setattr(
        type(prior.components[0]), "encoding_prior", property(lambda voice: voice), raising=True
    )  # each by itself
    apart = inference(batch)
    torch.testing.assert_close(together.speech, apart.speech, rtol=1e-6, atol=1e-8)
    assert len(reads) - once == once * len(prior.speakers)


def _faces(batch: Batch) -> None:
    """Draw a face for each speaker: stripes of ann, bars of bob, and noise for all others."""
    generator = torch.Generator().manual_seed(0)
    batch.mouth = torch.randint(0, 60, batch.mouth.shape, generator=generator).to(torch.uint8)
    for row, name in enumerate(batch.speakers):
        if name == "ann":
            batch.mouth[row, :, ::22] += 150
        elif name == "bob":
            batch.mouth[row, :, :, :30] += 150


def test_speakers_are_known_by_sight_and_strangers_are_anybody() -> None:
    prior = _prior(faces=True)
    batch = example_batch((16000,) * 6)
    batch.clean, batch.speakers = batch.noisy, ["ann", "bob", "ann", "bob", "ann", "bob"]
    batch.valid[:] = True
    _faces(batch)
    unseen = prior.identity(prior.contexts(batch)[-1])  # nobody was seen yet
    torch.testing.assert_close(unseen, torch.full_like(unseen, 1 / 3))
    prior.loss(batch)["loss"].backward()
    count = prior.gallery.count.tolist()
    assert count == [3, 3]
    prior.eval()
    with torch.no_grad():
        prior.loss(batch)
        assert prior.gallery.count.tolist() == count  # only training learns
        contexts = prior.contexts(batch)
        who = prior.identity(contexts[-1])
        initial, transition = prior.switch_of(contexts)
        assert [prior.speakers[place] for place in who.argmax(dim=1)] == batch.speakers
        torch.testing.assert_close(initial.exp(), who)
        torch.testing.assert_close(transition.exp().sum(dim=2), torch.ones(6, 3, dtype=torch.float64))
        torch.testing.assert_close(transition[1, 0, 1:].exp(), 0.05 * who[1, 1:])
        stranger = example_batch((16000,))
        stranger.valid[:], stranger.speakers = True, ["eve"]
        _faces(stranger)
        stranger.mouth[:, :, 60:80] += 150
        assert prior.speakers[int(prior.identity(prior.contexts(stranger)[-1]).argmax())] == "anybody"
        unseen = prior.identity(prior.contexts(batch.without_video())[-1])
        torch.testing.assert_close(unseen, torch.full_like(unseen, 1 / 3))


@pytest.mark.parametrize("audio_states", [False, True])
def test_what_is_seen_decides_where_the_sound_says_nothing(audio_states: bool) -> None:
    prior = _prior(faces=True, audio_states=audio_states)  # voices begin alike
    batch = example_batch((16000, 13200))
    batch.speakers = ["ann", "bob"]
    _faces(batch)
    prior.gallery.learn(batch.mouth, batch.valid, [0, 1])
    noise_model = plugins.get("noise_model", "nmf")(rank=2)
    found = run(
        plugins.get("inference", "vem")(prior=prior, noise_model=noise_model, iterations=2),
        Batch.of_speakers([batch] * 2),
    )
    whose = [name.split("/")[0] for name in found.states]
    shares = torch.stack(
        [found.responsibility[..., [one == name for one in whose]].sum(-1) for name in prior.speakers], dim=-1
    )
    who = prior.identity(prior.contexts(batch)[-1])
    assert who.max() > 0.9
    expected = who[:, None, None].expand_as(shares).to(shares)
    torch.testing.assert_close(shares[0], expected[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shares[1, :, :3], expected[1, :, :3], rtol=1e-3, atol=1e-3)


def test_faces_need_something_to_look_at() -> None:
    with pytest.raises(ValueError, match="visual_frontend"):
        _prior(faces=True, visual_frontend=None, fusion=None)
    with pytest.raises(ValueError, match="share"):
        _prior(faces=True, shared=False)
    with pytest.raises(ValueError, match="anybody"):
        _prior(faces=True, universal=False)
