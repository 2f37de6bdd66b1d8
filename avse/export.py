"""Models in the ONNX format, for programs without PyTorch: `export_onnx`."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from avse.contracts.prior import Context
from avse.contracts.streaming import FrameEstimate, StreamState
from avse.contracts.types import MOUTH_SIZE, SAMPLE_RATE, SAMPLES_PER_FRAME
from avse.enhancers.masking import SpectralMasker
from avse.errors import AvseError, needs_extra
from avse.files import atomic_folder, write_json
from avse.model import Model, load
from avse.model_folder import licence_of

BITS = (32, 8)
_AUDIO, _VIDEO, _PAST, _DESCRIPTION = "audio.onnx", "video.onnx", "past.npz", "export.json"
_OPSET = 18
_LARGEST = 1 << 30  # of a constant, such as a transposed weight


def export_onnx(model: Model | str | Path, folder: str | Path, bits: int = 32) -> list[Path]:
    """Write a model as graphs in the ONNX format; `examples/enhance_onnx.py` enhances a file with them.

    The folder gets `audio.onnx`, `video.onnx` if the model takes video, and `export.json`, which names inputs and
    outputs with their shapes. The transform stays outside the graphs: `export.json` says its sizes.

    - `audio.onnx`: `spectrum` (1, frames, bins, 2), real and imaginary parts; `features` (1, frames, dim), those of the
      video frame that each frame falls in; `valid` (1, frames), bool. It gives `speech`, shaped like `spectrum`,
      `reliability` (1, frames), and what else the model tells by frame.
    - `video.onnx`: `mouth` (1, video_frames, 88, 88), uint8; `valid` (1, video_frames), bool. It gives `features`.

    The graphs of a causal model take one frame. They also take `past_0`, `past_1`, ... and give `next_0`, `next_1`,
    ..., which are the past of the next frame; `past.npz` holds the past of the first frame, with names such as
    `audio/past_0`. The graphs of another model take a whole clip.

    Arguments
    ---------
    model : Model, or name or folder of one
        Of an enhancer that masks a spectrum (`avse-small`, `avse-live`, ...).
    folder : path
        Made if it is missing. Files of an earlier export are replaced.
    bits : int
        32, or 8: weights of matrix products in 8 bits (dynamic quantisation of ONNX Runtime).

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    AvseError
        If the packages are missing (`pip install 'avse[onnx]'`), or the model is none that can be exported.
    """
    if bits not in BITS:
        raise AvseError(f"bits must be 32 or 8, got {bits}.")
    with needs_extra("onnx", "Exports"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    model = model if isinstance(model, Model) else load(model)
    system, folder = _exportable(model), Path(folder)
    frames = 1 if system.causal else 8  # of the example that is traced
    graphs: dict[str, _Graph] = {_AUDIO: _Audio(system, frames)}
    if system.video_input.sees:
        graphs[_VIDEO] = _Video(system, frames)
    past: dict[str, np.ndarray] = {}
    described: dict[str, Any] = {}
    with atomic_folder(folder) as made:
        for name, graph in graphs.items():
            begun = graph.past()
            described[name] = _write(graph, begun, made / name, bits, by_frame=system.causal)
            past |= {f"{Path(name).stem}/past_{i}": values.numpy() for i, values in enumerate(begun)}
        if past:
            np.savez(made / _PAST, **cast(dict[str, Any], past))
        write_json(
            made / _DESCRIPTION,
            {
                "model": model.name,
                "licence": licence_of(model.description or {}),
                "causal": system.causal,
                "sample_rate": SAMPLE_RATE,
                "fft_size": system.fft_size,
                "hop": system.hop,
                "window": "square root of the periodic Hann window; frames are centred, beyond the ends is silence",
                "frames_per_video_frame": SAMPLES_PER_FRAME // system.hop,
                "bits": bits,
                "graphs": described,
            },
        )
    return [folder / name for name in (*graphs, *([_PAST] if past else []), _DESCRIPTION)]


def _exportable(model: Model) -> SpectralMasker:
    system = deepcopy(model.system).cpu().float().eval()  # the caller's stays on its device
    if not isinstance(system, SpectralMasker) or type(system).exchange is not SpectralMasker.exchange:
        raise AvseError(
            f"{model.name} ({type(system).__name__}) cannot be exported: that needs an enhancer of one speaker that "
            "masks a spectrum in one pass, such as avse-small or avse-live."
        )
    if system.causal and not system.streams:
        raise AvseError(f"{model.name} cannot be exported: a part of it carries no state from frame to frame.")
    return system


class _Graph(nn.Module):
    """A part of a system as a function of tensors alone: inputs and past in, outputs and the next past out."""

    inputs: dict[str, torch.Tensor]
    outputs: tuple[str, ...]

    def __init__(self, system: SpectralMasker) -> None:
        super().__init__()
        self.system = system
        self.keys: list[tuple[int, str]] = []

    def compute(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, by name those of `outputs`."""
        raise NotImplementedError

    def forward(self, inputs: list[torch.Tensor], past: list[torch.Tensor]) -> list[torch.Tensor]:
        state = StreamState()
        state.kept = dict(zip(self.keys, past))
        with state.block():
            outputs = self.compute(*inputs)
        return [*outputs, *(state.kept[key] for key in self.keys)]

    def past(self) -> list[torch.Tensor]:
        """What the layers keep before the first frame."""
        state = StreamState()
        with torch.no_grad(), state.block():
            self.compute(*self.inputs.values())
        self.keys = list(state.begun)
        return list(state.begun.values())


class _Audio(_Graph):
    """Frames of the transform, and the video of each, to those of speech."""

    def __init__(self, system: SpectralMasker, frames: int) -> None:
        super().__init__(system)
        self.inputs = {"spectrum": torch.randn(1, frames, system.fft_size // 2 + 1, 2)}
        if system.video_input.sees:
            self.inputs["features"] = torch.randn(1, frames, system.video_input.video_dim)
            self.inputs["valid"] = torch.ones(1, frames, dtype=torch.bool)
        self.outputs = ("speech", *self._found(*self.inputs.values()).by_frame)

    def compute(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self._found(*inputs)
        return torch.view_as_real(found.speech), *found.by_frame.values()

    def _found(self, spectrum: torch.Tensor, *video: torch.Tensor) -> FrameEstimate:
        inside = torch.ones_like(spectrum[..., 0, 0], dtype=torch.bool)
        features, valid = video or (None, torch.zeros_like(inside))
        return self.system.enhance_frames(torch.view_as_complex(spectrum), Context(inside, valid, features))


class _Video(_Graph):
    """Mouth crops to their features."""

    outputs = ("features",)

    def __init__(self, system: SpectralMasker, frames: int) -> None:
        super().__init__(system)
        mouth = torch.randint(0, 256, (1, frames, MOUTH_SIZE, MOUTH_SIZE), dtype=torch.uint8)
        self.inputs = {"mouth": mouth, "valid": torch.ones(1, frames, dtype=torch.bool)}

    def compute(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (cast(torch.Tensor, self.system.visual_features(*inputs)),)


def _write(graph: _Graph, past: list[torch.Tensor], path: Path, bits: int, by_frame: bool) -> dict[str, Any]:
    """Write a graph, and say what it takes and gives."""
    from onnxscript import optimizer

    inputs = list(graph.inputs.values())
    names = [*graph.inputs, *(f"past_{number}" for number in range(len(past)))]
    outputs = [*graph.outputs, *(f"next_{number}" for number in range(len(past)))]
    frames = None if by_frame else torch.export.Dim("frames", min=2, max=1_000_000)
    shapes: Any = None if frames is None else ([{1: frames} for _ in inputs], [])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            (inputs, past),
            dynamo=True,
            input_names=names,
            output_names=outputs,
            opset_version=_OPSET,
            dynamic_shapes=shapes,
            optimize=False,  # the optimizer takes floors of 1e-8 for zeros, and leaves them out
            verbose=False,
        )
        assert program is not None
        optimizer.inline(program.model)
        optimizer.fold_constants(program.model, input_size_limit=_LARGEST, output_size_limit=_LARGEST)
        optimizer.remove_unused_nodes(program.model)
    with _quiet():
        if bits == 32:
            program.save(path)
        else:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                program.model_proto, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
            )
    size = lambda values: [1, *(values.shape[1:] if by_frame else ("frames", *values.shape[2:]))]
    told = {name: {"shape": size(values), "type": _type(values)} for name, values in zip(names, inputs)}
    told |= {f"past_{n}": {"shape": list(values.shape), "type": _type(values)} for n, values in enumerate(past)}
    return {"inputs": told, "outputs": outputs}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk of themselves, by prints, warnings and the root of the loggers."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def _type(values: torch.Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
