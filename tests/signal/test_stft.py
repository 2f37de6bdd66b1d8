"""The transform against a sum written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avse.signal.stft import (
    expand,
    expand_moments,
    istft,
    length_mask,
    overlap_gain,
    repeat_to_frames,
    stft,
    stft_frames,
)


@pytest.mark.parametrize("samples", [1, 319, 320, 641, 1000])
@pytest.mark.parametrize(("fft_size", "hop"), [(640, 320), (512, 128)])
def test_matches_the_definition(samples: int, fft_size: int, hop: int) -> None:
    rng = np.random.default_rng(samples)
    signal = rng.standard_normal(samples)
    spectrum = stft(torch.from_numpy(signal)[None], fft_size, hop)[0].numpy()
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft_size) / fft_size))
    assert spectrum.shape == (stft_frames(samples, fft_size, hop), fft_size // 2 + 1)
    for step in range(len(spectrum)):
        position = step * hop - fft_size // 2 + np.arange(fft_size)
        mask = (position >= 0) & (position < samples)
        frame = np.where(mask, signal[np.clip(position, 0, samples - 1)], 0.0) * window
        kernel = np.exp(-2j * np.pi * np.outer(np.arange(fft_size // 2 + 1), np.arange(fft_size)) / fft_size)
        np.testing.assert_allclose(spectrum[step], kernel @ frame, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 640, 5000, 16001])
def test_inverse(samples: int) -> None:
    signal = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(istft(stft(signal, 640, 320), 640, 320, samples), signal, atol=1e-10)


def test_padding_changes_no_step_of_a_clip() -> None:
    signal = torch.randn(1, 3000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([signal, torch.zeros(1, 2000, dtype=torch.float64)], dim=1)
    short, long = stft(signal, 640, 320), stft(padded, 640, 320)
    assert torch.allclose(long[:, : short.shape[1]], short, atol=1e-12)
    assert float(long[:, short.shape[1] :].abs().max()) == 0.0


@pytest.mark.parametrize(("fft_size", "hop"), [(1024, 320), (640, 320), (512, 128)])
def test_overlap_gain_makes_of_a_padded_clip_what_it_is_alone(fft_size: int, hop: int) -> None:
    lengths = torch.tensor([4000, 3200, 2881, 640, 1])
    generator = torch.Generator().manual_seed(2)
    signal = torch.randn(5, 4000, dtype=torch.float64, generator=generator) * length_mask(lengths, 4000)
    changed = stft(signal, fft_size, hop)
    changed = changed * torch.rand(changed.shape, dtype=torch.float64, generator=generator)
    frames = stft_frames(lengths, fft_size, hop)
    inside = changed * length_mask(frames, changed.shape[1])[..., None]
    together = istft(inside, fft_size, hop, 4000) * overlap_gain(lengths, fft_size, hop, 4000)
    for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist())):
        alone = istft(changed[row : row + 1, :count], fft_size, hop, length)[0]
        torch.testing.assert_close(together[row, :length], alone, rtol=0, atol=1e-12)
        assert not together[row, length:].any()


def test_repeat_to_steps_cuts_and_fills() -> None:
    frames = torch.tensor([[True, False, True]])
    assert repeat_to_frames(frames, 4, 2).tolist() == [[True, True, False, False]]
    assert repeat_to_frames(frames, 8, 2).tolist() == [[True, True, False, False, True, True, False, False]]


@pytest.mark.parametrize("variance", [1e-3, 0.02, 0.5, 10.0])
def test_moments_of_what_was_compressed_against_draws(variance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2_000_000, 2, dtype=torch.float64, generator=generator) * (variance / 2) ** 0.5
    for mean in (0.0, 0.1 - 0.2j, 3.0):
        spectra = expand(mean + torch.view_as_complex(drawn))
        around, spread = expand_moments(torch.tensor(mean + 0j), torch.tensor(variance))
        assert abs(complex(around) - complex(spectra.mean())) < 4e-3 * float(spectra.var()) ** 0.5
        assert float(spread) == pytest.approx(float(spectra.var()), rel=0.02)


def test_moments_pass_smoothly_into_their_series() -> None:
    mean = torch.tensor([0.5 + 0j]).to(torch.complex128)
    below, above = (expand_moments(mean, torch.tensor([0.25 / ratio]).double()) for ratio in (9999.9, 10000.1))
    for one, two in zip(below, above):
        torch.testing.assert_close(one, two, rtol=3e-5, atol=0)
    exact = expand_moments(mean, torch.tensor([1e-20]).double())
    torch.testing.assert_close(exact[0], expand(mean))
    assert float(exact[1]) == pytest.approx(2.5 * 0.25 * 1e-20 / 0.3**4, rel=1e-6)
