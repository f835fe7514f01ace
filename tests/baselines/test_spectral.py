from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.spectral import (
    FACTORIZATION_STFT,
    LARSNET_STFT,
    StftConfig,
    istft,
    mono_magnitude,
    stft,
)

CONFIGS = (
    FACTORIZATION_STFT,
    StftConfig(256, 64),
    StftConfig(256, 128, pad_mode="reflect"),
    StftConfig(512, 128, margin_frames=3),
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@settings(deadline=None, max_examples=40)
@given(n_samples=st.integers(0, 5000), config=st.sampled_from(CONFIGS))
def test_istft_gives_back_every_sample_at_any_length(n_samples: int, config: StftConfig) -> None:
    waveform = noise(2, n_samples)
    spectrum = stft(waveform, config)
    assert spectrum.shape == (2, config.n_bins, config.n_frames(n_samples))
    back = istft(spectrum, config, n_samples)
    assert back.shape == waveform.shape
    torch.testing.assert_close(back, waveform, atol=1e-5, rtol=0)


def test_leading_axes_are_kept_and_do_not_mix() -> None:
    waveform = noise(3, 5, 2, 3000)
    spectrum = stft(waveform, FACTORIZATION_STFT)
    assert spectrum.shape[:3] == (3, 5, 2)
    torch.testing.assert_close(spectrum[1, 2, 1], stft(waveform[1, 2, 1], FACTORIZATION_STFT))
    assert istft(spectrum, FACTORIZATION_STFT, 3000).shape == waveform.shape


def test_one_dimensional_waveforms_work() -> None:
    waveform = noise(3000)
    spectrum = stft(waveform, FACTORIZATION_STFT)
    torch.testing.assert_close(
        istft(spectrum, FACTORIZATION_STFT, 3000), waveform, atol=1e-5, rtol=0
    )


def test_larsnet_stft_is_4096_1024_reflected_without_nyquist() -> None:
    waveform = noise(2, 44100)
    padded = torch.nn.functional.pad(waveform, (0, -44100 % 1024))
    expected = torch.stft(padded, 4096, 1024, window=torch.hann_window(4096), return_complex=True)[
        :, :2048
    ]
    assert torch.equal(stft(waveform, LARSNET_STFT), expected)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sample", [1024, 1500, 2000])
def test_an_impulse_is_loudest_in_the_frame_centred_on_it(config: StftConfig, sample: int) -> None:
    waveform = torch.zeros(4096)
    waveform[sample] = 1.0
    energy = stft(waveform, config).abs().sum(dim=0)
    assert energy.argmax().item() == config.frame_of_sample(sample)


def test_mono_magnitude_does_not_cancel_opposite_channels() -> None:
    left = noise(4096)
    spectrum = stft(torch.stack([left, -left]), FACTORIZATION_STFT)
    torch.testing.assert_close(mono_magnitude(spectrum), spectrum[0].abs())


def test_precision_of_the_waveform_is_kept() -> None:
    spectrum = stft(noise(2, 4096).double(), FACTORIZATION_STFT)
    assert spectrum.dtype == torch.complex128
    assert istft(spectrum, FACTORIZATION_STFT, 4096).dtype == torch.float64


@pytest.mark.parametrize("values", [(2048, 300), (2048, 2048), (2047, 89), (2048, 0)])
def test_an_analysis_that_cannot_be_undone_is_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"n_fft|hop_samples"):
        StftConfig(*values)
