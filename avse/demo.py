"""`python -m avse.demo`: a synthetic noisy clip, enhanced from file to file, with scores and a plot.

It needs no data and no download. The video shows nothing for some frames, so that its reliability drops.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avse.errors import AvseError

if TYPE_CHECKING:
    from rich.table import Table

    from avse.jobs.enhance import Report

METRICS = ("si_sdr", "pesq_wb", "estoi")
_SECONDS, _SNR, _SEED, _SPEAKER, _NOISE = 4.0, -5.0, 2026, 9002, "white"
_HIDDEN = slice(50, 66)  # video frames that show nothing


@dataclass
class Demo:
    """What `run_demo` made: two videos, audio, spectrograms over the reliability of the video, and scores."""

    noisy: Path
    enhanced: Path
    clean: Path
    picture: Path
    before: dict[str, float]  # scores of the audio of the noisy video, by name of the metric
    after: dict[str, float]  # scores of the audio of the enhanced video
    report: Report  # of `avse enhance`


def run_demo(out: str | Path = "demo", model: str | Path = "avse-small") -> Demo:
    """Make a synthetic clip of a speaker, mix noise into it, enhance it from file to file, and score it.

    Arguments
    ---------
    out : path
        Folder that gets `noisy.mp4`, `enhanced.mp4`, `clean.wav` and `demo.png`.
    model : str or path
        See `avse.load`.

    Returns
    -------
    Demo

    Raises
    ------
    AvseError
        If the model cannot be loaded or the folder cannot be written.
    """
    from avse import plugins
    from avse.data.audio import write_audio
    from avse.data.mixing import mix_at_snr
    from avse.data.synthetic.noises import make_noise
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip
    from avse.evaluation.plots.spectrograms import plot_estimate
    from avse.jobs.enhance import enhance_file
    from avse.media import read_clip
    from avse.model import load

    names = ("noisy.mp4", "enhanced.mp4", "clean.wav", "demo.png")
    noisy_file, enhanced_file, clean_file, plot_file = (Path(out, name) for name in names)
    loaded = load(model)
    clean, frames, _ = synthesize_clip(_SEED, _SPEAKER, _SECONDS)
    frames[_HIDDEN] = 40
    noise = make_noise(_NOISE, _SECONDS, np.random.default_rng(_SEED))
    noisy, _ = mix_at_snr(clean, noise, _SNR)
    scale = np.float32(0.9 / np.abs(noisy).max())
    clean, noisy = scale * clean, scale * noisy
    write_audio(clean_file, clean)
    write_video(noisy_file, frames, noisy)

    report = enhance_file(loaded, noisy_file, enhanced_file)

    # The audio of the files is scored, with its lossy coding, as a listener would hear it.
    noisy, enhanced = (read_clip(file, use_video=False).audio[: len(clean)] for file in (noisy_file, enhanced_file))
    noisy, enhanced = (np.pad(audio, (0, len(clean) - len(audio))) for audio in (noisy, enhanced))
    metrics = {name: plugins.get("metric", name)() for name in METRICS}
    plot_estimate(plot_file, noisy, enhanced, clean, np.asarray(report.reliability[: len(frames)]))
    return Demo(
        noisy_file,
        enhanced_file,
        clean_file,
        plot_file,
        before={name: metric(noisy, clean, noisy) for name, metric in metrics.items()},
        after={name: metric(enhanced, clean, noisy) for name, metric in metrics.items()},
        report=report,
    )


def score_table(demo: Demo) -> Table:
    """Scores before and after, as a table for the terminal."""
    from rich.table import Table

    from avse import plugins

    table = Table(f"{_NOISE} noise at {_SNR:g} dB", "noisy", "enhanced")
    for name in METRICS:
        metric = plugins.get("metric", name)
        table.add_row(f"{metric.name} {metric.unit}".strip(), f"{demo.before[name]:.2f}", f"{demo.after[name]:.2f}")
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m avse.demo", description=__doc__.splitlines()[0].split(": ")[1])
    parser.add_argument("-o", "--output", default="demo", help="folder to write (default: demo)")
    parser.add_argument("--model", default="avse-small", help="name or folder of a model (default: avse-small)")
    options = parser.parse_args(arguments)
    try:
        demo = run_demo(options.output, options.model)
    except AvseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    Console().print(score_table(demo))
    print(
        f"{demo.report.seconds:.1f} s enhanced in {sum(demo.report.timings.values()):.2f} s. "
        f"Watch {demo.enhanced} beside {demo.noisy}; look at {demo.picture}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
