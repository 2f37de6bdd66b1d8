"""What the layers of a causal network remember from block to block, when a clip comes block by block.

A layer that looks back asks for the frames before those it is given. Offline there are none, and it pads as ever. In a
stream they are the last frames of the blocks before, so that the same code gives the same numbers:

    state = StreamState()
    for block in blocks:
        with state.block():
            output = network(block)

A plugin that looks back through these functions alone, or not at all, says so: `streams = True`. `avse check` holds it
to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from avse.contracts.prior import Context

Value = TypeVar("Value")
_CURRENT: ContextVar[StreamState | None] = ContextVar("stream", default=None)


class StreamState:
    """The memory of one stream; several streams can share a network. The size of what it keeps never changes.

    Example
    -------
    >>> state, layer = StreamState(), object()
    >>> for block in torch.arange(1.0, 5.0).reshape(2, 1, 2):
    ...     with state.block():
    ...         running_sum(layer, "power", block).tolist()
    [[1.0, 3.0]]
    [[6.0, 10.0]]
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[int, str], torch.Tensor] = {}
        self.begun: dict[tuple[int, str], torch.Tensor] = {}  # what was kept before the first block
        self.own: dict[int, Any] = {}  # memory of a system of its own kind, by its id

    @contextmanager
    def block(self) -> Iterator[None]:
        """Within it, layers go on from where they were at the end of the last one; in this thread only."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


@contextmanager
def whole_clip() -> Iterator[None]:
    """Within it, layers take what they are given for a whole clip: a system that keeps a window by itself needs it."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@dataclass
class FrameEstimate:
    """What a system finds in frames of the transform.

    Arguments
    ---------
    speech : tensor, shape (batch, frames, bins), complex
    by_frame : dict of str to tensor of shape (batch, frames), in [0, 1]
        `reliability`; `audio_reliability` and `speaking` if the system tells them. See `Estimate`.
    """

    speech: torch.Tensor
    by_frame: dict[str, torch.Tensor]


class StreamingSystem(Protocol):
    """What a system offers so that `avse.streaming.Streamer` can run it.

    Attributes
    ----------
    fft_size, hop : int
        Of its short-time Fourier transform, in samples; `hop` divides a video frame.
    streams : bool
        True if it is causal, and all its parts carry their state from block to block.
    delay : int
        Frames by which what `enhance_frames` gives is late: it gives as many frames as it takes, those of the stream's
        first `delay` are not used, and at the end of the stream as many come that are outside `Context.mask`.
    """

    fft_size: int
    hop: int
    streams: bool
    delay: int

    def visual_features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor | None:
        """Features of the next video frames, shape (batch, video_frames, dim); None: the system takes no video.

        Arguments
        ---------
        mouth : tensor, shape (batch, video_frames, 88, 88), uint8
        valid : tensor, shape (batch, video_frames), bool
        """

    def enhance_frames(
        self, spectrum: torch.Tensor, context: Context, mixture: torch.Tensor | None = None
    ) -> FrameEstimate:
        """The speech in the next frames.

        Arguments
        ---------
        spectrum : tensor, shape (batch, frames, bins), complex
        context : Context
            Which frames are inside the clip, and the video of each.
        mixture : tensor, shape (batch,), or None
            See `Batch.mixture`.
        """


def streaming() -> bool:
    """Whether a block of a stream is being computed. A layer then takes no short cut that leaves its memory behind."""
    return _CURRENT.get() is not None


def memory_of(system: object, make: Callable[[], Value]) -> Value:
    """What a system keeps for itself in the stream: an object that is made when it is first asked for."""
    state = _CURRENT.get()
    assert state is not None, "there is no stream"
    if id(system) not in state.own:
        state.own[id(system)] = make()
    return state.own[id(system)]


def recent(layer: object, name: str, values: torch.Tensor, frames: int) -> torch.Tensor:
    """Values with the `frames` before them in the stream, zero (or false) where nothing was; offline as they are.

    Arguments
    ---------
    layer : object
        Whose memory it is.
    name : str
        Tells what this layer remembers from what else it remembers.
    values : tensor, shape (batch, frames, ...)
    frames : int

    Returns
    -------
    tensor, shape (batch, `frames` more, ...)
    """
    if not streaming():
        return values
    return with_past(layer, name, values, frames)


def with_past(layer: object, name: str, values: torch.Tensor, frames: int) -> torch.Tensor:
    """Values with the `frames` before them, zero where nothing was: the padding of a causal convolution.

    >>> with_past(None, "crops", torch.ones(1, 2, 1), 2).flatten().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    past = _past(layer, name, lambda: values.new_zeros(values.shape[0], frames, *values.shape[2:]))
    joined = torch.cat([past, values], dim=1)
    _keep(layer, name, joined[:, values.shape[1] :])
    return joined


def at_least_single(values: torch.Tensor) -> torch.Tensor:
    """Values in single precision where they have half: what sums over many frames need, also under autocast.

    >>> [at_least_single(torch.ones(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.int64)]
    [torch.float32, torch.int64]
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def running_sum(layer: object, name: str, values: torch.Tensor) -> torch.Tensor:
    """The sum over all frames up to each, of the same shape, (batch, frames, ...), and of the same precision."""
    if not streaming():
        return at_least_single(values).cumsum(dim=1).to(values.dtype)
    # Double precision: after an hour, a frame is a millionth of the sum.
    before = _past(layer, name, lambda: values.new_zeros(values[:, :1].shape, dtype=torch.float64))
    total = values.cumsum(dim=1, dtype=torch.float64) + before
    _keep(layer, name, total[:, -1:])
    return total.to(values.dtype)


def running_mean(layer: object, name: str, values: torch.Tensor) -> torch.Tensor:
    """The mean over all frames up to each, of the same shape, (batch, frames, ...).

    >>> running_mean(None, "power", torch.tensor([[1.0, 3.0, 5.0]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    count = running_sum(layer, f"{name} count", values.new_ones(1, values.shape[1], dtype=torch.int64))
    return running_sum(layer, name, values) / count.reshape(1, -1, *(1,) * (values.ndim - 2))


def running_minimum(layer: object, name: str, values: torch.Tensor) -> torch.Tensor:
    """The minimum over all frames up to each, of the same shape, (batch, frames, ...)."""
    lowest = values.cummin(dim=1).values if values.shape[1] > 1 else values  # ONNX has no cummin
    if not streaming():
        return lowest
    lowest = torch.minimum(lowest, _past(layer, name, lambda: torch.full_like(values[:, :1], torch.inf)))
    _keep(layer, name, lowest[:, -1:])
    return lowest


def _past(layer: object, name: str, at_start: Callable[[], torch.Tensor]) -> torch.Tensor:
    """What a layer keeps of the blocks before; at the start of a stream, and offline, what `at_start` gives."""
    state, key = _CURRENT.get(), (id(layer), name)
    if state is None:
        return at_start()
    if key not in state.kept:
        state.begun[key] = state.kept[key] = at_start()
    return state.kept[key]


def _keep(layer: object, name: str, values: torch.Tensor) -> None:
    """Keep values for the next block."""
    if (state := _CURRENT.get()) is not None:
        state.kept[id(layer), name] = values
