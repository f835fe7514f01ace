"""Onset fidelity: are the known hits of a stem where they should be, and no others?

SDR hardly hears a lost ghost note or a faint stroke of another drum. Here one fixed detector
looks for onsets in an estimated stem, and mir_eval compares them with the performance's hits
(F-measure, window 50 ms). The detector is not perfect, so its score on the true stem stands
beside: the distance between the two is the separator's, the rest is the detector's.

The detector is :mod:`baselines.onsets`, with the same settings for all systems. Both signals are
scaled by the peak of the *true* stem, so that a quiet kit is heard like a loud one, and bleed in an
estimate is not turned up because little else is there. Hits closer than 30 ms count as one.

Arrays are (channels, samples) at the project's sample rate. Bad input raises ValueError.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from baselines.onsets import detect_onsets, merge_hits
from benchmarks.scores.metrics import Floats, as_audio, as_audio_pair
from stemgmd_build.taxonomy import SAMPLE_RATE

WINDOW_SEC: Final = 0.05
"""mir_eval's window: an onset is found if one is detected at most this far away."""


@dataclass(frozen=True)
class OnsetScore:
    """Agreement of detected onsets with known hits; measures are 0 to 1."""

    f_measure: float
    precision: float
    recall: float
    n_hits: int
    n_detected: int


@dataclass(frozen=True)
class OnsetFidelity:
    """The same hits looked for in an estimate and in the true stem."""

    estimate: OnsetScore
    true_stem: OnsetScore


def score_onsets(
    *,
    reference: ArrayLike,
    estimate: ArrayLike,
    onsets_sec: Iterable[float],
    true_stem: OnsetScore | None = None,
) -> OnsetFidelity:
    """Look for a stem's known hits in its estimate and in the stem itself.

    Args:
        reference, estimate: (channels, samples).
        onsets_sec: the stem's hits, in any order.
        true_stem: what an earlier call found in this reference, so that it need not look again.

    Raises:
        ValueError: shapes differ, a signal is empty or not finite, the reference is silent,
            there is no hit, or a hit lies outside the signal.
    """
    true, guess = as_audio_pair(reference=reference, estimate=estimate)
    if true.ndim != 2:
        raise ValueError(f"a stem must be (channels, samples), not of shape {true.shape}")
    peak = float(np.abs(true).max())
    if peak == 0:
        raise ValueError("the reference is silent: no onset to look for")
    hits = merge_hits(onsets_sec)
    duration_sec = true.shape[-1] / SAMPLE_RATE
    if not hits.size:
        raise ValueError("the stem has no hit: no onset to look for")
    if hits[0] < 0 or hits[-1] > duration_sec:
        raise ValueError(
            f"hits from {hits[0]:.3f} to {hits[-1]:.3f} s, in a signal of {duration_sec:.3f} s"
        )
    return OnsetFidelity(
        estimate=compare_onsets(hits, detect_onsets(guess, full_scale=peak)),
        true_stem=true_stem or compare_onsets(hits, detect_onsets(true, full_scale=peak)),
    )


def score_annotated(
    *, audio: ArrayLike, onsets_sec: Iterable[float], full_scale: float
) -> OnsetScore:
    """Look for annotated hits in any signal, where there is no true stem to compare with.

    Ours: the detector above on the estimate, scaled by the peak of the *mixture*. On the mixture
    itself the same call gives the line that a separator has to beat.

    Args:
        audio: (channels, samples).
        onsets_sec: the annotated hits, in any order, at least one.
        full_scale: the mixture's peak.
    """
    hits = merge_hits(onsets_sec)
    if not hits.size or full_scale <= 0:
        raise ValueError("no hit or a silent mixture: no onset to look for")
    return compare_onsets(hits, detect_onsets(as_audio(audio, name="audio"), full_scale=full_scale))


def compare_onsets(hits: Floats, detected: Floats) -> OnsetScore:
    """mir_eval's F-measure, precision and recall of detected onsets."""
    import mir_eval  # with it comes all of scipy.stats, a second that only scoring needs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval warns where nothing was detected
        f_measure, precision, recall = mir_eval.onset.f_measure(hits, detected, window=WINDOW_SEC)
    return OnsetScore(float(f_measure), float(precision), float(recall), hits.size, detected.size)
