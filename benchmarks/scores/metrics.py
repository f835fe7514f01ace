"""Scores of a stem against its reference, and how scores of many clips are pooled.

Conventions: arrays are (..., channels, samples), full scale 1.0, computed in float64; every
value is in dB; a score takes all channels of a stem together. A stem is scored only where it
is *present* (the performance strikes it); what a system puts into absent stems is leakage and
is never mixed with the scores.

Two definitions of nSDR stand side by side, since they differ on quiet stems:
``nsdr_db`` is LarsNet's (mean energies, Mezza et al. 2024, arXiv 2312.09663) and the headline;
``nsdr_mdx_db`` is that of the Music Demixing Challenge (Mitsufuji et al. 2022, arXiv
2108.13559) as its starter kit and Demucs compute it (summed energies). Both depend on level
for quiet clips.

This module imports nothing of the project, so bad input raises ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ENERGY_OFFSET: Final = 1e-7
"""e: added to both energies of either nSDR, so that a silent stem given back silent scores 0."""

FLOAT32_EPSILON: Final = float(np.finfo(np.float32).eps)
"""In LarsNet's nSDR, mean energies below this (1.19e-7) count as 0."""


def as_audio(signal: ArrayLike, *, name: str) -> Floats:
    """Check and convert a signal to float64 (..., channels, samples).

    Raises ValueError if it has fewer than two axes, is empty, or holds NaN or infinity.
    """
    return checked_audio(signal, name=name).astype(np.float64, copy=False)


def checked_audio(signal: ArrayLike, *, name: str) -> NDArray[Any]:
    """The same check without the conversion: float64 of all stems of a long clip is gigabytes."""
    audio = np.asarray(signal)
    if audio.ndim < 2:
        raise ValueError(f"{name} must be (..., channels, samples), not of shape {audio.shape}")
    if audio.size == 0:
        raise ValueError(f"{name} is empty: its shape is {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return audio


def as_audio_pair(*, reference: ArrayLike, estimate: ArrayLike) -> tuple[Floats, Floats]:
    """Check and convert both; raises ValueError also where their shapes differ."""
    true, guess = _checked_pair(reference, estimate)
    return true.astype(np.float64, copy=False), guess.astype(np.float64, copy=False)


def _checked_pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true = checked_audio(reference, name="reference")
    guess = checked_audio(estimate, name="estimate")
    if true.shape != guess.shape:
        raise ValueError(f"estimate is of shape {guess.shape}, its reference of {true.shape}")
    return true, guess


def decibels(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """10 log10 of a ratio of energies: inf over 0, -inf of 0, NaN for 0 / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(numerator, denominator, dtype=np.float64)
        return np.asarray(10 * np.log10(ratio), dtype=np.float64)


def nsdr_db(*, reference: ArrayLike, estimate: ArrayLike) -> Floats:
    """nSDR in LarsNet's definition: 10 log10((S + e) / (D + e)), e = 1e-7.

    S is the mean over channels and samples of reference^2, D that of (reference - estimate)^2;
    either counts as 0 below float32's epsilon.

    Args:
        reference, estimate: (..., channels, samples).

    Returns:
        float64 (...), one value for each signal.

    Raises:
        ValueError: shapes differ, or a signal is empty or not finite.
    """
    true, guess = as_audio_pair(reference=reference, estimate=estimate)
    return _nsdr_db(true, _energy(true), _energy(true - guess))


def nsdr_mdx_db(*, reference: ArrayLike, estimate: ArrayLike) -> Floats:
    """nSDR as the Music Demixing Challenge and Demucs define it: sums, e = 1e-7, no threshold.

    Shapes and errors as in `nsdr_db`.
    """
    true, guess = as_audio_pair(reference=reference, estimate=estimate)
    return _nsdr_mdx_db(_energy(true), _energy(true - guess))


def si_sdr_db(*, reference: ArrayLike, estimate: ArrayLike) -> Floats:
    """Scale-invariant SDR (Le Roux et al. 2019, arXiv 1811.02508, eq. 3), one scale a stem.

    The reference is scaled by its projection onto the estimate, channels together, no mean
    removed, no offset. An estimate that holds nothing of its reference (silence, for one)
    scores -inf; a silent reference has no SI-SDR: NaN. Shapes and errors as in `nsdr_db`.
    """
    true, guess = as_audio_pair(reference=reference, estimate=estimate)
    return _si_sdr_db(true, guess, _energy(true))


def _nsdr_db(true: Floats, signal: Floats, distortion: Floats) -> Floats:
    """Of energies; ``true`` gives the number of samples that they are means over."""
    n = true.shape[-2] * true.shape[-1]
    means = (np.where(x / n < FLOAT32_EPSILON, 0.0, x / n) for x in (signal, distortion))
    return decibels(*(mean + ENERGY_OFFSET for mean in means))


def _nsdr_mdx_db(signal: Floats, distortion: Floats) -> Floats:
    return decibels(signal + ENERGY_OFFSET, distortion + ENERGY_OFFSET)


def _si_sdr_db(true: Floats, guess: Floats, energy: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = _inner(true, guess) / energy
    target = scale[..., None, None] * true
    value = decibels(_energy(target), _energy(guess - target))
    return np.where((energy > 0) & (scale == 0), -np.inf, value)


def leakage_db(*, estimate: ArrayLike, mixture: ArrayLike) -> Floats:
    """Level of what a system puts into an absent stem, relative to the mixture.

    Args:
        estimate: (..., channels, samples), estimates of stems that are absent.
        mixture: (channels, samples).

    Returns:
        float64 (...): 10 log10 of the ratio of energies; -inf for exact silence.

    Raises:
        ValueError: shapes do not match, a signal is empty or not finite, the mixture is silent.
    """
    guess, mixed = as_audio(estimate, name="estimate"), as_audio(mixture, name="mixture")
    if mixed.shape != guess.shape[-2:]:
        raise ValueError(f"estimate is of shape {guess.shape}, the mixture of {mixed.shape}")
    if not mixed.any():
        raise ValueError("the mixture is silent: nothing to measure leakage against")
    return decibels(_energy(guess), _energy(mixed))


@dataclass(frozen=True)
class StemScore:
    """Scores of one present stem of one clip, in dB."""

    stem: str
    nsdr_db: float
    nsdr_mdx_db: float
    si_sdr_db: float


@dataclass(frozen=True)
class StemLeakage:
    """What one absent stem of one clip received, in dB relative to the mixture."""

    stem: str
    leakage_db: float


@dataclass(frozen=True)
class ClipScores:
    """One clip: scores of the stems that are present, leakage into those that are not."""

    present: tuple[StemScore, ...]
    absent: tuple[StemLeakage, ...]


def score_clip(
    *,
    reference: ArrayLike,
    estimate: ArrayLike,
    mixture: ArrayLike,
    stems: Sequence[str],
    present: Sequence[bool],
) -> ClipScores:
    """Score every stem of one clip, present stems and absent ones apart.

    Args:
        reference, estimate: (stems, channels, samples).
        mixture: (channels, samples).
        stems: names along the first axis.
        present: whether the performance strikes each stem; it decides, not the audio's level.

    Raises:
        ValueError: shapes or counts differ, a signal is empty or not finite, no stem is
            present, a present stem's reference is silent or an absent one's is not.
    """
    true, guess = _checked_pair(reference, estimate)
    _check_presence(true, stems, present)
    mixed = as_audio(mixture, name="mixture")
    if mixed.shape != true.shape[-2:]:
        raise ValueError(f"the mixture is of shape {mixed.shape}, its stems of {true.shape}")
    scores, absent = [], []
    for i, is_present in enumerate(present):  # one by one, as float64
        heard = guess[i].astype(np.float64, copy=False)
        if is_present:
            stem = true[i].astype(np.float64, copy=False)
            signal, distortion = _energy(stem), _energy(stem - heard)
            row = (
                _nsdr_db(stem, signal, distortion),
                _nsdr_mdx_db(signal, distortion),
                _si_sdr_db(stem, heard, signal),
            )
            scores.append(StemScore(stems[i], *map(float, row)))
        else:
            level = float(leakage_db(estimate=heard, mixture=mixed))
            absent.append(StemLeakage(stems[i], level))
    return ClipScores(tuple(scores), tuple(absent))


@dataclass(frozen=True)
class StemPool:
    """One stem's share of a pool."""

    stem: str
    n: int
    mean: float
    median: float


@dataclass(frozen=True)
class Pool:
    """Values over (clip, stem) pairs.

    ``mean`` and ``median`` pool every pair, as the paper's "All" does; ``macro_mean`` and
    ``macro_median`` are the mean over stems of each stem's own mean and median: stems that
    are seldom present weigh as much as the others. NaN (a value that is not defined) is left
    out and counted in ``n_undefined``.
    """

    n: int
    n_undefined: int
    mean: float
    median: float
    macro_mean: float
    macro_median: float
    stems: tuple[StemPool, ...]


def pool(values: Iterable[tuple[str, float]]) -> Pool:
    """Pool (stem, value) pairs of many clips, stems in the order of their first value.

    Raises:
        ValueError: there is no pair whose value is defined.
    """
    pairs = list(values)
    groups: dict[str, list[float]] = {}
    for stem, value in pairs:
        if not math.isnan(value):
            groups.setdefault(stem, []).append(value)
    if not groups:
        raise ValueError("no stem has a defined score: nothing to pool")
    defined = [value for group in groups.values() for value in group]
    stems = tuple(StemPool(s, len(g), _mean(g), _median(g)) for s, g in groups.items())
    return Pool(
        n=len(defined),
        n_undefined=len(pairs) - len(defined),
        mean=_mean(defined),
        median=_median(defined),
        macro_mean=_mean([s.mean for s in stems]),
        macro_median=_mean([s.median for s in stems]),
        stems=stems,
    )


def _check_presence(reference: Floats, stems: Sequence[str], present: Sequence[bool]) -> None:
    if reference.ndim != 3 or not len(stems) == len(present) == len(reference):
        raise ValueError(
            f"{len(stems)} stem names and {len(present)} presence flags "
            f"for references of shape {reference.shape}"
        )
    if not any(present):
        raise ValueError("no stem is present in this clip: nothing to score")
    for stem, is_present, audio in zip(stems, present, reference, strict=True):
        if bool(is_present) != bool(audio.any()):
            wrong = "present, but its" if is_present else "absent, but its"
            state = "silent" if is_present else "not silent"
            raise ValueError(f"{stem} is said to be {wrong} reference is {state}")


def _energy(signal: Floats) -> Floats:
    return _inner(signal, signal)


def _inner(first: Floats, second: Floats) -> Floats:
    """Sum over channels and samples of the product, without an array of all products."""
    flat = [x.reshape(*x.shape[:-2], -1) for x in np.broadcast_arrays(first, second)]
    return np.asarray(np.vecdot(*flat))


def _mean(values: Sequence[float]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))


def _median(values: Sequence[float]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.median(values))
