"""What every system makes sure of before it begins: inputs and device that it can work with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch

from baselines.system import Audio, Inputs
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, STEMS

Score = Mapping[str, Sequence[float]]
"""Piece -> onsets of its hits in seconds."""

LOUDEST: Final = 1e6
"""Samples beyond that are no audio, and their powers might overflow."""


def checked_mixture(inputs: Inputs) -> Audio:
    """The mixture as float32 (1 or 2, samples). Raises UserError for anything else."""
    return _checked_audio(inputs.mixture, "the mixture", n_dims=2)


def checked_references(inputs: Inputs, mixture: Audio) -> Audio:
    """The true stems. Raises UserError where there are none or they do not fit."""
    if inputs.references is None:
        raise UserError("this system needs the true stems (references), and was given none")
    references = _checked_audio(inputs.references, "the references", n_dims=3)
    if references.shape != (len(STEMS), *mixture.shape):
        raise UserError(
            f"references of shape {references.shape} do not fit a mixture of {mixture.shape}"
        )
    return references


def checked_score(inputs: Inputs) -> Score:
    """The score. Raises UserError where there is none or it holds what is no onset or piece."""
    if inputs.score is None:
        raise UserError("this system needs the score, and was given none")
    unknown = sorted(set(inputs.score) - set(PIECES))
    if unknown:
        raise UserError(f"the score names no piece with {unknown[0]!r}; pieces: {PIECES}")
    for piece, onsets in inputs.score.items():
        if not np.isfinite(np.asarray(onsets, np.float64)).all():
            raise UserError(f"the score of {piece} holds an onset that is not finite")
    return inputs.score


def _checked_audio(audio: Audio, name: str, *, n_dims: int) -> Audio:
    array = np.asarray(audio)
    if array.ndim != n_dims or array.shape[-2] not in (1, 2) or array.dtype.kind != "f":
        raise UserError(
            f"{name}: float samples of one channel or two are needed, "
            f"not {array.dtype} of shape {array.shape}"
        )
    # a channel at a time: flags for all stems of a long file would fill memory
    channels = array.reshape(math.prod(array.shape[:-1]), array.shape[-1])
    if not all(np.isfinite(c).all() and np.abs(c).max(initial=0.0) <= LOUDEST for c in channels):
        raise UserError(f"{name}: a sample is NaN, infinite or above {LOUDEST:g} times full scale")
    return array.astype(np.float32, copy=False)


def checked_device(name: str) -> torch.device:
    """The device. Raises UserError where torch does not know it or it is not there."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        line = str(error).partition("\n")[0]
        raise UserError(f"device {name!r} cannot be used: {line}") from error
