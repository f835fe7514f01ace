"""`stemgmd kits audit`: are the kits what the catalogue says, and does the split hold?

Two one-shots are the same recording if their normalized cross-correlation exceeds 0.95. Both are
compared as the difference of neighbouring samples of the mid channel over their first 250 ms: the
difference takes weight from the bass, where any two kicks look alike. Pieces of one stem are
compared with each other too: one kit's mid tom may be another's low tom, its crash another's ride.
Copies that were repitched or equalized escape it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.auditing.loudness import balance
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import require
from stemgmd_build.kits.kit import Kit
from stemgmd_build.paths import CacheError
from stemgmd_build.progress import progress
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.taxonomy import (
    ARTICULATIONS,
    PIECE_OF_ARTICULATION,
    PIECES,
    PIECES_OF_STEM,
    SAMPLE_RATE,
)

SAME_RECORDING: Final = 0.95
_SAME_LAYER: Final = 0.999
LATE_ONSET_SEC: Final = 0.010
LATE_CLICK_DB: Final = 15.0

BALANCE_DB: Final[Mapping[str, tuple[float, float]]] = {
    "kick": (-7.0, 3.0),
    "snare": (0.0, 0.0),
    "hi_tom": (-6.0, 5.0),
    "mid_tom": (-6.0, 5.0),
    "low_tom": (-6.0, 5.0),
    "hihat_closed": (-17.0, -6.0),
    "hihat_open": (-12.0, -1.0),
    "crash_left": (-8.0, 4.0),
    "ride": (-17.0, -6.0),
}
"""Loudness against the snare within which a piece of a mixed kit lies, at GMD's velocities."""

_COMPARED_SAMPLES: Final = SAMPLE_RATE // 4
_N_FFT: Final = 1 << 15
_LAG_SAMPLES: Final = 2048
_TOMS: Final = PIECES_OF_STEM["toms"]  # from high to low
_COMPARED_PIECES: Final = tuple(
    pair for pieces in PIECES_OF_STEM.values() for pair in itertools.product(pieces, repeat=2)
)


@dataclass(frozen=True, slots=True)
class KitAudit:
    """What was measured on one kit, by piece: layers, ring (s), onset (s), balance (dB against the
    snare); the toms' pitches (Hz), the finer articulations that it has, and its faults. A piece
    that gives no sound is in none of them."""

    kit: Kit
    n_layers: dict[str, int]
    ring_sec: dict[str, float]
    onset_sec: dict[str, float]
    balance_db: dict[str, float]
    tom_hz: dict[str, float]
    finer: tuple[str, ...]
    faults: tuple[str, ...]
    outliers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Two kits that hold the same recording of these pieces.

    ``pieces``: "ride" where it is the ride of both, "crash_left as ride" where it is the first
    kit's crash and the second's ride.
    """

    first: Kit
    second: Kit
    pieces: tuple[str, ...]
    correlation: float

    def crosses_split(self) -> bool:
        """Whether one is for training and the other for test."""
        return {self.first.split, self.second.split} == {"train", "test"}


def audit(
    kits: Sequence[Kit], *, show_progress: bool = True
) -> tuple[list[KitAudit], list[Shared], list[str]]:
    """Audit kits: what was measured, which share recordings, and every fault in a line.

    A sound that cannot be sampled (missing, silent, a broken file) is a fault by its name, and the
    rest of its kit is audited; so is a kit of which nothing can be sampled. Raises UserError where
    the cache cannot be written, which is no kit's fault.
    """
    audits: list[KitAudit] = []
    banks: list[Bank] = []
    faults: list[str] = []
    for kit in progress(kits, desc="kits", unit="kits", disable=not show_progress, leave=False):
        bank, unheard = _sample(kit)
        faults += unheard
        if bank is not None:
            banks.append(bank)
            audits.append(audit_kit(bank))
    shared = find_shared(banks, show_progress=show_progress)
    faults += [f"{a.kit.id}: {fault}" for a in audits for fault in a.faults]
    faults += list(_split_faults(shared))
    return audits, shared, faults


def _sample(kit: Kit) -> tuple[Bank | None, list[str]]:
    """A bank of what can be heard of the kit (None: nothing), and a fault for all that cannot.

    The bank's ``kit.sounds`` are those that are heard, and all that may be asked of it: a piece
    that fails takes its finer articulations with it.
    """
    whole = _failure(kit)
    if whole is None:
        return load_bank(kit, gain=1.0), []
    try:
        path = require(kit)
    except UserError:
        return None, [whole]
    # Each sound as a kit of its own, by its path: the catalogue's hash is that of a whole kit.
    own = replace(kit, path=str(path), package=None, wheel="")
    failed = {
        name: failure.removeprefix(f"kit {own.id} ({own.path}): ")
        for name, sound in kit.sounds.items()
        if (failure := _failure(replace(own, sounds=dict.fromkeys(PIECES, sound)))) is not None
    }
    heard = {
        name: sound
        for name, sound in kit.sounds.items()
        if not {name, PIECE_OF_ARTICULATION[name]} & set(failed)
    }
    if not failed or (not heard and len(set(failed.values())) == 1):
        return None, [whole]  # the kit's fault and no sound's
    faults = [f"{kit.id}: {name}: {failure}" for name, failure in failed.items()]
    if not heard:
        return None, faults
    stand_in = next(iter(heard.values()))  # a bank has nine pieces
    bank = load_bank(replace(own, sounds=dict.fromkeys(PIECES, stand_in) | heard), gain=1.0)
    return replace(bank, kit=replace(kit, sounds=heard)), faults


def _failure(kit: Kit) -> str | None:
    """Why the kit cannot be sampled, None where it can."""
    try:
        load_bank(kit, gain=1.0)
    except CacheError:
        raise
    except UserError as error:
        return str(error)
    return None


def audit_kit(bank: Bank) -> KitAudit:
    """Measure one kit."""
    pieces = [piece for piece in PIECES if piece in bank.kit.sounds]
    shots = {piece: bank.shot_of[ARTICULATIONS.index(piece), 100] for piece in pieces}
    rows = {piece: bank.shot_of[ARTICULATIONS.index(piece), 1:] for piece in pieces}
    onset = {piece: onset_sec(bank.shot(shots[piece])) for piece in pieces}
    tom_hz: dict[str, float] = {t: pitch_hz(bank.shot(shots[t])) for t in _TOMS if t in shots}
    balance_db = balance(bank)
    outliers = [
        f"{piece} is {value:+.1f} dB against the snare, outside {BALANCE_DB[piece]}"
        for piece, value in balance_db.items()
        if not BALANCE_DB[piece][0] - 0.05 <= value <= BALANCE_DB[piece][1] + 0.05
    ]
    faults = []
    if any(lower >= higher for higher, lower in itertools.pairwise(tom_hz.values())):
        order = ", ".join(f"{tom} {hz:.0f} Hz" for tom, hz in tom_hz.items())
        faults.append(f"the toms' pitch does not fall from high to low: {order}")
    outliers += [
        f"{piece} starts {value * 1000:.1f} ms late"
        for piece, value in onset.items()
        if value > LATE_ONSET_SEC
    ]
    outliers += [
        f"{piece} clicks {second:.3f} s after its onset, {rise:.0f} dB above what rings then"
        for piece in pieces
        for second, rise in (late_click(bank.shot(shots[piece])),)
        if rise > LATE_CLICK_DB
    ]
    return KitAudit(
        bank.kit,
        {piece: len(np.unique(row)) for piece, row in rows.items()},
        {piece: bank.shots[shot].n_tail60 / SAMPLE_RATE for piece, shot in shots.items()},
        onset,
        balance_db,
        tom_hz,
        tuple(name for name in ARTICULATIONS if name in bank.kit.sounds and name not in PIECES),
        tuple(faults),
        tuple(outliers),
    )


def onset_sec(shot: NDArray[np.float32]) -> float:
    """When a shot, float32 (2, n_samples), first reaches a tenth (-20 dB) of its peak, in s."""
    level = np.abs(shot).max(axis=0)
    return float(np.argmax(level >= 0.1 * level.max())) / SAMPLE_RATE


def late_click(shot: NDArray[np.float32]) -> tuple[float, float]:
    """The steepest rise of a shot's level from 30 ms after its onset: (seconds into it, dB).

    ``shot``: float32 (2, n_samples). The rise is that of a frame of 64 samples (1.5 ms) over the
    loudest of the eight before it; (0.0, 0.0) where no frame is within 34 dB of the peak. A sample
    that is cut or looped wrongly ends in a click; drums and cymbals only fall.
    """
    level = np.abs(shot).max(axis=0)
    frames = np.maximum.reduceat(level, np.arange(0, len(level), 64))
    first = round((onset_sec(shot) + 0.03) * SAMPLE_RATE / 64)
    rises = [
        (20 * np.log10(frames[i] / max(frames[i - 8 : i].max(), 1e-9)), i)
        for i in range(max(first, 8), len(frames))
        if frames[i] > 0.02 * level.max()
    ]
    rise, frame = max(rises, default=(0.0, 0))
    return frame * 64 / SAMPLE_RATE, float(rise)


def pitch_hz(shot: NDArray[np.float32]) -> float:
    """Strongest partial from 50 to 500 Hz of a drum's ring, 20 to 320 ms after its onset, in Hz.

    ``shot``: float32 (2, n_samples); 0.0 where fewer than 64 samples ring.
    """
    mid = shot.mean(axis=0, dtype=np.float64)
    begin = round((onset_sec(shot) + 0.02) * SAMPLE_RATE)
    part = mid[begin : begin + round(0.3 * SAMPLE_RATE)]
    if len(part) < 64:
        return 0.0
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 17))
    frequencies = np.fft.rfftfreq(1 << 17, 1 / SAMPLE_RATE)
    band = (frequencies >= 50) & (frequencies <= 500)
    return float(frequencies[band][np.argmax(spectrum[band])])


def find_shared(banks: Sequence[Bank], *, show_progress: bool = False) -> list[Shared]:
    """Pairs of kits with a recording in common, comparing every layer of pieces of one stem."""
    spectra = [
        {piece: _spectra(bank, piece) for piece in PIECES if piece in bank.kit.sounds}
        for bank in progress(
            banks, desc="spectra", unit="kits", disable=not show_progress, leave=False
        )
    ]
    pairs = list(itertools.combinations(range(len(banks)), 2))
    found = []
    for i, j in progress(
        pairs, desc="compared", unit="pairs", disable=not show_progress, leave=False
    ):
        by_pieces = {
            (ours, theirs): _correlation(spectra[i][ours], spectra[j][theirs])
            for ours, theirs in _COMPARED_PIECES
            if ours in spectra[i] and theirs in spectra[j]
        }
        same = {pieces: value for pieces, value in by_pieces.items() if value > SAME_RECORDING}
        if same:
            names = tuple(
                ours if ours == theirs else f"{ours} as {theirs}" for ours, theirs in same
            )
            found.append(Shared(banks[i].kit, banks[j].kit, names, max(same.values())))
    return found


def _spectra(bank: Bank, piece: str) -> NDArray[np.complex64]:
    """Normalized spectra of the layers of all articulations of a piece: (distinct layers, bins)."""
    rows = [i for i, name in enumerate(ARTICULATIONS) if PIECE_OF_ARTICULATION[name] == piece]
    indices = np.unique(bank.shot_of[rows, 1:])
    parts = np.zeros((len(indices), _N_FFT), np.float32)
    for part, index in zip(parts, indices, strict=True):
        shot = bank.shot(int(index))
        begin = round(onset_sec(shot) * SAMPLE_RATE)
        change = np.diff(shot.mean(axis=0)[max(0, begin - 64) :][:_COMPARED_SAMPLES])
        part[: len(change)] = change / max(float(np.linalg.norm(change)), 1e-12)
    return np.fft.rfft(_distinct(parts)).astype(np.complex64)


def _distinct(parts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalized rows without those that equal an earlier one, but for 2.6 degrees.

    A filter that opens with velocity makes a hundred layers of one recording.
    """
    likeness = np.abs(parts @ parts.T)
    kept: list[int] = []
    for row in range(len(parts)):
        if not kept or likeness[row, kept].max() < _SAME_LAYER:
            kept.append(row)
    return parts[kept]


def _correlation(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> float:
    """Largest normalized cross-correlation between any two layers, over small lags."""
    highest = 0.0
    for spectrum in first:
        correlation = np.fft.irfft(spectrum.conj() * second, _N_FFT, axis=-1)
        near = np.concatenate((correlation[:, :_LAG_SAMPLES], correlation[:, -_LAG_SAMPLES:]), 1)
        highest = max(highest, float(np.abs(near).max()))
    return highest


def _split_faults(shared: Sequence[Shared]) -> Iterator[str]:
    """What breaks the split, or the catalogue's word on families."""
    for pair in shared:
        names = f"{pair.first.id} and {pair.second.id}"
        what = f"share {', '.join(pair.pieces)} (correlation {pair.correlation:.3f})"
        if pair.crosses_split():
            yield f"{names} {what}, but one is for training and the other for test"
        elif pair.first.family != pair.second.family:
            yield f"{names} {what}, but are of families {pair.first.family}, {pair.second.family}"
