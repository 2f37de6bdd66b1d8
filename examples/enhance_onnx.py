"""Enhance a file with a model that `avse export` wrote: numpy, onnxruntime and soundfile, no PyTorch.

    avse export avse-live exported
    python examples/enhance_onnx.py exported noisy.wav speech.wav [mouth.npy]

`noisy.wav` is at 16 kHz. `mouth.npy` holds mouth crops at 25 frames per second, (video_frames, 88, 88), uint8, black
where no mouth is seen.
"""

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
    frames = -(-len(noisy) // hop) + size // (2 * hop)
    window = np.sqrt(np.hanning(size + 1)[:-1])
    padded = np.pad(noisy, (size // 2, frames * hop + size - len(noisy)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:frames]
    spectrum = np.fft.rfft(pieces * window).astype(np.complex64)
    inputs = {"spectrum": spectrum.view(np.float32).reshape(1, frames, -1, 2)}
    if "video.onnx" in about["graphs"]:
        video_frames = -(-len(noisy) // (hop * ratio))
        crops = np.zeros((video_frames, 88, 88), np.uint8)
        if mouth is not None:
            crops[: len(mouth)] = mouth[:video_frames]
        seen = crops.any(axis=(1, 2))
        [features] = run(folder, "video", {"mouth": crops[None], "valid": seen[None]}, about)
        shown = np.arange(frames) // ratio  # the last frame may belong to no video frame
        shown, inside = np.minimum(shown, video_frames - 1), shown < video_frames
        inputs["features"] = features[:, shown] * inside[:, None]
        inputs["valid"] = (seen[shown] & inside)[None]
    speech = run(folder, "audio", inputs, about)[0]
    waves = np.fft.irfft(speech[0, ..., 0] + 1j * speech[0, ..., 1], size) * window
    added = np.zeros((2, len(padded)))
    for number, wave in enumerate(waves):
        added[:, number * hop : number * hop + size] += wave, window**2
    found = (added[0] / np.maximum(added[1], 1e-11))[size // 2 :][: len(noisy)]
    if not about["causal"]:  # the rest is not to be negatively correlated with the speech
        found *= np.clip((found @ noisy) / max(found @ found, 1e-20), 0, 1)
    return found.astype(np.float32)


def run(folder: Path, name: str, inputs: dict[str, np.ndarray], about: dict) -> list[np.ndarray]:
    """What a graph gives for all frames: at once, or, of a causal model, frame by frame."""
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    if not about["causal"]:
        return session.run(None, inputs)
    kept = np.load(folder / "past.npz")
    past = {key.split("/")[1]: kept[key] for key in kept if key.startswith(name)}
    blocks = []
    for number in range(next(iter(inputs.values())).shape[1]):
        found = session.run(None, {key: all_[:, number : number + 1] for key, all_ in inputs.items()} | past)
        blocks.append(found[: len(found) - len(past)])
        past = dict(zip(past, found[len(blocks[0]) :]))
    return [np.concatenate(parts, axis=1) for parts in zip(*blocks)]


if __name__ == "__main__":
    exported, source, target, *rest = map(Path, sys.argv[1:])
    audio, rate = soundfile.read(source, dtype="float32")
    if rate != 16000 or audio.ndim != 1:
        sys.exit(f"{source}: one channel at 16000 Hz is needed; ffmpeg -i {source} -ac 1 -ar 16000 mono.wav makes one.")
    soundfile.write(target, enhance(exported, audio, np.load(rest[0]) if rest else None), rate)
