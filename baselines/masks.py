"""Masks: from what a factorization found to stems.

Scores of components have no fixed scale, so they only ever become stems as masks on the
mixture, whose phase the stems keep. Axes are (..., stems, channels, bins, frames); a mask
that serves all channels has one channel.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from baselines.spectral import StftConfig, istft


def soft_masks(magnitudes: Tensor, exponent: float = 1.0) -> Tensor:
    """Share of each stem in each cell: magnitude ** exponent over the sum of all stems'.

    Args:
        magnitudes: (..., stems, bins, frames), not negative, at any scale.
        exponent: 1 divides magnitudes, 2 powers (the Wiener filter).

    Returns:
        (..., stems, bins, frames) in [0, 1]; they sum to one over the stems wherever any stem
        has energy, and are zero elsewhere.
    """
    smallest = torch.finfo(magnitudes.dtype).tiny
    # stem by stem: torch's reductions take ten times as long where bins lie next to each other
    loudest = functools.reduce(torch.maximum, magnitudes.unbind(dim=-3))
    # relative to the loudest stem, so that no power of a quiet cell underflows
    powers = (magnitudes / loudest.clamp_min(smallest).unsqueeze(-3)).pow_(exponent)
    total = functools.reduce(torch.add, powers.unbind(dim=-3))
    return powers.div_(total.clamp_min(smallest).unsqueeze(-3))


def apply_masks(
    mixture_spectrum: Tensor, masks: Tensor, config: StftConfig, n_samples: int
) -> Tensor:
    """Stems: each mask times the mixture's spectrum, back in time.

    Args:
        mixture_spectrum: (..., channels, bins, frames) complex.
        masks: (..., stems, channels or 1, bins, frames).
        config: the analysis of ``mixture_spectrum``.
        n_samples: length of the mixture.

    Returns:
        (..., stems, channels, n_samples). Stems are made one at a time, to bound the memory.
    """
    stems = [istft(mixture_spectrum * mask, config, n_samples) for mask in masks.unbind(dim=-4)]
    return torch.stack(stems, dim=-3)
