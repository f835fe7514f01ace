"""Onset fidelity: are the known hits of a stem where they should be, and no others?

SDR hardly hears a lost ghost note or a faint stroke of another drum. Here one fixed detector
looks for onsets in an estimated stem, and mir_eval compares them with the performance's hits
(F-measure, window 50 ms). The detector is not perfect, so its score on the true stem stands
beside: the distance between the two is the separator's, the rest is the detector's.

The detector is spectral flux on a logarithmic band spectrogram with adaptive peak picking
(Böck, Krebs & Schedl, ISMIR 2012, section 2), without learning. Both signals are scaled by the
peak of the *true* stem, so that a quiet kit is heard like a loud one, and bleed in an estimate
is not turned up because little else is there. Hits closer than 30 ms (flams, two toms at once)
count as one, as in that paper; the detector cannot part them either.

Compression and threshold are the same for all systems. They were swept on true stems (45 tracks
of more than 4 s: 25 performances of GMD's validation split on four training kits, first 20 s)
and chosen as the least sensitive pair whose macro F-measure there, 0.947, is within 0.025 of
the best: the best, 0.970, takes bleed at -40 dB for hits, this pair hardly does. Its precision
on true stems is 0.995 or more for every stem; what it misses are ghost notes. Median error
4.5 ms, so no correction for latency.

Arrays are (channels, samples) at the project's sample rate. Bad input raises ValueError.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy import ndimage

from benchmarks.scores.metrics import Floats, as_audio, as_audio_pair
from stemgmd_build.taxonomy import SAMPLE_RATE

WINDOW_SEC: Final = 0.05
"""mir_eval's window: an onset is found if one is detected at most this far away."""

SHORTEST_GAP_SEC: Final = 0.03

N_FFT: Final = 2048
HOP_SAMPLES: Final = 441
BANDS_PER_OCTAVE: Final = 12
LOWEST_HZ: Final = 40.0
HIGHEST_HZ: Final = 16000.0
COMPRESSION: Final = 30.0
"""Band magnitude m, of which a sine at the stem's peak has 1, becomes log10(1 + 30 m)."""

FLUX_LAG_FRAMES: Final = 2
THRESHOLD: Final = 0.02
"""What the flux must exceed its moving mean by."""

PEAK_FRAMES: Final = 3
"""A peak is the largest value this many frames to either side."""

MEAN_FRAMES: Final = (10, 7)
"""Frames before and after of which the moving mean is taken."""


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


def detect_onsets(signal: Floats, *, full_scale: float) -> Floats:
    """Onsets in seconds, ascending, of (channels, samples) whose loudest stem peaks there."""
    if not signal.any():
        return np.zeros(0)
    flux = onset_strength(signal / full_scale)
    before, after = MEAN_FRAMES
    highest = ndimage.maximum_filter1d(flux, 2 * PEAK_FRAMES + 1, mode="constant")
    # an even length reaches one frame further back than ahead
    shift = (before - after) // 2
    mean = ndimage.uniform_filter1d(flux, before + after + 1, mode="constant", origin=shift)
    peaks = np.flatnonzero((flux == highest) & (flux >= mean + THRESHOLD))
    return merge_hits(peaks * (HOP_SAMPLES / SAMPLE_RATE))


def onset_strength(signal: Floats) -> Floats:
    """Spectral flux of (channels, samples), full scale 1.0, one value a hop.

    Energies of the channels are averaged, so that nothing cancels; frame i is centred on
    sample ``i * HOP_SAMPLES``, and before the signal there is silence.
    """
    window = np.hanning(N_FFT + 1)[:-1]
    window *= 2 / window.sum()
    frames = sliding_window_view(
        np.pad(signal, ((0, 0), (N_FFT // 2, N_FFT // 2 + HOP_SAMPLES))), N_FFT, axis=1
    )[:, ::HOP_SAMPLES]
    bands = np.concatenate(
        [
            _band_energies(frames[:, start : start + 256] * window)
            for start in range(0, frames.shape[1], 256)  # bounds the memory of long files
        ]
    )
    level = np.log10(1 + COMPRESSION * np.sqrt(bands))
    earlier = np.pad(level, ((FLUX_LAG_FRAMES, 0), (0, 0)))[: len(level)]
    return np.asarray(np.maximum(level - earlier, 0).mean(axis=1))


def merge_hits(onsets_sec: Iterable[float]) -> Floats:
    """Sort; of hits closer than 30 ms to the last one that was kept, keep none."""
    kept: list[float] = []
    for onset_sec in sorted(onsets_sec):
        if not kept or onset_sec - kept[-1] >= SHORTEST_GAP_SEC:
            kept.append(float(onset_sec))
    return np.array(kept, dtype=np.float64)


def _band_energies(frames: Floats) -> Floats:
    """(channels, frames, N_FFT) -> (frames, bands)."""
    # torch's FFT is four times as fast as scipy's on many short signals
    spectra = torch.fft.rfft(torch.from_numpy(frames)).numpy()
    power = np.mean(np.square(np.abs(spectra)), axis=0)
    n_edges = int(np.log2(HIGHEST_HZ / LOWEST_HZ) * BANDS_PER_OCTAVE) + 1
    edges_hz = LOWEST_HZ * 2.0 ** (np.arange(n_edges) / BANDS_PER_OCTAVE)
    edges = np.unique(np.ceil(edges_hz * N_FFT / SAMPLE_RATE).astype(int))
    return np.asarray(np.add.reduceat(power, edges, axis=1))


def compare_onsets(hits: Floats, detected: Floats) -> OnsetScore:
    """mir_eval's F-measure, precision and recall of detected onsets."""
    import mir_eval  # with it comes all of scipy.stats, a second that only scoring needs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval warns where nothing was detected
        f_measure, precision, recall = mir_eval.onset.f_measure(hits, detected, window=WINDOW_SEC)
    return OnsetScore(float(f_measure), float(precision), float(recall), hits.size, detected.size)
