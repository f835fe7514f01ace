"""BSS Eval v4 beside museval itself, and what it does where museval gives no number."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy import linalg

from benchmarks.scores import bsseval, projection
from benchmarks.scores.metrics import Floats
from benchmarks.speed.bsseval import (
    flawed_estimates,
    largest_difference_db,
    museval_frames,
    synthetic_drums,
)

SECOND = 44100
TOLERANCE_DB = 1e-4
"""A hundredth of what is promised: most cases agree to 1e-8."""


def our_frames(reference: Floats, estimate: Floats, n_taps: int = 512) -> bsseval.FrameScores:
    prepared = bsseval.prepare_reference(reference=reference, against="each", n_taps=n_taps)
    return bsseval.score_frames(prepared, estimate=estimate)


@pytest.fixture(scope="module")
def drums() -> Floats:
    return synthetic_drums(3, 2.3, hits_per_sec=5, seed=3)


def sparse_drums() -> Floats:
    """Three stems of 4 s: everywhere, seconds 0 and 1 only, and absent."""
    drums = synthetic_drums(3, 4, hits_per_sec=6, seed=4)
    drums[1, :, 2 * SECOND :] = 0
    drums[2] = 0
    return drums


def test_all_measures_equal_musevals_with_its_default_filters(drums: Floats) -> None:
    reference = drums[:2]
    estimate = flawed_estimates(reference, seed=1)
    theirs = museval_frames(reference, estimate)
    assert largest_difference_db(our_frames(reference, estimate), theirs) < TOLERANCE_DB
    assert np.isfinite(np.stack(astuple(theirs))).all()


def mono(stems: Floats) -> Floats:
    """Both channels alike but for a gain: museval's normal equations are singular."""
    return stems[:, :1] * np.array([[[1.0], [0.7]]])


def quantized(stems: Floats) -> Floats:
    return np.round(stems * 2**15) / 2**15


def with_a_near_silent_stem(stems: Floats) -> Floats:
    return stems * np.array([1.0, 1e-5])[:, None, None]


def with_a_pure_tone(stems: Floats) -> Floats:
    tone = np.sin(2 * np.pi * 60 * np.arange(stems.shape[-1]) / SECOND)
    return np.stack([stems[0], np.stack([0.5 * tone, 0.3 * tone])])


def with_a_silent_channel(stems: Floats) -> Floats:
    return stems * np.array([[1, 1], [0, 1]])[:, :, None]


def with_a_gap(stems: Floats) -> Floats:
    gapped = stems.copy()
    gapped[1, :, SECOND : 2 * SECOND] = 0
    return gapped


def very_quiet(stems: Floats) -> Floats:
    return 1e-4 * quantized(stems)


@pytest.mark.parametrize(
    "alter",
    [
        mono,
        quantized,
        with_a_near_silent_stem,
        with_a_pure_tone,
        with_a_silent_channel,
        with_a_gap,
        very_quiet,
    ],
)
def test_hard_references_score_as_in_museval(alter: object, drums: Floats) -> None:
    reference = alter(drums[:2])  # type: ignore[operator]
    estimate = flawed_estimates(reference, seed=2)
    ours, theirs = our_frames(reference, estimate, 128), museval_frames(reference, estimate, 128)
    assert largest_difference_db(ours, theirs) < TOLERANCE_DB


@pytest.mark.parametrize("n_samples", [SECOND // 2, SECOND, SECOND + 1, 2 * SECOND + 100])
def test_frames_are_musevals_for_any_length(n_samples: int, drums: Floats) -> None:
    reference = drums[:2, :, 10000 : 10000 + n_samples]
    estimate = flawed_estimates(reference, seed=3)
    ours, theirs = our_frames(reference, estimate, 64), museval_frames(reference, estimate, 64)
    assert ours.sdr_db.shape == theirs.sdr_db.shape
    assert largest_difference_db(ours, theirs) < TOLERANCE_DB


def test_frames_with_a_silent_estimate_are_nan_against_each(drums: Floats) -> None:
    estimate = flawed_estimates(drums, seed=3)
    estimate[0, :, SECOND : 2 * SECOND] = 0
    undefined = np.isnan(np.stack(astuple(our_frames(drums, estimate, 32))))
    assert undefined.any(axis=(0, 1)).tolist() == [False, True]
    assert undefined.all(axis=(0, 1)).tolist() == [False, True]


def test_a_stem_against_the_rest_scores_as_two_sources_in_museval(drums: Floats) -> None:
    """Whatever stands for the estimate of the rest: it has no part in the stem's scores."""
    estimate = flawed_estimates(drums, seed=4)
    prepared = bsseval.prepare_reference(reference=drums, n_taps=128)
    ours = np.stack(astuple(bsseval.score_frames(prepared, estimate=estimate)))
    two = np.stack([drums[1], drums[0] + drums[2]])
    for rest in (drums.sum(axis=0) - estimate[1], estimate[0] + estimate[2]):
        theirs = museval_frames(two, np.stack([estimate[1], rest]), 128)
        assert np.abs(ours[:, 1] - np.stack(astuple(theirs))[:, 0]).max() < TOLERANCE_DB


def test_sdr_is_the_closed_form_over_each_stems_own_active_frames() -> None:
    reference = sparse_drums()
    estimate = flawed_estimates(reference, seed=5)
    scores = bsseval.score_frames(
        bsseval.prepare_reference(reference=reference, n_taps=32), estimate=estimate
    )
    frames = reference.reshape(3, 2, 4, SECOND)
    errors = frames - estimate.reshape(3, 2, 4, SECOND)
    active = frames.any(axis=(1, 3))
    assert active.sum(axis=1).tolist() == [4, 2, 0]
    with np.errstate(divide="ignore"):
        closed = 10 * np.log10(np.sum(frames**2, axis=(1, 3)) / np.sum(errors**2, axis=(1, 3)))
    assert np.array_equal(np.isfinite(scores.sdr_db), active)
    assert np.abs(scores.sdr_db[active] - closed[active]).max() < 1e-9


def test_the_number_of_frames_used_is_reported_for_each_stem() -> None:
    reference = sparse_drums()
    scores = bsseval.bss_eval(reference=reference, estimate=flawed_estimates(reference, seed=5))
    assert [(s.n_frames, s.n_sir_frames) for s in scores] == [(4, 2), (2, 2), (0, 0)]
    assert np.isnan(astuple(scores[2])[:4]).all()


def test_medians_are_over_active_frames(drums: Floats) -> None:
    prepared = bsseval.prepare_reference(reference=drums, n_taps=32)
    frames = bsseval.score_frames(prepared, estimate=flawed_estimates(drums, seed=1))
    (_, snare, _) = bsseval.summarize(frames)
    assert snare.sir_db == np.median(frames.sir_db[1])


def test_a_prepared_reference_serves_many_estimates(drums: Floats) -> None:
    prepared = bsseval.prepare_reference(reference=drums, n_taps=64)
    first, second = (flawed_estimates(drums, seed=seed) for seed in (1, 2))
    bsseval.score_frames(prepared, estimate=first)
    again = bsseval.score_frames(prepared, estimate=second)
    fresh = bsseval.score_frames(
        bsseval.prepare_reference(reference=drums, n_taps=64), estimate=second
    )
    assert np.array_equal(np.stack(astuple(again)), np.stack(astuple(fresh)))


def test_single_precision_is_neither_copied_whole_nor_scored_otherwise(drums: Floats) -> None:
    """Of four minutes and five stems, copies in float64 are gigabytes."""
    reference = drums.astype(np.float32)
    estimate = flawed_estimates(drums, seed=2).astype(np.float32)
    prepared = bsseval.prepare_reference(reference=reference)
    assert np.shares_memory(prepared.audio, reference)
    single = bsseval.score_frames(prepared, estimate=estimate)
    double = bsseval.score_frames(
        bsseval.prepare_reference(reference=reference.astype(np.float64)),
        estimate=estimate.astype(np.float64),
    )
    np.testing.assert_array_equal(astuple(single), astuple(double))


def test_an_estimate_that_is_silent_throughout_scores_as_silent_stems_do(drums: Floats) -> None:
    prepared = bsseval.prepare_reference(reference=drums, n_taps=64)
    one_by_one = []
    for i in range(len(drums)):
        estimate = flawed_estimates(drums, seed=1)
        estimate[i] = 0
        one_by_one.append(
            np.stack(astuple(bsseval.score_frames(prepared, estimate=estimate)))[:, i]
        )
    silence = bsseval.score_frames(prepared, estimate=np.zeros_like(drums))
    expected = np.stack(one_by_one, axis=1)
    np.testing.assert_allclose(np.stack(astuple(silence)), expected, rtol=0, atol=1e-9)


def test_a_silent_estimate_scores_zero_sdr_and_no_sir(drums: Floats) -> None:
    estimate = flawed_estimates(drums, seed=1)
    estimate[0] = 0
    kick = bsseval.bss_eval(reference=drums, estimate=estimate)[0]
    assert (kick.sdr_db, kick.n_frames, kick.n_sir_frames) == (0, 2, 0)
    assert kick.isr_db == pytest.approx(0)
    assert np.isnan([kick.sir_db, kick.sar_db]).all()


def test_a_stem_that_sounds_alone_has_no_sir(drums: Floats) -> None:
    solo = drums * np.array([1, 0, 0])[:, None, None]
    kick = bsseval.bss_eval(reference=solo, estimate=flawed_estimates(solo, seed=1))[0]
    assert np.isnan(kick.sir_db)
    assert np.isfinite([kick.sdr_db, kick.isr_db, kick.sar_db]).all()


def test_bleed_lowers_sir_and_noise_lowers_sar(drums: Floats) -> None:
    prepared = bsseval.prepare_reference(reference=drums, n_taps=64)
    noise = 0.01 * np.random.default_rng(0).standard_normal(drums.shape)
    bleed = drums + 0.1 * drums.sum(axis=0)

    def kick(estimate: Floats) -> bsseval.TrackScores:
        return bsseval.summarize(bsseval.score_frames(prepared, estimate=estimate))[0]

    noisy, bled = kick(drums + noise), kick(bleed)
    assert bled.sir_db < noisy.sir_db - 10
    assert noisy.sar_db < bled.sar_db - 10


def test_a_filtered_stem_lowers_isr_alone(drums: Floats) -> None:
    darker = drums + 0.5 * np.roll(drums, 1, axis=-1)
    kick = bsseval.bss_eval(reference=drums, estimate=darker)[0]
    assert kick.isr_db < 10
    assert kick.sir_db > 40
    assert kick.sar_db > 40


@pytest.mark.parametrize(
    ("reference", "estimate", "against", "message"),
    [
        (np.ones((2, 2, 9)), np.ones((2, 2, 8)), "rest", "estimate is of shape"),
        (np.ones((2, 2, 9)), np.full((2, 2, 9), np.nan), "rest", "NaN"),
        (np.zeros((2, 2, 9)), np.ones((2, 2, 9)), "rest", "every reference is silent"),
        (np.ones((2, 9)), np.ones((2, 9)), "rest", "reference must be"),
        (np.ones((2, 2, 0)), np.ones((2, 2, 0)), "rest", "is empty"),
        (np.eye(2)[:, :1, None], np.ones((2, 1, 1)), "each", "a reference is silent"),
        (np.ones((2, 1, 1)), np.eye(2)[:, :1, None], "each", "an estimate is silent"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    reference: Floats, estimate: Floats, against: bsseval.Against, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        bsseval.bss_eval(reference=reference, estimate=estimate, against=against)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_samples", [1, 30, 700])
def test_signals_shorter_than_the_filters_are_scored(n_samples: int, drums: Floats) -> None:
    reference = drums[..., 30000 : 30000 + n_samples]
    estimate = flawed_estimates(reference, seed=0)
    for scores in bsseval.bss_eval(reference=reference, estimate=estimate):
        assert np.isfinite(scores.sdr_db)


@pytest.mark.parametrize("n_samples", [5, 64, 4096, 70000])
def test_correlations_are_those_of_the_definition(n_samples: int) -> None:
    rng = np.random.default_rng(n_samples)
    left, right = rng.standard_normal((2, n_samples)), rng.standard_normal((3, n_samples))
    lags = projection.correlate(left, right, 64)
    delayed = np.concatenate([np.zeros((2, 50)), left], axis=1)[:, :n_samples]
    assert lags.shape == (2, 3, 64)
    assert np.allclose(lags[..., 0], left @ right.T, atol=1e-8)
    assert np.allclose(lags[..., 50], delayed @ right.T, atol=1e-8)


def test_the_schur_algorithm_gives_lapacks_factor(drums: Floats) -> None:
    channels = drums.reshape(6, -1)
    lags = projection.correlate(channels, channels, 100)
    factor = projection._schur_factor(lags)
    assert factor is not None
    expected = linalg.cholesky(projection._gram(lags), lower=True)
    assert np.abs(np.tril(factor) - expected).max() < 1e-9 * expected.max()


def delayed_copy(stems: Floats) -> Floats:
    """A channel and itself three samples later: dependent, but not seen to be at lag zero."""
    channel = stems[0, 0].copy()
    channel[-200:] = 0
    return np.stack([channel, np.roll(channel, 3)])


def test_the_schur_algorithm_gives_up_on_what_it_cannot_factorize(drums: Floats) -> None:
    channels = delayed_copy(drums)
    assert projection._schur_factor(projection.correlate(channels, channels, 64)) is None


def test_dependence_at_a_delay_still_gives_the_projection(drums: Floats) -> None:
    """The copy reaches three samples further than the channel itself, and no more."""
    channels = delayed_copy(drums)
    copied, plain = (np.stack([x, drums[1]]) for x in (channels, channels * [[1], [0]]))
    estimate = flawed_estimates(copied, seed=1)
    prepared = (bsseval.prepare_reference(reference=x, n_taps=64) for x in (copied, plain))
    found, expected = (bsseval.score_frames(x, estimate=estimate).sar_db[0] for x in prepared)
    assert found == pytest.approx(expected, abs=0.05)


def test_the_schur_algorithm_gives_up_where_it_is_inexact(drums: Floats) -> None:
    """A low tone of 16 bits: LAPACK factorizes its Gram matrix, the fast way loses digits."""
    time_sec = np.arange(drums.shape[-1]) / SECOND
    tone = np.sin(2 * np.pi * 60 * time_sec) * np.exp(-8 * (time_sec % 0.5))
    channels = np.stack([np.round(tone * 2**14) / 2**15, drums[1, 0]])
    lags = projection.correlate(channels, channels, 512)
    linalg.cholesky(projection._gram(lags))
    assert projection._schur_factor(lags) is None
