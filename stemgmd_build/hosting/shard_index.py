"""The index of a folder of shards, ``index.json``, and the check of such a folder against it.

The folder may have come from anywhere: nothing in it is believed before it is checked, and no
member of a tar is ever unpacked to a name of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from stemgmd_build.building import manifest
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.performances.midi import quoted

SHARDS: Final = "shards"
INDEX: Final = "index.json"
UNFINISHED: Final = ".index.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A file of the folder: name, bytes, SHA-256; of a tar also its tracks and its plan's hash."""

    path: str
    n_bytes: int
    sha256: str
    n_tracks: int = 0
    content: str = ""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """What a folder of shards holds; ``dataset`` is the SHA-256 of the dataset's metadata.csv."""

    dataset: str
    files: tuple[ShardRecord, ...]


def write_index(path: Path, index: ShardIndex) -> None:
    """Write an index whole or not at all."""
    entry = {"version": _VERSION, "dataset": index.dataset, "files": list(map(asdict, index.files))}
    write_whole(path, json.dumps(entry, indent=1) + "\n")


def read_index(path: Path) -> ShardIndex:
    """Read an index. Raises UserError where it is missing, damaged or names a path."""
    try:
        entry = json.loads(path.read_text("utf-8"))
        if entry["version"] != _VERSION:
            raise ValueError(f"its version is not {_VERSION}")
        files = tuple(_record(**file) for file in entry["files"])
        return ShardIndex(str(entry["dataset"]), files)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; are these shards?") from error
    except manifest.DAMAGE as error:
        raise UserError(f"{path} is damaged: {error!r}") from error


def _record(path: str, n_bytes: int, sha256: str, n_tracks: int, content: str) -> ShardRecord:
    texts = (path, sha256, content)
    if not all(isinstance(t, str) for t in texts) or manifest.climbs_out(path) or "/" in path:
        raise ValueError(f"no name of a file: {path!r}")
    return ShardRecord(path, int(n_bytes), sha256, int(n_tracks), content)


def verify_shards(folder: Path) -> list[str]:
    """A line for each fault of a folder of shards: files against the index, tars against metadata.

    Raises UserError where there is no index.
    """
    if not (folder / INDEX).exists() and (folder / UNFINISHED).exists():
        return [f"{UNFINISHED}: the packing has not ended; run the same build with --shards again"]
    index = read_index(folder / INDEX)
    listed = {file.path for file in index.files}
    problems = [
        f"{path.name}: not in {INDEX}"
        for path in folder.iterdir()
        if path.name not in {*listed, INDEX}
    ]
    for file in index.files:
        wrong = list(_file_faults(folder, file))
        problems += wrong
        if not wrong and file.path.endswith(".tar"):
            problems += _tar_faults(folder / file.path, file)
    n_rows = len(manifest.read_metadata(folder))
    n_tracks = sum(file.n_tracks for file in index.files)
    if n_rows != n_tracks:
        problems.append(f"{INDEX}: {n_tracks} tracks, but {manifest.METADATA} has {n_rows}")
    return sorted(problems)


def verify_beside(root: Path) -> list[str]:
    """The faults of ``root/shards``, if there are shards: they must be of this very dataset."""
    folder = root / SHARDS
    if not folder.is_dir():
        return []
    problems = [f"{SHARDS}/{problem}" for problem in verify_shards(folder)]
    metadata = hashlib.sha256((root / manifest.METADATA).read_bytes()).hexdigest()
    if not problems and read_index(folder / INDEX).dataset != metadata:
        problems = [f"{SHARDS}: the dataset has changed since; build it with --shards again"]
    return problems


def _file_faults(folder: Path, file: ShardRecord) -> Iterator[str]:
    try:
        with (folder / file.path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            n_bytes = stream.tell()
    except OSError as error:
        yield f"{file.path}: {error.strerror}"
        return
    if n_bytes != file.n_bytes:
        yield f"{file.path}: {n_bytes} bytes, not {file.n_bytes}"
    elif digest != file.sha256:
        yield f"{file.path}: its SHA-256 differs"


def _tar_faults(path: Path, file: ShardRecord) -> Iterator[str]:
    """Members that WebDataset could not read as whole samples, or that are no plain files."""
    samples: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", member.name)
                if not member.isreg() or match is None or manifest.climbs_out(member.name):
                    yield f"{path.name}: {quoted(member.name)} is no file of a sample"
                    return
                samples.setdefault(match[1], set()).add(match[2])
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        yield f"{path.name}: is not a readable tar ({quoted(str(error))})"
        return
    if len(samples) != file.n_tracks:
        yield f"{path.name}: {len(samples)} tracks, not {file.n_tracks}"
    if len({frozenset(parts) for parts in samples.values()}) > 1 or not all(
        "json" in parts for parts in samples.values()
    ):
        yield f"{path.name}: its samples do not hold the same files"
