"""The player of the built-in grooves: a take's grids in, strokes with human time and touch out.

A clock that sways slowly around the click; limbs that scatter by a few milliseconds and lean ahead
or lag by style; swing, flams, drags and ghost notes; velocities that breathe over a phrase. All is
seeded, and only IEEE sums and products are used, no library functions that round differently
elsewhere: the strokes are the same on every machine. grooves.toml explains the notation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stemgmd_build.taxonomy import ARTICULATIONS, PIECE_OF_ARTICULATION, STEM_OF_PIECE

_VELOCITY_OF_MARK: Final = {"X": 110, "f": 112, "x": 83, "d": 82, "o": 58, "g": 28, "r": 34}
_VELOCITY_TRIM: Final = {
    "hihat": -14,
    "ride": -14,
    "kick": -8,
    "ride_bell": -18,
    "snare_rim": 8,
    "snare_cross_stick": -20,
}
# Loud strokes are played with the stick's shoulder on the edge.
_ACCENTED: Final = {
    "hihat_closed": "hihat_closed_edge",
    "hihat_open": "hihat_open_edge",
    "crash_left": "crash_left_edge",
    "crash_right": "crash_right_edge",
}
_CRASH_OF_SUFFIX: Final = {"!": "crash_left", "*": "crash_right"}
_LEAD_IN_SEC: Final = 0.02  # the first hit may come early, the file cannot start before nought


@dataclass(frozen=True, slots=True)
class Take:
    """One performance as grooves.toml writes it.

    ``by`` is drummer and session ("builtin1/session1"), ``number`` counts within the session from
    1, ``bpm`` counts quarters, ``meter`` is like "4-4", ``beat_type`` "beat" or "fill".
    ``form``: a token a bar, its first letter the key in ``bars`` (articulation -> line of marks);
    ``swing``: the share of a pair of sixteenths that the first one takes, 0.5 being straight;
    ``lag_ms``: limb -> milliseconds behind the click.
    """

    by: str
    number: int
    split: str
    style: str
    bpm: int
    meter: str
    beat_type: str
    form: tuple[str, ...]
    bars: dict[str, dict[str, str]]
    swing: float
    lag_ms: dict[str, float]

    @property
    def midi_filename(self) -> str:
        """Where GMD would have the MIDI file, relative to the collection's root."""
        style = self.style.replace("/", "-")
        return f"{self.by}/{self.number}_{style}_{self.bpm}_{self.beat_type}_{self.meter}.mid"

    @property
    def beats_per_bar(self) -> float:
        """Quarters in a bar: 3.0 for 6-8."""
        upper, lower = map(int, self.meter.split("-"))
        return upper * 4 / lower


@dataclass(frozen=True, slots=True)
class Stroke:
    """One strike: seconds from the start, articulation of the taxonomy, velocity 8..127."""

    onset_sec: float
    articulation: str
    velocity: int


def play(take: Take) -> list[Stroke]:
    """Play a take: its strokes by onset, the same ones every time and everywhere."""
    rng = random.Random(f"stemgmd {take.midi_filename}")  # noqa: S311
    clock = _Clock(rng, take)
    strokes: list[Stroke] = []
    touch = 18 * rng.random() - 12  # some days one plays softer
    breath = 0.0
    for number, token in enumerate(take.form):
        breath = 0.7 * breath + _bell(rng, 3.0)
        for articulation, step, n_steps, mark in _marks(take, token):
            place = _swung(step, n_steps, take.swing)
            rise = 22 * place - 14 if token.endswith("<") else 0.0
            onset_sec = clock.seconds(number, place, articulation)
            step_sec = clock.bar_sec / n_steps
            loudness = touch + breath + rise
            strokes += _strike(rng, articulation, mark, onset_sec, step_sec, loudness)
    return sorted(strokes, key=lambda s: (s.onset_sec, ARTICULATIONS.index(s.articulation)))


def _marks(take: Take, token: str) -> Iterator[tuple[str, int, int, str]]:
    """(articulation, step, steps in the bar, mark) of every stroke that a bar notates."""
    bar = take.bars[token[0]]
    crash = next((_CRASH_OF_SUFFIX[c] for c in token[1:] if c in _CRASH_OF_SUFFIX), None)
    n_steps = len(next(iter(bar.values())))
    if crash:
        yield crash, 0, n_steps, "X"
    for articulation, line in bar.items():
        if len(line) != n_steps:
            raise ValueError(
                f"grooves.toml: {take.style} {token}: {articulation} has another length"
            )
        timekeeper = _limb(articulation) in ("hihat", "ride") and articulation != "hihat_pedal"
        for step, mark in enumerate(line):
            if mark != "." and not (crash and timekeeper and step == 0):
                yield articulation, step, n_steps, mark


def _swung(step: int, n_steps: int, swing: float) -> float:
    """Where a step lies in its bar, 0 to 1; swing moves every second sixteenth."""
    late = (2 * swing - 1) if step % 2 and n_steps == 16 else 0.0
    return (step + late) / n_steps


def _strike(
    rng: random.Random,
    articulation: str,
    mark: str,
    onset_sec: float,
    step_sec: float,
    louder: float,
) -> Iterator[Stroke]:
    trim = _VELOCITY_TRIM.get(articulation, _VELOCITY_TRIM.get(_limb(articulation), 0))
    base = _VELOCITY_OF_MARK[mark] + trim
    played = _ACCENTED.get(articulation, articulation) if mark in "Xf" else articulation
    # Ghosts are played from the wrist: they hardly follow the phrase.
    follow = 0.3 if mark in "gr" else 1.0

    def stroke(earlier_sec: float, velocity: float) -> Stroke:
        wanted = round(velocity + follow * louder + _bell(rng, 7.0))
        return Stroke(max(onset_sec - earlier_sec, 0.0), played, min(max(wanted, 8), 127))

    if mark == "f":
        yield stroke(0.030 + _bell(rng, 0.003), 48)
    if mark == "d":
        yield stroke(0.105 + _bell(rng, 0.004), 38)
        yield stroke(0.052 + _bell(rng, 0.004), 42)
    if mark == "r":
        yield stroke(-step_sec / 2 + _bell(rng, 0.002), base - 4)
    yield stroke(0.0, base)


class _Clock:
    """The drummer's time: the click, a slow sway around it, and each limb's own scatter."""

    def __init__(self, rng: random.Random, take: Take) -> None:
        self._rng = rng
        self._lag_ms = take.lag_ms
        self._bar_beats = take.beats_per_bar
        self._beat_sec = 60 / take.bpm
        self.bar_sec = self._bar_beats * self._beat_sec
        self._sway_sec = [0.0]
        for _ in range(int(len(take.form) * self._bar_beats) + 2):
            self._sway_sec.append(0.9 * self._sway_sec[-1] + _bell(rng, 0.004))

    def seconds(self, bar: int, place: float, articulation: str) -> float:
        """When a stroke at ``place`` (0 to 1) of a bar is played."""
        beat = (bar + place) * self._bar_beats
        before = int(beat)
        share = beat - before
        sway = (1 - share) * self._sway_sec[before] + share * self._sway_sec[before + 1]
        limb = _limb(articulation)
        own = _bell(self._rng, 0.0035 if limb == "kick" else 0.0045)
        lag = self._lag_ms.get(limb, 0) / 1000
        return max(_LEAD_IN_SEC + beat * self._beat_sec + sway + own + lag, 0.0)


def _limb(articulation: str) -> str:
    piece = PIECE_OF_ARTICULATION[articulation]
    return "ride" if piece == "ride" else STEM_OF_PIECE[piece]


def _bell(rng: random.Random, deviation: float) -> float:
    """Bell-shaped noise that never strays beyond 3.5 deviations: four uniform numbers summed."""
    total = rng.random() + rng.random() + rng.random() + rng.random()
    return (total - 2.0) * 1.7320508 * deviation
