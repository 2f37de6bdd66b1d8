"""Separating files: an audio file for each speaker, and one for the rest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avse import compatibility
from avse.contracts.types import SAMPLE_RATE, Estimate
from avse.devices import AUTO
from avse.errors import AvseError
from avse.evaluation.plots.figure import check_format
from avse.files import atomic_path, check_apart, named
from avse.jobs.audio import EIGHT, FULL, check_treatment
from avse.jobs.faces import rounded_frames
from avse.jobs.files import clock, rounded
from avse.media import Speaker, find_speakers, open_clip
from avse.media.faces.speakers import relative_box
from avse.model import Model, load
from avse.overlap import CHUNK_SECONDS
from avse.signal.full_band import FullBand

REST = "rest"
_STEPS = 32_767  # of 16-bit audio


@dataclass
class SeparatedSpeaker:
    """What was found of one speaker.

    Arguments
    ---------
    name, output : str
    video : str or None
        The video that shows the speaker.
    box : list of float or None
        The face in a frame of this video: x, y, width, height, relative to its width and height.
    valid_share : float
        Share of frames in which the mouth was seen.
    reliability : list of float
        By video frame (25 per second): how far the video was trusted.
    audio_reliability : list of float or None
        By video frame: how far this speaker's audio was trusted; None if the model does not tell.
    voices : dict
        Where the model chooses among known speakers: their mean responsibility, where it is above 1 %.
    """

    name: str
    output: str
    video: str | None
    box: list[float] | None
    valid_share: float
    reliability: list[float]
    audio_reliability: list[float] | None = None
    voices: dict[str, float] = field(default_factory=dict)


@dataclass
class SeparationReport:
    """What was done with one mixture.

    Arguments
    ---------
    input, rest : str
        The mixture, and the file of what belongs to no speaker.
    model, licence : str
        Its name, and on what terms its weights may be used.
    seconds : float
    sample_rate, channels : int
        Of the files.
    speakers : list of SeparatedSpeaker
    timings : dict
        Seconds of wall time for reading (decoding and tracking), separating, and writing.
    warnings : list of str
    """

    input: str
    rest: str
    model: str
    licence: str
    seconds: float
    sample_rate: int
    channels: int
    speakers: list[SeparatedSpeaker]
    timings: dict[str, float]
    warnings: list[str] = field(default_factory=list)


__getattr__ = compatibility.old_names(__name__)
compatibility.old_attribute(SeparationReport, "talkers", "speakers")


def separate_file(
    source: str | Path,
    videos: Sequence[str | Path] = (),
    *,
    output: str | Path | None = None,
    others: int = 0,
    speakers: Sequence[str] = (),
    model: str | Path | Model = "av-separator",
    roi: str = "auto",
    tracker: str | None = None,
    plot: str | Path | None = None,
    json_path: str | Path | None = None,
    device: str = AUTO,
    overrides: dict[str, Any] | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
    track: int = 0,
    mono: bool = False,
    band: str = FULL,
) -> SeparationReport:
    """Separate the speakers of a file.

    Audio is written at the rate and with the channels of the source, with 16 bits. The rest is the mixture as it was
    read, less all speech as it was written, so that the files add up to it sample by sample.

    Arguments
    ---------
    source : path
        The mixture: audio alone, or a video with audio.
    videos : sequence of path
        One of each speaker, or one that shows several faces; none: the video of `source`.
    output : path, optional
        Folder of the audio files. Default: `<name>.separated` beside the source.
    others : int
        How many more speakers there are whom no video shows.
    speakers : sequence of str
        Names of the speakers for a prior that knows them, in the order of the videos; "" for one unknown.
    model : str, path or Model
    roi, tracker : str
        See `avse.media.read_clip`.
    plot : path, optional
        Plot of the faces with names over the spectrograms.
    json_path : path, optional
        Where to write the report.
    device : str
    overrides : dict, optional
        Changes of the model's recipe: see `avse.load`.
    chunk_seconds : float
        See `Model.separate`.
    track : int
        Which audio track of the source, from 0.
    mono, band :
        See `avse.jobs.audio.Audio`.

    Returns
    -------
    SeparationReport

    Raises
    ------
    AvseError
        If a file cannot be read or written, or no face is found; nothing half-written is left.
    """
    source = Path(source)
    folder = source.with_name(f"{source.stem}.separated") if output is None else Path(output)
    if folder.exists() and not folder.is_dir():
        raise AvseError(f"{folder}: is a file; --output names a folder, which gets an audio file for each speaker.")
    reports = [Path(path) for path in (json_path, plot) if path is not None]
    check_apart([source, *videos], reports)
    if plot is not None:
        check_format(plot)
    timings: dict[str, float] = {}
    with clock(timings, "read"):
        check_treatment(band)
        visible = find_speakers(source, videos, others=others, roi=roi, tracker=tracker, track=track)
    clips = [speaker.clip for speaker in visible]
    names = [re.sub(r"[^\w.-]+", "_", speaker.name) for speaker in visible]
    files = [folder / f"{source.stem}.{name}.wav" for name in [*names, REST]]
    check_apart([source, *videos], [*reports, *files])
    with clock(timings, "separate"):
        loaded = model if isinstance(model, Model) else load(model, device, overrides)
        estimate = loaded.separate_clips(clips, [name or None for name in speakers], chunk_seconds=chunk_seconds)
        mixture, speech, rate = at_own_rate(source, estimate, clips[0].audio, track=track, mono=mono, band=band)
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(file)) for file in files]
        report_path = None if json_path is None else stack.enter_context(atomic_path(json_path))
        with clock(timings, "write"):
            for path, audio in zip(paths, quantised(mixture, speech)):
                _write(path, audio, rate)
        report = SeparationReport(
            input=named(source),
            rest=str(files[-1]),
            model=loaded.name,
            licence=loaded.licence,
            seconds=mixture.shape[-1] / rate,
            sample_rate=rate,
            channels=mixture.shape[0],
            speakers=[_separated(speaker, estimate, place, files[place]) for place, speaker in enumerate(visible)],
            timings=rounded(timings),
            warnings=[*_warnings(visible), *_clipped(mixture)],
        )
        if report_path is not None:
            written = {"talkers" if key == "speakers" else key: value for key, value in asdict(report).items()}
            report_path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        if plot is not None:
            from avse.evaluation.plots.separation import plot_separation

            plot_separation(plot, clips[0].audio, estimate, visible, title=source.name)
    return report


def quantised(mixture: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Speech and rest in 16 bits, which add up to the mixture in 16 bits wherever the rest is within full scale.

    Arguments
    ---------
    mixture : array, shape (samples,) or (channels, samples)
    speech : array, shape (sources, samples) or (sources, channels, samples)

    Returns
    -------
    array, shape (sources + 1, samples) or (sources + 1, channels, samples), int16

    Example
    -------
    >>> quantised(np.array([0.5]), np.array([[0.2], [0.1]])).tolist()
    [[6553], [3277], [6554]]
    """
    steps = np.rint(np.clip(np.concatenate([mixture[None], speech]) * _STEPS, -_STEPS, _STEPS)).astype(np.int64)
    rest = np.clip(steps[0] - steps[1:].sum(axis=0), -_STEPS, _STEPS)
    return np.concatenate([steps[1:], rest[None]]).astype(np.int16)


def at_own_rate(
    source: str | Path, estimate: Estimate, mixture: np.ndarray, *, track: int = 0, mono: bool = False, band: str = FULL
) -> tuple[np.ndarray, np.ndarray, int]:
    """A file and the speech of each of its speakers at its own rate, from what a model found at 16 kHz.

    Returns
    -------
    mixture : array, shape (channels, samples), float32
    speech : array, shape (sources, channels, samples), float32
    rate : int
    """
    speech = estimate.speech.numpy()
    with open_clip(source, use_video=False, track=track) as reader:
        rate, channels = reader.info.sample_rate, 1 if mono else reader.info.channels
        if channels == 1 and (rate <= SAMPLE_RATE or band == EIGHT):
            return mixture[None], speech[:, None], SAMPLE_RATE
        reader.keep(mono=mono)
        reader.skip()
        recording = reader.kept()
    full = [FullBand(rate, channels, above=band == FULL) for _ in speech]
    found = [np.concatenate([one(recording, mixture, part), one.rest()], axis=1) for one, part in zip(full, speech)]
    return recording, np.stack(found), rate


def _clipped(mixture: np.ndarray) -> list[str]:
    beyond = int(np.sum(np.abs(mixture) > 1))
    return [f"{beyond} samples above full scale were clipped; files have 16 bits"] if beyond else []


def _write(path: Path, audio: np.ndarray, rate: int) -> None:
    import soundfile

    try:
        soundfile.write(os.fsencode(path), audio.T, rate, subtype="PCM_16")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AvseError(f"{path.name}: writing failed ({error}). Nothing was left behind.") from error


def _separated(speaker: Speaker, estimate: Estimate, place: int, file: Path) -> SeparatedSpeaker:
    box, of_audio = None, estimate.audio_reliability
    if speaker.box is not None and speaker.picture is not None:
        box = relative_box(speaker.box, speaker.picture)
    posterior: dict[str, float] = {}
    if estimate.responsibility is not None:
        mean = estimate.responsibility[place].mean(dim=0).tolist()
        posterior = {name: round(value, 3) for name, value in zip(estimate.states, mean) if value > 0.01}
    return SeparatedSpeaker(
        name=speaker.name,
        output=str(file),
        video=None if speaker.video is None else str(speaker.video),
        box=box,
        valid_share=round(float(np.mean(speaker.clip.valid)), 4),
        reliability=rounded_frames(estimate.reliability[place]),
        audio_reliability=None if of_audio is None else rounded_frames(of_audio[place]),
        voices=dict(sorted(posterior.items(), key=lambda item: -item[1])),
    )


def _warnings(speakers: Sequence[Speaker]) -> list[str]:
    unseen = [speaker for speaker in speakers if not speaker.clip.valid.any()]
    if len(unseen) == len(speakers):
        return ["No mouth is seen anywhere. The speakers are told apart by audio alone, and who is who is unknown."]
    messages = [
        f"{speaker.name}: no mouth is seen in {speaker.video}; this speaker is one of the others."
        for speaker in unseen
        if speaker.video is not None
    ]
    if len(unseen) > 1:
        messages.append(f"{len(unseen)} speakers are not seen: who of them is who is unknown.")
    return messages
