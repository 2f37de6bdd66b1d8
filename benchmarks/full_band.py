"""Scores of enhancement at 48 kHz in stereo: the band up to 8 kHz, the whole band, and both channels.

    python benchmarks/full_band.py SPEECH_FOLDER [MODEL]

SPEECH_FOLDER holds a folder of full-band recordings of each speaker, such as `/usr/share/klettres` of the package
`klettres-data` of Debian (spoken letters and syllables, 44.1 kHz). Six seconds of each speaker are put in the centre
of a stereo recording, or to its left (the right channel is 6 dB softer and 0.25 ms later), with pink noise, different
in each channel. Each file is written by `avse enhance` with the options below. Printed are means over speakers, of the
left channel: PESQ-WB at 16 kHz, SI-SDR at 48 kHz, and the log-spectral distance above 8 kHz; and the mean SI-SDR of the
right channel.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

import avse
from avse import plugins
from avse.jobs.enhance import enhance_file

RATE, SECONDS, SPEAKERS = 48_000, 6, 8
# Signal-to-noise ratio in dB; level and delay in samples of the right channel.
SCENES = {"centre": (5.0, 1.0, 0), "centre, soft": (20.0, 1.0, 0), "left": (5.0, 0.5, 12)}
SYSTEMS = {
    "--mono --band 8k": {"mono": True, "band": "8k"},
    "(default)": {},
    "--max-attenuation 12": {"max_attenuation": 12.0},
}


def speech_of(folder: Path, rng: np.random.Generator) -> np.ndarray | None:
    """Recordings of one speaker in random order, each at one level; None if they are too few."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".ogg", ".flac"))
    parts, count = [], 0
    for number in rng.permutation(len(files)):
        samples, rate = soundfile.read(files[number], dtype="float32", always_2d=True)
        if rate < 44_100 or not samples.any():
            continue
        one = soxr.resample(samples.mean(axis=1), rate, RATE)
        parts.append(0.05 * one / one.std())
        count += len(one)
        if count >= SECONDS * RATE:
            return np.concatenate(parts)[: SECONDS * RATE]
    return None


def pink(samples: int, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal((2, samples)))
    return np.fft.irfft(spectrum / np.sqrt(np.arange(1, spectrum.shape[1] + 1)), samples)


def distance_above(estimate: np.ndarray, clean: np.ndarray) -> float:
    """Log-spectral distance from 8 to 20 kHz, dB, of powers not below -80 dB of the loudest."""
    power = [
        np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(one, 2048)[::1024] * np.hanning(2048))) ** 2
        for one in (estimate, clean)
    ]
    floor = 1e-8 * power[1].max()
    logs = [10 * np.log10(one[:, 8000 * 2048 // RATE : 20_000 * 2048 // RATE] + floor) for one in power]
    return float(np.sqrt(np.mean((logs[0] - logs[1]) ** 2, axis=1)).mean())


def main(folder: str, name: str = "avse-small") -> None:
    model, rng = avse.load(name), np.random.default_rng(0)
    pesq, si_sdr = (plugins.get("metric", metric)() for metric in ("pesq_wb", "si_sdr"))
    voices = [speech for one in sorted(Path(folder).iterdir()) if (speech := speech_of(one, rng)) is not None]
    print(f"{len(voices[:SPEAKERS])} speakers")
    for scene, (snr, level, delay) in SCENES.items():
        rows: dict[str, list[tuple[float, ...]]] = {}
        for voice in voices[:SPEAKERS]:
            clean = np.stack([voice, level * np.pad(voice, (delay, 0))[: len(voice)]])
            noise = pink(len(voice), rng)
            noisy = clean + noise * np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10 ** (snr / 10))
            with tempfile.TemporaryDirectory() as place:
                source, target = Path(place, "noisy.wav"), Path(place, "out.wav")
                soundfile.write(source, noisy.T, RATE, subtype="FLOAT")
                results = {"noisy": noisy}
                for options, arguments in SYSTEMS.items():
                    enhance_file(model, source, target, **arguments)
                    results[options] = soundfile.read(target, always_2d=True)[0].T
            for options, result in results.items():
                left, right = result[0], result[-1]
                at_16k = [soxr.resample(one, RATE, 16_000) for one in (left, clean[0], noisy[0])]
                scores = pesq(*at_16k), si_sdr(left, clean[0], noisy[0]), distance_above(left, clean[0])
                rows.setdefault(options, []).append((*scores, si_sdr(right, clean[1], noisy[1])))
        for options, scores in rows.items():
            means = " ".join(f"{value:7.2f}" for value in np.mean(scores, axis=0))
            print(f"{scene:13} {options:22} {means}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
