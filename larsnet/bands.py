"""Bins to bands and back: what a small net sees instead of 2048 bins.

Bands are as narrow as a bin at the bottom, where kick and toms are told apart, and widen upwards
in proportion to frequency: band b begins at bin ``corner * (exp(b * rate) - 1)``, where
``corner`` and ``rate`` make the first band one bin wide and the last end at the top. Values
between band centres are interpolated linearly: row k of ``expansion`` holds the weights that
bin k has in the bands, and sums to one. The way down is the transpose, each band's weights
scaled to sum one: a mean of the bins around the band's centre.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn


class Bands(nn.Module):
    """The two matrices; nothing is learnt, nothing is saved. Axes are (..., bins, frames)."""

    expansion: Tensor
    pooling: Tensor

    def __init__(self, n_bins: int, n_bands: int) -> None:
        super().__init__()
        expansion = torch.from_numpy(_expansion(n_bins, n_bands))
        pooling = expansion.T / expansion.sum(dim=0)[:, None]
        self.register_buffer("expansion", expansion.float(), persistent=False)
        self.register_buffer("pooling", pooling.float().contiguous(), persistent=False)

    def pool(self, magnitudes: Tensor) -> Tensor:
        """Bins to bands: weighted means."""
        return self.pooling @ magnitudes

    def expand(self, masks: Tensor) -> Tensor:
        """Bands to bins: linear interpolation, constant beyond the outermost centres."""
        return self.expansion @ masks


def band_edges(n_bins: int, n_bands: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Edges of the bands in bins, (n_bands + 1,) from 0 to ``n_bins``."""
    steps = np.arange(n_bands + 1, dtype=np.float64)
    if n_bands == n_bins:
        return steps

    def excess(rate: float) -> float:
        return float(np.expm1(rate * n_bands) / np.expm1(rate)) - n_bins

    rate = brentq(excess, 1e-9, 20.0 / n_bands * np.log(n_bins), xtol=1e-14)
    edges: np.ndarray[tuple[int], np.dtype[np.float64]] = np.expm1(rate * steps) / np.expm1(rate)
    return edges


def _expansion(n_bins: int, n_bands: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    edges = band_edges(n_bins, n_bands)
    centres = (edges[:-1] + edges[1:]) / 2 - 0.5  # bin k reaches from k to k + 1 on this axis
    bins = np.arange(n_bins, dtype=np.float64)
    upper = np.clip(np.searchsorted(centres, bins), 1, n_bands - 1)
    share = (bins - centres[upper - 1]) / (centres[upper] - centres[upper - 1])
    share = np.clip(share, 0.0, 1.0)
    rows = np.arange(n_bins)
    expansion = np.zeros((n_bins, n_bands))
    expansion[rows, upper - 1] = 1 - share
    expansion[rows, upper] += share
    return expansion
