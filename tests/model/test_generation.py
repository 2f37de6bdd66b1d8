"""Speech drawn from lips, the measure of what lips say, and features: in Python and on the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import avse
from avse import plugins
from avse.api import embed
from avse.errors import AvseError
from avse.evaluation.studies.lips import envelope, measure_lips
from avse.model import Model, load

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "model.size": "tiny",
    "visual_frontend.output_dim": 8,
    "visual_frontend.channels": [4],
    "inference.sampler.steps": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, its fusions stirred so that the video matters."""
    from avse.conformance.modules import perturb
    from avse.recipe import load_recipe

    recipe = load_recipe(ROOT / "recipes" / "Synthetic" / "diffusion" / "hparams" / "av_diffusion.yaml", SMALL)
    system = recipe.build("inference")["inference"]
    perturb(system, 0.1)
    return Model(system, recipe.subrecipe("inference"), "tiny").save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = plugins.get("dataset", "synthetic")(clips=8, speakers=8, noises=3, seconds=(0.7, 0.8), noise_seconds=1.0)
    return made.prepare(tmp_path_factory.mktemp("corpus"))


def clip(samples: int = 6400) -> avse.Clip:
    rng = np.random.default_rng(0)
    mouth = rng.integers(0, 256, (-(-samples // 640), 88, 88), dtype=np.uint8)
    return avse.Clip(rng.normal(0, 0.1, samples), mouth)


def test_a_draw_follows_from_lips_length_and_seed(folder: Path) -> None:
    model, seen = load(folder), clip()
    drawn = model.generate(seen, seed=1, steps=2)
    assert drawn.shape == (6400,) and drawn.dtype == np.float32 and np.isfinite(drawn).all()
    silent = avse.Clip(np.zeros(6400), seen.mouth)
    assert np.array_equal(drawn, model.generate(silent, seed=1, steps=2))  # the sound is not looked at
    assert not np.array_equal(drawn, model.generate(seen, seed=2, steps=2))
    unseen = model.generate(seen, seed=1, steps=2, use_video=False)
    assert not np.array_equal(drawn, unseen)
    assert np.array_equal(unseen, model.generate(seconds=0.4, seed=1, steps=2))
    assert np.array_equal(unseen, model.generate(seen, seed=1, steps=2, guidance=-1.0))
    assert len(model.generate(seen, seconds=0.1, steps=1, sampler="dpm_solver")) == 1600
    assert model.system.prior.guidance == 0.0
    by_name = avse.generate(seen, model=folder, seed=1, steps=2)
    assert np.array_equal(by_name, drawn)
    for old_order in (model, str(folder)):
        with pytest.warns(FutureWarning, match=r"generate\(source, model=model\)"):
            assert np.array_equal(avse.generate(old_order, seen, seed=1, steps=2), drawn)


def test_mistakes_of_generation(folder: Path) -> None:
    with pytest.raises(AvseError, match="--seconds"):
        load(folder).generate()
    with pytest.raises(AvseError, match="avse-small has no diffusion prior"):
        avse.generate(seconds=1.0, model="avse-small")


def test_features_are_of_frames(folder: Path, tmp_path: Path) -> None:
    model, seen = load(folder), clip(6000)
    found = embed(seen, model=model)
    assert found["features"].shape == (10, 32) and found["visual"].shape == (10, 8) and found["valid"].all()
    other = avse.Clip(seen.audio, 255 - seen.mouth)
    assert not np.allclose(found["features"], model.embed(other)["features"])
    assert model.embed(seen, use_video=False)["visual"].shape == (10, 0)
    assert np.allclose(found["features"], model.embed(avse.Clip(10 * seen.audio, seen.mouth))["features"], atol=1e-4)


def test_commands(folder: Path, talk: Path, tmp_path: Path, avse_command: Callable) -> None:
    outcome = avse_command(
        "generate", talk, "--model", folder, "-o", tmp_path / "drawn.wav", "--steps", 2, "--seconds", 0.5,
        "--plot", tmp_path / "drawn.png",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert soundfile.info(tmp_path / "drawn.wav").frames == 8000 and (tmp_path / "drawn.png").stat().st_size > 5000
    outcome = avse_command("embed", talk, "--model", folder, "-o", tmp_path / "talk.npz")
    assert outcome.status == 0, outcome.err
    assert np.load(tmp_path / "talk.npz")["features"].shape[1] == 32
    assert "to .wav" in avse_command("generate", "--seconds", 1, "--model", folder, "-o", "x.mp4").message
    few = ["--model", folder, "--steps", 2]
    outcome = avse_command("generate", "--seconds", 0.5, *few, "-o", tmp_path / "drawn.ogg")
    assert outcome.status == 0 and soundfile.info(tmp_path / "drawn.ogg").duration == 0.5
    # Nobody is drawn from a file that shows nobody, unless this is asked for.
    message = avse_command("generate", tmp_path / "drawn.ogg", *few, "-o", tmp_path / "nobody.wav").message
    assert "no mouth is seen" in message and not (tmp_path / "nobody.wav").exists()
    with pytest.raises(avse.AvseError, match="no mouth is seen"):
        avse.load(folder).generate(tmp_path / "drawn.ogg", steps=2)
    outcome = avse_command("generate", tmp_path / "drawn.ogg", *few, "--no-video", "-o", tmp_path / "any.wav")
    assert outcome.status == 0, outcome.err
    assert ".npz" in avse_command("embed", talk, "--model", folder, "-o", tmp_path / "talk.txt").message


def test_lips_are_measured(folder: Path, manifest: Path, tmp_path: Path) -> None:
    found = measure_lips(
        folder, manifest, tmp_path / "out", splits=["train"], limit=3, seconds=0.6, rivals=3, draws=2, steps=2
    )
    assert found["clips"] == 3 and found["chance"] == pytest.approx(1 / 3)
    assert set(found["scores"]) == set(found["meaning"]) >= {"misfit_right", "misfit_null", "found", "envelope_right"}
    with open(tmp_path / "out" / "lips.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and 1 <= float(rows[0]["rank"]) <= 3
    assert json.loads((tmp_path / "out" / "lips.json").read_text())["scores"] == found["scores"]
    with pytest.raises(AvseError, match="fewer than two clips"):
        measure_lips(folder, manifest, tmp_path / "no", splits=["train"], seconds=9.0)


def test_features_are_probed(folder: Path, manifest: Path, tmp_path: Path, avse_command: Callable) -> None:
    options = ["--train", "train", "--test", "train", "--words", 1, "--segments", 2, "--limit", 3]
    done = avse_command("study", "probe", "--model", folder, "--manifest", manifest, "-o", tmp_path / "out", *options)
    assert done.status == 0 and "front-end" in done.out
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert found["clips"] == {"train": 3, "test": 3} and set(found["scores"]) == set(found["places"])


def test_a_prior_that_knows_the_right_lips_finds_every_utterance(manifest: Path, tmp_path: Path, monkeypatch) -> None:
    """A stand-in whose loss falls where sound and mouth belong together."""
    import torch

    from avse.evaluation.studies import lips

    class Knows:
        visual_frontend = True
        known: dict[float, float] = {}

        def denoising_losses(self, batch, draws, seed):
            pairs = zip(batch.noisy.sum(1).tolist(), batch.mouth.double().mean((1, 2, 3)).tolist(), batch.valid.any(1))
            right = [bool(seen) and self.known.get(sound) == mouth for sound, mouth, seen in pairs]
            return torch.tensor([0.5 if one else 1.0 for one in right])

    prior = Knows()
    monkeypatch.setattr(
        lips, "load", lambda model, device: type("Model", (), {"device": "cpu", "name": "x", "system": None})
    )
    monkeypatch.setattr(lips, "diffusion_prior", lambda system, name, sees: prior)
    whole = lips._middles

    def remembered(*arguments):
        clips, owners = whole(*arguments)
        for one in clips:
            batch = avse.Batch.from_clips([one])
            prior.known[batch.noisy.sum(1).item()] = batch.mouth.double().mean((1, 2, 3)).item()
        return clips, owners

    monkeypatch.setattr(lips, "_middles", remembered)
    found = measure_lips("x", manifest, tmp_path, splits=["train"], limit=3, seconds=0.6, rivals=3, samples=0)
    means = {name: score["mean"] for name, score in found["scores"].items()}
    assert means == {"misfit_right": 0.5, "misfit_shuffled": 1.0, "misfit_null": 1.0, "rank": 1.0, "found": 1.0}


def test_envelopes_are_levels_of_frames() -> None:
    sound = np.concatenate([np.full(640, 10.0 ** (-level / 20)) for level in (0, 6, 90)])
    assert envelope(sound) == pytest.approx([0.0, -6.0, -50.0])


def test_a_film_without_sound_will_do(folder: Path, talk: Path, tmp_path: Path) -> None:
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    mute = tmp_path / "mute.mp4"
    write_video(mute, synthesize_clip(seed=5, speaker=12, seconds=1.2)[1])  # the pictures of `talk`
    model = avse.load(folder)
    drawn = model.generate(mute, steps=2)
    heard = model.generate(talk, steps=2)
    assert abs(len(drawn) - len(heard)) < 1000
    size = min(len(drawn), len(heard)) - 1000
    assert drawn.any() and size > 8000
    with pytest.raises(avse.AvseError, match="no audio"):
        avse.enhance(mute)
