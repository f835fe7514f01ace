"""From audio to what the network sees and what the loss needs, on cells of bands and frames.

A cell is a band of bins in one frame. A mask that is constant in a cell makes, in that cell, the
error ``m^2 xx - 2 m xs + ss`` with ``xx`` the power of the mixture, ``ss`` that of the stem and
``xs`` the real part of their cross spectrum, each summed over the cell's bins and both channels.
So the spectral error of a mask is exact though no bin is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from baselines import nmfd
from baselines.factorization import FactorizationConfig
from baselines.masks import soft_masks
from baselines.spectral import StftConfig, mono_magnitude, stft
from baselines.templates import Templates
from larsnet.network.bands import whole_bin_edges
from stemgmd_build.taxonomy import PIECES, STEM_OF_PIECE, STEMS

STFT: Final = StftConfig(n_fft=2048, hop_samples=512)
STEM_ROWS: Final = tuple(STEMS.index(STEM_OF_PIECE[piece]) for piece in PIECES)


class Bands:
    """Sums over the bins of each band."""

    def __init__(self, n_bands: int) -> None:
        self.edges = whole_bin_edges(n_bands, STFT.n_bins)
        self.n_bands = len(self.edges) - 1
        self.band_of_bin = torch.from_numpy(np.repeat(np.arange(self.n_bands), np.diff(self.edges)))
        pool = torch.zeros(self.n_bands, STFT.n_bins)
        pool[self.band_of_bin, torch.arange(STFT.n_bins)] = 1.0
        self._pool = pool

    def sums(self, values: Tensor) -> Tensor:
        """(..., bins, frames) to (..., bands, frames)."""
        return torch.matmul(self._pool, values)


def pooled_templates(templates: Templates, bands: Bands) -> Tensor:
    """Templates (components, bands, frames), each of sum one."""
    values = bands.sums(templates.values)
    return values / values.sum(dim=(1, 2), keepdim=True)


def blind_masks(
    magnitude: Tensor,
    templates: Tensor,
    pieces: Sequence[int],
    config: FactorizationConfig,
    exponent: float = 2.0,
) -> Tensor:
    """Masks (9, bands, frames) of blind NMFD of a mixture's mono magnitude (bands, frames)."""
    found = nmfd.factorize(magnitude[None], templates, config)
    parts = nmfd.stem_magnitudes(found, pieces, len(PIECES))[0]
    return soft_masks(parts, exponent)


@dataclass(frozen=True)
class Cells:
    """``xx``: (bands, frames); ``side``: share of the side channel's power; ``xs``, ``ss``:
    (9, bands, frames); ``stem_ss``: (5, bands, frames), of the stems' sums; ``magnitude``: the
    mono magnitude in bands."""

    xx: Tensor
    side: Tensor
    xs: Tensor
    ss: Tensor
    stem_ss: Tensor
    magnitude: Tensor


def cells_of(pieces: Tensor, noise: Tensor | None, bands: Bands) -> Cells:
    """Cells of pieces (9, 2, samples) and what else is in the mixture."""
    n_frames = STFT.n_frames(pieces.shape[-1])
    sounding = [p for p in range(len(PIECES)) if bool(pieces[p].any())]
    spectra = {p: stft(pieces[p], STFT) for p in sounding}
    mixture = stft(noise, STFT) if noise is not None and bool(noise.any()) else 0
    for spectrum in spectra.values():
        mixture = mixture + spectrum
    if isinstance(mixture, int):
        mixture = torch.zeros(2, STFT.n_bins, n_frames, dtype=torch.complex64)
    shape = (bands.n_bands, n_frames)
    xs, ss = torch.zeros(len(PIECES), *shape), torch.zeros(len(PIECES), *shape)
    stem_ss = torch.zeros(len(STEMS), *shape)
    sums: dict[int, Tensor] = {}
    for p, spectrum in spectra.items():
        cross = mixture.real * spectrum.real + mixture.imag * spectrum.imag
        xs[p] = bands.sums(cross.sum(dim=0))
        ss[p] = bands.sums(_power(spectrum))
        stem = STEM_ROWS[p]
        sums[stem] = sums[stem] + spectrum if stem in sums else spectrum
    for stem, spectrum in sums.items():
        members = [p for p in sounding if STEM_ROWS[p] == stem]
        stem_ss[stem] = ss[members[0]] if len(members) == 1 else bands.sums(_power(spectrum))
    xx = bands.sums(_power(mixture))
    difference = (mixture[0] - mixture[1]).unsqueeze(0)
    side = bands.sums(_power(difference)) / 2 / (xx + 1e-12)
    return Cells(xx, side, xs, ss, stem_ss, bands.sums(mono_magnitude(mixture)))


def _power(spectrum: Tensor) -> Tensor:
    """(channels, bins, frames) to the power in each bin, (bins, frames)."""
    return (spectrum.real.square() + spectrum.imag.square()).sum(dim=0)


def errors(masks: Tensor, xx: Tensor, xs: Tensor, ss: Tensor) -> Tensor:
    """Error of each stem's mask, (..., stems), summed over its last two axes."""
    return (masks.square() * xx.unsqueeze(-3) - 2 * masks * xs + ss).clamp_min(0).sum(dim=(-2, -1))
