"""Bins to bands and back: what a small net sees instead of 2048 bins.

Bands are as narrow as a bin at the bottom, where kick and toms are told apart, and widen upwards
in proportion to frequency: band b begins at bin ``corner * (exp(b * rate) - 1)``, where
``corner`` and ``rate`` make the first band one bin wide and the last end at the top. Values
between band centres are interpolated linearly: row k of the expansion holds the weights that
bin k has in the bands, and sums to one. The way down is the transpose, each band's weights
scaled to sum one: a mean of the bins around the band's centre.

Both matrices are nearly diagonal, so they are kept and applied as blocks of some rows and the
columns that these rows reach.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor, nn

_BLOCK_BANDS: Final = 32


class _Block(NamedTuple):
    """Consecutive rows of a matrix, and the columns ``start`` to ``stop`` that they reach."""

    name: str
    start: int
    stop: int


class Bands(nn.Module):
    """The two ways; nothing is learnt, nothing is saved. Axes are (..., bins, frames).

    ``widths``: float32 (n_bands,), the number of bins that each band stands for; they sum to
    ``n_bins``.
    """

    widths: Tensor

    def __init__(self, n_bins: int, n_bands: int) -> None:
        super().__init__()
        expansion = _expansion(n_bins, n_bands)
        widths = expansion.sum(axis=0)
        bands = np.arange(0, n_bands, _BLOCK_BANDS)
        bins = np.searchsorted(expansion.argmax(axis=1), bands)
        self.register_buffer("widths", torch.from_numpy(widths).float(), persistent=False)
        self._down = self._keep("pool", expansion.T / widths[:, None], bands)
        self._up = self._keep("expand", expansion, bins)

    def pool(self, magnitudes: Tensor) -> Tensor:
        """Bins to bands: weighted means, (..., n_bands, frames) of (..., n_bins, frames)."""
        return self._apply_blocks(self._down, magnitudes)

    def expand(self, masks: Tensor) -> Tensor:
        """Bands to bins: (..., n_bins, frames) of (..., n_bands, frames).

        Linear interpolation, constant beyond the outermost centres.
        """
        return self._apply_blocks(self._up, masks)

    def _apply_blocks(self, blocks: list[_Block], cells: Tensor) -> Tensor:
        parts = [self.get_buffer(name) @ cells[..., start:stop, :] for name, start, stop in blocks]
        return torch.cat(parts, dim=-2)

    def _keep(
        self, name: str, matrix: NDArray[np.float64], starts: NDArray[np.int64]
    ) -> list[_Block]:
        blocks = []
        for i, (rows) in enumerate(np.split(matrix, starts[1:])):
            reached = np.flatnonzero(rows.any(axis=0))
            block = _Block(f"{name}{i}", int(reached[0]), int(reached[-1]) + 1)
            part = torch.from_numpy(rows[:, block.start : block.stop].copy()).float()
            self.register_buffer(block.name, part, persistent=False)
            blocks.append(block)
        return blocks


def band_edges(n_bins: int, n_bands: int) -> NDArray[np.float64]:
    """Edges of the bands in bins, (n_bands + 1,) from 0 to ``n_bins``."""
    steps = np.arange(n_bands + 1, dtype=np.float64)
    if n_bands == n_bins:
        return steps

    def excess(rate: float) -> float:
        return float(np.expm1(rate * n_bands) / np.expm1(rate)) - n_bins

    rate = brentq(excess, 1e-9, 20.0 / n_bands * np.log(n_bins), xtol=1e-14)
    edges: NDArray[np.float64] = np.expm1(rate * steps) / np.expm1(rate)
    return edges


def _expansion(n_bins: int, n_bands: int) -> NDArray[np.float64]:
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


def whole_bin_edges(n_bands: int, n_bins: int) -> NDArray[np.int64]:
    """First bin of each band, and the end, for bands that share no bin: (n_bands + 1,).

    Bands are single bins at the bottom, where kick and toms are told apart, and then widen in
    proportion to frequency. The corner between the two is found by bisection.
    """

    def edges(corner: float) -> list[float]:
        found = [0.0]
        while found[-1] < n_bins:
            found.append(found[-1] + max(1.0, found[-1] / corner))
        return found

    low, high = 1.0, 200.0
    for _ in range(60):
        corner = (low + high) / 2
        if len(edges(corner)) - 1 > n_bands:
            high = corner
        else:
            low = corner
    rounded = np.unique(np.minimum(np.rint(edges(low)), n_bins).astype(np.int64))
    while len(rounded) - 1 < n_bands:  # rounding may have lost some: split the widest
        widest = int(np.argmax(np.diff(rounded)))
        rounded = np.insert(rounded, widest + 1, (rounded[widest] + rounded[widest + 1]) // 2)
    return rounded
