"""`--noise` and `--not-noise`: what is understood, what each kind of description gives, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F

import avse
from avse import scene
from avse.contracts.embedding import MODALITIES, Embedding
from avse.errors import AvseError
from avse.model import Model
from avse.recipe import load_recipe
from avse.signal.scenes import BANDS, sound_spectra

RECIPE = """
model: !new:avse.plugins.prior.vae
    latent_dim: 4
    hidden_dim: 8
    fft_size: 640
    noisy_encoder_layers: 1
noise_model: !new:avse.plugins.noise_model.nmf
    rank: 2
inference: !new:avse.plugins.inference.vem
    prior: !ref <model>
    noise_model: !ref <noise_model>
    iterations: 2
    m_steps: 1
"""


class _Embedding(Embedding):
    """A vector for each item, drawn from its hash; all but words of three letters and more are unknown."""

    output_dim, modalities, classes = 128, MODALITIES, ("rain", "a dog")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Any]] = []
        self.centroids = self.embed(self.classes, "text")

    def embed(self, items: Sequence[Any], modality: str) -> torch.Tensor:
        self.seen += [(modality, item) for item in items]
        seeds = [int(hashlib.md5(str(item).encode()).hexdigest()[:8], 16) for item in items]
        rows = [torch.randn(128, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return F.normalize(torch.stack(rows), dim=1)


@pytest.fixture
def embedding(monkeypatch: pytest.MonkeyPatch) -> _Embedding:
    made = _Embedding()
    monkeypatch.setattr(scene, "load_embedding", lambda: made)
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    (folder / "recipe.yaml").write_text(RECIPE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = load_recipe(folder / "recipe.yaml").build("inference")["inference"]
    return Model(system, RECIPE, "tiny-vae").save(folder / "model")


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    return path


def test_a_description_changes_the_result_and_is_reported(
    noisy: Path, model: Path, embedding: _Embedding, tmp_path: Path, avse_command: Callable
) -> None:
    outputs = {}
    for name, options in {"free": [], "told": ["--noise", "rain"], "not": ["--not-noise", "a dog"]}.items():
        files = [tmp_path / f"{name}.wav", tmp_path / f"{name}.json"]
        done = avse_command("enhance", noisy, "--model", model, "-o", files[0], "--json", files[1], *options)
        assert done.status == 0, done.err
        outputs[name] = soundfile.read(files[0])[0], json.loads(files[1].read_text())[0]["noise"], done.out
    assert outputs["free"][1] is None and "trusted" not in outputs["free"][2]
    for name in ("told", "not"):
        assert not np.array_equal(outputs[name][0], outputs["free"][0])
        assert 0 <= outputs[name][1]["trust"] <= 1 and "noise like" in outputs[name][2]
    assert outputs["told"][1]["nearest"][0] == ["rain", 1.0]
    assert outputs["not"][1]["nearest"][-1] == ["a dog", -1.0]


def test_each_kind_of_description_is_read_by_what_it_holds(
    noisy: Path, talk: Path, embedding: _Embedding, tmp_path: Path
) -> None:
    import cv2

    picture = tmp_path / "street.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    embedding.seen.clear()
    scene.describe(["rain on a roof", str(picture), noisy, talk, np.ones(1600, np.float32)])
    assert [modality for modality, _ in embedding.seen] == ["text", "image", "sound", "video", "sound"]
    told = scene.describe([torch.eye(128)[0], torch.eye(128)[1]]).vector
    torch.testing.assert_close(told[:128], F.normalize(torch.eye(128)[0] + torch.eye(128)[1], dim=0))
    assert not told[128:].any()


def test_how_a_sound_sounds_is_told_but_not_of_the_clip_itself(noisy: Path, embedding: _Embedding) -> None:
    """Of two sounds each gives every second spectrum, also where they were read before."""
    sounds = [np.random.default_rng(seed).normal(0, 0.1, 8000).astype(np.float32) for seed in (0, 1)]
    one, two = (scene.describe(sound).vector[128:].unflatten(0, (-1, BANDS)) for sound in sounds)
    torch.testing.assert_close(one, sound_spectra(torch.as_tensor(sounds[0])))
    both = scene.describe(scene.read_once(sounds)).vector[128:].unflatten(0, (-1, BANDS))
    assert torch.equal(both[::2], one[::2]) and torch.equal(both[1::2], two[1::2])
    told = scene.describe(["auto", "rain"], sounds[0], clip=lambda: (sounds[1], None)).vector
    assert not told[128:].any()


def test_auto_is_the_sound_of_the_clip_and_its_picture_without_the_face(
    talk: Path, model: Path, embedding: _Embedding
) -> None:
    loaded = avse.load(model, overrides={"noise_model": "conditioned_nmf"})
    embedding.seen.clear()
    estimate = loaded.enhance(talk, noise="auto", tracker="haar")
    assert estimate.scene_trust is not None
    (first, sound), (second, frames) = embedding.seen
    assert (first, second) == ("sound", "video") and abs(len(sound) - 19200) < 1100
    seen = np.stack(list(scene._frames(talk)))
    assert frames.shape == seen.shape and not np.array_equal(frames, seen)
    with pytest.raises(AvseError, match="auto"):
        loaded.enhance(talk, not_noise="auto", tracker="haar")


def test_what_describes_nothing_is_refused_and_nothing_is_written(
    noisy: Path, model: Path, embedding: _Embedding, tmp_path: Path, avse_command: Callable
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    empty = tmp_path / "empty.wav"
    empty.touch()
    silent, short = tmp_path / "silent.wav", tmp_path / "short.wav"
    soundfile.write(silent, np.zeros(8000), 16000)
    soundfile.write(short, np.ones(800) / 2, 16000)
    before = sorted(tmp_path.iterdir())
    refused = {"?!": "says nothing", "street.jpg": "no such file", broken: "picture", empty: "empty"}
    for wrong, said in {**refused, silent: "is silent", short: "lasts 0.050 s"}.items():
        for option in ("--noise", "--not-noise"):
            done = avse_command("enhance", noisy, "--model", model, option, wrong)
            assert said in done.message, done.message
    assert (
        "conditioned_nmf"
        in avse_command("enhance", noisy, "--model", model, "--noise", "rain", "--noise_model", "nmf").message
    )
    assert "--model av-vae" in avse_command("enhance", noisy, "--noise", "rain").message
    sound = soundfile.read(noisy)[0]
    assert noisy.name in avse_command("enhance", noisy, "--model", model, "--noise", noisy, "-o", noisy).message
    np.testing.assert_array_equal(soundfile.read(noisy)[0], sound)
    assert sorted(tmp_path.iterdir()) == before


def test_a_batch_takes_one_scene_a_clip(model: Path, embedding: _Embedding) -> None:
    loaded = avse.load(model, overrides={"noise_model": "conditioned_nmf"})
    clips = [np.random.default_rng(seed).normal(0, 0.1, 3200).astype(np.float32) for seed in (0, 1)]
    told = torch.eye(128)[3]
    both = loaded.enhance_batch(clips, scenes=[told, None])
    torch.testing.assert_close(both[0].speech, loaded.enhance(clips[0], noise=told).speech, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both[1].speech, loaded.enhance(clips[1]).speech, rtol=1e-4, atol=1e-6)
    assert both[1].scene_trust == 0 < both[0].scene_trust


def test_an_enhancer_that_takes_a_scene_is_told(
    noisy: Path, embedding: _Embedding, tmp_path: Path, avse_command: Callable
) -> None:
    recipe = "model: !new:avse.plugins.enhancer.tf_masker {channels: 16, blocks: 1, fusion_block: 0, scene_dim: 128}\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    system = load_recipe(tmp_path / "recipe.yaml").build("model")["model"]
    torch.nn.init.normal_(system.scene_encoder[-1].weight)
    folder = Model(system, recipe, "told").save(tmp_path / "told")
    sounds = {}
    for name, options in {"free": [], "told": ["--noise", "rain"]}.items():
        files = [tmp_path / f"{name}.wav", tmp_path / f"{name}.json"]
        done = avse_command("enhance", noisy, "--model", folder, "-o", files[0], "--json", files[1], *options)
        assert done.status == 0 and "trusted" not in done.out, done.message
        sounds[name] = soundfile.read(files[0])[0]
    assert not np.array_equal(sounds["free"], sounds["told"])
    assert json.loads(files[1].read_text())[0]["noise"] == {"nearest": [["rain", 1.0], ["a dog", ANY]], "trust": None}
    other = avse.load(folder)
    other.system.scene_dim = 4
    with pytest.raises(AvseError, match="4 features"):
        other.enhance(noisy, noise="rain")
