"""The Groove MIDI Dataset: found, fetched, verified.

It is looked for where ``--gmd`` says, where STEMGMD_GMD says, then in the cache folder's "groove";
where there is none, the built-in grooves stand in, and ``Collection.source`` says so.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stemgmd_build.download import download
from stemgmd_build.errors import UserError
from stemgmd_build.files import lock_file, publish
from stemgmd_build.paths import cache_folder, home_expanded, path_variable
from stemgmd_build.performances.archives import unpack_zip
from stemgmd_build.performances.collection import (
    BUILTIN_DRUMMER,
    EVAL_SESSION,
    SOURCE_NAMES,
    Collection,
    Performance,
    official_checksums,
    read_collection,
    read_score,
)
from stemgmd_build.performances.midi import LARGEST_MIDI_BYTES, read_bytes
from stemgmd_build.progress import progress

GMD_VARIABLE: Final = "STEMGMD_GMD"
ARCHIVE_URL: Final = (
    "https://storage.googleapis.com/magentadata/datasets/groove/groove-v1.0.0-midionly.zip"
)
ARCHIVE_BYTES: Final = 3_260_318
ARCHIVE_SHA256: Final = "651cbc524ffb891be1a3e46d89dc82a1cecb09a57c748c7b45b844c4841dcc1e"

_MAX_MEMBERS: Final = 5_000  # GMD has 1,153 files in 36 folders
_MAX_UNPACKED_BYTES: Final = 64 << 20  # and 5.5 MB


def default_folder() -> Path:
    """Where `stemgmd gmd fetch` puts GMD, and where it is looked for."""
    return cache_folder() / "groove"


def find_collection(gmd: str | Path | None = None, *, allow_builtin: bool = True) -> Collection:
    """The performances to use: ``gmd``, else STEMGMD_GMD, else the cache, else built-in grooves.

    "builtin" names the built-in grooves. A folder that was named must be readable: nothing else
    stands in for it. Raises UserError where it is not, or where there is no GMD and
    ``allow_builtin`` is false.
    """
    from stemgmd_build.performances.grooves import cached_grooves

    named = gmd or path_variable(GMD_VARIABLE)
    if str(named) == BUILTIN_DRUMMER and not Path(BUILTIN_DRUMMER).exists():
        return cached_grooves(cache_folder())
    if named:
        return read_collection(home_expanded(Path(named)))
    cached = default_folder()
    if (cached / "info.csv").exists():
        return read_collection(cached)
    if allow_builtin:
        return replace(cached_grooves(cache_folder()), stands_in=True)
    raise UserError(
        "the Groove MIDI Dataset is not on this machine: `stemgmd gmd fetch` downloads it (3 MB), "
        "or give its folder with --gmd"
    )


def describe(collection: Collection) -> str:
    """Which performances are used, and how to have GMD where it is not them."""
    name = f"performances: {SOURCE_NAMES[collection.source]} ({collection.root})"
    if collection.source == "builtin":
        return f"{name}; `stemgmd gmd fetch` downloads GMD, 3 MB"
    others = collection.n_other_takes
    return f"{name}; one take of each, {others} on other kits left out" if others else name


# ---------------------------------------------------------------- fetching


def fetch(
    folder: Path | None = None,
    *,
    url: str = ARCHIVE_URL,
    sha256: str = ARCHIVE_SHA256,
    n_bytes: int = ARCHIVE_BYTES,
) -> Collection:
    """Download GMD's MIDI-only archive into ``folder`` (the cache's "groove" if None), verified.

    The download is resumed where an earlier one ended, verified before it is unpacked, unpacked
    beside ``folder`` and renamed, so that ``folder`` is there whole or not at all. Where it holds
    GMD already, nothing is downloaded. Raises UserError if it holds anything else, if the archive
    is not the one of ``sha256`` and ``n_bytes``, or if it does not hold a collection.
    """
    folder = default_folder() if folder is None else folder.expanduser().absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(folder.with_name(f".{folder.name}.lock")):
            if not _is_here(folder):
                archive = folder.with_name(f"{folder.name}.zip")
                download(url, archive, sha256=sha256, n_bytes=n_bytes, description="GMD")
                _unpack(archive, folder)
                archive.unlink()
                archive.with_name(f"{archive.name}.lock").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: GMD cannot be put there: {error.strerror or error}") from error
    return read_collection(folder)


def _is_here(folder: Path) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if (folder / "info.csv").is_file() and _is_whole(read_collection(folder)):
        return True
    raise UserError(
        f"{folder}: holds something else than a whole GMD; give another --dir, or remove it "
        "(`stemgmd gmd verify` says what differs)"
    )


def _is_whole(collection: Collection) -> bool:
    """What ``verify`` finds out, without parsing."""
    found = {
        p.midi_filename: (_file_sha256(collection.midi_path(p)), row_sha256(p))
        for p in collection.performances
    }
    return found == official_checksums()


def _file_sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    return hashlib.sha256(read_bytes(path, LARGEST_MIDI_BYTES, "fetch GMD again")).hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Replace ``folder``, empty or missing, by what lies around the archive's info.csv."""
    unpacked = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a run that was killed
    try:
        unpack_zip(archive, unpacked, max_members=_MAX_MEMBERS, max_bytes=_MAX_UNPACKED_BYTES)
        indices = sorted(unpacked.rglob("info.csv"), key=lambda path: len(path.parts))
        if not indices:
            raise UserError(f"{archive}: holds no info.csv: it is not the Groove MIDI Dataset")
        read_collection(indices[0].parent)
        if folder.exists():
            folder.rmdir()
        publish(indices[0].parent, folder)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


# ---------------------------------------------------------------- verifying


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy of GMD holds, and in what it differs from the official 1.0.0.

    Files and rows are named by the MIDI file's path; ``unreadable`` adds the reason.
    """

    root: str
    n_performances: int
    n_hits: int
    n_pedal_events: int
    hours: float
    splits: dict[str, int]
    n_eval_session: int
    missing_files: tuple[str, ...]
    changed_files: tuple[str, ...]
    unreadable_files: tuple[str, ...]
    missing_rows: tuple[str, ...]
    changed_rows: tuple[str, ...]
    extra_rows: tuple[str, ...]

    @property
    def differences(self) -> dict[str, tuple[str, ...]]:
        """What is not as it should be, by kind; empty kinds are left out."""
        kinds = {
            "files missing": self.missing_files,
            "files with other content": self.changed_files,
            "files that cannot be read": self.unreadable_files,
            "rows missing from info.csv": self.missing_rows,
            "rows of info.csv that differ": self.changed_rows,
            "rows of info.csv that GMD does not have": self.extra_rows,
        }
        return {kind: paths for kind, paths in kinds.items() if paths}

    @property
    def is_right(self) -> bool:
        """Whether every file and row is the official one."""
        return not self.differences


def verify(root: Path) -> CopyReport:
    """Compare a copy of GMD, file by file and row by row, with the official one.

    info.csv is compared by content, since copies spell it differently; every MIDI file by its
    SHA-256, and it is parsed. Raises UserError where info.csv cannot be read.
    """
    collection = read_collection(root)
    official = official_checksums()
    rows = {p.midi_filename: p for p in collection.performances}
    missing, changed, unreadable = [], [], []
    n_hits = n_pedal_events = 0
    paths = sorted(official.keys() | rows.keys())
    for path in progress(paths, desc="verified", unit="files", leave=False):
        if not (root / path).is_file():
            missing.append(path)
            continue
        try:
            sha256, score = _file_sha256(root / path), read_score(root / path)
        except UserError as error:
            unreadable.append(f"{path}: {str(error).removeprefix(f'{root / path}: ')}")
            continue
        if path in official and sha256 != official[path][0]:
            changed.append(path)
        n_hits += len(score.hits)
        n_pedal_events += len(score.pedal)
    return CopyReport(
        root=str(root),
        n_performances=len(rows),
        n_hits=n_hits,
        n_pedal_events=n_pedal_events,
        hours=sum(p.duration_sec for p in rows.values()) / 3600,
        splits=dict(Counter(p.split for p in rows.values())),
        n_eval_session=len(collection.select(EVAL_SESSION)),
        missing_files=tuple(missing),
        changed_files=tuple(changed),
        unreadable_files=tuple(unreadable),
        missing_rows=tuple(sorted(official.keys() - rows.keys())),
        changed_rows=tuple(
            path
            for path, p in rows.items()
            if path in official and row_sha256(p) != official[path][1]
        ),
        extra_rows=tuple(sorted(rows.keys() - official.keys())),
    )


def row_sha256(performance: Performance) -> str:
    """First 16 hex digits of the SHA-256 of one row of info.csv, however it was spelt.

    The audio's name is left out: copies without the audio may leave it empty.
    """
    p = performance
    fields = [p.id, p.drummer, p.session, p.style, p.bpm, p.beat_type, p.time_signature]
    fields += [p.midi_filename, f"{p.duration_sec:.6f}", p.split]
    return hashlib.sha256("\n".join(map(str, fields)).encode()).hexdigest()[:16]
