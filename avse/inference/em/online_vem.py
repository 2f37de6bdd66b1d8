"""Inference `online_vem`: variational EM over a stream, block by block, with exponential forgetting."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch.nn import functional as F

from avse.contracts.inference import Inference, latest_within, no_gradient
from avse.contracts.noise_model import NoiseModel, State
from avse.contracts.prior import Context, LatentPrior
from avse.contracts.streaming import FrameEstimate, StreamState, memory_of, whole_clip
from avse.contracts.types import MOUTH_SIZE, SAMPLE_RATE, SAMPLES_PER_FRAME, Batch, Estimate
from avse.inference.em import steps
from avse.inference.em.driver import ENCODERS, reliabilities
from avse.inference.em.state import EmState, SpeechModel
from avse.plugins import register
from avse.signal.levels import LEVEL
from avse.signal.stft import length_mask, overlap_gain, pool_to_video_frames, repeat_to_frames, stft_frames

_AT_ONCE = 100  # frames of a whole clip that are taken at once
_LEVEL_SECONDS = 10.0  # time constant of the level
_VIDEO_BEFORE = 8  # video frames before a block that the visual front-end sees with it
_TINY = 1e-20  # of power


@dataclass
class _Window:
    """What is known of a stream. Tensors have the shape (batch, frames, ...)."""

    spectrum: torch.Tensor  # of the noisy audio: the block and what comes after it
    power: torch.Tensor  # at a common level: the whole window, as are the next two
    mask: torch.Tensor
    valid: torch.Tensor
    crops: torch.Tensor  # of video frames: those the front-end sees
    features: torch.Tensor | None  # of video frames: the whole window
    wiener: torch.Tensor  # that is found and has not gone out
    by_frame: dict[str, torch.Tensor]
    level: torch.Tensor  # (batch, 2): power of the frames so far and their number, with forgetting
    noise_state: State | None = None
    count: int = 0  # frames that came
    traces: list[list[torch.Tensor]] = field(default_factory=list)


@register("inference", "online_vem")
class OnlineVEM(Inference):
    """Variational EM that follows a stream: each block of frames takes a few iterations on a window that ends with it.

        window : `context` frames before the block, the block, `lookahead` frames after it
        E-step : q(z) is the encoder's, as of `vem`, on the window
        M-step : the noise model's, in which a frame of age a counts by exp(-a / `forgetting`)

    The noise begins each block where the last one left it (warm start), and the gains of new frames at the mean of
    those of the block before. The level is that of the audio so far, the last ten seconds above all. For a whole clip
    the result is that of the stream. Any prior and any noise model will do, also those that look ahead: they see the
    window.

    What comes is late by `block` - 1 + `lookahead` frames, and by a window of the transform.

    Arguments
    ---------
    prior : LatentPrior
    noise_model : NoiseModel
    iterations : int
        Of each block.
    begin_iterations : int
        Of the first block, if these are more.
    m_steps : int
        Updates of the noise in each iteration.
    block, context, lookahead : int
        In frames; each a whole number of video frames.
    forgetting : float
        Seconds in which the weight of a frame falls to 1 / e.
    encoder : str
        See `LatentInference`.

    Attributes
    ----------
    delay : int
        Frames; see `StreamingSystem`.
    latency : int
        Samples.

    Raises
    ------
    ValueError
        If a number of frames is no whole number of video frames, or out of range.

    Example
    -------
    >>> from avse.conformance import example_batch
    >>> inference = OnlineVEM.example()
    >>> inference(example_batch((3200, 1600))).speech.shape, inference.delay
    (torch.Size([2, 3200]), 3)
    """

    paper = "Lefèvre, Bach and Févotte, Online algorithms for NMF with the Itakura-Saito divergence, 2011"
    accepts = (LatentPrior,)
    causal = streams = True
    prior: LatentPrior

    def __init__(
        self,
        prior: LatentPrior,
        noise_model: NoiseModel,
        iterations: int = 6,
        m_steps: int = 1,
        block: int = 16,
        context: int = 100,
        lookahead: int = 16,
        forgetting: float = 5.0,
        encoder: str = "amortised",
        begin_iterations: int = 30,
    ) -> None:
        super().__init__(prior, noise_model, iterations)
        self.ratio = SAMPLES_PER_FRAME // prior.hop
        for name, frames, least in (("block", block, 1), ("context", context, 0), ("lookahead", lookahead, 0)):
            if frames < least or frames % self.ratio:
                raise ValueError(
                    f"{name} must be at least {least} and a multiple of {self.ratio} frames, got {frames}."
                )
        if m_steps < 1 or forgetting <= 0:
            raise ValueError(f"m_steps must be at least 1 and forgetting above 0, got {m_steps} and {forgetting}.")
        if encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}.")
        self.m_steps, self.block, self.context, self.lookahead = m_steps, block, context, lookahead
        self.forgetting, self.encoder, self.begin_iterations = forgetting, encoder, begin_iterations
        self.fft_size, self.hop, self.delay = prior.fft_size, prior.hop, block - 1 + lookahead
        self.latency = self.fft_size + self.delay * self.hop

    @classmethod
    def example_arguments(cls) -> dict:
        from avse import plugins

        prior, noise_model = plugins.get("prior", "vae").example(), plugins.get("noise_model", "nmf")(rank=2)
        small = {"iterations": 2, "block": 2, "context": 4, "lookahead": 2}
        return {"prior": prior, "noise_model": noise_model, **small}

    def visual_features(self, mouth: torch.Tensor, valid: torch.Tensor) -> torch.Tensor | None:
        """The crops themselves, flat: the front-end of the prior sees them in a window. See `StreamingSystem`."""
        return mouth.flatten(2)

    def enhance_frames(
        self, spectrum: torch.Tensor, context: Context, mixture: torch.Tensor | None = None
    ) -> FrameEstimate:
        """Frames of a stream that are finished; see `StreamingSystem`."""
        with torch.no_grad():
            found = self._advance(spectrum, context, self.iterations)
        memory_of(self, lambda: cast(_Window, None)).traces.clear()  # a stream is as long as it likes
        return found

    def forward(self, batch: Batch, seconds: float | None = None) -> Estimate:
        """See `Inference.forward`; each block takes all iterations at once, unless time is short."""
        if seconds is None:
            return self._whole(batch, self.iterations)
        return latest_within(self.iterate(batch), seconds)

    def iterate(self, batch: Batch) -> Iterator[Estimate]:
        """The estimates with one iteration of each block, with two, and so on; see `Inference.iterate`."""
        for iterations in range(1, self.iterations + 1):
            yield self._whole(batch, iterations)

    def _whole(self, batch: Batch, iterations: int) -> Estimate:
        """The estimate of whole clips, found as that of a stream."""
        samples, late, ratio = batch.noisy.shape[1], self.delay, self.ratio
        with no_gradient(batch):
            noisy = batch.noisy.clone()
            frames = stft_frames(samples, self.fft_size, self.hop) + late
            mask = length_mask(stft_frames(batch.lengths, self.fft_size, self.hop), frames)
            spectrum = F.pad(self.prior.analyse(noisy), (0, 0, 0, late)) * mask[..., None]
            state, found = StreamState(), []
            for first in range(0, frames, _AT_ONCE):
                inside, video = mask[:, first : first + _AT_ONCE], slice(first // ratio, (first + _AT_ONCE) // ratio)
                shown = batch.valid[:, video], batch.mouth[:, video].flatten(2)
                valid, crops = (repeat_to_frames(values, inside.shape[1], ratio) for values in shown)
                context = Context(inside, valid & inside, crops)
                with state.block():
                    found.append(self._advance(spectrum[:, first : first + _AT_ONCE], context, iterations, batch.scene))
                    traces = memory_of(self, lambda: cast(_Window, None)).traces
            together = {name: torch.cat([each.by_frame[name] for each in found], dim=1) for name in found[0].by_frame}
            speech = self.prior.synthesise(torch.cat([each.speech for each in found], dim=1)[:, late:], samples)
            speech = speech * overlap_gain(batch.lengths, self.fft_size, self.hop, samples).to(noisy)
            told: dict[str, Any] = {name: pool_to_video_frames(values[:, late:], batch.valid.shape[1], ratio).float()
                    for name, values in together.items()}  # fmt: skip
            trace = torch.stack([torch.stack(values) for values in traces]).mean(dim=0).tolist()
            return Estimate(speech=speech, noise=noisy - speech, lengths=batch.lengths, trace=trace, **told)

    def _advance(
        self, spectrum: torch.Tensor, context: Context, iterations: int, scene: torch.Tensor | None = None
    ) -> FrameEstimate:
        """Take the next frames, and give as many: those of `delay` frames ago."""
        window = memory_of(self, lambda: self._begin(spectrum, context))
        frames, first = spectrum.shape[1], 0
        noisy = torch.cat([window.spectrum, spectrum], dim=1)
        while first < frames:
            wanted = self.block - (window.count - self.lookahead) % self.block  # up to the end of a block
            last = min(first + wanted, frames)
            piece = slice(first, last)
            self._take(window, spectrum[:, piece], context.map(partial(_frames, piece=piece)))
            if last - first == wanted and window.count >= self.block + self.lookahead:
                with whole_clip():
                    self._compute(window, iterations, scene)
            first = last
        # The frame that came last is the newest of the window; what goes out with it came `delay` frames before.
        ready = noisy[:, noisy.shape[1] - frames - self.delay :][:, :frames]
        speech = ready * window.wiener[:, :frames]
        by_frame = {name: values[:, :frames] for name, values in window.by_frame.items()}
        window.wiener = window.wiener[:, frames:]
        window.by_frame = {name: values[:, frames:] for name, values in window.by_frame.items()}
        return FrameEstimate(speech, by_frame)

    def _begin(self, spectrum: torch.Tensor, context: Context) -> _Window:
        """Nothing, before the first frame."""
        batch, _, bins = spectrum.shape
        frames = self.context + self.block + self.lookahead
        seen = (self.block + self.lookahead) // self.ratio + _VIDEO_BEFORE
        zeros, none = spectrum.real.new_zeros, context.mask.new_zeros(batch, frames)
        crops = torch.zeros(batch, seen, MOUTH_SIZE**2, dtype=torch.uint8, device=spectrum.device)
        by_frame = {"reliability": zeros(batch, self.delay)}
        noisy = spectrum.new_zeros(batch, self.block + self.lookahead, bins)
        told = zeros(batch, self.delay, bins)
        return _Window(noisy, zeros(batch, frames, bins), none, none, crops, None, told, by_frame, zeros(batch, 2))

    def _take(self, window: _Window, spectrum: torch.Tensor, context: Context) -> None:
        """Put frames, at most up to the end of a block, at the end of a window."""

        def shifted(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            return torch.cat([old, new], dim=1)[:, -old.shape[1] :]

        begun = window.count % self.ratio  # frames of the last video frame that came before
        crops = torch.zeros(0) if context.video is None else context.video[:, (-begun) % self.ratio :: self.ratio]
        if context.video is None:
            number = (window.count + spectrum.shape[1] - 1) // self.ratio - (window.count - 1) // self.ratio
            crops = window.crops.new_zeros(len(spectrum), number, window.crops.shape[2])
        window.crops = shifted(window.crops, crops)
        window.spectrum = shifted(window.spectrum, spectrum)
        window.mask, window.valid = shifted(window.mask, context.mask), shifted(window.valid, context.valid)
        window.count += spectrum.shape[1]

    def _compute(self, window: _Window, iterations: int, scene: torch.Tensor | None) -> None:
        """Find the speech of a block: all frames are there."""
        begins = window.noise_state is None
        new = self.block + self.lookahead if begins else self.block
        kept = window.mask.shape[1] - new
        mask = window.mask[..., None]
        noisy = window.spectrum[:, -new:].abs().square() * mask[:, kept:]
        window.power = torch.cat([window.power[:, -kept:], noisy * self._scale(window, noisy, mask[:, kept:])], dim=1)
        noise_state = self._noise_of(window, kept, scene)
        context = Context(window.mask, *self._seen(window))
        noise_model = cast(NoiseModel, _Forgetting(self.noise_model, self._weights(window.power)))
        gain = mask.to(window.power)
        variance = noise_model.variance(noise_state)
        state = EmState(SpeechModel(self.prior, context), window.power, window.mask, [], gain, noise_state, variance)
        trace = []
        for _ in range(max(iterations, self.begin_iterations) if begins else iterations):
            state = steps.e_step(state, steps.encoder_step, self.encoder)
            for _ in range(self.m_steps):
                [state], [statistics] = steps.m_step([state], noise_model, None, window.mask.shape[1])
            trace.append(steps.objective([state], [statistics], None).mean())
        window.traces.append(trace[-iterations:])
        window.noise_state = state.noise_state
        piece = slice(self.context, self.context + self.block)
        of_video, of_audio = reliabilities(state)
        told = (
            {"reliability": of_video} if of_audio is None else {"reliability": of_video, "audio_reliability": of_audio}
        )
        window.wiener = torch.cat([window.wiener, statistics.wiener[:, piece] * mask[:, piece]], dim=1)
        for name, values in told.items():
            before = window.by_frame.get(name, torch.zeros_like(window.by_frame["reliability"]))
            window.by_frame[name] = torch.cat([before, values[:, piece] * window.mask[:, piece]], dim=1)

    def _scale(self, window: _Window, noisy: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What brings the power of new frames to the level that priors are trained at, (batch, 1, 1)."""
        left = math.exp(-noisy.shape[1] * self.hop / (SAMPLE_RATE * _LEVEL_SECONDS))
        came = torch.stack([noisy.mean(dim=2).sum(dim=1), mask[..., 0].sum(dim=1).to(noisy)], dim=1)
        window.level = left * window.level + came
        mean = (window.level[:, 0] / window.level[:, 1].clamp(min=1e-3)).clamp(min=_TINY)
        return (0.5 * self.fft_size * LEVEL**2 / mean)[:, None, None]

    def _noise_of(self, window: _Window, kept: int, scene: torch.Tensor | None) -> State:
        """The noise's state for the window: at the beginning its first, later that of the last block, moved on."""
        frames, new = window.mask.shape[1], window.mask.shape[1] - kept
        if window.noise_state is None:
            state = self.noise_model.initial_state(window.power[:, kept:], window.mask[:, kept:], scene)
            # Frames before the first are outside the mask; what they hold is finite and does not count.
            by_frame = [name for name, value in state.items() if value.ndim == 3 and value.shape[1] == new]
            before = {name: state[name][:, :1].expand(-1, kept, -1) for name in by_frame}
            return state | {name: torch.cat([before[name], state[name]], dim=1) for name in by_frame}
        moved = {}
        for name, value in window.noise_state.items():
            if value.ndim == 3 and value.shape[1] == frames:  # by frame
                mean = value[:, -new:].mean(dim=1, keepdim=True)
                value = torch.cat([value[:, new:], mean.expand(-1, new, -1)], dim=1)
            moved[name] = value
        return moved

    def _seen(self, window: _Window) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Where a mouth is seen in the window, and the features of the video."""
        frames, seen = window.mask.shape[1], window.crops.shape[1]
        valid = window.valid[:, :: self.ratio]
        batch = len(valid)
        before = max(0, seen - valid.shape[1])
        crops, shown = window.crops[:, before:].unflatten(2, (MOUTH_SIZE, MOUTH_SIZE)), valid[:, -seen:]
        lengths = torch.full((batch,), SAMPLES_PER_FRAME * shown.shape[1], device=valid.device)
        audio = window.power.new_zeros(batch, SAMPLES_PER_FRAME * shown.shape[1])
        features = self.prior.visual_features(Batch(audio, lengths, crops, shown))
        if features is None:
            return window.valid, None
        if window.features is None:
            window.features = features.new_zeros(batch, valid.shape[1], features.shape[2])
        # Those of frames at the left edge were found when more was seen before them.
        fresh = (self.block + self.lookahead) // self.ratio
        old = window.features[:, self.block // self.ratio :]
        window.features = torch.cat([old[:, : valid.shape[1] - fresh], features[:, -fresh:]], dim=1)
        if not bool(window.valid.any()):
            return window.valid, None
        video = repeat_to_frames(window.features, frames, self.ratio)
        return window.valid, torch.where(window.valid[..., None], video, video.new_zeros(()))

    def _weights(self, like: torch.Tensor) -> torch.Tensor:
        """How much frames count by their age, (1, frames, 1)."""
        ages = torch.arange(like.shape[1] - 1, -1, -1, device=like.device) * self.hop / SAMPLE_RATE
        return (-ages / self.forgetting).exp().to(like)[None, :, None]


def _frames(value: torch.Tensor, piece: slice) -> torch.Tensor:
    return value[:, piece]


class _Forgetting:
    """A noise model for `steps.m_step` in whose updates frames have weights."""

    def __init__(self, noise_model: NoiseModel, weights: torch.Tensor) -> None:
        self._noise_model, self._weights = noise_model, weights
        self.variance = noise_model.variance

    def update(self, state: State, numerator: torch.Tensor, denominator: torch.Tensor) -> State:
        return self._noise_model.update(state, self._weights * numerator, self._weights * denominator)
