"""Intervals and tests for scores whose unit is the performance, not the clip.

The same performance is rendered on several kits, and a clip has several stems: their scores
are not independent. So every interval resamples whole *performances* with all of their records
(cluster bootstrap: Davison & Hinkley, "Bootstrap Methods and their Application", 1997, 3.8;
95 %, percentile), and every test flips the signs of whole performances' mean differences.
`scipy.stats.bootstrap` resamples single values and has no clusters; with performances' sums as
its values it would still not give stems, pool and macro mean from one draw, nor take
infinities: hence `summarize` here. The permutation test is scipy's.

Conventions: a value may be -inf or inf (SI-SDR of a silent estimate) and takes part as such;
NaN means not defined, is left out and counted. A resample in which a stem does not occur has no
value for that stem nor for the mean over stems; it is left out of their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.scores.metrics import decibels

N_RESAMPLES: Final = 2000
N_PERMUTATIONS: Final = 99_999
TAIL: Final = 0.025
"""Each side of the 95 % interval."""

Floats = NDArray[np.float64]
Average = Literal["mean", "median", "power"]
"""How values are averaged; "power": the mean of 10^(x / 10), in dB again (leakage)."""


class Score(NamedTuple):
    """One value and what it is of."""

    performance: str
    clip: str
    stem: str
    value: float


@dataclass(frozen=True)
class Estimate:
    """An average with its 95 % interval and what it rests on.

    The bounds are NaN where fewer than two performances stand behind the value.
    """

    value: float
    low: float
    high: float
    n: int
    n_performances: int
    n_undefined: int
    n_infinite: int


@dataclass(frozen=True)
class Summary:
    """Averages over all (clip, stem) pairs, over stems, and of each stem."""

    pooled: Estimate
    macro: Estimate
    stems: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """A system against another on their common (performance, kit, stem) pairs.

    ``difference`` is the mean of first minus second over pairs; ``p`` is two-sided, of the null
    that each performance's mean difference is as likely to have the opposite sign.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    n_performances: int
    n_left_out: int


def summarize(
    scores: Sequence[Score],
    *,
    average: Average = "mean",
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Summary:
    """Average scores and give each average its interval.

    Raises ValueError where no value is defined.
    """
    defined = [score for score in scores if not math.isnan(score.value)]
    if not defined:
        raise ValueError("no score is defined: nothing to summarize")
    names = list(dict.fromkeys(score.stem for score in defined))
    performances, cluster = np.unique([s.performance for s in defined], return_inverse=True)
    stem = np.array([names.index(s.stem) for s in defined])
    value = np.array([s.value for s in defined], dtype=np.float64)
    draws = _draw(len(performances), n_resamples, seed)
    one = np.ones((1, len(performances)), dtype=np.int64)
    kind = _medians if average == "median" else _means
    if average == "power":
        value = 10 ** (value / 10)
    points = kind(value, cluster, stem, len(names), one)[0]
    samples = kind(value, cluster, stem, len(names), draws)
    if average == "power":
        points, samples = decibels(points, 1.0), decibels(samples, 1.0)
    estimates = []
    for column, name in enumerate([None, *names]):
        part = [s for s in scores if name is None or s.stem == name]
        estimates.append(_estimate(part, points[column], samples[:, column]))
    with np.errstate(invalid="ignore"):  # inf - inf
        macro = _estimate(scores, points[1:].mean(), samples[:, 1:].mean(axis=1))
    return Summary(estimates[0], macro, dict(zip(names, estimates[1:], strict=True)))


def compare(
    first: Sequence[Score],
    second: Sequence[Score],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    n_permutations: int = N_PERMUTATIONS,
) -> Comparison:
    """Test first against second on the pairs that both have.

    Pairs of which a value is not finite are left out and counted. Every sign pattern is tried
    where there are no more than ``n_permutations`` of them, else that many random ones.

    Raises ValueError where nothing is common.
    """
    others = {score[:3]: score.value for score in second}
    pairs = [(s, s.value, others[s[:3]]) for s in first if s[:3] in others]
    found = [s._replace(value=a - b) for s, a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    if not found:
        raise ValueError("the two have no finite score of the same clip and stem")
    pooled = summarize(found, seed=seed, n_resamples=n_resamples).pooled
    names, cluster = np.unique([s.performance for s in found], return_inverse=True)
    sums = np.bincount(cluster, [s.value for s in found])
    p = sign_flip_p(sums / np.bincount(cluster), seed=seed, n_permutations=n_permutations)
    return Comparison(
        difference=pooled.value,
        low=pooled.low,
        high=pooled.high,
        p=p,
        n=len(found),
        n_performances=len(names),
        n_left_out=len(pairs) - len(found),
    )


def sign_flip_p(
    differences: Sequence[float] | Floats, *, seed: int = 0, n_permutations: int = N_PERMUTATIONS
) -> float:
    """Two-sided p of the null that each difference is as likely to have the opposite sign."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return 1.0  # one sign alone: either pattern is as extreme as the other
    result = stats.permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_permutations,
        batch=2000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values that hold jointly (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _draw(n_clusters: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each cluster is in each resample: (n_resamples, n_clusters)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples)


def _means(
    value: Floats,
    cluster: NDArray[np.intp],
    stem: NDArray[np.intp],
    n_stems: int,
    draws: NDArray[np.int64],
) -> Floats:
    """(resamples, 1 + stems): mean over pairs, then of each stem; NaN where there is no pair.

    A mean is the ratio of what performances add up to. Infinities are counted apart, since the
    weight 0 times infinity is not 0.
    """
    shape = (draws.shape[1], n_stems)

    def total(of: Floats) -> Floats:
        by_stem = np.zeros(shape)
        np.add.at(by_stem, (cluster, stem), of)
        drawn = draws @ by_stem
        return np.concatenate([drawn.sum(axis=1, keepdims=True), drawn], axis=1)

    low, high = total((value == -np.inf) * 1.0), total((value == np.inf) * 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total(np.where(np.isfinite(value), value, 0.0)) / total(np.ones_like(value))
        # -inf + inf is NaN, as in numpy's mean.
        return mean + np.where(low > 0, -np.inf, 0.0) + np.where(high > 0, np.inf, 0.0)


def _medians(
    value: Floats,
    cluster: NDArray[np.intp],
    stem: NDArray[np.intp],
    n_stems: int,
    draws: NDArray[np.int64],
) -> Floats:
    """As `_means`, but medians."""
    columns = [_median(value, cluster, draws)]
    columns += [_median(value[stem == k], cluster[stem == k], draws) for k in range(n_stems)]
    return np.stack(columns, axis=1)


def _median(value: Floats, cluster: NDArray[np.intp], draws: NDArray[np.int64]) -> Floats:
    """Median of each resample: the mean of the two middle values of its weighted order."""
    order = np.argsort(value, kind="stable")
    rank = np.cumsum(draws[:, cluster[order]], axis=1, dtype=np.int32)
    total = rank[:, -1:]
    lower = value[order][np.argmax(2 * rank >= total, axis=1)]
    upper = value[order][np.argmax(2 * rank > total, axis=1)]
    with np.errstate(invalid="ignore"):
        middle = np.where(lower == upper, lower, (lower + upper) / 2)
    return np.where(total[:, 0] > 0, middle, np.nan)


def _estimate(scores: Sequence[Score], value: float, samples: Floats) -> Estimate:
    defined = [s for s in scores if not math.isnan(s.value)]
    performances = {s.performance for s in defined}
    low, high = interval(samples) if len(performances) > 1 else (math.nan, math.nan)
    return Estimate(
        value=float(value),
        low=low,
        high=high,
        n=len(defined),
        n_performances=len(performances),
        n_undefined=len(scores) - len(defined),
        n_infinite=sum(math.isinf(s.value) for s in defined),
    )


def interval(samples: Floats) -> tuple[float, float]:
    """The percentile interval, by order statistics: no interpolation, so infinities may occur."""
    ordered = np.sort(samples[~np.isnan(samples)])
    if not len(ordered):
        return math.nan, math.nan
    low = max(0, math.ceil(TAIL * len(ordered)) - 1)
    return float(ordered[low]), float(ordered[len(ordered) - 1 - low])
