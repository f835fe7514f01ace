"""The six augmentations of LarsNet (arXiv 2312.09663, section 4), and three more.

Half of the examples are augmented at all. Of those, each augmentation strikes with its own
probability, drawn from a generator of its own, which depends on seed, example and
augmentation alone: leaving one out changes nothing about the others. `draw` decides, the other
functions, each of them pure, do; stems are (..., channels, samples) tensors on any device, full
scale 1.0.

The three more, an equalizer, damping and reverberation, are not the paper's and are left out unless
a configuration asks for them. They make other drums of the few kits that there are: what sets one
kit apart from another is above all how its drums are tuned, how long they ring, how bright they
are, and the room that they stand in.

Kit swap and doubling decide which kits play a stem, so they cost no more than placing other
hits. A pitch shift does not move onsets: hits are placed on a time axis stretched by the
shift, which resampling then undoes (`stretched_length`, `resample`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len, prev_fast_len
from torch import Tensor

from larsnet.records import check_types
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

NAMES: Final = ("kit_swap", "doubling", "pitch_shift", "saturation", "channel_swap", "remix")
"""The paper's."""
MORE_NAMES: Final = ("equalizer", "damping", "reverb")

_STREAMS: Final = (*NAMES, "example", *MORE_NAMES)
"""A generator each; the order decides what is drawn, so new ones go to the end."""

EQUALIZER_HZ: Final = (60.0, 180.0, 540.0, 1620.0, 4860.0, 14580.0)
"""Where the equalizer's gains are; between them they go linearly over log-frequency."""


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges. ``example`` is the probability that anything happens at all.

    ``semitones`` is the largest shift either way, ``drive`` the range of b in tanh(b x),
    ``remix_db`` that of a stem's gain, ``equalizer_db`` the equalizer's largest gain either way,
    ``damping_sec`` the range of time constants, evenly over their logarithm, and so ``reverb_sec``
    that of a room's reverberation times; ``reverb_db`` is that of a stem's reverberation beside it.
    """

    example: float = 0.5
    kit_swap: float = 0.5
    doubling: float = 0.3
    pitch_shift: float = 0.3
    saturation: float = 0.3
    channel_swap: float = 0.5
    remix: float = 0.3
    equalizer: float = 0.0
    damping: float = 0.0
    reverb: float = 0.0
    semitones: float = 3.0
    drive: tuple[float, float] = (1.0, 5.0)
    remix_db: tuple[float, float] = (-12.0, 0.0)
    equalizer_db: float = 9.0
    damping_sec: tuple[float, float] = (0.05, 0.5)
    reverb_sec: tuple[float, float] = (0.1, 1.0)
    reverb_db: tuple[float, float] = (-24.0, -6.0)

    def __post_init__(self) -> None:
        check_types(self)
        chances = [self.example, *(getattr(self, name) for name in (*NAMES, *MORE_NAMES))]
        if not all(0 <= p <= 1 for p in chances):
            raise ValueError("probabilities of augmentations are from 0 to 1")
        if not 0 <= self.semitones <= 12:
            raise ValueError("semitones must be from 0 to 12")
        ranges = (self.drive, self.remix_db, self.damping_sec, self.reverb_sec, self.reverb_db)
        for low, high in ranges:
            if not low <= high:
                raise ValueError("a range of an augmentation begins above its end")
        if not 0 <= self.equalizer_db <= 24:
            raise ValueError("equalizer_db must be from 0 to 24")
        if not (self.damping_sec[0] > 0 and self.reverb_sec[0] > 0):
            raise ValueError("damping_sec and reverb_sec must be above 0")
        if not self.reverb_sec[1] <= 10:
            raise ValueError("reverb_sec must be at most 10")


class Reverb(NamedTuple):
    """One stem's place in a room: reverberation time, level beside the stem, and which noise."""

    reverb_sec: float
    level_db: float
    seed: int


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to each of an example's five stems.

    ``kits``: the kit that plays it, ``doubles``: a second one, or -1; ``semitones``: 0 for
    none; ``drives``: b of tanh(b x), 0 for none; ``swapped``: left and right; ``gains_db``;
    ``equalizers_db``: gains at EQUALIZER_HZ, empty for none; ``dampings_sec``: 0 for none;
    ``reverbs``: None for none.
    """

    kits: tuple[int, ...]
    doubles: tuple[int, ...]
    semitones: tuple[float, ...]
    drives: tuple[float, ...]
    swapped: tuple[bool, ...]
    gains_db: tuple[float, ...]
    equalizers_db: tuple[tuple[float, ...], ...] = ((),) * len(STEMS)
    dampings_sec: tuple[float, ...] = (0.0,) * len(STEMS)
    reverbs: tuple[Reverb | None, ...] = (None,) * len(STEMS)


def draw(config: AugmentConfig, *, kit: int, n_kits: int, seed: int, index: int) -> Draw:
    """The augmentations of example ``index``, which is a performance on ``kit``."""
    n_stems = len(STEMS)

    def strikes(name: str, n: int) -> tuple[np.random.Generator, list[bool]]:
        rng = np.random.default_rng([seed, index, _STREAMS.index(name)])
        return rng, (rng.random(n) < getattr(config, name) * active).tolist()

    whether = np.random.default_rng([seed, index, _STREAMS.index("example")])
    active = whether.random() < config.example
    # All stems but the target come from other kits. Which stem is the target differs from net
    # to net; one stem that keeps its kit serves all, since the kit itself was drawn at random.
    rng, (swap,) = strikes("kit_swap", 1)
    others, kept = rng.integers(n_kits, size=n_stems), int(rng.integers(n_stems))
    kits = [int(others[i]) if swap and i != kept else kit for i in range(n_stems)]
    rng, which = strikes("doubling", n_stems)
    shares = rng.random(n_stems)
    doubles = [-1] * n_stems
    for i in range(n_stems):
        # Neither the kit that plays nor the one that would after a swap, so that it does not depend
        # on whether there is a swap; of two kits there is but the other one, of one none.
        taken = {kit, int(others[i])} if n_kits > 2 else {kits[i]}
        left = [k for k in range(n_kits) if k not in taken]
        if which[i] and left:
            doubles[i] = left[int(shares[i] * len(left))]
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
    rng, which = strikes("equalizer", n_stems)
    curves = rng.uniform(-config.equalizer_db, config.equalizer_db, (n_stems, len(EQUALIZER_HZ)))
    equalizers_db = [tuple(curves[i].tolist()) if which[i] else () for i in range(n_stems)]
    rng, which = strikes("damping", n_stems)
    shortest, longest = map(math.log, config.damping_sec)
    times = np.exp(rng.uniform(shortest, longest, n_stems))
    dampings_sec = [float(times[i]) if which[i] else 0.0 for i in range(n_stems)]
    rng, (in_a_room,) = strikes("reverb", 1)
    shortest, longest = map(math.log, config.reverb_sec)
    reverb_sec = math.exp(rng.uniform(shortest, longest))
    wet, seeds = rng.uniform(*config.reverb_db, n_stems), rng.integers(1 << 32, size=n_stems)
    room = [Reverb(reverb_sec, float(wet[i]), int(seeds[i])) for i in range(n_stems)]
    return Draw(
        tuple(kits),
        tuple(doubles),
        tuple(semitones),
        tuple(drives),
        tuple(swapped),
        tuple(gains_db),
        tuple(equalizers_db),
        tuple(dampings_sec),
        tuple(room) if in_a_room else (None,) * n_stems,
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


def saturate(stem: Tensor, drive: float | Tensor) -> Tensor:
    """tanh(drive * x) of (..., samples); one drive, or one that broadcasts against the stems."""
    return torch.tanh(stem * drive)


def swap_channels(stem: Tensor) -> Tensor:
    """Left is right and right is left: (..., channels, samples)."""
    return stem.flip(-2)


def remix(stem: Tensor, gain_db: float) -> Tensor:
    """The stem (..., samples) at another level, in dB."""
    return stem * 10 ** (gain_db / 20) if gain_db else stem


def equalize(stems: Tensor, gains_db: Tensor) -> Tensor:
    """Stems (..., channels, samples) through filters without delay, gains (..., EQUALIZER_HZ).

    Constant below the first and above the last frequency. A stem is taken as periodic, or nearly
    so: the curve is smooth, so no more than some milliseconds reach across its ends.
    """
    n_samples = stems.shape[-1]
    n_fft = int(next_fast_len(n_samples))
    curves_db = gains_db.to(stems) @ _equalizer_shares(n_fft, stems.dtype, stems.device)
    response = torch.exp(curves_db * (math.log(10) / 20)).unsqueeze(-2)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(stems, n_fft) * response, n_fft)
    return filtered[..., :n_samples]


@functools.lru_cache(maxsize=8)
def _equalizer_shares(n_fft: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each gain adds at every frequency of a real FFT, (EQUALIZER_HZ, bins): from 0 to 1."""
    hertz = np.maximum(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE), 1.0)
    knots = np.log2(EQUALIZER_HZ)
    shares = [np.interp(np.log2(hertz), knots, one) for one in np.eye(len(knots))]
    return torch.from_numpy(np.array(shares)).to(device, dtype)


def damping_envelope(damping_sec: float, n_samples: int, like: Tensor) -> Tensor:
    """What a hit is multiplied by from its stroke on: exp(-t / ``damping_sec``), (n_samples,)."""
    time_sec = torch.arange(n_samples, device=like.device, dtype=like.dtype) / SAMPLE_RATE
    return torch.exp(-time_sec / damping_sec)


def reverberate(stems: Tensor, reverbs: Sequence[Reverb]) -> Tensor:
    """Stems (n, channels, samples), each with its room's answer, cut off where the stem ends.

    An answer's impulse response is Gaussian noise, each channel's its own, that falls off by 60 dB
    in ``reverb_sec`` (Polack's model of late reverberation); of one impulse it holds ``level_db``
    of the impulse's energy, and the impulse stays as it is. The noise is of the device's own
    generator.
    """
    n_channels, n_samples = stems.shape[1:]
    reverb_sec = torch.tensor([r.reverb_sec for r in reverbs]).to(stems)
    level_db = torch.tensor([r.level_db for r in reverbs]).to(stems)
    n_tails = [min(max(round(r.reverb_sec * SAMPLE_RATE), 1), n_samples) for r in reverbs]
    n_tail = max(n_tails)
    tails = stems.new_zeros(len(reverbs), n_channels, n_tail)
    generator = torch.Generator(stems.device)
    for tail, reverb, n in zip(tails, reverbs, n_tails, strict=True):
        generator.manual_seed(reverb.seed)
        tail[:, :n] = torch.randn(
            n_channels, n, generator=generator, dtype=stems.dtype, device=stems.device
        )
    time_sec = torch.arange(n_tail, device=stems.device, dtype=stems.dtype) / SAMPLE_RATE
    tails *= 10 ** (-3 * time_sec / reverb_sec[:, None, None])
    tails *= (10 ** (level_db / 20))[:, None, None] / tails.norm(dim=-1, keepdim=True)
    n_fft = int(next_fast_len(n_samples + n_tail - 1, real=True))
    answers = torch.fft.irfft(torch.fft.rfft(stems, n_fft) * torch.fft.rfft(tails, n_fft), n_fft)
    reverberant: Tensor = stems + answers[..., :n_samples]
    return reverberant
