"""Contrast of modalities: losses against loops in float64, batches that lack a kind, and a known world."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avse.embeddings.scene_clip import SceneClip
from avse.nnet.scene_trunks import IMAGE_DIM, TEXT_DIM
from avse.nnet.sound_network import SoundNetwork, masked
from avse.training.contrastive import ContrastiveLearner, calibrate
from avse.training.contrastive_losses import MultiPositiveLoss, SigmoidLoss

CLASSES = ["low", "middle", "high"]


def _vectors(rows: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def _pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors, and which match: the third of the first matches nothing, the second of the other neither."""
    matches = torch.tensor([[1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    return _vectors(3, 0), _vectors(4, 1), matches


def test_sigmoid_loss_against_loops() -> None:
    first, second, matches = _pairs()
    total = 0.0
    for i in range(3):
        for j in range(4):
            logit = 7.0 * float(np.dot(first[i], second[j])) - 2.0
            total += np.log1p(np.exp(-logit if matches[i, j] else logit))
    assert SigmoidLoss(scale=7.0, bias=-2.0).double()(first, second, matches).item() == pytest.approx(
        total / 3, rel=1e-6
    )


def test_multi_positive_loss_against_loops() -> None:
    first, second, matches = _pairs()

    def one_way(a: np.ndarray, b: np.ndarray, alike: np.ndarray) -> float:
        losses = []
        for i in range(len(a)):
            logits = [7.0 * float(np.dot(a[i], b[j])) for j in range(len(b))]
            norm = np.log(np.sum(np.exp(logits)))
            hits = [logits[j] - norm for j in range(len(b)) if alike[i, j]]
            if hits:
                losses.append(-np.mean(hits))
        return float(np.mean(losses))

    a, b, alike = first.numpy(), second.numpy(), matches.numpy()
    expected = (one_way(a, b, alike) + one_way(b, a, alike.T)) / 2
    assert MultiPositiveLoss(scale=7.0).double()(first, second, matches).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", [SigmoidLoss, MultiPositiveLoss])
def test_items_of_one_class_are_no_negatives(loss: type) -> None:
    """With all of a batch in one class, vectors that agree are best."""
    same, mixed = torch.eye(6, dtype=torch.float64)[[0] * 4], _vectors(4, 2)
    matches = torch.ones(4, 4, dtype=torch.bool)
    assert loss().double()(same, same, matches) < loss().double()(mixed, mixed, matches)


class ToneWorld:
    """Tones by name and colour: what a class sounds like, is called, and looks like are known."""

    def __init__(self, group: int = 12) -> None:
        from avse.data.scene_set import SceneBatch

        rng = np.random.default_rng(0)
        self.batch_of, self.group = SceneBatch, group
        self.words = rng.standard_normal((3, TEXT_DIM))
        self.colours = np.repeat(np.eye(3), IMAGE_DIM // 3 + 1, axis=1)[:, :IMAGE_DIM]
        self.texts = {number: self.words[number][None] for number in range(3)}
        self.own = dict.fromkeys(range(3), 1)

    def __len__(self) -> int:
        return 8 * self.group

    def __getitem__(self, index: int) -> tuple[int, np.random.Generator]:
        rng = np.random.default_rng(index)
        return int(rng.integers(3)), rng

    def features(self, number: int, modality: str, rng: np.random.Generator) -> np.ndarray:
        if modality == "text":
            return self.words[number] + 0.3 * rng.standard_normal(TEXT_DIM)
        if modality == "sound":
            pitch = 300 * 2.5**number * rng.uniform(0.95, 1.05)
            return np.sin(2 * np.pi * pitch * np.arange(4000) / 16000) + 0.05 * rng.standard_normal(4000)
        return self.colours[number] + 0.3 * rng.standard_normal((1 if modality == "image" else 3, IMAGE_DIM))

    def collate(self, items, modalities=("text", "image", "video", "sound")):
        batch = self.batch_of()
        for modality in modalities:
            drawn = [self.features(number, modality, rng) for number, rng in items]
            batch.features[modality] = torch.tensor(np.stack(drawn), dtype=torch.float32)
            batch.labels[modality] = torch.nn.functional.one_hot(torch.tensor([n for n, _ in items]), 3).bool()
        return batch


@pytest.fixture(scope="module")
def learned() -> tuple[SceneClip, ToneWorld]:
    """An embedding that saw sounds with texts, and texts with pictures, but never a sound with a picture."""
    torch.manual_seed(0)
    world = ToneWorld()
    embedding = SceneClip(output_dim=8, classes=CLASSES, channels=4)
    learner = ContrastiveLearner(embedding, MultiPositiveLoss(), pairs=[("sound", "text"), ("image", "text")])
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    for step in range(40):
        batch = world.collate([world[step * world.group + index] for index in range(world.group)])
        optimizer.zero_grad()
        learner.objective(learner(batch), batch).backward()
        optimizer.step()
    calibrate(embedding.eval(), world)
    return embedding, world


@pytest.mark.parametrize("query", ["text", "image", "video", "sound"])
@pytest.mark.parametrize("target", ["text", "image", "video", "sound"])
def test_modalities_can_be_exchanged(query: str, target: str, learned: tuple[SceneClip, ToneWorld]) -> None:
    embedding, world = learned
    items = [(number, np.random.default_rng(1000 + 7 * number + index)) for number in range(3) for index in range(4)]
    batch = world.collate(items)
    with torch.no_grad():
        asked, given = (embedding.aligned(embedding.encode(batch.features[one], one), one) for one in (query, target))
    found = (asked @ given.T).fill_diagonal_(-9).argmax(dim=1) // 4
    assert (found == torch.arange(12) // 4).float().mean() > 0.9
    assert [best[0][0] for best in embedding.nearest(asked[::4])] == CLASSES


def test_a_batch_without_a_kind_adds_nothing_of_it() -> None:
    torch.manual_seed(0)
    world = ToneWorld()
    learner = ContrastiveLearner(SceneClip(output_dim=8, classes=CLASSES, channels=4, dropout=0.0), SigmoidLoss())
    items = [world[index] for index in range(6)]
    pair = world.collate(items, ("text", "sound"))
    both = {name: torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for name in ("text", "sound")}
    alike = (pair.labels["sound"].float() @ pair.labels["text"].float().T) > 0
    entropy = learner.objective({"sound": both["sound"]}, pair)
    assert torch.allclose(
        learner.objective(both, pair), learner.loss(both["sound"], both["text"], alike) + entropy, atol=1e-5
    )
    alone = world.collate(items, ("image",))
    value = learner.objective(learner(alone), alone)
    value.backward()  # nothing to learn, and no error
    assert value.item() == 0.0


def test_masks_hide_spans_of_time_and_frequency_in_training_alone() -> None:
    torch.manual_seed(0)
    levels = torch.randn(3, 80, 64)
    hidden = masked(levels, 1) != levels
    frames, bands = hidden.all(dim=2), hidden.all(dim=1)
    for row in range(3):
        assert torch.equal(hidden[row], frames[row][:, None] | bands[row][None])
        for spans, most in ((frames[row], 10), (bands[row], 8)):
            places = spans.nonzero()[:, 0]
            assert 1 <= len(places) <= most and places[-1] - places[0] == len(places) - 1
    assert not torch.equal(frames[0], frames[1])
    audio = torch.randn(2, 4000)
    plain, masking = (SoundNetwork(4, channels=4, masks=masks) for masks in (0, 2))
    masking.load_state_dict(plain.state_dict())
    assert torch.equal(plain.eval()(audio), masking.eval()(audio))
    assert not torch.equal(plain.train()(audio), masking.train()(audio))


def test_sounds_alone_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from avse.errors import AvseError
    from avse.nnet import scene_trunks

    monkeypatch.setattr(scene_trunks.importlib.util, "find_spec", lambda name: None)
    scene_trunks._wordllama.cache_clear()
    embedding = SceneClip(output_dim=8, channels=4).eval()
    assert embedding([np.ones(800)], "sound").shape == (1, 8)
    with pytest.raises(AvseError, match=r"pip install 'avse\[scene\]'"):
        embedding(["rain"], "text")


def _with_tokenizer() -> SceneClip:
    torch.manual_seed(0)
    embedding = SceneClip(output_dim=8, classes=CLASSES, channels=4, text_trunk="sentencepiece")
    embedding.learn_words([f"{one} {other} sounds" for one in CLASSES for other in ("dog", "rain", "door", "horn")])
    return embedding


def test_a_text_network_of_its_own_learns_names_keeps_its_tokenizer_and_needs_no_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from avse.errors import AvseError
    from avse.nnet import scene_trunks

    monkeypatch.setattr(scene_trunks.importlib.util, "find_spec", lambda name: None)
    embedding, world = _with_tokenizer(), ToneWorld()
    learner = ContrastiveLearner(embedding, MultiPositiveLoss(), pairs=[("sound", "text")])
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.005)
    tokens = embedding.text_features(CLASSES)
    for step in range(40):
        batch = world.collate([world[step * world.group + index] for index in range(world.group)], ("sound", "text"))
        batch.features["text"] = tokens[batch.labels["text"].int().argmax(dim=1)]
        batch.features["captions"] = tokens
        optimizer.zero_grad()
        learner.objective(learner(batch), batch).backward()
        optimizer.step()
    again = SceneClip(output_dim=8, classes=CLASSES, channels=4, text_trunk="sentencepiece")
    with pytest.raises(AvseError, match="not learned"):
        again(["low"], "text")
    again.load_state_dict({name: value.float() for name, value in embedding.eval().state_dict().items()})
    told, sounds = again.eval()(CLASSES, "text"), world.collate([(n, np.random.default_rng(n)) for n in range(3)])
    assert torch.equal(told, embedding(CLASSES, "text"))
    heard = embedding.encode(sounds.features["sound"], "sound")
    assert (embedding.encode(tokens, "text") @ heard.T).argmax(dim=1).tolist() == [0, 1, 2]
    alone = torch.cat([embedding([text], "text") for text in ("low dog", "high rain sounds")])
    torch.testing.assert_close(embedding(["low dog", "high rain sounds"], "text"), alone)
    with pytest.raises(AvseError, match="No word of '雨' is known"):
        embedding(["雨"], "text")


def test_masked_pieces_are_those_of_the_text_alone() -> None:
    network = _with_tokenizer().text.eval()
    tokens = network.tokens(["low dog sounds", "rain"])
    longer = torch.cat([tokens, torch.zeros(2, 3)], dim=1)
    losses = []
    for given in (tokens, longer):
        torch.manual_seed(1)
        losses.append(network.masked_loss(given).item())
    assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("trunk", ["word2vec", ""])
def test_a_text_trunk_that_is_unknown_is_refused(trunk: str) -> None:
    with pytest.raises(ValueError, match="sentencepiece"):
        SceneClip(text_trunk=trunk)
