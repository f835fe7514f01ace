"""Sums of stems: the integers themselves, whether 16 bits are room enough on the way or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stemgmd_build.audio import ClippingError
from stemgmd_build.building.tracks import exact_sum
from stemgmd_build.taxonomy import PIECES


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(arrays(np.int16, (5, 2)), max_size=len(PIECES)),
    shift=st.integers(0, 6),
)
def test_a_sum_is_that_of_whole_numbers_or_an_error(pieces: list[np.ndarray], shift: int) -> None:
    pcm = {PIECES[i]: piece >> shift for i, piece in enumerate(pieces)}
    before = {name: piece.copy() for name, piece in pcm.items()}
    wanted = sum((piece.astype(np.int64) for piece in pcm.values()), np.zeros((5, 2), np.int64))
    if wanted.min() < -32768 or wanted.max() > 32767:
        with pytest.raises(ClippingError):
            exact_sum(pcm, PIECES, 5)
    else:
        total = exact_sum(pcm, PIECES, 5)
        assert total.dtype == np.int16
        assert np.array_equal(total, wanted)
    assert all(np.array_equal(pcm[name], before[name]) for name in pcm)


def test_peaks_that_do_not_meet_need_not_fit_together() -> None:
    first, second = np.zeros((2, 2, 2), np.int16)
    first[0], second[1] = 32767, 32767
    pcm = {PIECES[0]: first, PIECES[1]: second}
    assert np.array_equal(exact_sum(pcm, PIECES, 2), np.full((2, 2), 32767))


def test_one_step_too_many_is_an_error() -> None:
    pcm = {PIECES[0]: np.full((1, 2), 32767, np.int16), PIECES[1]: np.ones((1, 2), np.int16)}
    with pytest.raises(ClippingError):
        exact_sum(pcm, PIECES, 1)
