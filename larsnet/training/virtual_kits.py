"""Drum kits that nobody recorded, to train on: random, and as many as one wants.

What a net learns of drums it learns from the kits that it hears, and there are few. Each virtual
kit draws its own drums from wide ranges: heads as sums of the modes of an ideal membrane (ratios of
the zeros of Bessel functions; Fletcher and Rossing, The Physics of Musical Instruments, chapter 3)
with a pitch that falls after the stroke, wires and breath as noise in bands that die away each at
its own pace, metal as many inharmonic partials. Shells, microphones and rooms are a random
equalizer and a random reverberation. They need not sound good: what they share with all drums is
what tells a kick from a tom and a hi-hat from a cymbal, and little else.

Virtual kits are for training alone: none is in the catalogue, none is scored on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from stemgmd_build.kits.kit import Kit
from stemgmd_build.processes import usable_cpus
from stemgmd_build.rendering.bank import Bank, Shot
from stemgmd_build.rendering.sampling import FLOOR_DB, last_above, tail_of
from stemgmd_build.taxonomy import (
    ARTICULATIONS,
    PIECE_OF_ARTICULATION,
    PIECES,
    SAMPLE_RATE,
    STEM_OF_PIECE,
    STEMS,
)

Signal = NDArray[np.float64]

_BLOCK: Final = 512
_DIED_AWAY: Final = 12.0
"""Time constants after which noise is not computed any more: it has fallen by 104 dB."""

_MODES: Final = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501])
"""Frequencies of an ideal membrane, to that of the lowest."""

_EDGES_HZ: Final = np.array([0.0, 150, 400, 1000, 2500, 5000, 9000, SAMPLE_RATE / 2])
"""Between these, noise has a level and a decay of its own."""

_LAYER_VELOCITIES: Final = (50, 90, 127)
"""The loudest velocity of each layer."""

_ENERGIES_DB: Final = {
    "kick": (-31, -22),
    "snare": (-34, -25),
    "toms": (-32, -22),
    "hihat_closed": (-47, -34),
    "hihat_open": (-43, -32),
    "crash_left": (-37, -26),
    "ride": (-47, -34),
}
"""Of the hardest stroke over its first second, mean square against full scale: where the pieces of
recorded kits lie once they are balanced (`stemgmd kits audit`), and somewhat beyond."""


def virtual_bank(seed: int) -> Bank:
    """Virtual kit ``seed``, as a bank of one-shots: nine pieces with three velocity layers each."""
    rng = np.random.default_rng([seed, 0x6B6974])
    room = _room(rng)
    chunks: list[NDArray[np.float32]] = []
    shots: list[Shot] = []
    shot_of = np.zeros((len(ARTICULATIONS), 128), np.int32)
    gain_of = np.zeros((len(ARTICULATIONS), 128), np.float32)
    for piece, (recorded, level_db) in _pieces(rng).items():
        rows = [i for i, name in enumerate(ARTICULATIONS) if PIECE_OF_ARTICULATION[name] == piece]
        whole = _in_a_room(recorded, room)
        exponent, darkness = rng.uniform(0.8, 1.8), rng.uniform(0.0, 9.0)
        energy = np.square(whole[:, :SAMPLE_RATE]).sum() / SAMPLE_RATE
        factor = 10 ** (level_db / 20) / np.sqrt(energy)
        lowest = 1
        for loudest in _LAYER_VELOCITIES:
            shot = _trimmed(_darker(whole, darkness * (1 - loudest / 127)) * factor)
            velocities = np.arange(lowest, loudest + 1)
            for row in rows:
                shot_of[row, velocities] = len(shots)
                gain_of[row, velocities] = (velocities / 127) ** exponent
            start = shots[-1].start + shots[-1].n_samples if shots else 0
            shots.append(Shot(start, shot.shape[1], *tail_of(shot)))
            chunks.append(shot)
            lowest = loudest + 1
    kit = Kit(f"virtual-{seed}", f"Virtual kit {seed}", "samples", "", "", {}, family="virtual")
    samples = np.concatenate(chunks, axis=1)
    return Bank(kit, samples, tuple(shots), shot_of, gain_of, kit.id, "virtual kits")


def with_virtual_kits(banks: Sequence[Bank], n_kits: int, share: float, seed: int) -> list[Bank]:
    """Recorded kits and virtual ones, to draw from evenly: virtual kits are ``share`` of the list.

    A recorded kit comes several times where there are fewer of them.
    """
    if not n_kits:
        return list(banks)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        virtual = list(pool.map(virtual_bank, range(seed * 10_000, seed * 10_000 + n_kits)))
    n_times = max(1, round(n_kits * (1 - share) / (share * len(banks))))
    return [*banks] * n_times + virtual


def _pieces(rng: np.random.Generator) -> dict[str, tuple[Signal, float]]:
    """Each piece as (2, n_samples), and how loud it is to be in dB."""
    toms_hz = rng.uniform(60, 115) * np.cumprod([1.0, *rng.uniform(1.15, 1.6, 2)])
    head = _Head(rng)
    metal, cymbal = _Metal(rng, low=300.0), _Metal(rng, low=150.0)
    closed_sec, wash_sec = _log_uniform(rng, 0.012, 0.08), _log_uniform(rng, 0.25, 1.2)
    makers: dict[str, Callable[[], Signal]] = {
        "kick": lambda: _kick(rng),
        "snare": lambda: _snare(rng),
        "hi_tom": lambda: head.tom(float(toms_hz[2])),
        "mid_tom": lambda: head.tom(float(toms_hz[1])),
        "low_tom": lambda: head.tom(float(toms_hz[0])),
        "hihat_closed": lambda: metal.struck(closed_sec, ping_db=-40.0),
        "hihat_open": lambda: metal.struck(_log_uniform(rng, 0.12, 0.5), ping_db=-40.0),
        "crash_left": lambda: cymbal.struck(wash_sec, ping_db=-40.0),
        "ride": lambda: cymbal.struck(wash_sec * rng.uniform(0.5, 1.2), rng.uniform(-12, 6)),
    }
    levels_db = {name: rng.uniform(*bounds) for name, bounds in _ENERGIES_DB.items()}
    colours = {stem: _colour(rng) for stem in STEMS}
    found = {}
    for piece in PIECES:
        dry = _filtered(makers[piece](), colours[STEM_OF_PIECE[piece]])
        found[piece] = (_panned(dry, rng), float(levels_db.get(piece, levels_db["toms"])))
    return found


def _kick(rng: np.random.Generator) -> Signal:
    decay_sec, base_hz = _log_uniform(rng, 0.03, 0.3), rng.uniform(38, 85)
    time = _time(8 * decay_sec)
    swept = base_hz * (1 + rng.uniform(0.2, 7) * np.exp(-time / _log_uniform(rng, 0.004, 0.05)))
    phase = 2 * np.pi * np.cumsum(swept) / SAMPLE_RATE
    body = np.sin(phase) + rng.uniform(0, 0.35) * np.sin(rng.uniform(1.5, 2.4) * phase)
    body *= np.exp(-np.maximum(time - rng.uniform(0, 0.06), 0) / decay_sec)
    body = np.tanh(rng.uniform(0.3, 3.0) * body)
    click = _noise(rng, len(time), _log_uniform(rng, 0.001, 0.02), low=rng.uniform(300, 4000))
    shell = _noise(rng, len(time), decay_sec * rng.uniform(0.2, 0.6), high=rng.uniform(300, 1500))
    return body + _db(rng, -34, -4) * click + _db(rng, -34, -14) * shell


def _snare(rng: np.random.Generator) -> Signal:
    decay_sec, base_hz = _log_uniform(rng, 0.03, 0.2), rng.uniform(130, 290)
    wires_sec = _log_uniform(rng, 0.04, 0.3)
    time = _time(8 * max(decay_sec, wires_sec))
    glide = 1 + rng.uniform(0, 0.5) * np.exp(-time / rng.uniform(0.005, 0.03))
    phase = 2 * np.pi * np.cumsum(base_hz * glide) / SAMPLE_RATE
    body = np.zeros_like(time)
    for ratio in _MODES[:5]:
        body += rng.uniform(0, 1) * np.exp(-time * ratio / decay_sec) * np.sin(ratio * phase)
    wires = _noise(rng, len(time), wires_sec, low=rng.uniform(300, 2500))
    crack = _noise(rng, len(time), _log_uniform(rng, 0.002, 0.012), low=1000)
    return _unit(body) + _db(rng, -20, 4) * wires + _db(rng, -20, 0) * crack


class _Head:
    """What the toms of a kit have in common."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._decay_sec = _log_uniform(rng, 0.07, 0.6)
        self._weights = rng.uniform(0, 1, len(_MODES)) ** 2 * 0.6
        self._weights[0] = 1.0
        self._glide, self._glide_sec = rng.uniform(0, 0.4), rng.uniform(0.01, 0.08)
        self._damping = rng.uniform(0.5, 1.5)
        self._stick_db, self._breath_db = rng.uniform(-30, -6), rng.uniform(-34, -14)

    def tom(self, base_hz: float) -> Signal:
        """The tom whose lowest mode is ``base_hz``."""
        rng, decay_sec = self._rng, self._decay_sec * (100 / base_hz) ** 0.5
        time = _time(8 * decay_sec)
        glide = 1 + self._glide * np.exp(-time / self._glide_sec)
        phase = 2 * np.pi * np.cumsum(base_hz * glide) / SAMPLE_RATE
        body = np.zeros_like(time)
        for ratio, weight in zip(_MODES, self._weights, strict=True):
            decay = np.exp(-time * ratio**self._damping / decay_sec)
            body += weight * decay * np.sin(ratio * phase + rng.uniform(0, 0.5))
        stick = _noise(rng, len(time), _log_uniform(rng, 0.002, 0.015), low=800)
        breath = _noise(rng, len(time), decay_sec * 0.4, high=2000)
        return (
            _unit(body)
            + 10 ** (self._stick_db / 20) * stick
            + 10 ** (self._breath_db / 20) * breath
        )


class _Metal:
    """One alloy: the partials that two hi-hats or two cymbals of a kit share."""

    def __init__(self, rng: np.random.Generator, low: float) -> None:
        self._rng = rng
        n_partials = int(rng.integers(6, 90))
        floor = rng.uniform(low, 6 * low)
        self._partials_hz = floor * (15000 / floor) ** rng.uniform(0, 1, n_partials) ** 0.7
        self._weights = rng.standard_normal(n_partials)
        self._tone_db = rng.uniform(-18, 3)
        self._noise_low = rng.uniform(floor, 7000)
        self._tilt = rng.uniform(-0.4, 0.6)

    def struck(self, decay_sec: float, ping_db: float) -> Signal:
        """A stroke that dies away in ``decay_sec``; a stick's ping beside it."""
        rng, time = self._rng, _time(min(7 * decay_sec, 6.0))
        decays = decay_sec * (self._partials_hz / 4000) ** -self._tilt
        phases = rng.uniform(0, 2 * np.pi, len(decays))
        tone = _partials(self._partials_hz, decays, self._weights, phases, len(time))
        wash = _noise(rng, len(time), decay_sec, low=self._noise_low, tilt=self._tilt)
        stick = _noise(rng, len(time), rng.uniform(0.002, 0.01), low=2000)
        ping_hz = rng.uniform(900, 5000)
        ping = np.exp(-time / rng.uniform(0.03, 0.3)) * np.sin(2 * np.pi * ping_hz * time)
        rise = 1 - np.exp(-time / _log_uniform(rng, 0.0003, 0.01))
        body = rise * (wash + 10 ** (self._tone_db / 20) * _unit(tone))
        return body + _db(rng, -20, -3) * stick + 10 ** (ping_db / 20) * ping


def _noise(
    rng: np.random.Generator,
    n_samples: int,
    decay_sec: float,
    low: float = 0.0,
    high: float = SAMPLE_RATE / 2,
    tilt: float = 0.2,
) -> Signal:
    """Noise that dies away, each band at its own pace: peak 1, (n_samples,)."""
    white = rng.standard_normal(n_samples)
    n_bands = len(_EDGES_HZ) - 1
    centres_hz = (_EDGES_HZ[:-1] + _EDGES_HZ[1:]) / 2
    drawn = np.array([(rng.uniform(0.7, 1.4), _db(rng, -9, 3)) for _ in range(n_bands)])
    paces_sec = decay_sec * drawn[:, 0] * (centres_hz / 3000) ** -tilt
    n_heard = min(n_samples, round(_DIED_AWAY * paces_sec.max() * SAMPLE_RATE) + 1)
    n_fft = next_fast_len(n_heard, real=True)
    frequencies = rfftfreq(n_fft, 1 / SAMPLE_RATE)
    slopes = 1 / (1 + (low / np.maximum(frequencies, 1e-3)) ** 4)
    slopes /= 1 + (frequencies / high) ** 4
    spectrum = rfft(white[:n_heard], n_fft) * slopes
    time = np.arange(n_heard) / SAMPLE_RATE
    noise = np.zeros(n_samples)
    for (bottom, top), pace_sec, gain in zip(
        pairwise(_EDGES_HZ), paces_sec, drawn[:, 1], strict=True
    ):
        inside = (frequencies >= bottom) & (frequencies < top)
        band = irfft(np.where(inside, spectrum, 0), n_fft)[:n_heard]
        noise[:n_heard] += gain * band * np.exp(-time / pace_sec)
    return _unit(noise)


def _partials(
    partials_hz: Signal, decays_sec: Signal, weights: Signal, phases: Signal, n_samples: int
) -> Signal:
    """A sum of sines that die away, (n_samples,) of (partials,): as one product of two matrices.

    A sine at sample ``_BLOCK * b + k`` is a complex exponential in b times one in k.
    """
    rates = (-1 / decays_sec + 2j * np.pi * partials_hz) / SAMPLE_RATE
    within = np.exp(rates[:, None] * np.arange(_BLOCK))
    starts = np.arange(0, n_samples, _BLOCK)
    between = weights * np.exp(1j * phases + rates * starts[:, None])
    tone: Signal = (between @ within).imag.ravel()[:n_samples]
    return tone


def _colour(rng: np.random.Generator) -> Signal:
    """A random equalizer: gains in dB at nine frequencies an octave apart, from 60 Hz on."""
    gains: Signal = np.cumsum(rng.normal(0, 2.5, 9))
    curve: Signal = np.clip(gains - gains.mean(), -10, 10)
    return curve


def _filtered(signal: Signal, gains_db: Signal) -> Signal:
    n_fft = next_fast_len(len(signal), real=True)
    octaves = np.log2(np.maximum(rfftfreq(n_fft, 1 / SAMPLE_RATE), 1) / 60)
    curve = 10 ** (np.interp(octaves, np.arange(len(gains_db)), gains_db) / 20)
    coloured: Signal = irfft(rfft(signal, n_fft) * curve, n_fft)[: len(signal)]
    return coloured


def _darker(stereo: Signal, db_per_octave: float) -> Signal:
    """Softer strokes are darker: a slope above 200 Hz."""
    n_fft = next_fast_len(stereo.shape[1], real=True)
    octaves = np.log2(np.maximum(rfftfreq(n_fft, 1 / SAMPLE_RATE) / 200, 1))
    darker: Signal = irfft(rfft(stereo, n_fft) * 10 ** (-db_per_octave * octaves / 20), n_fft)
    return darker[:, : stereo.shape[1]]


def _panned(dry: Signal, rng: np.random.Generator) -> Signal:
    """(2, n_samples): somewhere between left and right, seen by two microphones."""
    angle = np.pi / 4 * (1 + rng.uniform(-0.6, 0.6))
    delay = int(rng.integers(0, 30))
    late = np.concatenate((np.zeros(delay), dry))[: len(dry)]
    return np.stack((np.cos(angle) * dry, np.sin(angle) * late))


def _room(rng: np.random.Generator) -> Signal:
    """The answer of the room that the kit stands in: (2, n_samples), without the direct sound."""
    if rng.uniform() < 0.4:
        return np.zeros((2, 1))
    time = _time(reverb_sec := _log_uniform(rng, 0.15, 1.0))
    tail = rng.standard_normal((2, len(time))) * 10 ** (-3 * time / reverb_sec)
    tail = np.stack([_filtered(channel, _colour(rng)) for channel in tail])
    tail *= _db(rng, -24, -5) / np.sqrt(np.square(tail).sum(axis=1, keepdims=True))
    return np.concatenate((np.zeros((2, int(rng.integers(1, 700)))), tail), axis=1)


def _in_a_room(stereo: Signal, room: Signal) -> Signal:
    n_samples = stereo.shape[1] + room.shape[1]
    n_fft = next_fast_len(n_samples, real=True)
    answer = irfft(rfft(stereo, n_fft) * rfft(room, n_fft), n_fft)[:, :n_samples]
    answer[:, : stereo.shape[1]] += stereo
    whole: Signal = answer
    return whole


def _trimmed(stereo: Signal) -> NDArray[np.float32]:
    """Until it stays below -90 dB of its peak."""
    level = np.abs(stereo).max(axis=0)
    n_samples = last_above(level, level.max() * 10 ** (FLOOR_DB / 20))
    return stereo[:, :n_samples].astype(np.float32)


def _time(duration_sec: float) -> Signal:
    return np.arange(max(round(duration_sec * SAMPLE_RATE), 64)) / SAMPLE_RATE


def _unit(signal: Signal) -> Signal:
    """At a peak of 1."""
    scaled: Signal = signal / max(float(np.abs(signal).max()), 1e-9)
    return scaled


def _db(rng: np.random.Generator, low: float, high: float) -> float:
    """A random factor, even in dB."""
    return float(10 ** (rng.uniform(low, high) / 20))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
