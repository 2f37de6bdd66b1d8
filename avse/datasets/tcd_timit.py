"""Datasets `tcd_timit` and `ntcd_timit`: sentences of TIMIT on video, and the same in six noises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from avse.data.audio import read_audio, write_audio
from avse.data.manifest import Utterance
from avse.datasets.corpus import Corpus, Files
from avse.errors import AvseError
from avse.plugins import register

DEV = ("06M", "17F", "20M", "35M", "38F", "42M", "52M", "59F")
TEST = ("09F", "24M", "26M", "27M", "33F", "40F", "47M", "49F", "56M")
"""Volunteers of the splits that the papers on unsupervised enhancement use; the others are for training."""

_SPEAKER = r"(?P<speaker>\d\d[MF]|Lipspkr\d)"
_NOISES = ("Babble", "Cafe", "Car", "LR", "Street", "White")
_SIDE = 67  # pixels of the mouths in the MAT files


def _split(speaker: str, dev: Sequence[str], test: Sequence[str]) -> str:
    return "dev" if speaker in dev else "test" if speaker in test else "train"


def _about(speaker: str) -> dict[str, str]:
    return {"sex": {"M": "male", "F": "female"}[speaker[-1]]} if speaker[-1] in "MF" else {}


@register("dataset", "tcd_timit")
class TcdTimit(Corpus):
    """TCD-TIMIT: 59 volunteers and three lipspeakers say sentences of TIMIT, 1080p at 30 frames per second.

    The audio is `sa1.wav` beside `sa1.mp4` where there is one, else that of the video. Dev and test are the 8 and 9
    volunteers of the papers on unsupervised enhancement; everybody else is for training.

    Arguments
    ---------
    view : {"straightcam", "30degcam"}
        The camera: before the face, or 30 degrees beside it.
    dev, test : sequence of str
        Volunteers of these splits.

    Paper: N. Harte, E. Gillen, TCD-TIMIT: an audio-visual corpus of continuous speech, IEEE Trans. Multimedia 17, 2015.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> TcdTimit.write_example(folder)
    >>> TcdTimit().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['01M/sa1', 'speech', 'train']
    """

    licence = "research, on request"
    source = "https://sigmedia.tcd.ie"
    paper = "https://doi.org/10.1109/TMM.2015.2407694"
    layout = rf"{_SPEAKER}/(?:Clips/)?(?P<view>straightcam|30degcam)/(?P<name>[A-Za-z]+\d+)\.mp4"
    looked_for = "volunteers/01M/Clips/straightcam/sa1.mp4"
    tree = dict.fromkeys((f"volunteers/{who}/Clips/straightcam/sa1.mp4" for who in ("01M", "06M", "09F")), "")

    def __init__(self, view: str = "straightcam", dev: Sequence[str] = DEV, test: Sequence[str] = TEST) -> None:
        if view not in ("straightcam", "30degcam"):
            raise AvseError(f"tcd_timit: view must be straightcam or 30degcam, not {view!r}.")
        self.view, self.dev, self.test = view, dev, test

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        if match["view"] != self.view:
            return None
        speaker, beside = match["speaker"], path.with_suffix(".wav")
        return Utterance(
            f"{speaker}/{match['name'].lower()}",
            clean=beside if beside.is_file() else path,
            video=path,
            speaker=f"tcd_{speaker}",
            split=_split(speaker, self.dev, self.test),
            extra=_about(speaker),
        )


@register("dataset", "ntcd_timit")
class NtcdTimit(Corpus):
    """NTCD-TIMIT: the audio of TCD-TIMIT in six noises at six levels, and mouths of 67 x 67 pixels in MAT files.

    `FOLDER` holds `Clean/volunteers/01M/straightcam/sa1.wav` and `Babble/-5/volunteers/...`. The video is that of
    TCD-TIMIT, if the same folder holds it, else the mouths of `matlab_raw/*/01M/sa1Raw.mat` (discrete cosine transforms
    of raw pixels, 30 frames per second), which are written as videos in `mouth_88` beside the manifest. Clean rows are
    for training, noisy rows for tests. The SNR that the corpus states is not an SI-SDR: -5 dB are about -13 dB.

    Arguments
    ---------
    noises : sequence of str
        Noises whose rows are listed.
    snrs : sequence of float
        Levels, in dB, whose rows are listed.
    with_noise : bool
        Also list the noise of each noisy file of the training and dev speakers, what is left of it without its
        projection on the clean file, which is written in `noise_16k`.
    dev, test : sequence of str
        Volunteers of these splits.

    Paper: A. H. Abdelaziz, NTCD-TIMIT: a new database and baseline for noise-robust audio-visual speech recognition,
    Interspeech 2017.

    Example
    -------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> NtcdTimit.write_example(folder)
    >>> NtcdTimit().prepare(folder).read_text().splitlines()[1].split(",")[:3]
    ['Babble/-5/09F/sa1', 'speech', 'test']
    """

    licence = "CC BY-NC 4.0"
    source = "https://zenodo.org/records/260228"
    paper = "https://doi.org/10.21437/Interspeech.2017-860"
    suffixes = ()
    layout = (
        rf"(?P<noise>Clean|{'|'.join(_NOISES)})/(?:(?P<snr>-?\d+)/)?volunteers/{_SPEAKER}/straightcam/"
        r"(?P<name>[A-Za-z]+\d+)\.wav"
    )
    looked_for = "Clean/volunteers/01M/straightcam/sa1.wav and Babble/-5/volunteers/01M/straightcam/sa1.wav"
    tree = dict.fromkeys(
        [
            *(f"Clean/volunteers/{who}/straightcam/sa1.wav" for who in ("01M", "06M", "09F")),
            "Babble/-5/volunteers/09F/straightcam/sa1.wav",
        ],
        "",
    )

    def __init__(
        self,
        noises: Sequence[str] = _NOISES,
        snrs: Sequence[float] = (-5, 0, 5, 10, 15, 20),
        with_noise: bool = False,
        dev: Sequence[str] = DEV,
        test: Sequence[str] = TEST,
    ) -> None:
        unknown = sorted(set(noises) - set(_NOISES))
        if unknown:
            raise AvseError(f"ntcd_timit: there is no noise {', '.join(unknown)}; there are {', '.join(_NOISES)}.")
        self.noises, self.snrs, self.with_noise, self.dev, self.test = noises, snrs, with_noise, dev, test

    def start(self, files: Files) -> None:
        self.videos, self.mouths = dict[str, Path](), dict[str, Path]()
        for name, path in files.paths.items():
            speaker = re.search(rf"(?:^|/){_SPEAKER}/", name)
            if speaker and path.suffix == ".mp4" and "30degcam" not in name:
                self.videos[f"{speaker['speaker']}/{path.stem.lower()}"] = path
            elif speaker and path.suffix == ".mat":
                self.mouths[f"{speaker['speaker']}/{path.stem.removesuffix('Raw').lower()}"] = path

    def row(self, path: Path, match: re.Match[str], files: Files) -> Utterance | None:
        speaker, noise, snr = match["speaker"], match["noise"], match["snr"]
        key = f"{speaker}/{match['name'].lower()}"
        if noise != "Clean" and (noise not in self.noises or float(snr or 0) not in map(float, self.snrs)):
            return None
        video = self.videos.get(key)
        if video is None and key in self.mouths:
            video = _video_of(self.mouths[key], self.beside / "mouth_88" / f"{key}.mp4")
        row = Utterance(
            f"{noise}/{key}" if noise == "Clean" else f"{noise}/{snr}/{key}",
            clean=path,
            video=video,
            speaker=f"tcd_{speaker}",
            split=_split(speaker, self.dev, self.test),
            extra=_about(speaker),
        )
        if noise == "Clean":
            return row
        clean = files.get(match.string.replace(f"{noise}/{snr}/", "Clean/", 1)) or files.find(
            f"Clean/volunteers/{speaker}/straightcam/{path.name}"
        )
        if clean is None:
            raise AvseError(f"{path}: its clean file Clean/volunteers/{speaker}/straightcam/{path.name} is absent.")
        return replace(row, clean=clean, noisy=path, label=noise.lower(), snr=float(snr))

    def finish(self, rows: list[Utterance], manifest: Path) -> list[Utterance]:
        done = []
        for row in rows:
            done.append(row)
            if self.with_noise and row.noisy is not None and row.clean is not None and row.split != "test":
                target = manifest.parent / "noise_16k" / f"{row.id}.flac"
                if not target.is_file():
                    write_audio(target, _rest(read_audio(row.noisy), read_audio(row.clean)))
                noise = Utterance(f"noise/{row.id}", noise=target, kind="noise", split=row.split, label=row.label)
                done.append(replace(noise, duration=row.duration, dataset=row.dataset, snr=row.snr))
        return done


def _rest(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """What is left of noisy speech, shape (samples,), without its projection on the clean speech."""
    samples = min(len(noisy), len(clean))
    noisy, clean = noisy[:samples].astype(np.float64), clean[:samples].astype(np.float64)
    return noisy - clean * (noisy @ clean) / max(clean @ clean, 1e-12)


def mouths_of(path: Path) -> np.ndarray:
    """The mouths of a MAT file of NTCD-TIMIT, shape (video_frames, 67, 67), uint8.

    Raises
    ------
    AvseError
        If the file cannot be read, or holds no array with 4,489 numbers a frame.
    """
    from scipy.fft import idctn
    from scipy.io import loadmat

    try:
        arrays = [value for value in loadmat(str(path)).values() if isinstance(value, np.ndarray)]
    except NotImplementedError:  # version 7.3, which is HDF5
        try:
            import h5py
        except ImportError:
            raise AvseError(f"{path}: is HDF5. Install what reads it: pip install h5py") from None
        with h5py.File(path) as file:
            arrays = [np.asarray(value) for value in file.values() if isinstance(value, h5py.Dataset)]
    except Exception as error:  # whatever scipy raises of a broken file
        raise AvseError(f"{path}: cannot be read as a MAT file ({error}).") from error
    frames = next((value for value in arrays if value.ndim == 2 and _SIDE**2 in value.shape), None)
    if frames is None:
        raise AvseError(f"{path}: holds no array with {_SIDE**2} numbers for each frame.")
    frames = frames if frames.shape[1] == _SIDE**2 else frames.T
    pixels = idctn(frames.reshape(-1, _SIDE, _SIDE).astype(np.float64), axes=(1, 2))
    low, high = pixels.min(axis=(1, 2), keepdims=True), pixels.max(axis=(1, 2), keepdims=True)
    scaled = 255 * (pixels - low) / np.maximum(high - low, 1e-9)
    return np.ascontiguousarray(np.rot90(scaled, 3, axes=(1, 2)).round().astype(np.uint8))


def _video_of(path: Path, target: Path) -> Path:
    """The mouths of a MAT file as a grey video of 88 x 88 pixels at 30 frames per second."""
    if target.is_file() and target.stat().st_mtime >= path.stat().st_mtime:
        return target
    import cv2

    from avse.data.synthetic.recording import write_video

    large = [cv2.resize(mouth, (88, 88), interpolation=cv2.INTER_CUBIC) for mouth in mouths_of(path)]
    write_video(target, np.repeat(np.stack(large)[..., None], 3, axis=3), rate=Fraction(30000, 1001))
    return target
