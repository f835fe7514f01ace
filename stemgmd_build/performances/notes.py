"""Which notes and channels of a collection's MIDI are drums: GMD's, unless a file says otherwise.

`notes.toml`, beside the collection's info.csv, adds to GMD's notes or changes them:

    channels = [10]          # of drums, counted from 1; without it: 10

    [notes]
    35 = "kick"              # an articulation of the taxonomy
    41 = "low_tom"
    56 = "none"              # left out, and not counted as lost

A dataset keeps a copy of it beside its MIDI, so that both are read alike.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from stemgmd_build.config import decoded
from stemgmd_build.errors import UserError
from stemgmd_build.files import read_toml
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, ARTICULATIONS

NOTES: Final = "notes.toml"
DRUM_CHANNEL: Final = 9  # the tenth, counted from nought
_ROOTS: Final = ("info.csv", "dataset.json", "metadata.csv")
_NOTE_OF: Final = {name: note for note, name in ARTICULATION_OF_NOTE.items()}
_NONE: Final = "none"
LEFT_OUT: Final = -1
_DEEPEST: Final = 9  # folders of a MIDI file in a collection


@dataclass(frozen=True, slots=True)
class NoteMap:
    """Channels of drums, counted from 0, and (note of the file, GMD's note)."""

    channels: frozenset[int]
    notes: tuple[tuple[int, int], ...]

    def note_of(self, channel: int, note: int) -> int | None:
        """GMD's note for what a file holds, LEFT_OUT, or None for what no map knows."""
        return _table(self).get(note) if channel in self.channels else None


@functools.cache
def _table(notes: NoteMap) -> dict[int, int]:
    return dict(notes.notes)


_OWN: Final = tuple((note, note) for note in ARTICULATION_OF_NOTE)
GMD_NOTES: Final = NoteMap(frozenset({DRUM_CHANNEL}), _OWN)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    channels: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1, le=16)]], msgspec.Meta(min_length=1, max_length=16)
    ] = msgspec.field(default_factory=lambda: [DRUM_CHANNEL + 1])
    notes: dict[str, str] = {}


def with_notes(midi: Path, sha256: str) -> str:
    """What a MIDI file's hits follow from: its hash, and its notes.toml where there is one."""
    notes = notes_of(midi)
    if notes == GMD_NOTES:
        return sha256
    facts = json.dumps([sha256, sorted(notes.channels), notes.notes])
    return hashlib.sha256(facts.encode()).hexdigest()


def differences(notes: NoteMap) -> dict[str, Any]:
    """What a map says otherwise than GMD's, for dataset.json; empty for GMD's own."""
    if notes == GMD_NOTES:
        return {}
    own = dict(_OWN)
    changed = {
        str(note): ARTICULATION_OF_NOTE.get(name, _NONE)
        for note, name in notes.notes
        if own.get(note) != name
    }
    return {"channels": sorted(channel + 1 for channel in notes.channels), "notes": changed}


def notes_of(midi: Path) -> NoteMap:
    """The map that holds for a MIDI file. Raises UserError where its notes.toml is faulty."""
    path = notes_file(midi)
    if path is None:
        return GMD_NOTES
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_size)


def notes_file(midi: Path) -> Path | None:
    """The notes.toml of the collection, or of the dataset, in which a MIDI file lies."""
    for folder in list(midi.parents)[:_DEEPEST]:
        if (folder / NOTES).exists():
            return folder / NOTES
        if any((folder / name).exists() for name in _ROOTS):
            return None
    return None


@functools.lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, n_bytes: int) -> NoteMap:
    return parse_notes(read_toml(path), str(path))


def parse_notes(table: Mapping[str, Any], where: str) -> NoteMap:
    """The map that a notes.toml states. Raises UserError, naming ``where``."""
    file = decoded(table, _File, where)
    known = dict(_OWN)
    for key, name in file.notes.items():
        if not (key.isascii() and key.isdecimal() and len(key) <= 3 and int(key) <= 127):
            raise UserError(f"{where}: {key[:40]!r} is no MIDI note from 0 to 127")
        if name not in (*ARTICULATIONS, _NONE):
            known_names = ", ".join(ARTICULATIONS)
            raise UserError(f"{where}: no articulation {name[:40]!r}; there are {known_names}")
        known[int(key)] = _NOTE_OF.get(name, LEFT_OUT)
    channels = frozenset(channel - 1 for channel in file.channels)
    return NoteMap(channels, tuple(sorted(known.items())))
