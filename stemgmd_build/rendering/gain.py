"""The one gain of a kit, under which no sample of any stem or mixture of a collection clips.

The loudest sample is found exactly without rendering everything: from each shot's envelope follows
a bound for every frame of every track, and only frames whose bound exceeds the loudest sample
found so far are rendered.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.kits.kit import Kit
from stemgmd_build.paths import cache_folder, unwritable
from stemgmd_build.performances.collection import Collection
from stemgmd_build.performances.midi import LARGEST_MIDI_BYTES, read_bytes
from stemgmd_build.progress import progress
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import (
    FIVE_ROWS,
    Schedule,
    Strikes,
    render,
    schedule,
    strikes_of,
)
from stemgmd_build.taxonomy import STEMS

PEAK_TARGET: Final = 10 ** (-1 / 20)
"""The loudest sample of a collection on a kit ends at -1 dB of full scale."""

_FRAME: Final = 1024
_MODES: Final[tuple[tuple[Literal["nine", "full"], bool], ...]] = (
    ("nine", True),
    ("nine", False),
    ("full", True),
    ("full", False),
)
"""(articulations, choke): the gain holds for all of them."""


def kit_gain(kit: Kit, collection: Collection) -> float:
    """The kit's recorded gain, or one measured over the collection and kept in the cache.

    Performances that cannot be read are left out: no track can be made of them. Raises UserError
    where the kit cannot be sampled or what the cache holds is damaged, CacheError where the cache
    cannot be written.
    """
    if kit.gain is not None:
        return kit.gain
    bank = load_bank(kit, gain=1.0)
    gains = {name: sound.gain_db for name, sound in sorted(kit.sounds.items())}
    facts = json.dumps([bank.digest, gains, _midi_hash(collection)])
    path = cache_folder() / "gains" / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"
    kept = _kept_gain(path)
    if kept is not None:
        return kept
    gain = measure_gain(bank, all_strikes(collection))
    try:
        write_whole(path, json.dumps({"kit": kit.id, "gain": gain}), shared=True)
    except OSError as error:
        raise unwritable(path.parent, f"the gain of kit {kit.id}", error) from error
    return gain


def tuned(kit: Kit, collection: Collection, *, gain_db: float = 0.0) -> Kit:
    """The kit with the gain that it is played at, as `load_bank` applies it.

    ``gain_db`` turns it up or down. Six digits, as many as a dataset's metadata.csv holds, so that
    what is rendered and what was built are the same samples. Raises as `kit_gain`.
    """
    return replace(kit, gain=round(kit_gain(kit, collection) * 10 ** (gain_db / 20), 6))


def _kept_gain(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text("utf-8"))["gain"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; delete it and try again") from error


def _midi_hash(collection: Collection) -> str:
    """Hash of the bytes of every performance: an own collection may change under the same ids."""
    digest = hashlib.sha256()
    for performance in collection.performances:
        data = b""  # where it cannot be read, and is not heard either
        with suppress(UserError):
            data = read_bytes(collection.midi_path(performance), LARGEST_MIDI_BYTES, "")
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def all_strikes(collection: Collection) -> tuple[Strikes, ...]:
    """Every performance of a collection that can be read, as arrays."""
    found = []
    for performance in progress(
        collection.performances, desc="performances read", unit="files", leave=False
    ):
        with suppress(UserError):
            found.append(strikes_of(collection.read_score(performance)))
    return tuple(found)


def measure_gain(bank: Bank, strikes: tuple[Strikes, ...]) -> float:
    """Gain that brings the loudest sample of these performances on a kit to -1 dB of full scale."""
    return round(PEAK_TARGET / max(loudest_sample(bank, strikes), 1e-9), 6)


@dataclass(frozen=True, slots=True)
class _Bounded:
    """A track in one mode, and for each of its frames what no sample can exceed."""

    plan: Schedule
    bound: NDArray[np.float32]


def loudest_sample(bank: Bank, strikes: tuple[Strikes, ...]) -> float:
    """Largest absolute sample of any piece, stem or mixture in any mode of rendering."""
    tracks = list(
        progress(_bounded(bank, strikes), desc=f"gain of {bank.kit.id}", unit="tracks", leave=False)
    )
    # The frame that promises most of each track first: that raises what the others must exceed.
    loudest = max((_frame_peak(t.plan, int(np.argmax(t.bound))) for t in tracks), default=0.0)
    hopeful = [
        (float(track.bound[frame]), index, int(frame))
        for index, track in enumerate(tracks)
        for frame in np.flatnonzero(track.bound > loudest)
    ]
    for bound, index, frame in sorted(hopeful, reverse=True):
        if bound <= loudest:
            break
        loudest = max(loudest, _frame_peak(tracks[index].plan, frame))
    return loudest


def _bounded(bank: Bank, strikes: tuple[Strikes, ...]) -> Iterator[_Bounded]:
    envelopes = [_envelope(bank.shot(index)) for index in range(len(bank.shots))]
    for one in strikes:
        for articulations, choke in _MODES:
            plan = schedule(one, bank, articulations=articulations, choke=choke)
            bound = np.zeros(plan.n_samples // _FRAME + 1, np.float32)
            first = (plan.onset // _FRAME).tolist()
            # A choked shot may end anywhere in its last frame.
            n_frames = (plan.length // _FRAME + 2).tolist()
            for i, shot in enumerate(plan.shot.tolist()):
                target = bound[first[i] : first[i] + n_frames[i]]
                envelope = envelopes[shot][: len(target)]
                target[: len(envelope)] += envelope * plan.gain[i]
            yield _Bounded(plan, bound)


def _envelope(shot: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest absolute sample by frame, wherever in the first frame the shot begins."""
    level = np.abs(shot).max(axis=0)
    by_frame = np.maximum.reduceat(level, np.arange(0, len(level), _FRAME))
    # Rounding while the hits are summed must not lift a sample over its bound.
    either = np.maximum(np.append(by_frame, 0), np.append(0, by_frame)) * np.float32(1.0001)
    return np.asarray(either, np.float32)


def _frame_peak(plan: Schedule, frame: int) -> float:
    """Largest absolute sample of any piece, stem or the mixture within a frame."""
    start = frame * _FRAME
    stop = min(start + _FRAME, plan.n_samples)
    if stop <= start:
        return 0.0
    nine = render(plan, start=start, stop=stop)
    five = np.zeros((len(STEMS), 2, stop - start), np.float32)
    for piece, row in enumerate(FIVE_ROWS):
        five[row] += nine[piece]
    return max(float(np.abs(part).max()) for part in (nine, five, five.sum(axis=0)))
