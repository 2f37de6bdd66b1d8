"""Descriptions of a scene from outside: texts, pictures, videos, sounds; and what is none of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avse.data.audio import write_audio
from avse.data.noises import coloured_noise
from avse.errors import AvseError
from avse.scene import embed_scene, load_embedding, read_scene


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    cv2.imwrite(str(folder / "red.png"), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    video = cv2.VideoWriter(str(folder / "grey.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for _ in range(30):
        video.write(np.full((48, 64, 3), 128, np.uint8))
    video.release()
    rng = np.random.default_rng(0)
    for colour in ("white", "brown"):
        write_audio(folder / f"{colour}.flac", 0.05 * coloured_noise(colour, 24000, rng))
    (folder / "notes.txt").write_text("nothing to see")
    return folder


def test_each_modality_is_told_by_what_a_file_holds(files: Path) -> None:
    modality, picture = read_scene(files / "red.png")
    assert modality == "image" and picture.shape == (40, 60, 3) and picture[0, 0].tolist() == [255, 0, 0]
    modality, frames = read_scene(str(files / "grey.mp4"))
    assert modality == "video" and frames.shape == (3, 48, 64, 3)  # one each 0.6 s
    modality, sound = read_scene(files / "white.flac")
    assert modality == "sound" and sound.shape == (24000,)
    assert read_scene(" a dog barks ") == ("text", "a dog barks")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("...", "says nothing"),
        (" ", "says nothing"),
        ("gone.jpg", "no such file"),
        ("notes.txt", "not an audio or video"),
    ],
)
def test_what_describes_nothing_is_refused_in_words(given: str, said: str, files: Path) -> None:
    with pytest.raises(AvseError, match=said):
        read_scene(files / given if (files / given).is_file() else given)


def test_the_embedded_model_hears_noise_under_any_name(files: Path) -> None:
    embedding = load_embedding()
    assert len(embedding.classes) == len(embedding.centroids) > 50
    vector = embed_scene(files / "white.flac", embedding)
    assert vector.shape == (128,) and torch.allclose(vector.norm(), torch.ones(()), atol=1e-5)
    with pytest.raises(AvseError, match="no network of the kind"):
        load_embedding("lip-synchrony")


def test_embed_and_retrieve(files: Path, tmp_path: Path, avse_command: Callable) -> None:
    out = tmp_path / "vector.npz"
    assert avse_command("embed", files / "white.flac", "--model", "scene-clip", "-o", out).status == 0
    assert np.load(out)["features"].shape == (128,)
    write_audio(tmp_path / "query.flac", 0.2 * coloured_noise("brown", 30000, np.random.default_rng(1)))
    (tmp_path / "sounds").mkdir()
    for name in ("white.flac", "brown.flac", "notes.txt"):
        (tmp_path / "sounds" / name).write_bytes((files / name).read_bytes())
    found = avse_command("retrieve", tmp_path / "query.flac", "--among", tmp_path / "sounds")
    assert found.status == 0
    assert found.out.index("brown.flac") < found.out.index("white.flac") and "1 that cannot be read" in found.out
    nothing = avse_command("embed", "?!", "--model", "scene-clip", "-o", tmp_path / "nothing.npz")
    assert nothing.status == 1 and not (tmp_path / "nothing.npz").exists()


def test_texts_are_understood() -> None:
    pytest.importorskip("tokenizers")
    pytest.importorskip("efficientnet_lite_pytorch")
    embedding = load_embedding()
    for text, name in (
        ("heavy rain", "rain"),
        ("somebody drills into the wall", "drilling"),
        ("dogs bark", "dog_bark"),
    ):
        assert embedding.nearest(embed_scene(text, embedding)[None])[0][0][0] == name
