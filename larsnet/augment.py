"""The six augmentations of LarsNet (arXiv 2312.09663, section 4), each a pure function.

Half of the examples are augmented at all. Of those, each augmentation strikes with its own
probability, drawn from a generator of its own, which depends on seed, example and
augmentation alone: leaving one out changes nothing about the others. `draw` decides, the other
functions do; stems are (..., channels, samples) tensors on any device, full scale 1.0.

Kit swap and doubling decide which kits play a stem, so they cost no more than placing other
hits. A pitch shift does not move onsets: hits are placed on a time axis stretched by the
shift, which resampling then undoes (`stretched_length`, `resample`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from scipy.fft import next_fast_len, prev_fast_len
from torch import Tensor

from stemgmd_build.taxonomy import STEMS

NAMES: Final = ("kit_swap", "doubling", "pitch_shift", "saturation", "channel_swap", "remix")


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges. ``example`` is the probability that anything happens at all.

    ``semitones`` is the largest shift either way, ``drive`` the range of b in tanh(b x),
    ``remix_db`` that of a stem's gain.
    """

    example: float = 0.5
    kit_swap: float = 0.5
    doubling: float = 0.3
    pitch_shift: float = 0.3
    saturation: float = 0.3
    channel_swap: float = 0.5
    remix: float = 0.3
    semitones: float = 3.0
    drive: tuple[float, float] = (1.0, 5.0)
    remix_db: tuple[float, float] = (-12.0, 0.0)

    def __post_init__(self) -> None:
        chances = [self.example, *(getattr(self, name) for name in NAMES)]
        if not all(0 <= p <= 1 for p in chances):
            raise ValueError("probabilities of augmentations are from 0 to 1")
        if not 0 <= self.semitones <= 12:
            raise ValueError("semitones must be from 0 to 12")
        for low, high in (self.drive, self.remix_db):
            if not low <= high:
                raise ValueError("a range of an augmentation begins above its end")


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to each of an example's five stems.

    ``kits``: the kit that plays it, ``doubles``: a second one, or -1; ``semitones``: 0 for
    none; ``drives``: b of tanh(b x), 0 for none; ``swapped``: left and right; ``gains_db``.
    """

    kits: tuple[int, ...]
    doubles: tuple[int, ...]
    semitones: tuple[float, ...]
    drives: tuple[float, ...]
    swapped: tuple[bool, ...]
    gains_db: tuple[float, ...]


def draw(config: AugmentConfig, *, kit: int, n_kits: int, seed: int, index: int) -> Draw:
    """The augmentations of example ``index``, which is a performance on ``kit``."""
    n_stems = len(STEMS)

    def strikes(name: str, n: int) -> tuple[np.random.Generator, list[bool]]:
        rng = np.random.default_rng([seed, index, NAMES.index(name)])
        return rng, (rng.random(n) < getattr(config, name) * active).tolist()

    active = np.random.default_rng([seed, index, len(NAMES)]).random() < config.example
    # All stems but the target come from other kits. Which stem is the target differs from net
    # to net; one stem that keeps its kit serves all, since the kit itself was drawn at random.
    rng, (swap,) = strikes("kit_swap", 1)
    others, kept = rng.integers(n_kits, size=n_stems), int(rng.integers(n_stems))
    kits = [int(others[i]) if swap and i != kept else kit for i in range(n_stems)]
    rng, which = strikes("doubling", n_stems)
    seconds = rng.integers(n_kits, size=n_stems)
    doubles = [int(seconds[i]) if which[i] else -1 for i in range(n_stems)]
    rng, which = strikes("pitch_shift", n_stems)
    shifts = rng.uniform(-config.semitones, config.semitones, n_stems)
    semitones = [float(shifts[i]) if which[i] else 0.0 for i in range(n_stems)]
    rng, which = strikes("saturation", n_stems)
    factors = rng.uniform(*config.drive, n_stems)
    drives = [float(factors[i]) if which[i] else 0.0 for i in range(n_stems)]
    _, swapped = strikes("channel_swap", n_stems)
    rng, (remixed,) = strikes("remix", 1)
    levels = rng.uniform(*config.remix_db, n_stems)
    gains_db = [float(levels[i]) if remixed else 0.0 for i in range(n_stems)]
    return Draw(
        tuple(kits),
        tuple(doubles),
        tuple(semitones),
        tuple(drives),
        tuple(swapped),
        tuple(gains_db),
    )


def stretched_length(n_samples: int, semitones: float) -> int:
    """Length on the stretched time axis: near ``n_samples`` * 2 ** (semitones / 12), quick to FFT.

    The ratio of the two lengths is the shift that results, within 0.1 semitones of what was
    asked for.
    """
    if not semitones:
        return n_samples
    wanted = round(n_samples * 2 ** (semitones / 12))
    nearest = min((prev_fast_len(wanted), next_fast_len(wanted)), key=lambda n: abs(n - wanted))
    return int(nearest)


def resample(stem: Tensor, n_samples: int) -> Tensor:
    """``stem`` (..., samples) squeezed or stretched to ``n_samples``, band-limited and periodic.

    Its pitch rises by the ratio of the lengths.
    """
    n_given = stem.shape[-1]
    if n_given == n_samples:
        return stem
    spectrum = torch.fft.rfft(stem)[..., : n_samples // 2 + 1]
    resampled: Tensor = torch.fft.irfft(spectrum, n_samples) * (n_samples / n_given)
    return resampled


def saturate(stem: Tensor, drive: float) -> Tensor:
    """tanh(drive * x); ``drive`` 0 leaves the stem as it is."""
    return torch.tanh(stem * drive) if drive else stem


def swap_channels(stem: Tensor) -> Tensor:
    """Left is right and right is left."""
    return stem.flip(-2)


def remix(stem: Tensor, gain_db: float) -> Tensor:
    """The stem at another level."""
    return stem * 10 ** (gain_db / 20) if gain_db else stem
