"""A model through SpeechBrain's own interface, and its manifests and names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.inference.interfaces import Pretrained

import avse
from avse.data.manifest import read_manifest
from avse.errors import AvseError
from avse.integrations.speechbrain import AudioVisualEnhancement
from avse.recipe import load_recipe


@pytest.fixture(scope="module")
def noisy() -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((2, 8000))).float()


def test_relative_lengths_and_video(tiny_model: Path, noisy: torch.Tensor, tmp_path: Path) -> None:
    enhancer = AudioVisualEnhancement.from_hparams(str(tiny_model), savedir=str(tmp_path))
    model = avse.load(tiny_model)
    enhanced = enhancer.enhance_batch(noisy, lengths=torch.tensor([1.0, 0.5]))
    assert enhanced.shape == noisy.shape and not enhanced[1, 4000:].any()
    torch.testing.assert_close(enhanced[1, :4000], model.enhance_batch([noisy[1, :4000]])[0].speech)
    mouth = torch.randint(0, 255, (2, 13, 88, 88), dtype=torch.uint8)
    clip = avse.Clip(noisy[0].numpy(), mouth[0].numpy(), np.ones(13, bool))
    seen = enhancer.enhance_batch(noisy[:1], mouth=mouth[:1])
    torch.testing.assert_close(seen[0], model.enhance_batch([clip])[0].speech)
    unseen = enhancer.enhance_batch(noisy[:1], mouth=mouth[:1], valid=torch.zeros(1, 13, dtype=torch.bool))
    torch.testing.assert_close(unseen, enhancer.enhance_batch(noisy[:1]))
    with pytest.raises(AvseError, match="shape"):
        enhancer.enhance_batch(noisy[0])


def test_an_exported_folder_loads_with_speechbrain_alone(
    tiny_model: Path, talk: Path, tmp_path: Path, avse_command: Callable
) -> None:
    model, folder = avse.load(tiny_model), tmp_path / "exported"
    outcome = avse_command("export", tiny_model, folder, "--to", "speechbrain")
    assert outcome.status == 0 and "hyperparams.yaml" in outcome.out, outcome.err

    class Theirs(Pretrained):
        MODULES_NEEDED = ["system"]

    loaded = Theirs.from_hparams(source=str(folder), savedir=str(tmp_path / "saved"))
    ours = model.system.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in loaded.mods.system.state_dict().items())
    enhancer = AudioVisualEnhancement.from_hparams(source=str(folder), savedir=str(tmp_path / "saved"))
    speech = enhancer.enhance_file(talk, tmp_path / "out.wav")
    torch.testing.assert_close(speech, model.enhance(talk).speech)
    assert soundfile.info(tmp_path / "out.wav").samplerate == 16000


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_their_manifests_are_read(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600), 16000)
    path = tmp_path / f"valid.{kind}"
    if kind == "csv":
        lines = ["ID,duration,noisy_wav,clean_wav,spk_id,wrd", "u1,0.1,$data_root/a.wav,$data_root/b.wav,bob,HELLO"]
        path.write_text("\n".join(lines))
    else:
        entry = {"noisy_wav": "{data_root}/a.wav", "clean_wav": "{data_root}/b.wav", "length": 0.1, "spk_id": "bob"}
        path.write_text(json.dumps({"u1": {**entry, "words": "HELLO"}}))
    [row] = read_manifest(path)
    assert (row.id, row.split, row.speaker, row.text, row.duration) == ("u1", "dev", "bob", "HELLO", 0.1)
    assert (row.noisy.name, row.clean.name) == ("a.wav", "b.wav")
    path.write_text("[1" if kind == "json" else "ID,foo\n1,2\n")
    with pytest.raises(AvseError, match="no manifest of SpeechBrain|missing column"):
        read_manifest(path)


def test_their_names_are_answered_with_ours() -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes" / "Synthetic" / "hparams" / "tf_masker.yaml"
    with pytest.raises(AvseError, match="call number_of_epochs is called epochs here: --epochs VALUE"):
        load_recipe(recipe, {"number_of_epochs": 3})
