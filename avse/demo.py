"""`python -m avse.demo`: synthetic noisy clips, enhanced from file to file, with scores and plots.

It needs no data and no download. First one speaker in noise, whose video shows nothing for some frames, so that its
reliability drops. Then two speakers at once, side by side: the same audio gives two voices, by the face of each.
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
_PAIR, _PAIR_SNR = {"left": 9002, "right": 9003}, 20.0  # speakers by their place


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


@dataclass
class TwoSpeakers:
    """What `run_two_speakers` made."""

    mixed: Path
    enhanced: dict[str, Path]  # a video for each face, with the audio enhanced by it
    picture: Path
    scores: dict[str, dict[str, float]]  # SI-SDR in dB of the mixture and of each estimate, by speaker


def run_two_speakers(out: str | Path = "demo", model: str | Path = "avse-small") -> TwoSpeakers:
    """Make a clip of two synthetic people who talk at once, and find in the same audio the speech of each by the face.

    Both are equally loud, in light white noise, and in no training set.

    Arguments
    ---------
    out : path
        Folder that gets `two.mp4`, `two.left.mp4`, `two.right.mp4` and `two.png`.
    model : str or path
        See `avse.load`.

    Returns
    -------
    TwoSpeakers

    Raises
    ------
    AvseError
        If the model cannot be loaded or the folder cannot be written.
    """
    from avse import plugins
    from avse.data.mixing import mix_at_snr
    from avse.data.synthetic.noises import make_noise
    from avse.data.synthetic.recording import write_video
    from avse.datasets.synthetic import synthesize_clip
    from avse.evaluation.plots.spectrograms import plot_sounds
    from avse.media import find_speakers
    from avse.model import load

    mixed, picture = Path(out, "two.mp4"), Path(out, "two.png")
    files = {face: Path(out, f"two.{face}.mp4") for face in _PAIR}
    made = [synthesize_clip(_SEED + place, speaker, _SECONDS) for place, speaker in enumerate(_PAIR.values())]
    targets = np.stack([audio / np.sqrt(np.mean(audio**2)) for audio, _, _ in made])
    noise = make_noise(_NOISE, _SECONDS, np.random.default_rng(_SEED))
    noisy, _ = mix_at_snr(targets.sum(axis=0), noise, _PAIR_SNR)
    scale = np.float32(0.9 / np.abs(noisy).max())
    frames = np.concatenate([shown for _, shown, _ in made], axis=2)
    write_video(mixed, frames, scale * noisy)

    speakers = find_speakers(mixed)
    if [speaker.name for speaker in speakers] != list(_PAIR):
        raise AvseError(f"{mixed}: {len(speakers)} faces were found where two are shown.")
    clips = [speaker.clip for speaker in speakers]
    enhanced = [estimate.speech.numpy() for estimate in load(model).enhance_batch(clips)]

    samples = targets.shape[1]
    si_sdr = plugins.get("metric", "si_sdr")()
    estimates = {"mixture": clips[0].audio}
    estimates |= {f"enhanced, {face} face": audio for face, audio in zip(_PAIR, enhanced)}
    scores = {
        name: {
            face: si_sdr(audio[:samples], scale * target, clips[0].audio[:samples])
            for face, target in zip(_PAIR, targets)
        }
        for name, audio in estimates.items()
    }
    shown = {"mixture": estimates["mixture"]}
    for face, target, audio in zip(_PAIR, targets, enhanced):
        write_video(files[face], frames, audio)
        shown[f"{face} speaker, clean"] = scale * target
        gain = f"{scores['mixture'][face]:.1f} to {scores[f'enhanced, {face} face'][face]:.1f} dB"
        shown[f"enhanced by the {face} face: SI-SDR from {gain}"] = audio
    plot_sounds(picture, shown, title="The same audio, and two faces")
    return TwoSpeakers(mixed, files, picture, scores)


def score_table(demo: Demo) -> Table:
    """Scores before and after, as a table for the terminal."""
    from rich.table import Table

    from avse import plugins

    table = Table(f"{_NOISE} noise at {_SNR:g} dB", "noisy", "enhanced")
    for name in METRICS:
        metric = plugins.get("metric", name)
        table.add_row(f"{metric.name} {metric.unit}".strip(), f"{demo.before[name]:.2f}", f"{demo.after[name]:.2f}")
    return table


def two_speakers_table(demo: TwoSpeakers) -> Table:
    """SI-SDR of the mixture and of each estimate, against each speaker, as a table for the terminal."""
    from rich.table import Table

    table = Table("two speakers at once: SI-SDR (dB)", *(f"{face} speaker" for face in _PAIR))
    for name, row in demo.scores.items():
        table.add_row(name, *(f"{row[face]:.2f}" for face in _PAIR))
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
        two = run_two_speakers(options.output, options.model)
    except AvseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    Console().print(score_table(demo))
    print(
        f"{demo.report.seconds:.1f} s enhanced in {sum(demo.report.timings.values()):.2f} s. "
        f"Watch {demo.enhanced} beside {demo.noisy}; look at {demo.picture}."
    )
    Console().print(two_speakers_table(two))
    print(f"Watch {' and '.join(map(str, two.enhanced.values()))} beside {two.mixed}; look at {two.picture}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
