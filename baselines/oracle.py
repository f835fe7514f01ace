"""Bounds: what separation of a kind can reach at best, given the true stems.

Sources: [1] Wang, "On ideal binary mask as the computational goal of auditory scene
analysis", 2005; [2] Erdogan et al., "Phase-sensitive and recognition-boosted speech
separation using deep recurrent neural networks", ICASSP 2015; [3] Mezza et al., "Toward deep
drum source separation", 2024 (LarsNet, whose analysis is the default).

Conventions: ``reference`` (stems, channels, samples) adds up to ``mixture`` (channels,
samples); batch axes may stand before both. Each channel has masks of its own, as LarsNet's
have. In the cell of a spectrum S is the stem's value, X the mixture's. All masks are in
[0, 1] and keep the mixture's phase; the two magnitude oracles differ in what they make
smallest: ``magnitude`` the error of magnitudes | |S| - m |X| | (LarsNet's training target),
``phase-sensitive`` the error |S - m X| of the spectrum itself, which is what SDR sees.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from baselines.masks import apply_masks, soft_masks
from baselines.spectral import LARSNET_STFT, StftConfig, stft

Oracle = Literal["mixture", "zero", "ideal-binary", "ideal-ratio", "magnitude", "phase-sensitive"]
ORACLES: tuple[Oracle, ...] = get_args(Oracle)

_SMALLEST = 1e-30


def separate(
    oracle: Oracle, *, mixture: Tensor, reference: Tensor, config: StftConfig = LARSNET_STFT
) -> Tensor:
    """The stems that an oracle makes.

    Args:
        oracle: which bound.
        mixture: (..., channels, samples).
        reference: (..., stems, channels, samples), the true stems.
        config: the analysis.

    Returns:
        (..., stems, channels, samples).
    """
    if oracle == "mixture":
        return mixture.unsqueeze(-3).expand(reference.shape).clone()
    if oracle == "zero":
        return torch.zeros_like(reference)
    spectrum = stft(mixture, config)
    masks = ideal_masks(oracle, mixture=spectrum, reference=stft(reference, config))
    return apply_masks(spectrum, masks, config, mixture.shape[-1])


def ideal_masks(oracle: Oracle, *, mixture: Tensor, reference: Tensor) -> Tensor:
    """The masks of an oracle that has some.

    Args:
        oracle: ``ideal-binary`` (1 where the stem is louder than all the rest, [1]: of the
            binary masks the one nearest to the stem), ``ideal-ratio`` (|S| over the sum of
            the stems' |S|), ``magnitude`` (|S| / |X|, at most 1) or ``phase-sensitive``
            (the real part of S / X, kept in [0, 1], [2]).
        mixture: (..., channels, bins, frames) complex.
        reference: (..., stems, channels, bins, frames) complex.

    Returns:
        (..., stems, channels, bins, frames) in [0, 1].

    Raises:
        ValueError: an oracle without masks.
    """
    whole = mixture.unsqueeze(-4)
    if oracle == "ideal-binary":
        return (reference.abs() > (whole - reference).abs()).to(whole.real.dtype)
    if oracle == "ideal-ratio":
        # soft_masks wants the stems next to the bins
        return soft_masks(reference.abs().transpose(-4, -3)).transpose(-4, -3)
    if oracle == "magnitude":
        return (reference.abs() / whole.abs().clamp_min(_SMALLEST)).clamp_(0, 1)
    if oracle == "phase-sensitive":
        power = whole.real.square() + whole.imag.square()
        aligned = (reference * whole.conj()).real
        return (aligned / power.clamp_min(_SMALLEST)).clamp_(0, 1)
    raise ValueError(f"{oracle!r} has no masks")
