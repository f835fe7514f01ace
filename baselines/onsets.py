"""Onsets in audio, found without learning.

The detector is spectral flux on a logarithmic band spectrogram with adaptive peak picking
(Böck, Krebs & Schedl, ISMIR 2012, section 2). Hits closer than 30 ms (flams, two toms at once)
count as one, as in that paper; the detector cannot part them either.

Compression and threshold were swept on true stems (45 tracks of more than 4 s: 25 performances of
GMD's validation split on four training kits, first 20 s) and chosen as the least sensitive pair
whose macro F-measure there, 0.947, is within 0.025 of the best: the best, 0.970, takes bleed at
-40 dB for hits, this pair hardly does. Its precision on true stems is 0.995 or more for every stem;
what it misses are ghost notes. Median error 4.5 ms, so no correction for latency.

Arrays are (channels, samples) at the project's sample rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from stemgmd_build.taxonomy import SAMPLE_RATE

Floats = NDArray[np.float64]

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
