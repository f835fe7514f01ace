from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_drums import groove
from torch import Tensor

from baselines.oracle import ORACLES, Oracle, ideal_masks, separate
from baselines.spectral import LARSNET_STFT, StftConfig, stft

WITH_MASKS: tuple[Oracle, ...] = ORACLES[2:]


def mean_sdr_db(reference: Tensor, estimate: Tensor) -> float:
    """Mean over stems of the plain signal-to-error ratio."""
    signal = reference.square().sum(dim=(1, 2))
    error = (reference - estimate).square().sum(dim=(1, 2))
    return float((10 * torch.log10(signal / error)).mean())


@pytest.fixture(scope="module")
def stems() -> Tensor:
    return groove(2 * 44100, seed=4)[0]


@pytest.fixture(scope="module")
def sdr(stems: Tensor) -> dict[str, float]:
    mixture = stems.sum(dim=0)
    return {
        oracle: mean_sdr_db(stems, separate(oracle, mixture=mixture, reference=stems))
        for oracle in ORACLES
    }


def test_oracles_come_in_the_order_that_theory_gives_them(sdr: dict[str, float]) -> None:
    assert sdr["zero"] == pytest.approx(0.0)
    assert sdr["mixture"] < sdr["ideal-ratio"] - 10
    assert sdr["mixture"] < sdr["ideal-binary"] - 10
    assert sdr["phase-sensitive"] == max(sdr.values())


def random_spectra(seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    reference = torch.randn(5, 2, 6, 7, generator=rng, dtype=torch.complex64)
    reference *= torch.rand(5, 2, 6, 7, generator=rng) ** 3
    return reference.sum(dim=0), reference


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_no_mask_comes_nearer_to_the_magnitude_than_the_magnitude_oracle(seed: int) -> None:
    """Cell by cell, against random masks in [0, 1] and against the other oracles."""
    mixture, reference = random_spectra(seed)
    rng = torch.Generator().manual_seed(seed + 1)

    def error(mask: Tensor) -> Tensor:
        return ((mask * mixture).abs() - reference.abs()).abs()

    best = error(ideal_masks("magnitude", mixture=mixture, reference=reference))
    rivals = [torch.rand(reference.shape, generator=rng)]
    rivals += [ideal_masks(o, mixture=mixture, reference=reference) for o in WITH_MASKS]
    for rival in rivals:
        assert bool((best <= error(rival) + 1e-6).all())


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_no_mask_comes_nearer_to_the_spectrum_than_the_phase_sensitive_oracle(seed: int) -> None:
    mixture, reference = random_spectra(seed)
    rng = torch.Generator().manual_seed(seed + 1)

    def error(mask: Tensor) -> Tensor:
        return (mask * mixture - reference).abs()

    best = error(ideal_masks("phase-sensitive", mixture=mixture, reference=reference))
    binary = ideal_masks("ideal-binary", mixture=mixture, reference=reference)
    rivals = [torch.rand(reference.shape, generator=rng), binary, 1 - binary]
    for rival in rivals:
        assert bool((best <= error(rival) + 1e-6).all())
    # and of the masks that are 0 or 1 the binary oracle is the best
    assert bool((error(binary) <= error(1 - binary) + 1e-6).all())


@pytest.mark.parametrize("oracle", WITH_MASKS)
def test_masks_lie_between_nothing_and_everything(oracle: Oracle) -> None:
    mixture, reference = random_spectra(0)
    masks = ideal_masks(oracle, mixture=mixture, reference=reference)
    assert masks.shape == reference.shape
    assert bool(((masks >= 0) & (masks <= 1)).all())


def test_ideal_ratio_masks_sum_to_one_and_their_stems_to_the_mixture(stems: Tensor) -> None:
    mixture, reference = random_spectra(1)
    masks = ideal_masks("ideal-ratio", mixture=mixture, reference=reference)
    torch.testing.assert_close(masks.sum(dim=0), torch.ones(2, 6, 7))
    whole = stems.sum(dim=0)
    config = StftConfig(2048, 512)
    estimate = separate("ideal-ratio", mixture=whole, reference=stems, config=config)
    torch.testing.assert_close(estimate.sum(dim=0), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("oracle", WITH_MASKS)
def test_the_nyquist_bin_is_lost_as_in_larsnet(oracle: Oracle) -> None:
    n_samples = 8192
    alternating = torch.ones(1, n_samples)
    alternating[:, 1::2] = -1  # all its energy is at the Nyquist frequency
    estimate = separate(oracle, mixture=alternating, reference=alternating[None])
    inner = estimate[..., 2048:-2048]
    assert inner.abs().max() < 0.6  # what leaked into the bins below
    assert stft(alternating, LARSNET_STFT).shape[-2] == 2048


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("shape", [(5, 2, 0), (5, 2, 1), (5, 1, 700), (2, 5, 2, 5000)])
def test_silence_in_gives_silence_out_at_any_length(oracle: Oracle, shape: tuple[int, ...]) -> None:
    reference = torch.zeros(shape)
    estimate = separate(oracle, mixture=reference.sum(dim=-3), reference=reference)
    assert torch.equal(estimate, reference)


@pytest.mark.parametrize("oracle", ORACLES)
def test_clips_of_a_batch_do_not_influence_each_other(oracle: Oracle, stems: Tensor) -> None:
    batch = torch.stack([stems[..., :20000], stems[..., 20000:40000]])
    together = separate(oracle, mixture=batch.sum(dim=1), reference=batch)
    alone = separate(oracle, mixture=batch[1].sum(dim=0), reference=batch[1])
    torch.testing.assert_close(together[1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("oracle", ["mixture", "zero"])
def test_a_bound_without_masks_has_none_to_give(oracle: Oracle) -> None:
    mixture, reference = random_spectra(2)
    with pytest.raises(ValueError, match="no masks"):
        ideal_masks(oracle, mixture=mixture, reference=reference)


def test_the_mixture_bound_is_the_mixture_in_memory_of_its_own(stems: Tensor) -> None:
    mixture = stems.sum(dim=0)
    estimate = separate("mixture", mixture=mixture, reference=stems)
    assert all(torch.equal(stem, mixture) for stem in estimate)
    estimate[0].zero_()
    assert mixture.any()
    assert estimate[1].any()
