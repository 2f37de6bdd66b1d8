"""Word error rate, by a recogniser of speech."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from avse.contracts.metric import Metric
from avse.errors import AvseError, needs_extra
from avse.plugins import register
from avse.signal.metrics import check_audio

GRID = (
    "bin lay place set",
    "blue green red white",
    "at by in with",
    "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "zero one two three four five six seven eight nine",
    "again now please soon",
)
"""The words of a sentence of the GRID corpus, one of each row."""


@register("metric", "wer")
class WordErrorRate(Metric):
    """Word error rate (WER) in %: substitutions, deletions and insertions over the words that were said.

    What was said is the column `text` of the manifest; where it is not known, what the recogniser hears in the clean
    speech. The default recogniser is PocketSphinx with the grammar of GRID (the extra `avse[wer]`; its model comes with
    the package): it scores sentences of GRID, and no others.

    Arguments
    ---------
    recogniser : callable, optional
        Takes audio of shape (samples,), float32 at 16 kHz, and returns the words as text.
    text : str
        What is said.

    Example
    -------
    >>> heard = WordErrorRate(recogniser=lambda audio: "bin blue by f five again", text="bin blue at f five now")
    >>> round(heard(np.ones(16000), np.ones(16000)), 1)
    33.3
    """

    name = "WER"
    unit = "%"
    higher_is_better = False
    paper = "Huggins-Daines et al., PocketSphinx: a free, real-time continuous speech recognition system, ICASSP 2006"

    def __init__(self, recogniser: Callable[[np.ndarray], str] | None = None, text: str = "") -> None:
        self.recogniser, self.text = recogniser, text
        if recogniser is None:
            _decoder()

    def of_text(self, text: str) -> WordErrorRate:
        """See `Metric.of_text`."""
        other = copy.copy(self)
        other.text = text
        return other

    def applies(self, clean: np.ndarray, noisy: np.ndarray) -> bool:
        """Whether something is said, and the recogniser knows its words."""
        words = self.text.lower().split()
        known = self.recogniser is not None or not words or _is_of_grid(words)
        return super().applies(clean, noisy) and known

    def __call__(self, estimate: np.ndarray, clean: np.ndarray, noisy: np.ndarray) -> float:
        check_audio(clean=clean, estimate=estimate)
        said = (self.text or self._hear(clean)).lower().split()
        if not said:
            raise AvseError("the recogniser hears no word in the clean speech")
        return 100.0 * word_errors(said, self._hear(estimate).lower().split()) / len(said)

    def _hear(self, audio: np.ndarray) -> str:
        return (self.recogniser or recognise_grid)(np.asarray(audio, dtype=np.float32))


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of substitutions, deletions and insertions between two sequences of words.

    >>> word_errors("lay red at a".split(), "lay at b now".split())
    3
    """
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, start=1):
        before, row[0] = row[0], place
        for column, other in enumerate(heard, start=1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (word != other))
    return row[-1]


def recognise_grid(audio: np.ndarray) -> str:
    """What PocketSphinx hears in audio of shape (samples,) at 16 kHz, held to the grammar of GRID; empty if nothing."""
    decoder = _decoder()
    peak = float(np.abs(audio).max(initial=0.0)) or 1.0
    decoder.start_utt()
    decoder.process_raw((audio * (0.5 / peak) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return "" if found is None else str(found.hypstr)


def _is_of_grid(words: Sequence[str]) -> bool:
    return len(words) == len(GRID) and all(word in row.split() for word, row in zip(words, GRID))


@functools.cache
def _decoder() -> Any:
    with needs_extra("wer", "Word error rates"):
        from pocketsphinx import Config, Decoder, get_model_path
    folder = get_model_path("en-us")
    config = Config(hmm=f"{folder}/en-us", dict=f"{folder}/cmudict-en-us.dict", lm=None, loglevel="FATAL")
    decoder = Decoder(config)
    rows = " ".join(f"({' | '.join(row.split())})" for row in GRID)
    decoder.add_jsgf_string("grid", f"#JSGF V1.0;\ngrammar grid;\npublic <sentence> = {rows};\n")
    decoder.activate_search("grid")
    return decoder
