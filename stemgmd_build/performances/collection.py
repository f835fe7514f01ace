"""Performances: the Groove MIDI Dataset's index (info.csv), as plain records.

Ids and names become folders later, so only letters, digits, '-', '_' and '.' are let in, and a
path that climbs out of the collection is refused. The MIDI itself is read by midi.py, whose
records are offered here too.

Source of the data: Gillick et al. 2019, "Learning to Groove with Inverse Sequence
Transformations"; https://magenta.tensorflow.org/datasets/groove
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Final

from stemgmd_build.errors import UserError
from stemgmd_build.performances.midi import (
    LONGEST_SEC,
    Hit,
    PedalEvent,
    Score,
    quoted,
    read_bytes,
    read_score,
)

__all__ = [
    "COLUMNS",
    "EVAL_SESSION",
    "SOURCE_NAMES",
    "SPLITS",
    "SPLIT_CHOICES",
    "Collection",
    "Hit",
    "PedalEvent",
    "Performance",
    "Score",
    "official_checksums",
    "read_collection",
    "read_score",
    "source_of",
]

SPLITS: Final = ("train", "validation", "test")
EVAL_SESSION: Final = "eval_session"
SPLIT_CHOICES: Final = ("all", *SPLITS, EVAL_SESSION)
"""What ``Collection.select`` takes; eval_session is the paper's 40 clips, all of them in test."""

COLUMNS: Final = (
    "drummer",
    "session",
    "id",
    "style",
    "bpm",
    "beat_type",
    "time_signature",
    "midi_filename",
    "audio_filename",
    "duration",
    "split",
)
"""The columns of info.csv, in the official order. A copy may hold more of them, in any order."""

LARGEST_INDEX_BYTES: Final = 1 << 24
BUILTIN_DRUMMER: Final = "builtin"  # how the drummers of the built-in grooves are called

SOURCE_NAMES: Final = {
    "gmd": "the Groove MIDI Dataset",
    "egmd": "the Expanded Groove MIDI Dataset",
    "builtin": "built-in grooves, played by nobody",
    "own": "own performances",
}
"""What each ``Collection.source`` is called in output."""

_EGMD_COLUMN: Final = "kit_name"  # of E-GMD's info.csv alone
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,119}")
_TIME_SIGNATURE: Final = re.compile(r"([0-9]{1,2})[-/]([0-9]{1,2})")


@dataclass(frozen=True, slots=True)
class Performance:
    """One row of info.csv: separators are '/', time signatures are written '4-4'.

    ``id`` is unique ("drummer1/eval_session/1"); ``session`` is without the drummer;
    ``midi_filename`` is relative to the collection's root; ``audio_filename`` may be empty.
    """

    id: str
    drummer: str
    session: str
    style: str
    bpm: int
    beat_type: str
    time_signature: str
    midi_filename: str
    audio_filename: str
    duration_sec: float
    split: str

    @property
    def name(self) -> str:
        """The MIDI file's name without its ending, unique within drummer and session."""
        return PurePosixPath(self.midi_filename).stem


@dataclass(frozen=True)
class Collection:
    """A folder of performances, in the natural order of their ids (2 before 10).

    ``source`` says what it is by its content: "gmd" (all of it, or a part), "egmd" (the Expanded
    Groove MIDI Dataset), "builtin" (the grooves of grooves.py) or "own" (somebody's files in GMD's
    format). ``citation`` is what CITATIONS.bib begins with. ``n_other_takes``: rows of E-GMD that
    are left out, since they are the same performance recorded on another kit. ``stands_in``: the
    built-in grooves, for GMD, which nobody named and which is not there.
    """

    root: Path
    performances: tuple[Performance, ...]
    source: str
    licence: str
    citation: str
    n_other_takes: int = 0
    stands_in: bool = False

    def midi_path(self, performance: Performance) -> Path:
        """Where the performance's MIDI file lies."""
        return self.root / performance.midi_filename

    def read_score(self, performance: Performance) -> Score:
        """The hits of one performance; UserError as ``read_score``."""
        return read_score(self.midi_path(performance))

    def select(
        self, split: str | Sequence[str] = "all", limit: int | None = None
    ) -> tuple[Performance, ...]:
        """The performances of one or several of SPLIT_CHOICES, at most ``limit``, in order.

        Raises UserError for an unknown split or a negative limit. A split that the
        collection lacks gives an empty tuple.
        """
        wanted = checked_splits((split,) if isinstance(split, str) else split)
        if limit is not None and limit < 0:
            raise UserError(f"a limit of {limit} performances: give 0 or more")
        chosen = [p for p in self.performances if is_in_split(p.split, p.session, wanted)]
        return tuple(chosen[:limit])


def checked_splits(names: Sequence[str]) -> frozenset[str]:
    """The names, all of them of SPLIT_CHOICES. Raises UserError."""
    for name in names:
        if name not in SPLIT_CHOICES:
            raise UserError(f"no split {name!r}: give one of {', '.join(SPLIT_CHOICES)}")
    return frozenset(names)


def is_in_split(split: str, session: str, wanted: frozenset[str]) -> bool:
    """Whether a performance of this split and session is in one of the splits wanted."""
    return not wanted.isdisjoint(("all", split, session))


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids as a collection has them: numbers by value, "session2" before "session10"."""
    return sorted(ids, key=lambda text: (_natural(text), text))


def read_collection(root: Path) -> Collection:
    """Read ``root/info.csv``, in any of the spellings that copies of GMD show.

    '\\' and '/' both separate, '4/4' and '4-4' both are time signatures, a byte-order mark and
    further columns are let pass. Of E-GMD, which lists a performance once for each kit that it was
    recorded on, the first take of each is kept. The MIDI files are only opened by ``read_score``.
    Raises UserError with the file's name and line.
    """
    path = Path(root) / "info.csv"
    found: list[Performance] = []
    seen: dict[str, int] = {}
    n_other_takes = 0
    for line, row in _rows(path):
        try:
            performance = performance_of_row(row)
        except ValueError as error:
            raise UserError(f"{path}:{line}: {error}") from error
        if _EGMD_COLUMN in row and f"id {performance.id}".casefold() in seen:
            n_other_takes += 1
            continue
        folder = f"{performance.drummer}/{performance.session}/{performance.name}"
        # Where capitals do not count, two names that differ in them are one folder.
        # A dataset's files are named for the MIDI file, whatever its ending.
        written = PurePosixPath(performance.midi_filename).with_suffix("")
        for key in (f"id {performance.id}", f"track {folder}", f"midi_filename {written}"):
            earlier = seen.setdefault(key.casefold(), line)
            if earlier != line:
                raise UserError(f"{path}:{line}: {key} stands in line {earlier} already")
        found.append(performance)
    if not found:
        raise UserError(f"{path}: lists no performance")
    found.sort(key=lambda p: (_natural(p.id), p.id))
    source = "egmd" if _EGMD_COLUMN in row else source_of(found)
    return Collection(Path(root), tuple(found), source, *_TERMS[source], n_other_takes)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(_index_text(path), newline=""), strict=True)
    header: list[str] = []
    try:
        for fields in reader:
            line = reader.line_num
            if not fields:
                continue
            if not header:
                header = [name.strip() for name in fields]
                missing = [name for name in COLUMNS if header.count(name) != 1]
                if missing:
                    raise UserError(f"{path}:{line}: needs one column each of {', '.join(missing)}")
            elif len(fields) == len(header):
                yield line, dict(zip(header, fields, strict=True))
            else:
                raise UserError(
                    f"{path}:{line}: has {len(fields)} fields, the header has {len(header)}"
                )
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: is not CSV: {error}") from error


def _index_text(path: Path) -> str:
    data = read_bytes(path, LARGEST_INDEX_BYTES, "give the folder of the Groove MIDI Dataset")
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise UserError(f"{path}:{line}: holds a NUL byte: save it as UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: is not UTF-8: save it as UTF-8 text") from error


def performance_of_row(row: dict[str, str]) -> Performance:
    """One row of info.csv, checked and normalized; ValueError says what is wrong with it."""
    row = {key: row[key].strip().replace("\\", "/") for key in COLUMNS}
    drummer = _checked_path("drummer", row["drummer"], parts=1)
    session = _checked_path("session", row["session"].removeprefix(f"{drummer}/"), parts=1)
    midi_filename = _checked_path("midi_filename", row["midi_filename"])
    if not midi_filename.lower().endswith((".mid", ".midi")):
        raise ValueError(f"midi_filename {quoted(midi_filename)} does not end in .mid")
    if "/" not in midi_filename:  # a dataset's folders are named for it
        raise ValueError(
            f"midi_filename {quoted(midi_filename)} is in no folder: put the file into "
            f"{drummer}/{session}"
        )
    signature = _TIME_SIGNATURE.fullmatch(row["time_signature"])
    if not signature:
        raise ValueError(f"time_signature {quoted(row['time_signature'])} is not like 4-4")
    if row["split"] not in SPLITS:
        raise ValueError(f"split {quoted(row['split'])} is none of {', '.join(SPLITS)}")
    return Performance(
        id=_checked_path("id", row["id"]),
        drummer=drummer,
        session=session,
        style=_checked_text("style", row["style"]),
        bpm=_checked_bpm(row["bpm"]),
        beat_type=_checked_text("beat_type", row["beat_type"]),
        time_signature="-".join(signature.groups()),
        midi_filename=midi_filename,
        audio_filename=row["audio_filename"]
        and _checked_path("audio_filename", row["audio_filename"]),
        duration_sec=_checked_duration(row["duration"]),
        split=row["split"],
    )


def _checked_path(column: str, text: str, parts: int = 8) -> str:
    names = text.split("/")
    if len(names) > parts or not all(map(_NAME.fullmatch, names)):
        kind = "a name" if parts == 1 else "a relative path"
        raise ValueError(
            f"{column} {quoted(text)} is not {kind} of letters, digits, '-', '_' and '.'"
        )
    return text


def _checked_text(column: str, text: str) -> str:
    if not 0 < len(text) <= 200 or not text.isprintable():
        raise ValueError(f"{column} {quoted(text)} is empty, too long or not printable")
    return text


def _checked_bpm(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not int(text):
        raise ValueError(f"bpm {quoted(text)} is not a whole number from 1 to 999")
    return int(text)


def _checked_duration(text: str) -> float:
    try:
        duration_sec = float(text)
    except ValueError:
        duration_sec = math.nan
    if not 0.0 < duration_sec <= LONGEST_SEC:  # false for NaN too
        raise ValueError(f"duration {quoted(text)} is not seconds from 0 to {LONGEST_SEC:.0f}")
    return duration_sec


def _natural(text: str) -> list[tuple[str, int]]:
    """A key that sorts numbers by value: "session2" before "session10"."""
    return [(word, int(digits or 0)) for word, digits in re.findall("([^0-9]*)([0-9]*)", text)]


_GMD_CITATION: Final = """\
@inproceedings{gillick2019,
  title = {Learning to Groove with Inverse Sequence Transformations},
  author = {Gillick, Jon and Roberts, Adam and Engel, Jesse and Eck, Douglas and Bamman, David},
  booktitle = {Proceedings of the 36th International Conference on Machine Learning (ICML)},
  year = {2019}
}
"""

_EGMD_CITATION: Final = """\
@misc{callender2020,
  title = {Improving Perceptual Quality of Drum Transcription with the Expanded Groove MIDI
           Dataset},
  author = {Callender, Lee and Hawthorne, Curtis and Engel, Jesse},
  year = {2020},
  eprint = {2004.00188},
  archivePrefix = {arXiv}
}
"""

_TERMS: Final = {
    "egmd": (
        "CC BY 4.0, Expanded Groove MIDI Dataset by Google LLC",
        _EGMD_CITATION,
    ),
    "gmd": (
        "CC BY 4.0, Groove MIDI Dataset by Google LLC",
        _GMD_CITATION,
    ),
    "builtin": (
        "CC0 1.0, grooves generated by stemgmd-bench",
        "stemgmd-bench's built-in grooves: generated by code, played by nobody",
    ),
    "own": (
        "not known: the collection is neither GMD nor built in",
        "not known: the collection is neither GMD nor built in",
    ),
}


def source_of(performances: Sequence[Performance]) -> str:
    """ "gmd" where every file is one of GMD's, "builtin" for the built-in grooves, else "own"."""
    if all(p.midi_filename in official_checksums() for p in performances):
        return "gmd"
    if all(p.drummer.startswith(BUILTIN_DRUMMER) for p in performances):
        return "builtin"
    return "own"


@cache
def official_checksums() -> dict[str, tuple[str, str]]:
    """GMD's MIDI files: path -> (SHA-256 of the file, first 16 digits of that of its row)."""
    text = files("stemgmd_build.performances").joinpath("gmd_checksums.txt").read_text("ascii")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {path: (file_sha256, row_sha256) for file_sha256, row_sha256, path in lines}
