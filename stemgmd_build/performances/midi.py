"""MIDI files as plain records: drum hits and hi-hat pedal, in seconds.

Conventions:
- times are seconds from the file's start: exact sums of ticks, rounded once to a float;
- a hit is a note-on of velocity 1..127 on MIDI channel 10 whose note the taxonomy knows. Note-offs
  mean nothing for drums (GMD's come after a few tens of ms) and are dropped;
- a `notes.toml` beside the collection's info.csv may name other notes and channels (notes.py);
- every other note-on, on whatever channel, is counted in ``Score.ignored``;
- of several tempos at one tick the last counts, as in every player;
- small damage outside of the notes is left out and told in ``Score.damage`` (mending.py);
- whoever wrote the file is not trusted: a fault is a UserError of one line, in bounded time.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final

import mido

from stemgmd_build.errors import UserError
from stemgmd_build.performances.mending import without_damage
from stemgmd_build.performances.notes import DRUM_CHANNEL, LEFT_OUT, NoteMap, notes_of
from stemgmd_build.taxonomy import HIHAT_PEDAL_CONTROLLER

__all__ = ["DRUM_CHANNEL", "Hit", "PedalEvent", "Score", "quoted", "read_bytes", "read_score"]

LONGEST_SEC: Final = 36_000.0
LARGEST_MIDI_BYTES: Final = 1 << 20  # GMD's largest, 23 minutes long, has 155,615

_DEFAULT_TEMPO: Final = 500_000  # microseconds a beat, where a file names none
_LONGEST_HIGH_RUN: Final = re.compile(rb"[\x80-\xff]{1024}")


@dataclass(frozen=True, slots=True)
class Hit:
    """One strike: seconds from the start, GMD note number, velocity 1..127."""

    onset_sec: float
    note: int
    velocity: int


@dataclass(frozen=True, slots=True)
class PedalEvent:
    """The hi-hat pedal's position (controller 4, 0 open to 127 closed) from this time on."""

    time_sec: float
    position: int


@dataclass(frozen=True, slots=True)
class Score:
    """What one MIDI file plays.

    ``hits`` are sorted by (onset, note), ``pedal`` by time; ``duration_sec`` is the time of
    the file's last event. ``ignored``: (channel 1..16, note, how many) of note-ons that are not
    played. ``damage``: what the file was read without, or "".
    """

    hits: tuple[Hit, ...]
    pedal: tuple[PedalEvent, ...]
    duration_sec: float
    ignored: tuple[tuple[int, int, int], ...] = ()
    damage: str = ""

    @property
    def n_ignored(self) -> int:
        """How many note-ons are not played."""
        return sum(n for _, _, n in self.ignored)


def read_score(path: Path) -> Score:
    """Read the drum hits of a MIDI file of type 0 or 1, tempo changes honoured.

    Raises UserError, naming the file, where it is missing, corrupt, truncated, of type 2, timed
    by SMPTE frames, larger than LARGEST_MIDI_BYTES or longer than LONGEST_SEC.
    """
    data = read_bytes(path, LARGEST_MIDI_BYTES, "`stemgmd gmd verify` lists such")
    midi, damage = _parse(path, data)
    ticks_of_track = [list(accumulate(m.time for m in track)) for track in midi.tracks]
    events = list(chain.from_iterable(map(zip, ticks_of_track, midi.tracks)))
    changes = [(tick, m.tempo) for tick, m in events if m.type == "set_tempo"]
    changes.sort(key=itemgetter(0))  # stable: among those of one tick the file's last stays last
    if any(tempo == 0 for _, tempo in changes):
        raise UserError(f"{path}: has a tempo of 0 microseconds a beat: it is corrupt")
    clock = _Clock(midi.ticks_per_beat, changes)
    last_tick = max((tick for tick, _ in events), default=0)
    if not clock.reaches(last_tick):
        raise UserError(
            f"{path}: lasts more than {LONGEST_SEC / 3600:.0f} h: it is corrupt, or too long"
        )
    return _score(events, clock, clock.seconds(last_tick), notes_of(path), damage)


def _score(
    events: Iterable[tuple[int, Any]],
    clock: _Clock,
    duration_sec: float,
    notes: NoteMap,
    damage: str,
) -> Score:
    hits, pedal = [], []
    ignored: Counter[tuple[int, int]] = Counter()
    for tick, message in events:
        if message.type == "note_on" and message.velocity:
            note = notes.note_of(message.channel, message.note)
            if note is None:
                ignored[message.channel + 1, message.note] += 1
            elif note != LEFT_OUT:
                hits.append(Hit(clock.seconds(tick), note, message.velocity))
        elif (
            message.type == "control_change"
            and message.control == HIHAT_PEDAL_CONTROLLER
            and message.channel in notes.channels
        ):
            pedal.append(PedalEvent(clock.seconds(tick), message.value))
    hits.sort(key=attrgetter("onset_sec", "note"))
    pedal.sort(key=attrgetter("time_sec"))
    lost = tuple((channel, note, n) for (channel, note), n in sorted(ignored.items()))
    return Score(tuple(hits), tuple(pedal), duration_sec, lost, damage)


class _Clock:
    """Ticks to seconds. Whole microsecond-ticks are summed, so nothing drifts."""

    def __init__(self, ticks_per_beat: int, changes: list[tuple[int, int]]) -> None:
        self._per_second = 1_000_000 * ticks_per_beat
        self._ticks, self._tempos, self._elapsed = [0], [_DEFAULT_TEMPO], [0]
        for tick, tempo in changes:
            self._elapsed.append(self._microsecond_ticks(tick))
            self._ticks.append(tick)
            self._tempos.append(tempo)

    def _microsecond_ticks(self, tick: int) -> int:
        i = bisect_right(self._ticks, tick) - 1
        return self._elapsed[i] + (tick - self._ticks[i]) * self._tempos[i]

    def reaches(self, tick: int) -> bool:
        """Whether the tick lies within LONGEST_SEC; safe for numbers beyond any float."""
        return self._microsecond_ticks(tick) <= LONGEST_SEC * self._per_second

    def seconds(self, tick: int) -> float:
        """Seconds from the start to a tick: the quotient of two integers, rounded once."""
        return self._microsecond_ticks(tick) / self._per_second


def _parse(path: Path, data: bytes) -> tuple[mido.MidiFile, str]:
    """The file's messages, and what they were read without."""
    # A number of unlimited length makes mido's decoder quadratic; real text is never that long.
    if _LONGEST_HIGH_RUN.search(data):
        raise UserError(f"{path}: is not a readable MIDI file (1,024 bytes above 127 in a row)")
    damage = ""
    try:
        midi = mido.MidiFile(file=io.BytesIO(data))
    except Exception as error:  # mido lets a dozen kinds through, from EOFError to KeyError
        reason = f"{type(error).__name__}: {error}" if str(error) else "it ends too early"
        try:
            midi = mido.MidiFile(file=io.BytesIO(without_damage(data)))
        except Exception:
            raise UserError(
                f"{path}: is not a readable MIDI file ({quoted(reason)}); fetch or export it again"
            ) from error
        damage = f"damaged outside of its notes ({quoted(reason)}), read without it"
    if midi.type not in (0, 1):
        raise UserError(f"{path}: is MIDI of type {midi.type}: save it as type 0 or 1")
    if midi.ticks_per_beat <= 0:
        raise UserError(f"{path}: counts time in SMPTE frames: save it with ticks per beat")
    if not midi.tracks:
        raise UserError(f"{path}: holds no track: it is corrupt, fetch or export it again")
    return midi, damage


def read_bytes(path: Path, largest: int, way_out: str) -> bytes:
    """A regular file's bytes; UserError where it is missing, unreadable or too large."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise UserError(f"{path}: is not a file; {way_out}")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read: {reason}; {way_out}") from error
    if len(data) > largest:
        raise UserError(f"{path}: is larger than {largest:,} bytes; {way_out}")
    return data


def quoted(text: str) -> str:
    """Any text as one printable line of bounded length."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
