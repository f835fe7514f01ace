"""Least-squares projection of signals onto delayed versions of other signals.

The regressors are channels delayed by 0 to n_taps - 1 samples, so that their Gram matrix is
block Toeplitz and needs nothing but correlations at those lags; those are summed over short
blocks. One Cholesky factorization serves every signal that is projected. Rows and columns of
a Gram matrix are ordered by delay first, then by regressor. Everything is float64. The use
made of it is in `benchmarks.scores.bsseval`.

Dense linear algebra keeps to one BLAS thread: where another process has one of the cores, two
threads that wait for each other take up to fifteen times as long as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft, linalg
from threadpoolctl import threadpool_limits

from benchmarks.scores.metrics import Floats

BLOCK_FFT: Final = 4096
BLOCKS_AT_ONCE: Final = 16
"""Transform length of the blockwise correlations, and how many stay in the cache together."""

DEPENDENT: Final = 1e-13
"""A channel whose energy is below this share of its own beside the channels before it is a
multiple of them: rounding of float32 leaves 1e-15, quantization to 16 bits 1e-9 and more."""

SCHUR_ORDER: Final = 4096
SCHUR_ERROR: Final = 1e-12
"""From this order on the Schur algorithm is tried before LAPACK, and its factor is taken if it
gives the matrix back to this share of its largest element (LAPACK: 1e-15)."""


@dataclass(frozen=True)
class Subspace:
    """Delayed versions of some regressor channels, ready to be projected onto.

    Each regressor is a sum of reference channels; ``mixing`` (regressors, reference channels)
    says which. ``kept`` are the regressors that are no combination of those before them, and
    ``factor`` is the lower Cholesky factor of their Gram matrix; what lies above its diagonal
    is never read.
    """

    mixing: Floats
    kept: tuple[int, ...]
    factor: Floats


def correlate(delayed: NDArray[Any], fixed: NDArray[Any], n_lags: int) -> Floats:
    """sum over n of delayed[p, n - lag] * fixed[q, n], for lags 0 to n_lags - 1: (p, q, lag).

    Block by block: a block of ``fixed`` against the same span of ``delayed`` and the
    n_lags - 1 samples before it; the cross spectra of all blocks add up.
    """
    n_fft = max(BLOCK_FFT, fft.next_fast_len(4 * n_lags, real=True))
    block = n_fft - n_lags + 1
    total = np.zeros((n_fft // 2 + 1, len(delayed), len(fixed)), dtype=np.complex128)
    for start in range(0, fixed.shape[1], BLOCKS_AT_ONCE * block):
        n_blocks = min(BLOCKS_AT_ONCE, -(-(fixed.shape[1] - start) // block))
        stop = start + n_blocks * block
        spans = _excerpt(fixed, start, stop).reshape(len(fixed), n_blocks, block)
        before = _excerpt(delayed, start - n_lags + 1, stop)
        windows = sliding_window_view(before, n_fft, axis=1)[:, ::block]
        right = np.conj(spectra(spans, n_fft).transpose(2, 1, 0))
        total += spectra(windows, n_fft).transpose(2, 0, 1) @ right
    lags = fft.irfft(total, n=n_fft, axis=0)[n_lags - 1 :: -1]
    return np.ascontiguousarray(lags.transpose(1, 2, 0))


def subspace(mixing: Floats, lags: Floats) -> Subspace:
    """Mix the references' correlations into the regressors', and factorize."""
    kept = _independent(mixing @ lags[..., 0] @ mixing.T)
    used = mixing[kept]
    mixed = np.einsum("ap,pqk,bq->abk", used, lags, used, optimize=True)
    with threadpool_limits(1, user_api="blas"):
        return Subspace(mixing, tuple(kept), _factorize(mixed))


def filters(subspace: Subspace, cross: Floats) -> Floats:
    """Least-squares filters for these estimates: (regressor, estimate channel, tap).

    A regressor that is not kept has a filter of zeros. ``cross``: correlations of the reference
    channels with the estimate's, as `correlate` gives them.
    """
    used = subspace.mixing[list(subspace.kept)]
    mixed = np.einsum("ap,pqk->kaq", used, cross)
    right = mixed.reshape(-1, cross.shape[1])
    with threadpool_limits(1, user_api="blas"):
        solved = linalg.cho_solve((subspace.factor, True), right, check_finite=False)
    taps = np.zeros((len(subspace.mixing), *cross.shape[1:]))
    taps[list(subspace.kept)] = solved.reshape(mixed.shape).transpose(1, 2, 0)
    return taps


def spectra(signals: Floats, n_fft: int) -> NDArray[np.complex128]:
    """Along the last axis, by torch: three times as fast as scipy's on many short signals."""
    found = torch.fft.rfft(torch.from_numpy(np.array(signals)), n_fft)
    return np.asarray(found.numpy())


def _excerpt(signals: NDArray[Any], start: int, stop: int) -> Floats:
    """signals[:, start:stop] as float64, with zeros where that lies outside."""
    inside = slice(max(start, 0), min(stop, signals.shape[1]))
    out = np.zeros((len(signals), stop - start))
    out[:, inside.start - start : inside.stop - start] = signals[:, inside]
    return out


def _independent(gram: Floats) -> list[int]:
    """Indices of channels that are no linear combination of those before them."""
    kept: list[int] = []
    for i, energy in enumerate(np.diag(gram)):
        others = gram[np.ix_(kept, kept)]
        explained = gram[i, kept] @ np.linalg.solve(others, gram[kept, i]) if kept else 0.0
        if energy - explained > DEPENDENT * energy:
            kept.append(i)
    return kept


def _factorize(lags: Floats) -> Floats:
    """Lower Cholesky factor of the Gram matrix that has these lags (p, q, lag).

    The diagonal gets museval's absolute epsilon, and where rounding has left the matrix
    indefinite the least share of itself that lets it be factorized.
    """
    lags = lags.copy()
    diagonal = np.einsum("iik->ik", lags)[:, 0]
    diagonal += np.finfo(np.float64).eps
    factor = _schur_factor(lags) if lags.shape[0] * lags.shape[2] >= SCHUR_ORDER else None
    if factor is not None:
        return factor
    for share in (0.0, *10.0 ** np.arange(-15, -5)):
        gram = _gram(lags)
        np.einsum("ii->i", gram)[:] *= 1 + share
        try:
            factor, _ = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
            return np.asarray(factor)
        except linalg.LinAlgError:
            continue
    raise ValueError("the references' correlations cannot be inverted: are their levels sane?")


def _gram(lags: Floats) -> Floats:
    """The Gram matrix itself, in Fortran order."""
    n, _, n_taps = lags.shape
    gram = np.empty((n_taps, n, n_taps, n))
    for p in range(n):
        for q in range(n):
            both = np.concatenate((lags[q, p, :0:-1], lags[p, q]))
            gram[:, p, :, q] = sliding_window_view(both, n_taps)[:, ::-1]
    return gram.reshape(n * n_taps, n * n_taps).T


def _schur_factor(lags: Floats) -> Floats | None:
    """The same as LAPACK's at a fiftieth of its operations, or None where it is inexact.

    Block Schur algorithm (Kailath & Sayed, Fast Reliable Algorithms for Matrices with
    Structure, 1999, ch. 1) in mixed form: the Schur complement of a block Toeplitz matrix has
    displacement a^T a - b^T b with two block rows a and b, of which a is the factor's next
    block row; a hyperbolic rotation clears the first block of b.
    """
    n, _, n_taps = lags.shape
    top = lags.transpose(1, 2, 0).reshape(n, -1)  # the Gram matrix's first block row
    upper = np.zeros((n * n_taps, n * n_taps))
    try:
        a = np.linalg.solve(np.linalg.cholesky(top[:, :n]), top)
        upper[:n], b = a, a
        for row in range(n, len(upper), n):
            a, b = a[:, :-n], b[:, n:]
            w = np.linalg.solve(a[:, :n].T, b[:, :n].T).T
            c = np.linalg.cholesky(np.eye(n) - w.T @ w)
            d = np.linalg.cholesky(np.eye(n) - w @ w.T)
            a = np.linalg.inv(c) @ (a - w.T @ b)
            b = d.T @ b - np.linalg.solve(d, w @ c) @ a
            upper[row : row + n, row:] = a
    except np.linalg.LinAlgError:
        return None
    last = top.reshape(n, n_taps, n)[:, ::-1].transpose(1, 0, 2).reshape(-1, n)
    error = np.abs(upper.T @ upper[:, -n:] - last).max()
    return upper.T if error <= SCHUR_ERROR * np.abs(top).max() else None
