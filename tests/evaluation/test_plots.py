"""Pictures say what the data say."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.signal import ShortTimeFFT, get_window

from avse.errors import AvseError
from avse.evaluation import plot_estimate
from avse.evaluation.plots.figure import save

RATE = 16_000


def test_spectrograms_share_scale_and_time(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    noisy = 0.5 * np.sin(2 * np.pi * 1000 * time)
    before = dict(matplotlib.rcParams)
    valid = np.ones(50, bool)
    valid[10:20] = valid[40:] = False
    path = tmp_path / "clip.png"
    figure = plot_estimate(path, noisy, 0.1 * noisy, noisy[:RATE], np.linspace(0, 1, 50), valid, title="A clip")
    assert dict(matplotlib.rcParams) == before
    height, width, _ = imread(path).shape
    assert width > 1200 and height > 800
    names = [axes.get_title(loc="left") for axes in figure.axes]
    assert names[:4] == ["noisy", "enhanced", "clean", "reliability of the video"]
    images = [axes.images[0] for axes in figure.axes[:3]]
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_extent() == [0, 2, 0, 8] and images[2].get_extent() == [0, 1, 0, 8]
    assert all(axes.get_xlim() == (0, 2) for axes in figure.axes[:4])
    loud, quiet = (np.asarray(image.get_array()) for image in images[:2])
    assert loud.max() - quiet.max() == pytest.approx(20, abs=1e-3)
    transform = ShortTimeFFT(get_window("hann", 512), 80, RATE, phase_shift=None)
    expected = 20 * np.log10(np.abs(transform.stft(noisy)).max())
    assert loud.max() == pytest.approx(expected, abs=0.1)
    assert loud.max(axis=1).argmax() == 32  # 1000 Hz at 31.25 Hz a bin
    assert len(figure.axes[3].patches) == 4  # a filled curve, its outline, two gaps


def test_a_long_sound_does_not_make_a_large_picture() -> None:
    figure = plot_estimate(None, np.random.default_rng(0).standard_normal(100 * RATE), np.zeros(100 * RATE))
    assert np.asarray(figure.axes[0].images[0].get_array()).shape[1] < 3000


def test_silence_and_single_samples_can_be_drawn(tmp_path: Path) -> None:
    plot_estimate(tmp_path / "a.png", np.zeros(1), np.zeros(1), reliability=np.zeros(1), valid=np.zeros(1, bool))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_an_unknown_format_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AvseError, match=r"\.png, \.pdf, \.svg"):
        plot_estimate(tmp_path / "a.xyz", np.ones(800), np.ones(800))
    assert not list(tmp_path.iterdir())


def test_letters_that_the_font_lacks_are_no_warning(tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("声音")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
