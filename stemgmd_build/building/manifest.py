"""What a dataset says of itself: records of tracks, metadata.csv, manifest.jsonl, dataset.json.

``metadata.csv`` has a row per track (a performance on a kit), ``manifest.jsonl`` a line per file
with its size and SHA-256, ``dataset.json`` the settings. While a build runs, finished tracks are
appended to ``.journal.jsonl``; whatever instant the build dies at, what the journal holds is done.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from stemgmd_build.config import decoded, one_line
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.performances.collection import Performance
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEMS

METADATA: Final = "metadata.csv"
MANIFEST: Final = "manifest.jsonl"
SETTINGS: Final = "dataset.json"
JOURNAL: Final = ".journal.jsonl"

_GMD_COLUMNS: Final = {
    "drummer": "drummer",
    "session": "session",
    "id": "id",
    "style": "style",
    "bpm": "bpm",
    "beat_type": "beat_type",
    "time_signature": "time_signature",
    "midi_filename": "midi_filename",
    "audio_filename": "audio_filename",
    "duration": "duration_sec",
    "split": "split",
}
"""GMD's column -> field of Performance."""

COLUMNS: Final = (
    *_GMD_COLUMNS,
    "midi_sha256",
    "kit",
    "kit_split",
    "name",
    "n_samples",
    "duration_sec",
    "gain",
    "peak",
    "n_hits",
    *(f"hits_{piece}" for piece in PIECES),
    *(f"has_{name}" for name in dict.fromkeys((*STEMS, *PIECES))),
)
"""Of metadata.csv; kick and snare are stems and pieces at once."""


_NUMBERS: Final = (
    "n_samples",
    "peak",
    "n_hits",
    *(c for c in COLUMNS if c[:4] in ("hits", "has_")),
)

_FRACTIONS: Final = ("duration", "duration_sec", "gain")

DAMAGE: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading damaged JSON raises."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the dataset: path relative to its root (posix), bytes, SHA-256 and MD5 in hex.

    The MD5 is there for mirdata alone, and empty where nobody asked for its index.
    """

    path: str
    n_bytes: int
    sha256: str
    md5: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A finished track: its row of metadata.csv (strings by column) and its files."""

    row: dict[str, str]
    files: tuple[FileRecord, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(kit, performance id)."""
        return self.row["kit"], self.row["id"]

    @property
    def n_samples(self) -> int:
        """Length of every file of the track."""
        return int(self.row["n_samples"])


def metadata_row(
    performance: Performance,
    *,
    kit: str,
    kit_split: str | None,
    midi_sha256: str,
    n_samples: int,
    gain: float,
    peak: int,
    hits: Iterable[int],
) -> dict[str, str]:
    """A row of metadata.csv; ``hits`` counts those of each of the nine pieces, ``peak`` is the
    largest absolute sample of the mixture in integer steps."""
    by_piece = dict(zip(PIECES, hits, strict=True))
    row = {column: str(getattr(performance, field)) for column, field in _GMD_COLUMNS.items()}
    row |= {
        "midi_sha256": midi_sha256,
        "kit": kit,
        "kit_split": kit_split or "",
        "name": performance.name,
        "n_samples": str(n_samples),
        "duration_sec": f"{n_samples / SAMPLE_RATE:.6f}",
        "gain": f"{gain:.6f}",
        "peak": str(peak),
        "n_hits": str(sum(by_piece.values())),
    }
    row |= {f"hits_{piece}": str(count) for piece, count in by_piece.items()}
    members = {**PIECES_OF_STEM, **{piece: (piece,) for piece in PIECES}}
    row |= {f"has_{name}": str(int(any(by_piece[p] for p in m))) for name, m in members.items()}
    return row


def typed_row(row: dict[str, str]) -> dict[str, str | int | float]:
    """The row with its numbers as numbers, for formats that know them."""
    types = dict.fromkeys((*_NUMBERS, "bpm"), int) | dict.fromkeys(_FRACTIONS, float)
    return {column: types.get(column, str)(row[column]) for column in COLUMNS}


def track_folder(row: dict[str, str]) -> str:
    """Where a track's piece folders are, relative to the root: StemGMD's layout."""
    folder = row["midi_filename"].rsplit("/", 1)[0]
    return f"audio/{folder}/{row['kit']}"


def write_recorded(path: Path, text: str) -> FileRecord:
    """Write a text file whole or not at all; return its size and SHA-256 (path: its name)."""
    write_whole(path, text)
    return record_of(path.name, text.encode())


def record_of(path: str, data: bytes) -> FileRecord:
    """The record of a file with these bytes."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return FileRecord(path, len(data), hashlib.sha256(data).hexdigest(), md5)


def metadata_text(records: Iterable[TrackRecord]) -> str:
    """metadata.csv, in the order of the records."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.row for record in records)
    return text.getvalue()


def manifest_text(files: Iterable[FileRecord], *, with_md5: bool = False) -> str:
    """manifest.jsonl, sorted by path."""
    lines = (
        json.dumps(
            {"path": file.path, "bytes": file.n_bytes, "sha256": file.sha256}
            | ({"md5": file.md5} if with_md5 else {})
        )
        for file in sorted(files, key=lambda file: file.path)
    )
    return "".join(f"{line}\n" for line in lines)


def append_to_journal(journal: io.TextIOBase, record: TrackRecord) -> None:
    """Note a finished track; it survives the end of this process from here on."""
    files = [(file.path, file.n_bytes, file.sha256, file.md5) for file in record.files]
    journal.write(json.dumps({"row": record.row, "files": files}) + "\n")
    journal.flush()


def read_journal(root: Path) -> Iterator[TrackRecord]:
    """The tracks that a build which did not end has finished; a torn last line is left out."""
    path = root / JOURNAL
    if not path.exists():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            files = tuple(
                FileRecord(str(p), int(n), *map(str, hashes)) for p, n, *hashes in entry["files"]
            )
            row = _checked_row(dict(entry["row"]))
        except DAMAGE:
            continue
        if not any(map(climbs_out, (file.path for file in files))):
            yield TrackRecord(row, files)


def read_manifest(root: Path) -> dict[str, FileRecord]:
    """Path -> record of every file. Raises UserError where it is missing or damaged."""
    path = root / MANIFEST
    try:
        entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        files = [
            FileRecord(str(e["path"]), int(e["bytes"]), str(e["sha256"]), str(e.get("md5", "")))
            for e in entries
        ]
    except OSError as error:
        raise _unreadable(path, error) from error
    except DAMAGE as error:
        raise _damaged(path, error) from error
    for file in files:
        if climbs_out(file.path):
            raise UserError(f"{path} names a file outside the dataset: {file.path!r}")
    return {file.path: file for file in files}


def read_metadata(root: Path) -> list[dict[str, str]]:
    """The rows of metadata.csv. Raises UserError where it is missing or damaged."""
    path = root / METADATA
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [_checked_row(row) for row in rows]
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, csv.Error) as error:
        raise _damaged(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    """Why a file that describes the whole cannot be read; only the end of a build writes it."""
    if isinstance(error, FileNotFoundError) and (path.parent / JOURNAL).exists():
        return UserError(
            f"{path.parent} holds a build that has not ended; the same `stemgmd build` command "
            "completes it"
        )
    return UserError(f"{path} cannot be read: {error.strerror}; is this a dataset?")


def _checked_row(row: dict[str, str]) -> dict[str, str]:
    """A row of metadata.csv as it must be; ValueError says what is wrong with it."""
    if None in row or None in row.values() or not set(COLUMNS) <= set(row):
        raise ValueError("columns are missing")
    for column in _NUMBERS:
        if not re.fullmatch("[0-9]{1,15}", row[column]):
            raise ValueError(f"{column} is {row[column][:80]!r}, not a whole number")
    for text in (row["midi_filename"], row["kit"], row["name"], row["id"]):
        if climbs_out(text):
            raise ValueError(f"a path that climbs out: {text!r}")
    return row


def climbs_out(path: str) -> bool:
    """Whether a relative path (posix) leads out of its folder, or is not a plain one."""
    return (
        any(part in ("", ".", "..") for part in path.split("/"))
        or not path.isprintable()
        or "\\" in path
    )


def read_settings(root: Path) -> dict[str, Any]:
    """dataset.json, checked for what its readers rely on.

    Raises UserError where it is missing or damaged.
    """
    path = root / SETTINGS
    try:
        settings = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; is this a dataset?") from error
    except DAMAGE as error:
        raise _damaged(path, error) from error
    try:
        decoded(settings, _Settings, path.name)
    except UserError as error:
        raise _damaged(path, error) from error
    return dict(settings)


class _Render(msgspec.Struct):
    file_format: Literal["flac", "wav"]
    stems: Literal["nine", "five", "both"]


class _KitFacts(msgspec.Struct):
    gain: Annotated[float, msgspec.Meta(gt=0, lt=1e6)]


class _Settings(msgspec.Struct):
    """What readers of dataset.json rely on."""

    render: _Render
    kits: dict[str, _KitFacts]
    not_played: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    midi_damage: dict[str, str] = {}


def _damaged(path: Path, error: Exception) -> UserError:
    """A file that describes the whole; without it nobody knows what the folder holds."""
    return UserError(
        f"{path} is damaged ({one_line(str(error))}); put a copy of it in its place, or delete "
        f"{path.parent} and build again"
    )


def finished_tracks(root: Path) -> dict[tuple[str, str], TrackRecord]:
    """Every track that is done, from the manifest of an ended build and the journal of another.

    A track counts only if each of its files is there with its size.
    """
    found: dict[tuple[str, str], TrackRecord] = {}
    if (root / MANIFEST).exists() and (root / METADATA).exists():
        by_folder: dict[str, list[FileRecord]] = {}
        for file in read_manifest(root).values():
            folder, _, name = file.path.rpartition("/")
            by_folder.setdefault(
                f"{folder.rpartition('/')[0]}|{name.rpartition('.')[0]}", []
            ).append(file)
        for row in read_metadata(root):
            files = by_folder.get(f"{track_folder(row)}|{row['name']}", [])
            found[row["kit"], row["id"]] = TrackRecord(row, tuple(files))
    found |= {record.key: record for record in read_journal(root)}
    return {key: record for key, record in found.items() if _is_there(root, record)}


def _is_there(root: Path, record: TrackRecord) -> bool:
    try:
        return bool(record.files) and all(
            (root / file.path).stat().st_size == file.n_bytes for file in record.files
        )
    except OSError:
        return False
