from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_drums import groove

from baselines.masks import apply_masks, soft_masks
from baselines.spectral import FACTORIZATION_STFT, StftConfig, stft


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    exponent=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    scale=st.sampled_from([1e-30, 1e-20, 1e-6, 1.0, 1e6]),
)
def test_masks_sum_to_one_wherever_there_is_energy(
    seed: int, exponent: float, scale: float
) -> None:
    rng = torch.Generator().manual_seed(seed)
    magnitudes = scale * torch.rand(2, 5, 6, 7, generator=rng) ** 3
    magnitudes *= torch.rand(2, 5, 6, 7, generator=rng) > 0.6
    masks = soft_masks(magnitudes, exponent)
    audible = magnitudes.amax(dim=1) > torch.finfo(torch.float32).tiny
    total = masks.sum(dim=1)
    torch.testing.assert_close(total[audible], torch.ones_like(total[audible]))
    assert bool(((masks >= 0) & (masks <= 1)).all())
    assert not masks[magnitudes == 0].any()


def test_masks_do_not_depend_on_the_scale_of_the_scores() -> None:
    magnitudes = torch.rand(5, 8, 9)
    torch.testing.assert_close(soft_masks(magnitudes, 2.0), soft_masks(1e-9 * magnitudes, 2.0))


def test_a_higher_exponent_gives_more_to_the_loudest() -> None:
    magnitudes = torch.tensor([3.0, 1.0]).view(2, 1, 1)
    assert soft_masks(magnitudes, 1.0)[0].item() == pytest.approx(0.75)
    assert soft_masks(magnitudes, 2.0)[0].item() == pytest.approx(0.9)


def test_masked_stems_add_up_to_the_mixture_on_both_channels() -> None:
    mixture = groove(30000)[0].sum(dim=0)
    spectrum = stft(mixture, FACTORIZATION_STFT)
    masks = soft_masks(torch.rand(5, *spectrum.shape[-2:])).unsqueeze(-3)
    stems = apply_masks(spectrum, masks, FACTORIZATION_STFT, 30000)
    assert stems.shape == (5, 2, 30000)
    torch.testing.assert_close(stems.sum(dim=0), mixture, atol=1e-5, rtol=0)


def test_one_mask_serves_both_channels_of_every_clip() -> None:
    config = StftConfig(256, 64)
    mixtures = torch.rand(3, 2, 1000) - 0.5
    spectrum = stft(mixtures, config)
    masks = torch.rand(3, 5, 1, *spectrum.shape[-2:])
    stems = apply_masks(spectrum, masks, config, 1000)
    assert stems.shape == (3, 5, 2, 1000)
    alone = apply_masks(spectrum[1, 1:], masks[1], config, 1000)
    torch.testing.assert_close(stems[1, :, 1:], alone)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("n_samples", [0, 1, 300, 5000])
def test_silence_and_short_and_mono_mixtures_give_finite_stems(
    n_channels: int, n_samples: int
) -> None:
    mixture = torch.zeros(n_channels, n_samples)
    spectrum = stft(mixture, FACTORIZATION_STFT)
    masks = soft_masks(torch.zeros(5, *spectrum.shape[-2:])).unsqueeze(-3)
    stems = apply_masks(spectrum, masks, FACTORIZATION_STFT, n_samples)
    assert torch.equal(stems, torch.zeros(5, n_channels, n_samples))
