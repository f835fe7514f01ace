"""Cross-talk and idle level, on signals whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scores.crosstalk import crosstalk_db, idle_spans, isolated_hits, levels_db
from benchmarks.scores.onsets import score_annotated
from stemgmd_build.taxonomy import SAMPLE_RATE

STEMS = ("kick", "snare", "hihat")


def bursts(onsets: list[float], seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """50 ms of noise at each onset, (2, samples)."""
    rng = np.random.default_rng(seed)
    audio = np.zeros((2, round(seconds * SAMPLE_RATE)))
    for onset in onsets:
        start = round(onset * SAMPLE_RATE)
        audio[:, start : start + 2205] += rng.normal(0, 0.1, (2, 2205))
    return audio


def test_a_hit_is_isolated_where_no_other_of_any_stem_is_near() -> None:
    onsets = {"kick": [0.5, 1.0, 1.01, 2.0], "snare": [2.09], "hihat": [3.0, 3.101, 3.5]}
    np.testing.assert_allclose(isolated_hits(onsets, "kick"), [0.5, 1.0])  # a flam is one hit
    assert isolated_hits(onsets, "snare").size == 0
    np.testing.assert_allclose(isolated_hits(onsets, "hihat"), [3.0, 3.101, 3.5])
    assert isolated_hits({"kick": [], "snare": []}, "kick").size == 0


def test_crosstalk_is_the_share_of_energy_that_was_put_elsewhere() -> None:
    kick, snare = bursts([0.5, 1.5]), bursts([1.0, 2.0], seed=1)
    estimates = np.stack([0.9 * kick, snare + 0.1 * kick, np.zeros_like(kick)])
    found = crosstalk_db(
        estimates=estimates, mixture=kick + snare, stems=STEMS, hits_sec=[0.5, 1.5]
    )
    assert found["kick"] == pytest.approx(20 * np.log10(0.9))
    assert found["snare"] == pytest.approx(-20)
    assert found["hihat"] == -np.inf


def test_idle_passages_begin_when_a_stem_has_rung_out() -> None:
    np.testing.assert_allclose(
        idle_spans([1.0, 9.0], 20.0), [(0.0, 0.95), (4.0, 8.95), (12.0, 20.0)]
    )
    assert idle_spans([], 3.0) == ((0.0, 3.0),)
    assert idle_spans([0.2, 3.0, 5.9], 9.0) == ()


def test_the_level_of_passages_is_relative_to_the_mixture_there() -> None:
    mixture = bursts([0.5, 3.0])
    levels = levels_db(estimates=mixture[None] * 0.01, mixture=mixture, spans=((2.0, 4.0),))
    assert levels == pytest.approx([-40])
    with pytest.raises(ValueError, match="silent"):
        levels_db(estimates=mixture[None], mixture=mixture, spans=((1.0, 2.0),))
    with pytest.raises(ValueError, match="shape"):
        levels_db(estimates=mixture, mixture=mixture, spans=((0.0, 2.0),))


def test_the_mixture_finds_all_hits_of_a_stem_and_those_of_others() -> None:
    kick, snare = bursts([0.5, 1.5]), bursts([1.0, 2.0, 2.5, 3.0], seed=1)
    peak = float(np.abs(kick + snare).max())
    alone = score_annotated(audio=kick, onsets_sec=[0.5, 1.5], full_scale=peak)
    both = score_annotated(audio=kick + snare, onsets_sec=[0.5, 1.5], full_scale=peak)
    assert (alone.precision, alone.recall) == (1, 1)
    assert (both.precision, both.recall) == pytest.approx((1 / 3, 1))
    assert score_annotated(audio=0 * kick, onsets_sec=[0.5], full_scale=peak).f_measure == 0
    with pytest.raises(ValueError, match="no hit"):
        score_annotated(audio=kick, onsets_sec=[], full_scale=peak)
