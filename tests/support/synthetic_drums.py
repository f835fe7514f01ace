"""Drum-like test material made from a seed: sines and noise that die away, hit at random times."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 44100

# piece: (sine in Hz, decay of the sine in s, noise level, decay of the noise in s, low cut)
_SOUNDS = {
    "kick": (55.0, 0.12, 0.05, 0.01, False),
    "snare": (190.0, 0.08, 0.6, 0.10, False),
    "low_tom": (95.0, 0.25, 0.05, 0.02, False),
    "hihat_closed": (7000.0, 0.01, 0.5, 0.04, True),
    "ride": (4100.0, 0.5, 0.3, 0.5, True),
}
PIECES = tuple(_SOUNDS)
"""One piece for each of the five stems, in the order of the stems."""


def one_shot(piece: str, *, seed: int = 0, n_samples: int = 44100) -> Tensor:
    """A hit of ``piece``, (2, n_samples), panned a little, no two channels alike."""
    hertz, tone_sec, noise, noise_sec, high = _SOUNDS[piece]
    rng = np.random.default_rng([seed, PIECES.index(piece)])
    time = np.arange(n_samples) / SAMPLE_RATE
    hiss = rng.standard_normal((2, n_samples))
    if high:
        hiss = np.diff(hiss, axis=-1, prepend=0.0)
    tone = np.sin(2 * np.pi * hertz * (1 + 0.02 * rng.standard_normal()) * time)
    sound = tone * np.exp(-time / tone_sec) + noise * hiss * np.exp(-time / noise_sec)
    gains = np.array([[0.4], [0.3]]) * (1 + 0.2 * rng.standard_normal((2, 1)))
    return torch.from_numpy((gains * sound).astype(np.float32))


def groove(n_samples: int, *, seed: int = 0, kit: int = 0) -> tuple[Tensor, dict[str, list[float]]]:
    """Stems (5, 2, n_samples) and the onsets of each piece in seconds."""
    rng = np.random.default_rng(seed)
    stems = torch.zeros(len(PIECES), 2, n_samples)
    onsets: dict[str, list[float]] = {}
    for index, piece in enumerate(PIECES):
        hit = one_shot(piece, seed=kit)
        starts = rng.integers(0, n_samples, size=max(2, n_samples // 22050)).tolist()
        for start in starts:
            length = min(hit.shape[1], n_samples - start)
            stems[index, :, start : start + length] += (
                float(rng.uniform(0.3, 1.0)) * hit[:, :length]
            )
        onsets[piece] = [start / SAMPLE_RATE for start in starts]
    return stems, onsets
