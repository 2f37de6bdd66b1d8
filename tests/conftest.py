"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Started in the background by a script, the tests ignore Ctrl-C, and so would all that they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
if hasattr(signal, "SIGHUP"):  # it is ignored under nohup, and commands that tests start would inherit that
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

TINY_RECIPE = """\
visual_frontend: !new:avse.plugins.visual_frontend.pixel_mlp
    output_dim: 8
    hidden_dim: 16
    size: 22
fusion: !new:avse.plugins.fusion.reliability_attention
    audio_dim: 16
    video_dim: 8
model: !new:avse.plugins.enhancer.tf_masker
    visual_frontend: !ref <visual_frontend>
    fusion: !ref <fusion>
    channels: 16
    blocks: 2
    fusion_block: 1
    heads: 2
"""


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real clips: `AVSE_DATA`, or `../shared/data` beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("AVSE_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no real clips: {folder}/manifest.csv is missing (set AVSE_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small random network that uses the video."""
    import torch

    from avse.model import Model
    from avse.recipe import load_recipe

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "recipe.yaml").write_text(TINY_RECIPE, encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = load_recipe(folder / "recipe.yaml").build("model")["model"]
    return Model(system, TINY_RECIPE, "tiny").save(folder / "model")


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic talking face with sound, 1.2 s, H.264 and AAC. Copy it before changing anything."""
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip

    audio, frames, _ = synthesize_clip(seed=5, speaker=12, seconds=1.2)
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    write_video(path, frames, audio)
    return path


@dataclass
class Outcome:
    """What a command left behind: exit status, what it printed, and what it wrote on stderr."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The message of a mistake, without line breaks; fails where there is a traceback or anything else."""
        assert self.status == 1, f"exit status {self.status}\n{self.out}{self.err}"
        assert self.err.startswith("Error: ") and "Traceback" not in self.err + self.out, self.err
        return " ".join(self.err.split())


@pytest.fixture(scope="session")
def avse_command() -> Callable[..., Outcome]:
    """Runs `avse ARGUMENTS...` in this process."""
    from typer.testing import CliRunner

    from avse.cli.app import app

    def run(*arguments: object) -> Outcome:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run
