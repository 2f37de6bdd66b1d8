"""`--face speaking`: of several faces, the one whose lips go with the audio is followed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from avse.contracts.types import Batch, Estimate
from avse.data.synthetic.recording import write_video
from avse.datasets.synthetic import synthesize_clip
from avse.jobs.enhance import enhance_file
from avse.jobs.faces import SeenFace, speaking_face
from avse.model import Model


class MovingLips(torch.nn.Module):
    """Takes a mouth that moves for one that speaks; says so as `speaking`, or as the reliability alone."""

    def __init__(self, tells: bool) -> None:
        super().__init__()
        self.tells = tells

    def forward(self, batch: Batch) -> Estimate:
        change = batch.mouth.float().diff(dim=1, prepend=batch.mouth[:, :1].float()).abs().mean(dim=(2, 3))
        valid = batch.valid.float()
        moves = (change / change.amax().clamp(min=4.0)) * valid
        reliability = valid if self.tells else moves
        speaking = moves if self.tells else None
        return Estimate(batch.noisy, 0 * batch.noisy, reliability, batch.lengths, speaking=speaking)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A face that talks, on the left and on the right of a face that is still; and the first face alone."""
    folder = tmp_path_factory.mktemp("films")
    audio, talks, _ = synthesize_clip(seed=5, speaker=8, seconds=1.2)
    still = np.repeat(synthesize_clip(seed=5, speaker=3, seconds=0.6)[1][:1], len(talks), axis=0)
    shown = {"left": [talks, still], "right": [still, talks], "alone": [talks]}
    for name, faces in shown.items():
        write_video(folder / f"{name}.mp4", np.concatenate(faces, axis=2), audio)
    return {name: folder / f"{name}.mp4" for name in shown}


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_face_that_talks_is_followed(side: str, tells: bool, films: dict[str, Path], tmp_path: Path) -> None:
    model = Model(MovingLips(tells), "", "moving-lips")
    report = enhance_file(model, films[side], tmp_path / "out.wav", face="speaking")
    assert report.face == side and [face.name for face in report.faces] == ["left", "right"]
    followed = report.faces[("left", "right").index(side)]
    assert followed.score > 2 * min(face.score for face in report.faces)
    assert report.reliability == followed.reliability and report.speaking == followed.speaking
    assert (report.speaking is not None) == tells and report.timings["choose"] > 0
    for place, face in enumerate(report.faces):
        assert place / 2 <= face.box[0] and face.box[0] + face.box[2] <= (place + 1) / 2
        assert len(face.reliability) == len(report.reliability)
        expected = np.array(face.reliability) * (np.array(face.speaking) if tells else 1)
        assert face.score == pytest.approx(expected.mean(), abs=1e-3)
    assert json.loads(json.dumps(asdict(report)))["faces"][0]["name"] == "left"


def test_one_face_and_none_are_enhanced_as_ever(films: dict[str, Path], tmp_path: Path) -> None:
    model = Model(MovingLips(True), "", "moving-lips")
    for reading, valid in (({}, True), ({"use_video": False}, False)):
        report = enhance_file(model, films["alone"], tmp_path / "out.wav", face="speaking", **reading)
        assert report.face is None and not report.faces and (report.valid_share > 0.9) == valid


def test_of_equal_scores_the_larger_face() -> None:
    faces = [SeenFace(name, [0.0, 0.0, size, size], 0.0, [], None) for name, size in (("left", 0.2), ("right", 0.3))]
    assert speaking_face(faces) == 1 and speaking_face([]) == "largest"
