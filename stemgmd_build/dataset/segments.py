"""What both readers share: segments of tracks, and how tracks are cut into them."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE

SEGMENT_SEC: Final = 11.85
"""LarsNet's training segment (arXiv 2312.09663, section 4)."""

Stems = Literal["five", "nine"]
Output = Literal["numpy", "torch"]


class Segment(NamedTuple):
    """One segment: arrays (or torch tensors) of float32, full scale 1.0, and where it is from.

    ``mixture``: (2, n_samples); ``stems``: (5 or 9, 2, n_samples) in the taxonomy's order;
    ``kit``: the kit's id, or one for each stem joined by "+"; ``start``: samples into the track.
    """

    mixture: Any
    stems: Any
    performance: str
    kit: str
    start: int


class Cut:
    """Which segment of which track an index means, for tracks of given lengths."""

    def __init__(self, lengths: Iterable[int], segment_sec: float | None, hop_sec: float) -> None:
        given = (hop_sec,) if segment_sec is None else (segment_sec, hop_sec)
        if not all(0.5 < sec * SAMPLE_RATE < math.inf for sec in given):
            raise UserError("segment_sec and hop_sec must be positive, from one sample on, finite")
        self._lengths = list(lengths)
        self.n_samples = None if segment_sec is None else round(segment_sec * SAMPLE_RATE)
        self._hop = round(hop_sec * SAMPLE_RATE)
        self._ends = list(itertools.accumulate(map(self._count, self._lengths)))

    def _count(self, length: int) -> int:
        if self.n_samples is None:
            return 1
        n_needed = max(0, math.ceil((length - self.n_samples) / self._hop)) + 1
        # Where the hop is longer than a segment, none begins behind the end.
        return max(1, min(n_needed, math.ceil(length / self._hop)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def locate(self, index: int) -> tuple[int, int, int]:
        """(track, start, n_samples) of a segment. Raises IndexError beyond the last."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        index %= len(self)
        track = bisect.bisect_right(self._ends, index)
        before = self._ends[track - 1] if track else 0
        length = self._lengths[track]
        return track, (index - before) * self._hop, self.n_samples or length


def as_output(array: NDArray[np.float32], output: Output) -> Any:
    if output == "numpy":
        return array
    import torch

    return torch.from_numpy(array)


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"no {what} {value!r}: give one of {', '.join(choices)}")


def check_count(what: str, value: int) -> None:
    if not isinstance(value, Integral) or value < 0:
        raise UserError(f"{what} {value!r}: give a whole number, 0 or more")
