"""DNSMOS P.835: overall, speech and background quality."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from avse.contracts.metric import Metric
from avse.contracts.types import SAMPLE_RATE
from avse.errors import needs_extra
from avse.plugins import register
from avse.signal.metrics import check_audio

_SECONDS = 9.01
_WINDOW = int(_SECONDS * SAMPLE_RATE)
# From the network's output to the opinion scale, highest power first: signal, background, overall.
_TO_OPINION = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)


class _DNSMOS(Metric):
    unit = "MOS"
    paper = (
        "Reddy, Gopal, Cutler, DNSMOS P.835: A non-intrusive perceptual objective speech quality metric to evaluate "
        "noise suppressors, ICASSP 2022"
    )
    part: ClassVar[int]

    def __init__(self) -> None:
        _session()

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        check_audio(estimate=estimate)
        return _opinions(np.asarray(estimate, np.float32).tobytes())[self.part]


@register("metric", "dnsmos")
class DNSMOSOverall(_DNSMOS):
    """DNSMOS P.835 overall quality (OVRL), 1 to 5, predicted by a network without the clean speech.

    Needs the extra `avse[dnsmos]`: the network comes with the package `speechmos`. Its input are windows of 9.01 s, one
    per second; a shorter clip is repeated. The score depends on the level, which is therefore not normalised.

    Raises
    ------
    AvseError
        If the extra is not installed, or the audio is silent.

    Example
    -------
    >>> noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16000)
    >>> 1.0 < DNSMOSOverall()(noise, noise, noise) < 2.0  # doctest: +SKIP
    True
    """

    name = "DNSMOS OVRL"
    part = 2


@register("metric", "dnsmos_sig")
class DNSMOSSignal(_DNSMOS):
    """DNSMOS P.835 quality of the speech (SIG), 1 to 5; see `dnsmos`."""

    name = "DNSMOS SIG"
    part = 0


@register("metric", "dnsmos_bak")
class DNSMOSBackground(_DNSMOS):
    """DNSMOS P.835 quality of the background (BAK), 1 to 5; see `dnsmos`."""

    name = "DNSMOS BAK"
    part = 1


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    with needs_extra("dnsmos", "Scores of DNSMOS"):
        import onnxruntime
        import speechmos
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    network = Path(speechmos.__file__).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


@functools.lru_cache(maxsize=4)  # the three scores of one clip are computed one after the other
def _opinions(samples: bytes) -> tuple[float, float, float]:
    audio = np.clip(np.frombuffer(samples, np.float32), -1.0, 1.0)
    while audio.size < _WINDOW:
        audio = np.append(audio, audio)
    hops = int(audio.size // SAMPLE_RATE - _SECONDS) + 1  # counted in whole seconds, as the authors do
    windows = [audio[None, hop * SAMPLE_RATE :][:, :_WINDOW] for hop in range(hops)]
    raw = np.concatenate([_session().run(None, {"input_1": window})[0] for window in windows])
    signal, background, overall = (float(np.polyval(p, raw[:, i]).mean()) for i, p in enumerate(_TO_OPINION))
    return signal, background, overall
