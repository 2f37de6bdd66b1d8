"""The checks find planted faults: a plugin that breaks one promise fails the check of that promise."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avse.contracts.checks import NotApplicable, build, checks_of, run_check, run_checks
from avse.contracts.corruption import Corruption
from avse.contracts.dataset import Dataset
from avse.contracts.enhancer import Enhancer
from avse.contracts.fusion import Fusion
from avse.contracts.metric import Metric
from avse.contracts.types import Batch, Estimate, video_frames
from avse.contracts.visual_frontend import VisualFrontend
from avse.errors import AvseError


def failed(cls: type, kind: str) -> set[str]:
    return {result.check.name for result in run_checks(cls, kind) if not result.passed}


# --- fusion ---------------------------------------------------------------------------------------------------------


class GoodFusion(Fusion):
    """Adds a projection of the video.

    Arguments
    ---------
    audio_dim, video_dim : int
    """

    causal = True

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.layer = nn.Linear(video_dim, audio_dim)

    def delta(self, audio, video, valid):
        """See `Fusion.delta`."""
        return self.layer(video), audio.new_ones(audio.shape[:2])


class GatedBeforeNorm(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def forward(self, audio, video, valid):
        video = torch.where(valid[..., None], video, torch.zeros_like(video))
        return audio + self.layer(video), valid.to(audio.dtype)  # the bias is added without video too


class ReadsInvalid(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def forward(self, audio, video, valid):
        if not valid.any():
            return audio, torch.zeros_like(audio[..., 0])
        delta = self.layer(video.mean(dim=1, keepdim=True).expand_as(video))
        return torch.where(valid[..., None], audio + delta, audio), valid.to(audio.dtype)


class AveragesOverTime(GoodFusion):
    """Claims to be causal and looks at the whole clip, padding included.

    Arguments
    ---------
    audio_dim, video_dim : int
    """

    def delta(self, audio, video, valid):
        return self.layer(video.mean(dim=1, keepdim=True).expand_as(video)), audio.new_ones(audio.shape[:2])


class Unbounded(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def delta(self, audio, video, valid):
        return self.layer(video), video.mean(dim=2)


class IdleLayer(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.unused = nn.Linear(2, 2)


class FixedSize(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.layer = nn.Linear(6, 8)


class Single(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def delta(self, audio, video, valid):
        return self.layer(video.float()), audio.new_ones(audio.shape[:2])


class Random(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def delta(self, audio, video, valid):
        return self.layer(video) + torch.randn_like(audio), audio.new_ones(audio.shape[:2])


class Forgets(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def __init__(self, audio_dim: int, video_dim: int) -> None:
        super().__init__(audio_dim, video_dim)
        self.scale = torch.rand(())  # neither a parameter nor a buffer

    def delta(self, audio, video, valid):
        return self.scale * self.layer(video), audio.new_ones(audio.shape[:2])


class Explodes(GoodFusion):
    __doc__ = GoodFusion.__doc__

    def delta(self, audio, video, valid):
        return self.layer(video).exp(), audio.new_ones(audio.shape[:2])


class Undocumented(GoodFusion):
    pass


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (GatedBeforeNorm, "no_video_is_audio_only"),
        (ReadsInvalid, "invalid_steps_ignored"),
        (AveragesOverTime, "padding"),
        (AveragesOverTime, "causal"),
        (Unbounded, "reliability"),
        (IdleLayer, "gradients"),
        (FixedSize, "shapes"),
        (Single, "precision"),
        (Random, "repeatable"),
        (Forgets, "weights_round_trip"),
        (Explodes, "hostile_input"),
        (Undocumented, "documented"),
    ],
)
def test_faults_of_a_fusion_are_found(cls: type, check: str) -> None:
    assert check in failed(cls, "fusion")


def test_a_good_fusion_passes() -> None:
    assert failed(GoodFusion, "fusion") == set()


# --- visual front-end -----------------------------------------------------------------------------------------------


class GoodFrontend(VisualFrontend):
    """Mean of the upper and of the lower half, through a layer.

    Arguments
    ---------
    output_dim : int
    """

    causal = True

    def __init__(self, output_dim: int = 4) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.layer = nn.Linear(2, output_dim)

    def halves(self, mouth):
        return torch.stack([mouth[:, :, :44].mean((2, 3)), mouth[:, :, 44:].mean((2, 3))], dim=2)

    def features(self, mouth, valid):
        """See `VisualFrontend.features`."""
        return self.layer(self.halves(mouth))


class LooksAhead(GoodFrontend):
    __doc__ = GoodFrontend.__doc__

    def features(self, mouth, valid):
        return self.layer(self.halves(mouth).roll(-1, dims=1))


class BatchStatistics(GoodFrontend):
    __doc__ = GoodFrontend.__doc__

    def features(self, mouth, valid):
        halves = self.halves(mouth)
        return self.layer(halves - halves.mean(dim=(0, 1), keepdim=True))


class KeepsInvalid(GoodFrontend):
    __doc__ = GoodFrontend.__doc__

    def forward(self, mouth, valid):
        return self.features(mouth.to(self.layer.weight.dtype) / 255, valid)


class Blind(GoodFrontend):
    __doc__ = GoodFrontend.__doc__

    def features(self, mouth, valid):
        return self.layer(torch.ones_like(self.halves(mouth)))


class NeedsThreeFrames(GoodFrontend):
    __doc__ = GoodFrontend.__doc__

    def features(self, mouth, valid):
        return self.layer(self.halves(mouth).unfold(1, 3, 1).mean(dim=3))


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (LooksAhead, "causal"),
        (LooksAhead, "padding"),
        (BatchStatistics, "padding"),
        (KeepsInvalid, "invalid_frames_ignored"),
        (Blind, "sees"),
        (NeedsThreeFrames, "shapes"),
    ],
)
def test_faults_of_a_front_end_are_found(cls: type, check: str) -> None:
    assert check in failed(cls, "visual_frontend")


def test_a_good_front_end_passes() -> None:
    assert failed(GoodFrontend, "visual_frontend") == set()


# --- enhancer -------------------------------------------------------------------------------------------------------


class GoodEnhancer(Enhancer):
    """A learned gain for each video frame, raised by the mouth's brightness where it is seen."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.light = nn.Parameter(torch.rand(())), nn.Parameter(torch.rand(()))

    def reliability(self, batch):
        return batch.valid.to(batch.noisy.dtype)

    def brightness(self, batch):
        return batch.mouth.to(batch.noisy.dtype).mean(dim=(2, 3)) / 255

    def scale(self, batch):
        return self.gain + self.light * self.reliability(batch) * self.brightness(batch)

    def forward(self, batch: Batch) -> Estimate:
        """See `Enhancer.forward`."""
        samples = batch.noisy.shape[1]
        speech = batch.noisy * self.scale(batch).repeat_interleave(640, dim=1)[:, :samples]
        speech = speech * (torch.arange(samples) < batch.lengths[:, None])
        return Estimate(speech, batch.noisy - speech, self.reliability(batch), batch.lengths)


class NormalisesTheBatch(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def scale(self, batch):
        return super().scale(batch) / (1e-3 + batch.noisy.abs().amax())


class MeansOverPadding(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def scale(self, batch):
        return super().scale(batch) / (1e-3 + batch.noisy.abs().mean(dim=1, keepdim=True))


class SeesUnseen(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def scale(self, batch):
        return self.gain + self.light * self.brightness(batch)


class Leaks(GoodEnhancer):
    """Trusts a clip by what others show."""

    def scale(self, batch):
        return self.gain + self.light * batch.valid.any().to(batch.noisy.dtype) * torch.ones_like(
            self.reliability(batch)
        )


class LosesNoise(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def forward(self, batch):
        estimate = super().forward(batch)
        estimate.noise = torch.zeros_like(estimate.noise)
        return estimate


class WholeClip(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def scale(self, batch):
        return super().scale(batch) + batch.noisy.square().sum(dim=1, keepdim=True)


class DividesBySilence(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__
    causal = False

    def scale(self, batch):
        return super().scale(batch) / batch.noisy.abs().amax(dim=1, keepdim=True)


class CutsShort(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def forward(self, batch):
        whole = super().forward(batch)
        samples = video_frames(batch.noisy.shape[1]) * 640 - 640
        return Estimate(whole.speech[:, :samples], whole.noise[:, :samples], whole.reliability, whole.lengths)


class TrustsPadding(GoodEnhancer):
    __doc__ = GoodEnhancer.__doc__

    def reliability(self, batch):
        return torch.ones_like(super().reliability(batch))


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (NormalisesTheBatch, "batch_equals_singles"),
        (MeansOverPadding, "padding"),
        (SeesUnseen, "no_video_is_audio_only"),
        (SeesUnseen, "invalid_frames_ignored"),
        (Leaks, "no_video_is_audio_only"),
        (LosesNoise, "sums_to_noisy"),
        (WholeClip, "causal"),
        (DividesBySilence, "hostile_input"),
        (CutsShort, "shapes"),
        (TrustsPadding, "reliability"),
        (TrustsPadding, "shapes"),
    ],
)
def test_faults_of_an_enhancer_are_found(cls: type, check: str) -> None:
    assert check in failed(cls, "enhancer")


def test_a_good_enhancer_passes() -> None:
    assert failed(GoodEnhancer, "enhancer") == set()


# --- corruption, metric, dataset ------------------------------------------------------------------------------------


class GoodCorruption(Corruption):
    """Darkens by chance.

    Arguments
    ---------
    severity : int
    """

    def __call__(self, mouth, valid, rng):
        """See `Corruption.__call__`."""
        return (mouth * rng.uniform(0, 1 / self.severity)).astype(np.uint8), valid.copy()


class InPlace(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        mouth[:] = 0
        return mouth, valid


class DropsFrames(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return mouth[1:], valid[1:]


class OwnChance(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return super().__call__(mouth, valid, np.random.default_rng())


class Nothing(GoodCorruption):
    def __call__(self, mouth, valid, rng):
        return mouth.copy(), valid.copy()


class AnySeverity(GoodCorruption):
    def __init__(self, severity: int = 3) -> None:
        self.severity = max(1, severity)


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (InPlace, "leaves_input"),
        (DropsFrames, "keeps_shapes"),
        (OwnChance, "repeatable"),
        (Nothing, "does_something"),
        (AnySeverity, "refuses_severity"),
    ],
)
def test_faults_of_a_corruption_are_found(cls: type, check: str) -> None:
    assert check in failed(cls, "corruption")


def test_a_good_corruption_passes() -> None:
    assert failed(GoodCorruption, "corruption") == set()


class Distance(Metric):
    """Mean absolute difference."""

    name, unit, higher_is_better = "distance", "", False

    def __call__(self, estimate, clean, noisy):
        """See `Metric.__call__`."""
        value = float(np.mean(np.abs(estimate - clean))) if len(clean) else float("nan")
        if not np.isfinite(value):
            raise AvseError("not defined")
        return value


class WrongSign(Distance):
    higher_is_better = True


class Array(Distance):
    def __call__(self, estimate, clean, noisy):
        return np.float32(super().__call__(estimate, clean, noisy))


class SaysNaN(Distance):
    def __call__(self, estimate, clean, noisy):
        return float(np.abs(estimate - clean).sum() / np.abs(clean).sum())


class Nameless(Distance):
    name = ""


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (WrongSign, "prefers_clean"),
        (Array, "returns_float"),
        (SaysNaN, "hostile_sounds"),
        (Nameless, "declares_itself"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_faults_of_a_metric_are_found(cls: type, check: str) -> None:
    assert check in failed(cls, "metric")


def test_a_good_metric_passes() -> None:
    assert failed(Distance, "metric") == set()


class Corpus(Dataset):
    """One sound for each file of a folder."""

    @classmethod
    def write_example(cls, folder: Path) -> None:
        (folder / "a.wav").write_bytes(b"")

    def files(self, folder: Path, manifest: Path) -> list[str]:
        import os

        return [os.path.relpath(path, manifest.parent) for path in sorted(folder.glob("*.wav"))]

    def prepare(self, folder, manifest=None):
        """See `Dataset.prepare`."""
        folder = Path(folder)
        manifest = Path(manifest or folder / "manifest.csv")
        files = self.files(folder, manifest)
        if not files:
            raise AvseError(f"{folder}: no .wav files")
        manifest.parent.mkdir(exist_ok=True)
        with manifest.open("w", newline="") as stream:
            csv.writer(stream).writerows([("id", "clean"), *((str(i), file) for i, file in enumerate(files))])
        return manifest


class AbsolutePaths(Corpus):
    def files(self, folder, manifest):
        return [str(path) for path in folder.glob("*.wav")]


class OldPaths(Corpus):
    def files(self, folder, manifest):
        return [path.name for path in folder.glob("*.wav")]


class EmptyIsFine(Corpus):
    def files(self, folder, manifest):
        return super().files(folder, manifest) or ["nothing.wav"]


@pytest.mark.parametrize(
    ("cls", "check"),
    [(AbsolutePaths, "writes_manifest"), (OldPaths, "chosen_manifest"), (EmptyIsFine, "refuses_empty_folder")],
)
def test_faults_of_a_dataset_are_found(cls: type, check: str) -> None:
    cls.write_example = Corpus.write_example
    assert check in failed(cls, "dataset")


def test_a_good_dataset_passes() -> None:
    assert failed(Corpus, "dataset") == set()


# --- the machinery --------------------------------------------------------------------------------------------------


def test_a_result_says_what_was_expected_found_and_how_to_mend_it() -> None:
    check = next(check for check in checks_of("fusion") if check.name == "gradients")
    text = str(run_check(check, IdleLayer))
    assert "FAIL  gradients" in text and "unused.weight, unused.bias" in text
    assert check.expected in text and check.mend in text


def test_an_exception_of_a_plugin_is_a_failure_with_its_place() -> None:
    class Raises(GoodFusion):
        def delta(self, audio, video, valid):
            raise KeyError("lips")

    check = next(check for check in checks_of("fusion") if check.name == "reliability")
    result = run_check(check, Raises)
    assert not result.passed and "KeyError: 'lips'" in result.found and "test_checks.py:" in result.found


def test_a_missing_optional_package_is_not_a_fault() -> None:
    class Needs(Distance):
        """Needs a package that is not there."""

        def __init__(self) -> None:
            raise AvseError("needs the package x, which is not installed")

    with pytest.raises(NotApplicable):
        build(Needs)
    assert failed(Needs, "metric") == set()


def test_checks_leave_the_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    run_checks(GoodFusion, "fusion")
    assert torch.equal(torch.rand(2), expected)
