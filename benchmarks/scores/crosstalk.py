"""Where a hit's energy goes, and what is left in a stem while nobody plays it.

Both measures need onsets and estimates alone, no true stems, so real recordings that are merely
annotated can be scored. Both are ours. They are ratios of energies to the mixture's in the same
samples, in dB, summed over channels and over all windows of a recording:

- *Cross-talk at isolated hits*. A hit is isolated if no other hit of any stem lies within
  100 ms. Its window reaches from 20 ms before its onset to 100 ms after. A separator that gives the
  hit to its own stem alone has 0 dB there and little elsewhere. What rings on from earlier hits
  (cymbals) is in the window too, in the mixture and in the stem that it belongs to.
- *Idle level*. A passage is idle for a stem from 3 s after one of its hits to 50 ms before the
  next, if it lasts 0.5 s or longer. In a stem that is never played that is the whole recording.

Arrays are (channels, samples) at the project's sample rate. Bad input raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from baselines.onsets import merge_hits
from benchmarks.scores.metrics import Floats, checked_audio, decibels
from stemgmd_build.taxonomy import SAMPLE_RATE

ALONE_SEC: Final = 0.1
BEFORE_SEC: Final = 0.02
AFTER_SEC: Final = 0.1
"""The window of an isolated hit: annotations are some milliseconds off, attacks last 50 ms."""

RING_SEC: Final = 3.0
EARLY_SEC: Final = 0.05
SHORTEST_IDLE_SEC: Final = 0.5

Spans = tuple[tuple[float, float], ...]
"""Begin and end in seconds, ascending, without overlap."""


def isolated_hits(onsets_sec: Mapping[str, Iterable[float]], stem: str) -> Floats:
    """Onsets of a stem's hits that are alone within 100 ms, ascending.

    Args:
        onsets_sec: stem -> onsets, of every stem that is played. Flams count as one hit.
        stem: one of its keys.
    """
    hits = {name: merge_hits(times) for name, times in onsets_sec.items()}
    everything = np.sort(np.concatenate([*hits.values(), np.zeros(0)]))
    if not len(everything):
        return everything
    gaps = np.diff(everything, prepend=-np.inf, append=np.inf)
    alone = everything[(gaps[:-1] > ALONE_SEC) & (gaps[1:] > ALONE_SEC)]
    return np.intersect1d(hits[stem], alone)


def crosstalk_db(
    *, estimates: ArrayLike, mixture: ArrayLike, stems: Sequence[str], hits_sec: Iterable[float]
) -> dict[str, float]:
    """Level of each estimate in the windows of some isolated hits, in dB of the mixture there.

    Args:
        estimates: (stems, channels, samples).
        mixture: (channels, samples).
        stems: names along the first axis.
        hits_sec: as `isolated_hits` gives them, at least one.

    Raises:
        ValueError: shapes differ, no hit, or the mixture is silent in all windows.
    """
    spans = merged((t - BEFORE_SEC, t + AFTER_SEC) for t in hits_sec)
    levels = levels_db(estimates=estimates, mixture=mixture, spans=spans)
    return dict(zip(stems, levels, strict=True))


def idle_spans(onsets_sec: Iterable[float], duration_sec: float) -> Spans:
    """Passages in which a stem with these hits is not played and no longer rings."""
    busy = merged((t - EARLY_SEC, t + RING_SEC) for t in onsets_sec)
    edges = [0.0, *(edge for span in busy for edge in span), duration_sec]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((a, min(b, duration_sec)) for a, b in pairs if b - a >= SHORTEST_IDLE_SEC)


def levels_db(*, estimates: ArrayLike, mixture: ArrayLike, spans: Spans) -> list[float]:
    """Energy of each of (stems, channels, samples) in some passages, in dB of the mixture's.

    Raises ValueError where shapes differ or the mixture is silent in all of them.
    """
    mixed = checked_audio(mixture, name="mixture")
    guess = checked_audio(estimates, name="estimates")
    if guess.ndim != 3 or guess.shape[1:] != mixed.shape:
        raise ValueError(f"estimates are of shape {guess.shape}, the mixture of {mixed.shape}")
    total = _energy(mixed, spans)
    if not total:
        raise ValueError("the mixture is silent in all of these passages: nothing to compare with")
    return [float(decibels(_energy(stem, spans), total)) for stem in guess]


def merged(spans: Iterable[tuple[float, float]]) -> Spans:
    """The same seconds without overlap, in ascending order."""
    out: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    return tuple(out)


def _energy(audio: NDArray[np.floating], spans: Spans) -> float:
    parts = (
        audio[:, max(0, round(a * SAMPLE_RATE)) : max(0, round(b * SAMPLE_RATE))] for a, b in spans
    )
    return sum(float(np.sum(part.astype(np.float64) ** 2)) for part in parts)
