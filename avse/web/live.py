"""The live stream of the page: a WebSocket that takes audio and pictures, and gives speech and what is known of it.

The browser sends binary messages: 4 bytes that hold the kind (0: audio, 1: picture), then audio as float32, or 8 bytes
with the time of the picture in seconds since the first sample (float64) and a JPEG; and the text `end`. It gets binary
messages with speech as float32, and JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from avse.contracts.types import SAMPLE_RATE
from avse.errors import AvseError
from avse.jobs.stream import Meter, resampler
from avse.media.faces.live import LiveCropper
from avse.media.reader import tracker_of
from avse.model import Model
from avse.streaming import Block, Streamer

WAIT = 0.08  # seconds that the audio waits for pictures, as of `avse live`
_RATES = (8000, 192_000)
_LARGEST = 1280  # pixels of a picture's longer side
_WAITING = 2  # pictures; older ones are dropped
_BACKLOG = 10.0  # seconds of audio that may wait
_NO_MOUTH = np.zeros(0, np.uint8)


class LiveStream:
    """A stream of one visitor.

    Arguments
    ---------
    model : Model
        A causal one.
    rate : int
        Of the audio that the browser sends and plays, in Hz.
    wait : float
        See `Streamer`.
    """

    def __init__(self, model: Model, rate: int, wait: float = WAIT) -> None:
        if not _RATES[0] <= rate <= _RATES[1]:
            raise AvseError(f"rate must be between {_RATES[0]} and {_RATES[1]} Hz, got {rate}.")
        self.streamer = Streamer(model, wait=wait)
        self.meter = Meter()
        self._in, self._out = resampler(rate, SAMPLE_RATE), resampler(SAMPLE_RATE, rate)
        self._cropper = LiveCropper(tracker_of(None))
        self._mouths: list[tuple[np.ndarray, float]] = []
        self._samples = 0

    def see(self, picture: bytes, time: float) -> None:
        """Find the mouth in a JPEG, for the audio that comes next; apart from `hear`, which does not wait for it."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(picture), formats=["JPEG"]) as image:
                if max(image.size) > _LARGEST:
                    raise AvseError(f"A picture has at most {_LARGEST} pixels a side, not {image.size}.")
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise AvseError(f"A picture is no JPEG ({error}).") from None
        crop = self._cropper.crop(pixels)
        self._mouths.append((_NO_MOUTH if crop is None else crop, time))

    def hear(self, audio: np.ndarray, last: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """Speech for the next samples, and what is known of it."""
        mouths, self._mouths = self._mouths, []
        samples = self._in(audio, last)
        blocks = [self.streamer.push(samples[:0], crop, at) for crop, at in mouths]
        blocks.append(self.streamer.push(samples))
        blocks += [self.streamer.finish()] if last else []
        self._samples += len(samples)
        self.meter.add(blocks, sum(block.seconds for block in blocks))
        return self._out(np.concatenate([block.speech for block in blocks]), last), _told(blocks)

    def report(self) -> dict[str, Any]:
        """What the stream was and cost: `StreamReport`."""
        return dataclasses.asdict(self.meter.report(self._samples / SAMPLE_RATE, self.streamer.latency))


def _told(blocks: list[Block]) -> dict[str, Any]:
    reliability = np.concatenate([block.reliability for block in blocks])
    return {
        "latency": round(blocks[-1].latency, 4),
        "seconds": round(sum(block.seconds for block in blocks), 5),
        "reliability": [round(value, 3) for value in reliability.tolist()],
    }


async def serve(socket: Any, model: Callable[[], Model], free: asyncio.Semaphore) -> None:
    """Serve one stream over a WebSocket of Starlette, until the browser ends it."""
    from starlette.websockets import WebSocketDisconnect

    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):  # the visitor has gone
        try:
            if free.locked():
                raise AvseError("Others are live now. Try again in a minute.")
            async with free:
                rate = int(socket.query_params.get("rate", SAMPLE_RATE))
                stream = await asyncio.to_thread(lambda: LiveStream(model(), rate))
                await socket.send_json({"ready": True, "latency": stream.streamer.latency})
                await _run(socket, stream, rate)
        except (AvseError, ValueError) as error:
            await socket.send_json({"error": str(error)})
        await socket.close()


async def _run(socket: Any, stream: LiveStream, rate: int) -> None:
    """Receive, look and enhance beside each other, until one of them ends."""
    heard: asyncio.Queue[np.ndarray | None] = asyncio.Queue()
    seen: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue(_WAITING)

    async def receive() -> None:
        while (message := await socket.receive())["type"] == "websocket.receive":
            data = message.get("bytes") or b""
            if len(data) >= 4 and data[0] == 0:
                heard.put_nowait(np.frombuffer(data[4:], "<f4"))
            elif len(data) > 12:
                if seen.full():
                    seen.get_nowait()
                seen.put_nowait((data[12:], float(np.frombuffer(data[4:12], "<f8")[0])))
            elif message.get("text") == "end":
                heard.put_nowait(None)

    async def look() -> None:
        while True:
            await asyncio.to_thread(stream.see, *await seen.get())

    async def enhance() -> None:
        last = False
        while not last:
            parts = [await heard.get()]
            while not heard.empty():  # what came meanwhile is one block: that is faster
                parts.append(heard.get_nowait())
            last = parts[-1] is None
            audio = np.concatenate([np.zeros(0, np.float32), *(part for part in parts if part is not None)])
            if len(audio) > _BACKLOG * rate:
                raise AvseError("This machine is too slow: the audio comes faster than its speech.")
            speech, told = await asyncio.to_thread(stream.hear, audio, last)
            await socket.send_bytes(speech.astype("<f4").tobytes())
            await socket.send_json({**told, "report": stream.report()} if last else told)

    tasks = [asyncio.create_task(part()) for part in (receive, look, enhance)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
