"""Intervals and tests whose unit is the performance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.report.statistics import Score, compare, holm, interval, sign_flip_p, summarize
from benchmarks.scores.metrics import pool

INF = math.inf


def clustered(
    rng: np.random.Generator, n_performances: int, n_kits: int, mean: float = 0.0
) -> list[Score]:
    """Performances differ by 3 dB, kits of one performance by 0.5 dB only."""
    level = rng.normal(mean, 3, n_performances)
    return [
        Score(f"p{p}", f"k{k}", "kick", float(level[p] + rng.normal(0, 0.5)))
        for p in range(n_performances)
        for k in range(n_kits)
    ]


def scores(values: Sequence[float], stem: str = "kick") -> list[Score]:
    return [Score(f"p{i}", "k", stem, value) for i, value in enumerate(values)]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 % nominal; percentile intervals of 30 clusters are known to fall a little short."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        pooled = summarize(clustered(rng, 30, 4, mean=7.0), seed=trial, n_resamples=400).pooled
        held += pooled.low <= 7.0 <= pooled.high
    assert 0.90 <= held / 300 <= 0.98


def test_resampling_single_records_would_be_too_sure_of_itself() -> None:
    data = clustered(np.random.default_rng(2), 30, 4)
    alone = [s._replace(performance=f"{s.performance}-{s.clip}") for s in data]
    by_performance, by_record = summarize(data).pooled, summarize(alone).pooled
    assert by_performance.high - by_performance.low > 1.7 * (by_record.high - by_record.low)


def test_the_interval_of_two_performances_spans_their_four_resamples() -> None:
    """Two performances, A with two pairs and B with one: resamples are AA, AB, BA, BB, whose
    pooled means are 2, 3 (from (1 + 3 + 5) / 3), 3 and 5; the kick occurs only in A and AB."""
    data = [
        Score("A", "k", "kick", 1.0),
        Score("A", "k", "snare", 3.0),
        Score("B", "k", "snare", 5),
    ]
    summary = summarize(data)
    assert (summary.pooled.value, summary.pooled.low, summary.pooled.high) == (3.0, 2.0, 5.0)
    assert summary.macro.value == (1.0 + 4.0) / 2
    assert (summary.macro.low, summary.macro.high) == (2.0, 2.5)  # BB has no kick
    assert (summary.pooled.n, summary.pooled.n_performances) == (3, 2)
    assert math.isnan(summary.stems["kick"].low)  # one performance has no spread
    assert (summary.stems["snare"].low, summary.stems["snare"].high) == (3.0, 5.0)


PAIRS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from(["kick", "snare", "toms"]),
        st.one_of(st.floats(-40, 40), st.just(-INF), st.just(math.nan)),
    ),
    min_size=1,
    max_size=40,
).filter(lambda pairs: not all(math.isnan(value) for *_, value in pairs))


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_point_values_equal_those_of_pool(pairs: list[tuple[str, str, float]]) -> None:
    data = [Score(p, f"k{i}", stem, value) for i, (p, stem, value) in enumerate(pairs)]
    expected = pool((s.stem, s.value) for s in data)
    means = summarize(data, n_resamples=20)
    medians = summarize(data, average="median", n_resamples=20)
    assert means.pooled.value == pytest.approx(expected.mean)
    assert means.macro.value == pytest.approx(expected.macro_mean)
    assert medians.pooled.value == pytest.approx(expected.median)
    assert medians.macro.value == pytest.approx(expected.macro_median)
    for stem in expected.stems:
        assert means.stems[stem.stem].value == pytest.approx(stem.mean)
        assert medians.stems[stem.stem].value == pytest.approx(stem.median)
    assert (means.pooled.n, means.pooled.n_undefined) == (expected.n, expected.n_undefined)
    assert means.pooled.n_infinite == sum(math.isinf(s.value) for s in data)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=12), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_median_of_a_resample_is_numpys(values: list[float], seed: int) -> None:
    from benchmarks.report.statistics import _draw, _median

    draws = _draw(len(values), 50, seed)
    found = _median(np.array(values), np.arange(len(values)), draws)
    assert found == pytest.approx([np.median(np.repeat(values, d)) for d in draws])


def test_leakage_is_averaged_as_power() -> None:
    summary = summarize(scores([-20.0, -INF, -10.0]), average="power")
    assert summary.pooled.value == pytest.approx(10 * np.log10((0.01 + 0 + 0.1) / 3))
    assert summary.pooled.n_infinite == 1
    assert summary.pooled.high == pytest.approx(-10)


def test_a_silent_estimate_stays_in_the_mean_and_the_median() -> None:
    data = scores([-INF, 3.0, 4.0, 5.0, 6.0])
    mean, median = (summarize(data, average=a).pooled for a in ("mean", "median"))
    assert (mean.value, mean.low) == (-INF, -INF)
    assert mean.high >= 3.0  # resamples without it are finite, nothing became NaN
    assert median.value == 4.0
    assert math.isfinite(median.high)


def test_the_same_seed_gives_the_same_interval() -> None:
    data = clustered(np.random.default_rng(3), 20, 3)
    assert summarize(data, seed=5) == summarize(data, seed=5)
    assert summarize(data, seed=5).pooled != summarize(data, seed=6).pooled


def test_nothing_defined_is_an_error() -> None:
    with pytest.raises(ValueError, match="no score is defined"):
        summarize(scores([math.nan]))
    with pytest.raises(ValueError, match="no finite score of the same clip"):
        compare(scores([1.0]), scores([1.0], "snare"))


def test_p_is_uniform_where_systems_do_not_differ() -> None:
    """Kolmogorov-Smirnov over 300 comparisons of equals, clusters included."""
    from scipy import stats

    rng = np.random.default_rng(4)
    found = [
        compare(clustered(rng, 16, 3), clustered(rng, 16, 3), n_resamples=10, n_permutations=499).p
        for _ in range(300)
    ]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_all_sign_patterns_of_few_performances_are_tried() -> None:
    """Five differences of one sign: 2 of the 32 patterns are as extreme."""
    assert sign_flip_p([1.0, 2.0, 1.5, 0.5, 3.0]) == pytest.approx(2 / 32)
    assert sign_flip_p([1.0]) == 1.0


def test_a_paired_difference_is_found_where_the_spread_hides_it() -> None:
    rng = np.random.default_rng(5)
    second = clustered(rng, 40, 4)
    first = [s._replace(value=s.value + 0.3 + rng.normal(0, 0.2)) for s in second]
    found = compare(first, second)
    assert found.p < 0.001
    assert found.low < 0.3 < found.high
    assert (found.n, found.n_performances, found.n_left_out) == (160, 40, 0)
    mirrored = compare(second, first)
    assert mirrored.difference == pytest.approx(-found.difference)


def test_only_common_finite_pairs_are_compared_and_the_rest_counted() -> None:
    first = [*scores([1.0, 2.0, -INF]), Score("elsewhere", "k", "kick", 99.0)]
    found = compare(first, scores([0.0, 1.0, 1.0, 5.0]))
    assert (found.difference, found.n, found.n_left_out) == (1.0, 2, 1)


def test_holm_multiplies_by_the_tests_left_and_never_falls_nor_exceeds_one() -> None:
    """0.01 x 3; 0.03 x 2 = 0.06; 0.04 x 1, raised to the step before it."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_p_and_bonferronis(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, raw * len(p_values)) + 1e-12


def test_the_interval_leaves_out_what_is_not_defined() -> None:
    low, high = interval(np.array([math.nan, *range(1000)], dtype=float))
    assert (low, high) == (24.0, 975.0)
