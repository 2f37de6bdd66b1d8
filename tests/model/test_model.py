"""Models: saving, loading, what is refused, and chunks."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import avse
from avse import model_folder, plugins
from avse.compatibility import OldName
from avse.contracts.types import Clip
from avse.errors import AvseError
from avse.model import Model

RECIPE = """
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp {output_dim: 6, hidden_dim: 8, size: 8}
fusion: !new:avse.plugins.fusion.reliability_attention {audio_dim: 16, video_dim: 6, heads: 2}
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    channels: 16
    blocks: 2
    fusion_block: 1
    context: 20
"""


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """A small model with random weights, saved."""
    from avse.recipe import load_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    torch.manual_seed(0)
    recipe = load_recipe(path)
    return Model(recipe.build()["model"].eval(), recipe.subrecipe("model"), "tiny").save(tmp_path / "model")


def _clip(seconds: float, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    samples = int(16000 * seconds)
    mouth = rng.integers(0, 255, (-(-samples // 640), 88, 88), dtype=np.uint8)
    return Clip(0.1 * rng.standard_normal(samples), mouth, rng.random(len(mouth)) > 0.2)


def test_save_and_load_give_the_same_model(folder: Path) -> None:
    model = avse.load(folder)
    again = avse.load(model.save(folder.parent / "again"))
    clip = _clip(1.3)
    assert torch.equal(model.enhance(clip).speech, again.enhance(clip).speech)
    speech = model.enhance(clip).speech
    size = (folder / "model.safetensors").stat().st_size
    for bits, error, share in ((16, 1e-3, 0.6), (8, 3e-2, 0.4)):
        smaller = avse.load(model.save(folder.parent / str(bits), bits=bits))
        assert next(smaller.system.parameters()).dtype == torch.float32
        assert (folder.parent / str(bits) / "model.safetensors").stat().st_size < share * size
        assert (smaller.enhance(clip).speech - speech).norm() < error * speech.norm()
    with pytest.raises(AvseError, match="not in 4"):
        model.save(folder.parent / "4", bits=4)


def test_a_clip_within_one_chunk_is_the_whole_clip_and_chunks_join_without_a_seam(folder: Path) -> None:
    model, clip = avse.load(folder), _clip(7.77)
    whole = model.enhance(clip, chunk_seconds=100)
    assert torch.equal(whole.speech, model.enhance_batch([clip])[0].speech)
    chunked = model.enhance(clip, chunk_seconds=4)
    assert chunked.speech.shape == whole.speech.shape == (len(clip.audio),)
    assert chunked.reliability.shape == whole.reliability.shape == clip.valid.shape
    assert torch.allclose(chunked.speech + chunked.noise, torch.from_numpy(clip.audio), atol=1e-5)
    # The level is that of the chunk, so the two differ a little, and nowhere much.
    assert float((chunked.speech - whole.speech).abs().max()) < 0.05 * float(whole.speech.abs().max())


def test_a_batch_gives_what_its_clips_give(folder: Path) -> None:
    model = avse.load(folder)
    clips = [_clip(1.0, 1), _clip(0.51, 2).without_video(), _clip(1.77, 3)]
    for clip, together in zip(clips, model.enhance_batch(clips)):
        alone = model.enhance(clip)
        assert torch.allclose(alone.speech, together.speech, atol=1e-5)
        assert torch.allclose(alone.reliability, together.reliability, atol=1e-5)


def test_without_valid_video_the_result_is_audio_only_bit_for_bit(folder: Path) -> None:
    model, clip = avse.load(folder), _clip(1.0)
    clip.valid[:] = False
    assert torch.equal(model.enhance(clip).speech, model.enhance(clip, use_video=False).speech)
    assert float(model.enhance(clip).reliability.max()) == 0.0


@pytest.mark.parametrize("name", ["avse-small", "av-vae", "av-separator", "av-diffusion-small"])
@pytest.mark.parametrize("severity", [1, 5])
def test_a_null_picture_gives_what_no_picture_gives_bit_for_bit(name: str, severity: int) -> None:
    short = {"av-vae": {"inference.iterations": 2}, "av-diffusion-small": {"inference.sampler.steps": 2}}
    model, clip = avse.load(name, overrides=short.get(name)), _clip(0.5)
    spoil = plugins.get("corruption", "null")(severity)
    mouth, valid = spoil(clip.mouth, clip.valid, np.random.default_rng(0))
    null = avse.Clip(clip.audio, mouth, valid)
    assert valid.any() and torch.equal(model.enhance(null).speech, model.enhance(clip, use_video=False).speech)
    assert float(model.enhance(null).reliability.max()) == 0.0
    assert not torch.equal(model.enhance(clip).speech, model.enhance(null).speech)


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_array_that_cannot_be_written_is_taken_without_a_warning(folder: Path) -> None:
    audio = np.frombuffer((0.1 * np.random.default_rng(0).standard_normal(3200)).astype("<f4").tobytes(), "<f4")
    model = avse.load(folder)
    for mix in (1.0, 0.5):
        assert torch.equal(model.enhance(audio, mix=mix).speech, model.enhance(audio.copy(), mix=mix).speech)


def test_arrays_tensors_and_rates(folder: Path) -> None:
    model = avse.load(folder)
    sound = 0.1 * np.random.default_rng(0).standard_normal(4800)
    by_array = model.enhance(sound).speech
    assert torch.equal(by_array, model.enhance(torch.from_numpy(sound)).speech)
    assert model.enhance(sound, sample_rate=48000).speech.shape == (1600,)
    reference = torch.from_numpy(sound.astype(np.float32))
    for same in (sound.tolist(), sound[None], sound[:, None], reference.requires_grad_()):
        assert torch.equal(by_array, model.enhance(same).speech)
    near = {
        "float16": sound.astype(np.float16),
        "bfloat16": reference.bfloat16(),
        "int16": np.round(sound * 2**15).astype(np.int16),
        "int32": np.round(sound * 2**31).astype(np.int32),
        "uint8": np.round(sound * 2**7 + 2**7).astype(np.uint8),
    }
    for name, samples in near.items():  # 8 bits are a step of 1 / 128
        assert torch.allclose(model.enhance(samples).speech, by_array, atol=0.02 if name == "uint8" else 2e-3), name


WRONG = {
    "two channels": np.zeros((2, 100)),
    "nothing": np.zeros(0),
    "NaN": np.array([0.0, np.nan]),
    "an empty clip": Clip(np.zeros(0)),
    "a clip with infinity": Clip(np.full(640, np.inf)),
    "clips": [Clip(np.zeros(640))] * 2,
    "arrays": [np.zeros(640), np.zeros(3)],
    "paths": ["a.wav", "b.wav"],
    "a generator": (value for value in (0.0, 0.1)),
    "complex": np.zeros(640, complex),
    "64 bits": np.zeros(640, int),
    "bool": np.zeros(640, bool),
    "None": None,
    "a dictionary": {"audio": 1},
    "a number": 3.0,
    "no media": b"no media",
    "no data": torch.zeros(640, device="meta"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_audio_is_refused_in_words(folder: Path, what: str) -> None:
    with pytest.raises(AvseError):
        avse.enhance(WRONG[what], model=folder)  # type: ignore[arg-type]


def test_arguments_out_of_their_range_are_refused_in_words(folder: Path) -> None:
    model, sound = avse.load(folder), np.zeros(640, np.float32)
    for rate in (0, -1, float("nan"), "16k", 1):
        with pytest.raises(AvseError, match="sample_rate"):
            model.enhance(sound, sample_rate=rate)  # type: ignore[arg-type]
    for seconds in (0, -1, float("nan"), 0.5):
        with pytest.raises(AvseError, match="chunk_seconds"):
            model.enhance(sound, chunk_seconds=seconds)
    with pytest.raises(TypeError, match="vide; valid: .*video"):
        model.enhance(sound, vide="talk.mp4")  # type: ignore[call-arg]
    for wrong in (sound, [None]):
        with pytest.raises(AvseError, match="stream takes chunks"):
            list(model.stream(wrong))  # type: ignore[arg-type]
    with pytest.raises(AvseError, match="names no model"):
        avse.load(None)  # type: ignore[arg-type]


def test_media_are_paths_bytes_and_open_files(folder: Path, tmp_path: Path) -> None:
    model, path = avse.load(folder), tmp_path / "talk.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
    by_path = model.enhance(path).speech
    with path.open("rb") as file:
        sources = [str(path), path.read_bytes(), memoryview(path.read_bytes()), io.BytesIO(path.read_bytes()), file]
        for source in sources:
            assert torch.equal(model.enhance(source).speech, by_path)  # type: ignore[arg-type]
    assert len(avse.read_clip(path.read_bytes()).audio) == 8000
    assert avse.separate(path.read_bytes(), model=model, others=2).speech.shape == (2, 8000)
    with path.open(encoding="latin-1") as text, pytest.raises(AvseError, match="mode 'rb'"):
        model.enhance(text)  # type: ignore[arg-type]


def test_a_batch_takes_what_enhance_takes(folder: Path, tmp_path: Path) -> None:
    model, clip = avse.load(folder), _clip(0.3)
    soundfile.write(tmp_path / "talk.wav", clip.audio, 16000, subtype="FLOAT")
    sources = [clip, clip.audio, str(tmp_path / "talk.wav"), torch.from_numpy(clip.audio)]
    together = model.enhance_batch(source for source in sources)  # type: ignore[misc]
    for source, estimate in zip(sources, together, strict=True):
        assert torch.allclose(model.enhance(source).speech, estimate.speech, atol=1e-6)
    assert model.enhance_batch([]) == []
    for single in (clip, "talk.wav", b"RIFF"):
        with pytest.raises(AvseError, match="One clip goes to enhance"):
            model.enhance_batch(single)  # type: ignore[arg-type]


def test_a_model_by_name_is_loaded_once_and_never_one_that_was_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avse import api

    loads: list[tuple] = []
    load = api.load
    monkeypatch.setattr(api, "load", lambda *arguments: loads.append(arguments) or load(*arguments))
    monkeypatch.setattr(api, "_cache", {})
    clip = _clip(0.4)
    first = avse.enhance(clip, model=folder).speech
    assert torch.equal(avse.enhance(clip, model=str(folder)).speech, first) and len(loads) == 1
    shorter = {"model.context": 10}
    for _ in range(2):
        assert not torch.equal(avse.enhance(clip, model=folder, overrides=shorter).speech, first)
    assert len(loads) == 2
    mine = avse.load(folder)
    with torch.no_grad():
        next(mine.system.parameters()).add_(1.0)
    assert torch.equal(avse.enhance(clip, model=folder).speech, first) and len(loads) == 2
    assert not torch.equal(avse.enhance(clip, model=mine).speech, first)
    mine.save(folder)
    assert torch.equal(avse.enhance(clip, model=folder).speech, mine.enhance(clip).speech) and len(loads) == 3
    with pytest.raises(AvseError, match=r"avse\.load"):
        avse.enhance(clip, model=mine, overrides=shorter)


def test_devices_that_are_not_there_are_refused_in_words(folder: Path) -> None:
    model = avse.load(folder, device="auto")
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    for wrong in ("cuda:99", "mps", "xyz", "meta", None):
        with pytest.raises(AvseError, match="Choose auto"):
            model.to(wrong)
        with pytest.raises(AvseError, match="Choose auto"):
            avse.load(folder, device=wrong)


@pytest.mark.parametrize("name", ["avse-small", "av-vae", "av-separator", "av-diffusion-small"])
def test_a_model_prints_in_a_few_lines_what_it_is(name: str) -> None:
    model = avse.load(name)
    lines = str(model).splitlines()
    assert len(lines) <= 10 and lines[0] == name
    for word in ("task ", "plugins ", "parameters ", "licence "):
        assert any(line.startswith(word) for line in lines)
    assert f"{type(model.system).plugin_kind}/{type(model.system).plugin_name}" in str(model)
    assert len(repr(model)) < 100


def test_weights_for_research_only_say_so_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    avse.model._say_licence.cache_clear()
    for name in ("av-vae", "av-vae", folder):
        model = avse.load(name)
    assert model.licence == "licence not stated"
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("av-vae: research use only: ")


def test_embedded_models_are_listed_with_their_licence(avse_command: Callable) -> None:
    outcome = avse_command("models")
    assert outcome.status == 0
    for name, about in model_folder.embedded().items():
        assert name in outcome.out and ("research use only" in about["licence"]) == (name != "avse-free")
        assert "kind" in about or about["cost"]["rtf"] > 0
    assert json.loads(avse_command("models", "--json").out) == model_folder.embedded()


def test_what_does_not_load_says_why(folder: Path) -> None:
    with pytest.raises(AvseError, match="avse-smal"):
        avse.load("avse-smal")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AvseError, match="altered"):
        avse.load(folder)
    weights.unlink()
    with pytest.raises(AvseError, match="missing"):
        avse.load(folder)
    (folder.parent / "elsewhere").mkdir()
    with pytest.raises(AvseError, match="not a model folder"):
        avse.load(folder.parent / "elsewhere")


def _rewrite_recipe(folder: Path, old: str, new: str) -> None:
    """Change a model's recipe, and its hash too, as somebody who wants to harm would."""
    import hashlib

    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace(old, new))
    description = json.loads((folder / "model.json").read_text())
    description["sha256"]["recipe.yaml"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))


def test_weights_of_another_shape_are_listed(folder: Path) -> None:
    _rewrite_recipe(folder, "channels: 16", "channels: 16\n    kernel_size: 5")
    with pytest.raises(AvseError, match="depthwise.weight"):
        avse.load(folder)


def test_a_recipe_that_names_anything_but_plugins_is_refused(folder: Path) -> None:
    _rewrite_recipe(folder, "context: 20", "context: !apply:os.system [touch hacked]")
    with pytest.raises(AvseError, match=r"os\.system"):
        avse.load(folder)
    assert not Path("hacked").exists()


def test_a_model_that_was_replaced_is_found_by_its_old_name() -> None:
    with pytest.warns(OldName, match="avse-faces is now called avse-small"):
        assert avse.load("avse-faces").name == "avse-small"


@pytest.mark.parametrize("name", ["avse-small", "av-separator"])
def test_what_is_let_through_is_as_loud_as_it_was(name: str) -> None:
    """The mask of a clean clip saturates at 1.5; the estimate does not."""
    clip = _clip(1.0)
    speech = avse.load(name).enhance(clip, use_video=False).speech
    noisy = torch.as_tensor(clip.audio)
    assert float((speech * noisy).sum() / noisy.square().sum()) < 1.0
    assert float((speech * (noisy - speech)).sum()) > -1e-3 * float(noisy.square().sum())


def test_the_speaking_probability_is_told_by_video_frame() -> None:
    estimate = avse.load("avse-small").enhance(_clip(1.0))
    assert estimate.speaking is not None and estimate.speaking.shape == estimate.reliability.shape
    assert float(estimate.speaking.min()) > 0 and float(estimate.speaking.max()) < 1
