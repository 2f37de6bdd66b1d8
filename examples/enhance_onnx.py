"""Enhance a file with a model that `avse export` wrote: numpy, onnxruntime and soundfile, no PyTorch.

    python examples/enhance_onnx.py exported noisy.wav speech.wav [mouth.npy]

`mouth.npy` has crops at 25 frames a second, (video_frames, 88, 88), uint8, black where no mouth is seen."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile


def enhance(folder: Path, noisy: np.ndarray, mouth: np.ndarray | None = None) -> np.ndarray:
    """Speech of shape (samples,) in noisy audio of that shape."""
    about = json.loads((folder / "export.json").read_text())
    size, hop, ratio = about["fft_size"], about["hop"], about["frames_per_video_frame"]
    frames, video_frames = -(-len(noisy) // hop) + size // (2 * hop), -(-len(noisy) // (hop * ratio))
    window = np.sqrt(np.hanning(size + 1)[:-1])
    padded = np.pad(noisy, (size // 2, frames * hop + size - len(noisy)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:frames]
    inputs = {"spectrum": np.fft.rfft(pieces * window).astype(np.complex64).view(np.float32).reshape(1, frames, -1, 2)}
    if "video.onnx" in about["graphs"]:
        given = np.zeros((0, 88, 88), np.uint8) if mouth is None else mouth[:video_frames]
        crops = np.pad(given, ((0, video_frames - len(given)), (0, 0), (0, 0)))
        seen, shown = crops.any(axis=(1, 2)), np.arange(frames) // ratio
        [features] = run(folder, "video", {"mouth": crops[None], "valid": seen[None]}, about["causal"])
        shown, inside = np.minimum(shown, video_frames - 1), shown < video_frames  # the last may belong to none
        inputs |= {"features": features[:, shown] * inside[:, None], "valid": (seen[shown] & inside)[None]}
    speech = run(folder, "audio", inputs, about["causal"])[0]
    added = np.zeros((2, len(padded)))
    for number, wave in enumerate(np.fft.irfft(speech[0, ..., 0] + 1j * speech[0, ..., 1], size) * window):
        added[:, number * hop : number * hop + size] += wave, window**2
    found = (added[0] / np.maximum(added[1], 1e-11))[size // 2 :][: len(noisy)]
    if not about["causal"]:  # the rest is not to be negatively correlated with the speech
        found *= np.clip((found @ noisy) / max(found @ found, 1e-20), 0, 1)
    return found.astype(np.float32)


def run(folder: Path, name: str, inputs: dict[str, np.ndarray], causal: bool) -> list[np.ndarray]:
    """What a graph gives for all frames: at once, or, of a causal model, frame by frame."""
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    if not causal:
        return session.run(None, inputs)
    past = {key.split("/")[1]: kept for key, kept in np.load(folder / "past.npz").items() if key.startswith(name)}
    blocks: list[list[np.ndarray]] = []
    for frame in zip(*(np.split(values, values.shape[1], axis=1) for values in inputs.values())):
        found = session.run(None, dict(zip(inputs, frame)) | past)
        blocks.append(found[: len(found) - len(past)])
        past = dict(zip(past, found[len(blocks[0]) :]))
    return [np.concatenate(parts, axis=1) for parts in zip(*blocks)]


if __name__ == "__main__":
    audio, rate = soundfile.read(sys.argv[2], dtype="float32")
    if rate != 16000 or audio.ndim != 1:
        sys.exit(f"{sys.argv[2]}: one channel at 16000 Hz is needed: ffmpeg -i {sys.argv[2]} -ac 1 -ar 16000 mono.wav")
    soundfile.write(sys.argv[3], enhance(Path(sys.argv[1]), audio, *map(np.load, sys.argv[4:])), rate)
