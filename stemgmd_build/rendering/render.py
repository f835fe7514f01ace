"""render(hits, bank) -> stems, and nothing else: pure functions of plain arrays.

Conventions and deviations from a sequencer:
- a hit starts at its own sample, round(onset * 44,100), and rings out; re-striking does not cut it;
- with ``choke``, a closed or pedalled hi-hat damps the open hi-hats that still ring, by an
  exponential decay of 25 ms; without it, all ring on, which is StemGMD's way;
- ``articulations="nine"`` plays every strike of a piece with the piece's one sound, as StemGMD
  does; "full" uses the kit's finer sounds (rim, cross-stick, bell, edge);
- a track fades out within the 10 ms after its last sound has fallen by 60 dB, and where it sounds
  longer, within the last 10 ms of 5 s after its last hit.
All is summed in float32 in the order of the hits, with each product rounded before it is added,
so that the same bank gives the same samples on every machine, in one piece or in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.performances.collection import Score
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.taxonomy import (
    ARTICULATION_OF_NOTE,
    ARTICULATIONS,
    PIECE_OF_ARTICULATION,
    PIECES,
    SAMPLE_RATE,
    STEM_OF_PIECE,
    STEMS,
)

Articulations = Literal["nine", "full"]

RENDERER_VERSION: Final = 2
"""Goes up whenever the same hits on the same bank would give other samples."""

LONGEST_TAIL_SAMPLES: Final = 5 * SAMPLE_RATE
CHOKE_TIME_CONSTANT_SEC: Final = 0.025
FADE_SAMPLES: Final = SAMPLE_RATE // 100
_CHUNK: Final = 65536  # samples a channel: longer ones leave the cache, shorter ones cost calls

_CHOKE_SAMPLES: Final = round(80 / 20 * np.log(10) * CHOKE_TIME_CONSTANT_SEC * SAMPLE_RATE)
CHOKE_DECAY: Final = np.exp(
    -np.arange(_CHOKE_SAMPLES) / (CHOKE_TIME_CONSTANT_SEC * SAMPLE_RATE)
).astype(np.float32)
_FADE_OUT: Final = np.linspace(1.0, 0.0, FADE_SAMPLES + 1, dtype=np.float32)[1:]

_ROW_OF_NOTE: Final = {
    "full": {note: ARTICULATIONS.index(name) for note, name in ARTICULATION_OF_NOTE.items()},
    "nine": {
        note: ARTICULATIONS.index(PIECE_OF_ARTICULATION[name])
        for note, name in ARTICULATION_OF_NOTE.items()
    },
}
_PIECE_OF_ROW: Final = np.array([PIECES.index(PIECE_OF_ARTICULATION[a]) for a in ARTICULATIONS])
_CLOSED: Final = PIECES.index("hihat_closed")
_OPEN: Final = PIECES.index("hihat_open")

NINE_ROWS: Final = tuple(range(len(PIECES)))
"""Target rows that keep the nine pieces apart."""

FIVE_ROWS: Final = tuple(STEMS.index(STEM_OF_PIECE[piece]) for piece in PIECES)
"""Target rows that add the nine pieces up to the five stems."""


@dataclass(frozen=True, slots=True)
class Strikes:
    """The hits of a performance as arrays, in order of onset, independent of any kit.

    All are int64 (n_hits,). ``onset``: samples; ``nine``, ``full``: row of the articulation under
    either choice; ``velocity``: 1..127.
    """

    onset: NDArray[np.int64]
    nine: NDArray[np.int64]
    full: NDArray[np.int64]
    velocity: NDArray[np.int64]

    def pieces(self) -> NDArray[np.int64]:
        """Index in PIECES of the piece of each hit: int64 (n_hits,)."""
        return _PIECE_OF_ROW[self.nine]


def strikes_of(score: Score) -> Strikes:
    """A score's hits as arrays."""
    onset = np.array([round(hit.onset_sec * SAMPLE_RATE) for hit in score.hits], np.int64)
    return Strikes(
        onset,
        np.array([_ROW_OF_NOTE["nine"][hit.note] for hit in score.hits], np.int64),
        np.array([_ROW_OF_NOTE["full"][hit.note] for hit in score.hits], np.int64),
        np.array([hit.velocity for hit in score.hits], np.int64),
    )


@dataclass(frozen=True, slots=True)
class Schedule:
    """What sounds when on one kit: one entry a hit, in order of onset.

    ``onset``, ``length``: int64 samples (length after any choke); ``choke``: samples from the
    onset to the choke, or a number beyond the length; ``shot``: index in the bank; ``piece``:
    index in PIECES; ``gain``: float32. ``n_samples``: the track's length; ``fades``: whether
    it is cut while it still sounds.
    """

    bank: Bank
    onset: NDArray[np.int64]
    length: NDArray[np.int64]
    choke: NDArray[np.int64]
    shot: NDArray[np.int64]
    piece: NDArray[np.int64]
    gain: NDArray[np.float32]
    n_samples: int
    fades: bool


def schedule(
    strikes: Strikes, bank: Bank, *, articulations: Articulations = "nine", choke: bool = True
) -> Schedule:
    """Assign a shot, a gain and an end to every hit, and a length to the track."""
    row = strikes.nine if articulations == "nine" else strikes.full
    shot = bank.shot_of[row, strikes.velocity].astype(np.int64)
    piece = _PIECE_OF_ROW[row]
    full_length = np.array([s.n_samples for s in bank.shots], np.int64)[shot]
    tail = np.array([s.n_tail60 for s in bank.shots], np.int64)[shot]
    choke_at = _choke_points(strikes.onset, piece) if choke else np.full_like(full_length, 1 << 62)
    length = np.minimum(full_length, choke_at + _CHOKE_SAMPLES)
    end = 0
    fades = False
    if len(row):
        sounds_until = int((strikes.onset + length).max())
        fades_until = int((strikes.onset + np.minimum(tail, length)).max()) + FADE_SAMPLES
        end = min(fades_until, sounds_until, int(strikes.onset[-1]) + LONGEST_TAIL_SAMPLES)
        fades = end < sounds_until
    gain = bank.gain_of[row, strikes.velocity]
    return Schedule(bank, strikes.onset, length, choke_at, shot, piece, gain, end, fades)


def _choke_points(onset: NDArray[np.int64], piece: NDArray[np.int64]) -> NDArray[np.int64]:
    """Samples from each hit to what chokes it: for open hats, the next closed or pedalled one."""
    closing = onset[piece == _CLOSED]
    following = np.searchsorted(closing, onset, side="right")
    never = np.int64(1 << 62)
    distance = np.append(closing, never)[following] - onset
    return np.where((piece == _OPEN) & (following < len(closing)), distance, never)


def render(
    schedule: Schedule,
    *,
    start: int = 0,
    stop: int | None = None,
    rows: Sequence[int] = NINE_ROWS,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The samples from ``start`` to ``stop`` of a track: float32 (rows, 2, n_samples).

    ``rows`` gives for each of the nine pieces the row it is added to, or -1 to leave it out. Into
    ``out``, which need not be empty, if it is given; else into a new array of max(rows) + 1 rows.
    Full scale is 1.0; nothing is clipped here.
    """
    stop = schedule.n_samples if stop is None else stop
    if out is None:
        out = np.zeros((max(rows) + 1, 2, stop - start), np.float32)
    row_of_piece = np.asarray(rows)
    sounding = (schedule.onset < stop) & (schedule.onset + schedule.length > start)
    hits = np.flatnonzero(sounding & (row_of_piece[schedule.piece] >= 0))
    scratch = np.empty((2, _CHUNK), np.float32)
    onsets, lengths = schedule.onset[hits].tolist(), schedule.length[hits].tolist()
    chokes, gains = schedule.choke[hits].tolist(), schedule.gain[hits]
    targets = row_of_piece[schedule.piece[hits]].tolist()
    for i, shot_index in enumerate(schedule.shot[hits].tolist()):
        onset, length, choke_at = onsets[i], lengths[i], chokes[i]
        shot = schedule.bank.shot(shot_index)
        first, last = max(start - onset, 0), min(length, stop - onset)
        plain = min(last, max(choke_at, first))
        row = out[targets[i]]
        _add(row, onset + first - start, shot[:, first:plain], gains[i], scratch)
        if plain < last:
            decay = CHOKE_DECAY[plain - choke_at : last - choke_at]
            _add(row, onset + plain - start, shot[:, plain:last] * decay, gains[i], scratch)
    if schedule.fades:
        for target in {row for row in rows if row >= 0}:
            _fade(out[target], schedule.n_samples, start, stop)
    return out


def sounding_pieces(schedule: Schedule, start: int, stop: int) -> list[int]:
    """Indices of the pieces that sound between two samples; the others are digital silence."""
    sounding = (schedule.onset < stop) & (schedule.onset + schedule.length > start)
    return np.unique(schedule.piece[sounding]).tolist()  # type: ignore[no-any-return]


def _add(
    row: NDArray[np.float32],
    at: int,
    shot: NDArray[np.float32],
    gain: np.float32,
    scratch: NDArray[np.float32],
) -> None:
    """row[:, at:] += gain * shot, in pieces that stay in the cache."""
    for i in range(0, shot.shape[1], _CHUNK):
        piece = shot[:, i : i + _CHUNK]
        product = scratch[:, : piece.shape[1]]
        np.multiply(piece, gain, out=product)
        target = row[:, at + i : at + i + piece.shape[1]]
        np.add(target, product, out=target)


def _fade(row: NDArray[np.float32], n_samples: int, start: int, stop: int) -> None:
    """Fade the part of the track's last 10 ms that lies in the window."""
    begin = n_samples - FADE_SAMPLES
    first, last = max(start, begin, 0), min(stop, n_samples)
    if first < last:
        row[:, first - start : last - start] *= _FADE_OUT[first - begin : last - begin]
