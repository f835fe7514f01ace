"""A velocity layer that is more than one file: recordings summed, each placed and cut.

Drums are recorded with several microphones at once. A *take* is one strike: the files of its
microphones, how loud each is left and right, where in the file the strike begins, and how long
the sum is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FADE_IN_SAMPLES: Final = 22
"""At 44,100 Hz, of takes that are cut: 0.5 ms."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a take. ``left`` and ``right`` are factors, ``start`` samples at 44,100 Hz.

    A ``start`` below 0 delays the file by so much. ``channel`` picks one of a file of many, counted
    from 0; None takes a stereo file as it is.
    """

    file: str
    left: float = 1.0
    right: float = 1.0
    start: int = 0
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Take:
    """One strike. The sum is cut to ``n_samples`` at 44,100 Hz, the last ``n_fade`` fading out.

    Where ``n_samples`` is 0 the sum is kept as it is. ``offset`` is added left and right: what
    takes the constant offset of a recording away.
    """

    parts: tuple[Part, ...]
    n_samples: int = 0
    n_fade: int = 0
    offset: tuple[float, float] = (0.0, 0.0)


def pan_factors(gain_db: float, pan: float) -> tuple[float, float]:
    """Factors (left, right) of a gain in dB and a pan from -1 (left) to 1 (right).

    The power is constant, and 1 in each channel at the centre.
    """
    gain = 10 ** (gain_db / 20) * math.sqrt(2)
    angle = (pan + 1) * math.pi / 4
    return gain * math.cos(angle), gain * math.sin(angle)


def mixed(
    take: Take, read: Callable[[str, int | None], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The sum of a take's parts: float32 (2, n).

    ``read`` gives a file's samples at 44,100 Hz, (1 or 2, n), by its name and channel.
    """
    sounds = [_from(read(part.file, part.channel), part.start) for part in take.parts]
    n_samples = max((sound.shape[1] for sound in sounds), default=0)
    total = np.zeros((2, n_samples), np.float64)
    for part, sound in zip(take.parts, sounds, strict=True):
        total[:, : sound.shape[1]] += sound[[0, -1]] * np.array([[part.left], [part.right]])
    total += np.array(take.offset)[:, None]
    if take.n_samples:
        total = _cut(total[:, : take.n_samples], take.n_fade)
    return total.astype(np.float32)


def _from(sound: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    return np.pad(sound, ((0, 0), (-start, 0))) if start < 0 else sound[:, start:]


def _cut(sound: NDArray[np.float64], n_fade: int) -> NDArray[np.float64]:
    n_in, n_out = (min(n, sound.shape[1]) for n in (FADE_IN_SAMPLES, n_fade))
    sound[:, :n_in] *= np.linspace(0.0, 1.0, n_in)
    if n_out:
        sound[:, -n_out:] *= 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, n_out))
    return sound


def files_of(takes: Sequence[Take]) -> tuple[str, ...]:
    """Every file of the takes, once, in their order."""
    return tuple(dict.fromkeys(part.file for take in takes for part in take.parts))
