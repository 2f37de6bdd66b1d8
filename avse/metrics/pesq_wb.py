"""PESQ, wide-band."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from avse.contracts.metric import Metric
from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.plugins import register
from avse.signal.metrics import check_audio

# The ITU code has a table of 50 utterances and writes beyond its end if there are more, which crashes the process.
# Shorter clips cannot have 50; longer ones are scored in a separate process.
_SAFE_SECONDS = 20
_CHILD = (
    "import io, sys, numpy, pesq; clean, estimate = numpy.load(io.BytesIO(sys.stdin.buffer.read()));"
    f"print(pesq.pesq({SAMPLE_RATE}, clean, estimate, 'wb'))"
)


@register("metric", "pesq_wb")
class PESQWideBand(Metric):
    """Perceptual evaluation of speech quality, wide-band (PESQ-WB): ITU-T P.862.2 MOS-LQO at 16 kHz, 1.04 to 4.64.

    Computed by the package `pesq`, the ITU code. Narrow-band PESQ gives higher numbers; the two must not be
    compared.

    Raises
    ------
    AvseError
        If a signal is silent, shorter than 1/4 s, or the ITU code finds no speech in it.

    Example
    -------
    >>> speech = np.random.default_rng(0).standard_normal(16000)
    >>> round(PESQWideBand()(speech, speech, speech), 2)
    4.64
    """

    name = "PESQ-WB"
    unit = "MOS"
    paper = "ITU-T P.862.2, Wideband extension to Recommendation P.862, 2007"

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        from pesq import BufferTooShortError, NoUtterancesError, pesq

        check_audio(clean=clean, estimate=estimate)
        clean, estimate = np.asarray(clean, np.float32), np.asarray(estimate, np.float32)
        if clean.size < SAMPLE_RATE // 4:
            raise AvseError(f"{clean.size / SAMPLE_RATE:.3f} s is too short for PESQ, which needs 0.25 s")
        if clean.size > _SAFE_SECONDS * SAMPLE_RATE:
            return _in_child(estimate, clean)
        try:
            return float(pesq(SAMPLE_RATE, clean, estimate, "wb"))
        except NoUtterancesError:
            raise AvseError("PESQ finds no speech") from None
        except BufferTooShortError:
            raise AvseError("too short for PESQ, which needs 0.25 s") from None


def _in_child(estimate: np.ndarray, clean: np.ndarray) -> float:
    from io import BytesIO

    arrays = BytesIO()
    np.save(arrays, np.stack([clean, estimate]))
    child = subprocess.run([sys.executable, "-c", _CHILD], input=arrays.getvalue(), capture_output=True)
    message = child.stderr.decode(errors="replace").strip()
    if "NoUtterancesError" in message:
        raise AvseError("PESQ finds no speech")
    if child.returncode and "Error" not in message:
        raise AvseError(f"PESQ cannot score {clean.size / SAMPLE_RATE:.0f} s with so many pauses; cut the clip")
    if child.returncode:
        raise AvseError(f"PESQ failed: {message.splitlines()[-1]}")
    return float(child.stdout.split()[-1])
