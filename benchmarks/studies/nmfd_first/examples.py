"""Training examples: drums that nobody recorded together, sounding as a drum bus does.

An example is 12 s of a performance of GMD's training split. Each group of pieces (kick, snare,
toms, hi-hat, crash, ride) may come from another kit and from another performance. Drums are tuned,
damped, equalized and put into a room. The bus is narrowed, compressed, saturated, filtered, and
gets a noise floor. Everything that is not linear acts as one gain over time on all pieces, so that
they still add up to the mixture but for the noise.

Example ``index`` of a seed is the same in every process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from benchmarks.studies.nmfd_first.kits import TrainingKit
from stemgmd_build.rendering.render import CHOKE_DECAY, Strikes, schedule
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE

Audio = NDArray[np.float32]

WINDOW_SEC: Final = 12.0
N_SAMPLES: Final = round(WINDOW_SEC * SAMPLE_RATE)

GROUPS: Final = ((0,), (1,), (2, 3, 4), (5, 6), (7,), (8,))
"""Pieces that come from one kit: toms must fall in pitch, and hi-hats be one pair."""

_TARGETS: Final = ((2, 3, 4), (7, 8), tuple(range(9)))
"""An example is drawn around a hit of one of these: toms and cymbals are rare in GMD."""

_N_FFT: Final = next_fast_len(N_SAMPLES + SAMPLE_RATE, real=True)
_HERTZ: Final = np.fft.rfftfreq(_N_FFT, 1 / SAMPLE_RATE)
_OCTAVES: Final = np.log2(np.maximum(_HERTZ, 20.0) / 20.0).astype(np.float32)
_BLOCK: Final = 64
_LIGHT: Final = 0.2


@dataclass(frozen=True)
class Example:
    """``pieces``: float32 (9, 2, N_SAMPLES); ``noise``: (2, N_SAMPLES); ``hits``: per piece,
    onsets in samples."""

    pieces: Audio
    noise: Audio
    hits: tuple[NDArray[np.int64], ...]


class Examples:
    """Examples of a seed. ``augment=False`` gives plain renderings of one kit at a time."""

    def __init__(
        self,
        strikes: Sequence[Strikes],
        kits: Sequence[TrainingKit],
        singles: Mapping[int, Sequence[TrainingKit]] | None = None,
        *,
        seed: int,
        without: tuple[str, ...] = (),
        light: float = 0.0,
    ) -> None:
        self._strikes = [one for one in strikes if len(one.onset)]
        self._kits, self._seed, self._without = list(kits), seed, frozenset(without)
        self._singles, self._light = singles or {}, light
        self._at: list[list[tuple[int, int]]] = []
        for target in _TARGETS:
            self._at.append(
                [
                    (number, int(onset))
                    for number, one in enumerate(self._strikes)
                    for onset in one.onset[np.isin(one.pieces(), target)]
                ]
            )
        loudness = np.stack([kit.loudness_db for kit in kits])
        self._usual_db = np.median(loudness, axis=0)
        self._kit_db = np.median(loudness - self._usual_db, axis=1)

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self._seed, index])
        # most recordings are not heavily processed: a part of the examples is nearly plain
        scale = _LIGHT if self._light and rng.random() < self._light else 1.0
        does = {
            name: rng.random() < chance * scale and name not in self._without
            for name, chance in _CHANCES.items()
        }
        parts = [self._part(rng)] * len(GROUPS)
        if does["other_performances"]:
            parts = [self._part(rng) if rng.random() < 0.4 else part for part in parts]
        base = int(rng.integers(len(self._kits)))
        velocity_power = np.exp(rng.normal(0, 0.3)) if does["dynamics"] else 1.0
        choke = rng.random() < 0.6
        full = rng.random() < 0.5
        octave_db, room = self._bus(rng, does)
        pieces = np.zeros((len(PIECES), 2, N_SAMPLES), np.float32)
        hits: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(PIECES)
        for group, (number, start) in zip(GROUPS, parts, strict=True):
            kit, level_db = self._kit_of(rng, group, base, does)
            if does["mute"] and rng.random() < 0.25:
                continue
            if does["levels"]:
                level_db += float(rng.normal(0, 4.0))
            draws = _Drum.draw(rng, does)
            found = self._place(kit, number, start, group, draws, velocity_power, choke, full)
            for piece, (signal, onsets) in found.items():
                gain = 10 ** ((level_db + _own_db(rng, does)) / 20)
                pieces[piece] = _shaped(
                    signal * np.float32(gain), rng, draws, does, octave_db, room
                )
                hits[piece] = onsets
        return self._finished(rng, does, pieces, hits)

    def _part(self, rng: np.random.Generator) -> tuple[int, int]:
        """A performance and the sample at which the window begins."""
        at = self._at[int(rng.integers(len(self._at)))]
        number, onset = at[int(rng.integers(len(at)))]
        return number, onset - int(rng.uniform(0.05, 0.95) * N_SAMPLES)

    def _kit_of(
        self, rng: np.random.Generator, group: tuple[int, ...], base: int, does: dict[str, bool]
    ) -> tuple[TrainingKit, float]:
        """A kit for a group of pieces, and the gain that brings it to the usual balance."""
        if not does["kit_mix"]:
            return self._kits[base], 0.0
        singles = self._singles.get(group[0], ())
        if singles and rng.random() < 0.4:
            kit = singles[int(rng.integers(len(singles)))]
        else:
            kit = self._kits[int(rng.integers(len(self._kits)))]
        pieces = list(group)
        wanted = self._usual_db[pieces].mean() + self._kit_db[base]
        return kit, float(wanted - kit.loudness_db[pieces].mean())

    def _place(
        self,
        kit: TrainingKit,
        number: int,
        start: int,
        group: tuple[int, ...],
        drum: _Drum,
        velocity_power: float,
        choke: bool,
        full: bool,
    ) -> dict[int, tuple[Audio, NDArray[np.int64]]]:
        """The group's hits in the window, each piece by itself."""
        strikes = self._strikes[number]
        soft = np.rint(127 * (strikes.velocity / 127) ** velocity_power).astype(np.int64)
        strikes = Strikes(strikes.onset, strikes.nine, strikes.full, np.clip(soft, 1, 127))
        plan = schedule(strikes, kit.bank, articulations="full" if full else "nine", choke=choke)
        shots: dict[int, Audio] = {}
        found: dict[int, tuple[Audio, list[int]]] = {}
        at = plan.onset - start
        for i in np.flatnonzero(np.isin(plan.piece, group) & (at < N_SAMPLES)).tolist():
            onset, piece = int(at[i]), int(plan.piece[i])
            number = int(plan.shot[i])
            if number not in shots:
                shots[number] = drum.sound(kit.bank.shot(number))
            shot = shots[number]
            if onset + shot.shape[1] <= 0:
                continue
            signal, onsets = found.setdefault(piece, (np.zeros((2, N_SAMPLES), np.float32), []))
            last = min(shot.shape[1], N_SAMPLES - onset, int(plan.choke[i]) + len(CHOKE_DECAY))
            first = max(0, -onset)
            if last <= first:
                continue
            played = shot[:, first:last] * plan.gain[i]
            damped = int(plan.choke[i]) - first
            if damped < played.shape[1]:
                begin = max(damped, 0)
                decay = CHOKE_DECAY[begin - damped :][: played.shape[1] - begin]
                played[:, begin:] *= decay
            signal[:, onset + first : onset + last] += played
            if onset >= 0:
                onsets.append(onset)
        return {p: (signal, np.array(o, np.int64)) for p, (signal, o) in found.items()}

    def _bus(self, rng: np.random.Generator, does: dict[str, bool]) -> tuple[Audio, _Room | None]:
        curve = np.zeros_like(_OCTAVES)
        if does["bus_equalizer"]:
            curve = curve + _curve(rng, 3.0)
        if does["low_pass"]:
            octaves = np.log2(np.exp(rng.uniform(np.log(4500), np.log(16000))) / 20)
            curve = curve - np.float32(rng.uniform(24, 72)) * np.maximum(_OCTAVES - octaves, 0)
        if does["high_pass"]:
            octaves = np.log2(rng.uniform(25, 90) / 20)
            curve = curve - 18 * np.maximum(octaves - _OCTAVES, 0)
        return curve.astype(np.float32), _Room.draw(rng) if does["room"] else None

    def _finished(
        self,
        rng: np.random.Generator,
        does: dict[str, bool],
        pieces: Audio,
        hits: list[NDArray[np.int64]],
    ) -> Example:
        if does["swap"]:
            pieces = pieces[:, ::-1]
        if does["width"] or does["mono"]:
            width = 0.0 if does["mono"] else float(rng.uniform(0.2, 1.4))
            middle = pieces.mean(axis=1, keepdims=True)
            pieces = middle + np.float32(width) * (pieces - middle)
        mixture = pieces.sum(axis=0)
        peak = float(np.abs(mixture).max()) + 1e-9
        gain = np.ones(N_SAMPLES, np.float32)
        if does["compressor"]:
            gain *= _compressor(mixture / peak, rng)
        if does["saturation"]:
            driven = (
                np.abs(mixture * gain).max(axis=0) / peak * float(np.exp(rng.uniform(-0.7, 1.4)))
            )
            gain *= np.tanh(driven) / np.maximum(driven, 1e-6)
        pieces = pieces * (gain / np.float32(peak))
        noise = np.zeros((2, N_SAMPLES), np.float32)
        if does["noise"]:
            level = 10 ** (rng.uniform(-75, -38) / 20) * float(
                np.sqrt(np.square(mixture / peak).mean())
            )
            noise = rng.standard_normal((2, N_SAMPLES), np.float32) * np.float32(level)
            if does["mono"]:
                noise[1] = noise[0]
        return Example(np.ascontiguousarray(pieces, np.float32), noise, tuple(hits))


_CHANCES: Final = {
    "kit_mix": 0.65,
    "other_performances": 0.2,
    "mute": 0.3,
    "levels": 0.7,
    "dynamics": 0.5,
    "tune": 0.6,
    "damp": 0.25,
    "equalizer": 0.6,
    "room": 0.5,
    "bus_equalizer": 0.4,
    "low_pass": 0.15,
    "high_pass": 0.3,
    "compressor": 0.4,
    "saturation": 0.3,
    "noise": 0.35,
    "mono": 0.12,
    "width": 0.4,
    "swap": 0.5,
}


@dataclass(frozen=True)
class _Drum:
    """What is done to every hit of a group of pieces."""

    ratio: float
    damping_sec: float

    @classmethod
    def draw(cls, rng: np.random.Generator, does: dict[str, bool]) -> _Drum:
        semitones = float(rng.normal(0, 2.5)) if does["tune"] and rng.random() < 0.7 else 0.0
        damping = float(np.exp(rng.uniform(-3.2, -0.7)))
        damps = does["damp"] and rng.random() < 0.5
        return cls(float(2 ** (np.clip(semitones, -6, 6) / 12)), damping if damps else 0.0)

    def sound(self, shot: Audio) -> Audio:
        """(2, n) as struck on this drum."""
        shot = np.array(shot[:, : 6 * SAMPLE_RATE], np.float32)
        if self.ratio != 1.0:
            shot = soxr.resample(shot.T, SAMPLE_RATE * self.ratio, SAMPLE_RATE, quality="LQ").T
        if self.damping_sec:
            n_kept = min(shot.shape[1], round(7 * self.damping_sec * SAMPLE_RATE))
            time = np.arange(n_kept, dtype=np.float32) / np.float32(self.damping_sec * SAMPLE_RATE)
            shot = shot[:, :n_kept] * np.exp(-time)
        return np.ascontiguousarray(shot, np.float32)


@dataclass(frozen=True)
class _Room:
    """Two answers of one room, near and far, as spectra (2, bins), and how loud they are."""

    spectra: NDArray[np.complex64]
    level_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Room:
        reverb_sec = float(np.exp(rng.uniform(np.log(0.12), np.log(1.2))))
        n_tail = min(round(reverb_sec * SAMPLE_RATE), SAMPLE_RATE)
        time = np.arange(n_tail, dtype=np.float32) / SAMPLE_RATE
        tails = rng.standard_normal((2, 2, n_tail), np.float32)
        tails *= 10 ** (-3 * time / reverb_sec)
        for tail, delay_sec in zip(
            tails, (rng.uniform(0.001, 0.006), rng.uniform(0.004, 0.02)), strict=True
        ):
            tail[:, : round(delay_sec * SAMPLE_RATE)] = 0
        common = float(rng.uniform(0, 0.9))
        tails = (1 - common) * tails + common * tails.mean(axis=1, keepdims=True)
        tails /= (
            np.sqrt(np.square(tails).sum(axis=2, keepdims=True).mean(axis=1, keepdims=True)) + 1e-9
        )
        spectra = rfft(tails, _N_FFT, axis=-1)
        darkness = np.float32(rng.uniform(0, 6))
        spectra *= 10 ** (-darkness * np.maximum(_OCTAVES - 5, 0) / 20)
        return cls(spectra.astype(np.complex64), float(rng.uniform(-26, -4)))


def _own_db(rng: np.random.Generator, does: dict[str, bool]) -> float:
    return float(rng.normal(0, 1.5)) if does["levels"] else 0.0


def _curve(rng: np.random.Generator, spread_db: float) -> Audio:
    """A smooth random equalizer in dB over frequency."""
    knots = np.linspace(0, 10.2, 8)
    curve: Audio = np.interp(_OCTAVES, knots, rng.normal(0, spread_db, 8)).astype(np.float32)
    return curve


def _shaped(
    signal: Audio,
    rng: np.random.Generator,
    drum: _Drum,
    does: dict[str, bool],
    bus_db: Audio,
    room: _Room | None,
) -> Audio:
    """A piece through its equalizer, the room and the bus's linear part: one pass of FFTs."""
    curve_db = bus_db
    if does["equalizer"] and rng.random() < 0.6:
        curve_db = curve_db + _curve(rng, 4.0)
    if room is None and not curve_db.any():
        return signal
    response = (10 ** (curve_db / 20)).astype(np.complex64)
    spectrum = rfft(signal, _N_FFT, axis=-1)
    if room is not None:
        level = 10 ** ((room.level_db + rng.normal(0, 4)) / 20)
        far = float(rng.random())
        answer = (1 - far) * room.spectra[0] + far * room.spectra[1]
        response = response * (1 + np.float32(level) * answer)
    shaped: Audio = irfft(spectrum * response, _N_FFT, axis=-1)[:, :N_SAMPLES].astype(np.float32)
    return shaped


def _compressor(mixture: Audio, rng: np.random.Generator) -> Audio:
    """The gain over time of a feed-forward compressor, (N_SAMPLES,)."""
    attack_sec, release_sec = rng.uniform(0.001, 0.03), rng.uniform(0.04, 0.4)
    threshold_db, ratio = rng.uniform(-30, -8), rng.uniform(2, 8)
    blocks = np.abs(mixture[:, : N_SAMPLES // _BLOCK * _BLOCK]).max(axis=0)
    level_db = 20 * np.log10(blocks.reshape(-1, _BLOCK).max(axis=1) + 1e-6)
    wanted = (np.minimum(threshold_db - level_db, 0) * (1 - 1 / ratio)).tolist()
    fall = float(np.exp(-_BLOCK / SAMPLE_RATE / attack_sec))
    rise = float(np.exp(-_BLOCK / SAMPLE_RATE / release_sec))
    gains, state = [], 0.0
    for one in wanted:
        pace = fall if one < state else rise
        state = one + pace * (state - one)
        gains.append(state)
    at = (np.arange(len(gains)) + 0.5) * _BLOCK
    smooth = np.interp(np.arange(N_SAMPLES), at, gains)
    gain: Audio = (10 ** (smooth / 20)).astype(np.float32)
    return gain
