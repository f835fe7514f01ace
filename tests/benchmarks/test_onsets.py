"""Onset fidelity: the fixed detector and the scores that it leads to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.onsets import SHORTEST_GAP_SEC
from benchmarks.scores import onsets
from benchmarks.scores.metrics import Floats

SAMPLE_RATE = 44100
N_SAMPLES = 8 * SAMPLE_RATE
HITS_SEC = np.cumsum(np.random.default_rng(0).uniform(0.12, 0.5, 20))


def stem(hits_sec: Floats, hertz: float = 180.0, seed: int = 0) -> Floats:
    """A struck drum at these times, velocities over 20 dB: (2, N_SAMPLES)."""
    rng = np.random.default_rng(seed)
    time_sec = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    shot = np.exp(-time_sec / 0.08) * np.sin(2 * np.pi * hertz * time_sec)
    shot = shot + 0.3 * np.exp(-time_sec / 0.02) * rng.standard_normal((2, len(time_sec)))
    audio = np.zeros((2, N_SAMPLES + len(time_sec)))
    for hit_sec in hits_sec:
        start = round(hit_sec * SAMPLE_RATE)
        audio[:, start : start + len(time_sec)] += 10 ** rng.uniform(-1, 0) * 0.3 * shot
    return audio[:, :N_SAMPLES]


def test_the_detector_finds_every_hit_of_a_clean_stem_within_15_ms() -> None:
    audio = stem(HITS_SEC)
    found = onsets.detect_onsets(audio, full_scale=float(np.abs(audio).max()))
    assert len(found) == len(HITS_SEC)
    assert np.abs(found - HITS_SEC).max() < 0.015


def test_a_perfect_estimate_scores_as_the_true_stem() -> None:
    audio = stem(HITS_SEC)
    scores = onsets.score_onsets(reference=audio, estimate=audio, onsets_sec=HITS_SEC)
    assert scores.estimate == scores.true_stem
    assert scores.true_stem.f_measure == 1
    assert scores.true_stem.n_hits == scores.true_stem.n_detected == 20


def test_lost_hits_lower_recall_alone() -> None:
    reference, estimate = stem(HITS_SEC), stem(HITS_SEC[::2])
    scores = onsets.score_onsets(reference=reference, estimate=estimate, onsets_sec=HITS_SEC)
    assert scores.estimate.recall == 0.5
    assert scores.estimate.precision == 1
    assert scores.true_stem.recall == 1


def test_strokes_of_another_drum_lower_precision_alone() -> None:
    reference = stem(HITS_SEC)
    bleed = stem(HITS_SEC[:-1] + np.diff(HITS_SEC) / 2, hertz=900, seed=1)
    scores = onsets.score_onsets(
        reference=reference, estimate=reference + 0.5 * bleed, onsets_sec=HITS_SEC
    )
    assert scores.estimate.precision < 0.75
    assert scores.estimate.recall > 0.9


def test_bleed_at_minus_50_db_is_not_heard() -> None:
    reference = stem(HITS_SEC)
    bleed = stem(HITS_SEC[:-1] + np.diff(HITS_SEC) / 2, hertz=900, seed=1)
    scores = onsets.score_onsets(
        reference=reference, estimate=reference + 10 ** (-50 / 20) * bleed, onsets_sec=HITS_SEC
    )
    assert scores.estimate.f_measure == 1


def test_hits_moved_by_more_than_the_window_are_not_found() -> None:
    regular = np.arange(0.3, 7.5, 0.4)
    audio = stem(regular)
    near, far = (
        onsets.score_onsets(reference=audio, estimate=audio, onsets_sec=regular + shift)
        for shift in (0.03, 0.1)
    )
    assert near.true_stem.f_measure == 1
    assert far.true_stem.f_measure == 0


@settings(max_examples=12, deadline=None)
@given(gain_db=st.floats(-60, 20))
def test_level_common_to_both_does_not_matter(gain_db: float) -> None:
    reference, estimate = stem(HITS_SEC), stem(HITS_SEC[::3])
    gain = 10 ** (gain_db / 20)
    short = slice(0, 3 * SAMPLE_RATE)
    hits = HITS_SEC[HITS_SEC < 2.9]
    plain, scaled = (
        onsets.score_onsets(
            reference=g * reference[:, short], estimate=g * estimate[:, short], onsets_sec=hits
        )
        for g in (1.0, gain)
    )
    assert plain == scaled


def test_an_estimate_turned_far_down_loses_its_hits() -> None:
    """The true stem sets the scale: what is 80 dB down is not heard."""
    audio = stem(HITS_SEC)
    scores = onsets.score_onsets(reference=audio, estimate=1e-4 * audio, onsets_sec=HITS_SEC)
    assert scores.estimate.f_measure == 0


def test_a_silent_estimate_scores_zero_without_a_warning() -> None:
    audio = stem(HITS_SEC)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = onsets.score_onsets(
            reference=audio, estimate=np.zeros_like(audio), onsets_sec=HITS_SEC
        )
    assert (scores.estimate.f_measure, scores.estimate.n_detected) == (0, 0)


def test_channels_of_opposite_sign_do_not_cancel() -> None:
    audio = stem(HITS_SEC)[:1] * np.array([[1.0], [-1.0]])
    scores = onsets.score_onsets(reference=audio, estimate=audio, onsets_sec=HITS_SEC)
    assert scores.true_stem.f_measure == 1


def test_a_hit_on_the_first_sample_is_found() -> None:
    audio = stem(np.array([0.0, 1.0]))
    scores = onsets.score_onsets(reference=audio, estimate=audio, onsets_sec=[0.0, 1.0])
    assert scores.true_stem.f_measure == 1


def test_flams_count_as_one_hit() -> None:
    assert onsets.merge_hits([1.02, 0.5, 1.0, 1.035]).tolist() == [0.5, 1.0, 1.035]


@given(st.lists(st.floats(0, 100), max_size=50))
def test_merged_hits_are_apart_and_every_hit_is_near_one(hits_sec: list[float]) -> None:
    merged = onsets.merge_hits(hits_sec)
    assert (np.diff(merged) >= SHORTEST_GAP_SEC).all()
    for hit_sec in hits_sec:
        assert np.abs(merged - hit_sec).min() < SHORTEST_GAP_SEC


@pytest.mark.parametrize("n_samples", [1, 100, 2049])
def test_very_short_signals_are_scored(n_samples: int) -> None:
    audio = np.full((2, n_samples), 0.5)
    scores = onsets.score_onsets(reference=audio, estimate=audio, onsets_sec=[0.0])
    assert scores.estimate == scores.true_stem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimate": np.ones((2, 9))}, "estimate is of shape"),
        ({"estimate": np.full((2, SAMPLE_RATE), np.nan)}, "NaN"),
        ({"reference": np.zeros((2, SAMPLE_RATE))}, "reference is silent"),
        ({"onsets_sec": []}, "no hit"),
        ({"onsets_sec": [0.5, 1.5]}, "in a signal of 1.000 s"),
        ({"onsets_sec": [-0.5]}, "in a signal of 1.000 s"),
        ({"reference": np.ones((1, 2, 9)), "estimate": np.ones((1, 2, 9))}, "a stem must be"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    second = np.ones((2, SAMPLE_RATE))
    arguments = {"reference": second, "estimate": second, "onsets_sec": [0.5]}
    with pytest.raises(ValueError, match=message) as caught:
        onsets.score_onsets(**(arguments | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
