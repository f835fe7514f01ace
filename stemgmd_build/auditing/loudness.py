"""How loud a kit's pieces are against each other.

Loudness is ITU-R BS.1770-4's: K-weighted energy of both channels, here over the first 400 ms of
a hit (one BS.1770 block), averaged over the velocities at which GMD really plays the piece.
"""

from __future__ import annotations

import functools
import json
import math
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.rendering.bank import Bank
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES, SAMPLE_RATE

_BLOCK_SAMPLES: Final = round(0.4 * SAMPLE_RATE)


@functools.cache
def _k_weighting() -> NDArray[np.float64]:
    """BS.1770's shelf and high pass as second-order sections at our rate.

    The analogue prototypes behind the standard's 48 kHz coefficients, bilinear at 44.1 kHz.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / SAMPLE_RATE), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [(high + middle * k / q + k * k) / a0, 2 * (k * k - high) / a0]
    shelf += [
        (high - middle * k / q + k * k) / a0,
        1,
        2 * (k * k - 1) / a0,
        (1 - k / q + k * k) / a0,
    ]
    k, q = math.tan(math.pi * 38.13547087602444 / SAMPLE_RATE), 0.5003270373238773
    a0 = 1 + k / q + k * k
    highpass = [1, -2, 1, 1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]
    return np.array([shelf, highpass])


def loudness(samples: NDArray[np.float32]) -> float:
    """BS.1770 loudness of one block in LUFS: float32 (2, n), counted as 400 ms long."""
    from scipy.signal import sosfilt

    weighted = sosfilt(_k_weighting(), samples[:, :_BLOCK_SAMPLES].astype(np.float64), axis=1)
    energy = float(np.sum(np.square(weighted))) / _BLOCK_SAMPLES
    return -0.691 + 10 * math.log10(energy) if energy > 0 else -math.inf


@functools.cache
def gmd_velocities() -> dict[str, tuple[int, ...]]:
    """Piece -> how often GMD plays it at each velocity 0..127."""
    file = resources.files("stemgmd_build.auditing").joinpath("gmd_velocities.json")
    return {piece: tuple(counts) for piece, counts in json.loads(file.read_text("utf-8")).items()}


def piece_loudness(bank: Bank, piece: str) -> float:
    """Mean loudness of a piece's default sound over GMD's velocities, in LUFS."""
    row = ARTICULATIONS.index(piece)
    counts = gmd_velocities()[piece]
    by_shot = {i: 10 ** (loudness(bank.shot(i)) / 10) for i in set(bank.shot_of[row].tolist())}
    energy = sum(
        count * float(bank.gain_of[row, velocity]) ** 2 * by_shot[int(bank.shot_of[row, velocity])]
        for velocity, count in enumerate(counts)
    )
    return 10 * math.log10(max(energy / sum(counts), 1e-30))


def balance(bank: Bank) -> dict[str, float]:
    """Piece that the kit has -> loudness against the snare, in dB; empty without a snare."""
    pieces = [piece for piece in PIECES if piece in bank.kit.sounds]
    loudness_of: dict[str, float] = {piece: piece_loudness(bank, piece) for piece in pieces}
    snare = loudness_of.get("snare")
    return {} if snare is None else {p: value - snare for p, value in loudness_of.items()}
