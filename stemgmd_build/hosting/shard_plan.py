"""What shards a dataset makes: which tracks go into which tar, under which names, in which order.

``<split>-<number>.tar`` holds tracks one after another: ``<track>.<stem>.flac`` for every file of
the track, then ``<track>.json`` with its row of metadata.csv and its onsets; ``<track>`` is
``<kit>/<performance id>``. What stands before the first dot of the last name is WebDataset's key,
so a dot in a name becomes ``%2E``. Tracks lie in an order that a hash of their name decides, so
that every shard mixes kits and drummers; times, owners and modes are fixed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stemgmd_build.building import formats, manifest
from stemgmd_build.building.manifest import FileRecord, TrackRecord
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import SPLITS

_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_NUMBERS: Final = ("onset_sec", "onset_sample", "note", "velocity")


@dataclass(frozen=True, slots=True)
class Sample:
    """A track and its members in the tar (name, bytes, SHA-256): its audio files, then the JSON."""

    track: TrackRecord
    members: tuple[FileRecord, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes in the tar, headers and padding included."""
        return sum(map(_size_in_tar, self.members))


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar to be written: its file name, samples in order, exact size, and a hash of its plan."""

    name: str
    samples: tuple[Sample, ...]
    n_bytes: int
    content: str


def parse_size(text: str) -> int:
    """Bytes of "1GB", "500 MB", "250kB"; powers of ten. Raises UserError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([kKMG]?)B?", text)
    n_bytes = round(float(match[1]) * _UNITS[match[2].replace("K", "k")]) if match else 0
    if n_bytes < 1000:
        raise UserError(f"--shards {text}: give a size such as 1GB or 500MB")
    return n_bytes


def sample_key(row: dict[str, str]) -> str:
    """WebDataset's key of a track."""
    return formats.track_id(row).replace(".", "%2E")


def plan_shards(root: Path, shard_bytes: int) -> list[Shard]:
    """Deal the tracks of a finished dataset out to shards of at most ``shard_bytes``.

    A track that is larger alone has a shard of its own. Raises UserError where the folder is no
    finished dataset.
    """
    tracks = manifest.finished_tracks(root).values()
    shards = []
    for split in SPLITS:
        mine = [track for track in tracks if track.row["split"] == split]
        mine.sort(key=lambda track: hashlib.sha256(sample_key(track.row).encode()).digest())
        for number, chosen in enumerate(_deal(root, mine, shard_bytes)):
            shards.append(_shard(f"{split}-{number:06d}.tar", chosen))
    return shards


def _deal(root: Path, tracks: Sequence[TrackRecord], shard_bytes: int) -> Iterator[list[Sample]]:
    chosen: list[Sample] = []
    filled = 0
    for track in tracks:
        sample = _sample(root, track)
        if chosen and _tar_size(filled + sample.n_bytes) > shard_bytes:
            yield chosen
            chosen, filled = [], 0
        chosen.append(sample)
        filled += sample.n_bytes
    if chosen:
        yield chosen


def _shard(name: str, samples: list[Sample]) -> Shard:
    members = [member for sample in samples for member in sample.members]
    plan = "".join(f"{m.path}\0{m.n_bytes}\0{m.sha256}\n" for m in members)
    n_bytes = _tar_size(sum(sample.n_bytes for sample in samples))
    return Shard(name, tuple(samples), n_bytes, hashlib.sha256(plan.encode()).hexdigest())


def _sample(root: Path, track: TrackRecord) -> Sample:
    key = sample_key(track.row)
    audio = tuple(
        replace(file, path=f"{key}.{kind}{Path(file.path).suffix}")
        for kind, file in formats.audio_of(track).items()
    )
    facts = manifest.record_of(f"{key}.json", sample_json(root, track.row))
    return Sample(track, (*audio, facts))


def sample_json(root: Path, row: dict[str, str]) -> bytes:
    """A track's row of metadata.csv, numbers as numbers, and its onsets column by column."""
    path = root / formats.onsets_path(row)
    with path.open(encoding="utf-8", newline="") as file:
        hits = list(csv.DictReader(file, delimiter="\t"))
    if not hits or not set(_NUMBERS) <= set(hits[0]):
        raise UserError(f"{path} is damaged; delete it and build again")
    onsets: dict[str, list[str] | list[float]] = {
        column: [float(hit[column]) if column == "onset_sec" else int(hit[column]) for hit in hits]
        if column in _NUMBERS
        else [hit[column] for hit in hits]
        for column in hits[0]
    }
    return json.dumps(manifest.typed_row(row) | {"onsets": onsets}).encode()


def header(name: str, n_bytes: int) -> tarfile.TarInfo:
    """A plain file of nobody's, of no time: what TarInfo is made with, and its mode 0644."""
    info = tarfile.TarInfo(name)
    info.size = n_bytes
    return info


def _size_in_tar(member: FileRecord) -> int:
    n_header = len(header(member.path, member.n_bytes).tobuf(tarfile.GNU_FORMAT))
    return n_header - (-member.n_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _tar_size(n_bytes: int) -> int:
    """Two empty blocks end an archive, which is filled up to whole records."""
    return -(-(n_bytes + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
