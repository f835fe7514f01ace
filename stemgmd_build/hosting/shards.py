"""`stemgmd build --shards`: a finished dataset packed into WebDataset tars that others can host.

`shard_plan` says what goes where; the same dataset gives the same bytes. A shard appears under its
name when it is whole, and is then noted in ``.index.json``, so a packing that died goes on, and
shards of tracks that have changed since are packed again. At the end ``index.json`` lists every
file of the folder with size and SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from stemgmd_build.building import formats, manifest
from stemgmd_build.building.build import Plan
from stemgmd_build.building.workers import DISK_FULL, DiskFullError
from stemgmd_build.errors import UserError
from stemgmd_build.files import whole
from stemgmd_build.hosting.shard_index import (
    INDEX,
    SHARDS,
    UNFINISHED,
    ShardIndex,
    ShardRecord,
    read_index,
    write_index,
)
from stemgmd_build.hosting.shard_plan import Sample, Shard, header, plan_shards, sample_json
from stemgmd_build.performances.collection import SPLITS
from stemgmd_build.progress import progress

_COPIED: Final = (manifest.METADATA, manifest.SETTINGS, "LICENSES.md", "CITATIONS.bib")


def forecast_bytes(plan: Plan) -> float:
    """What shards of all tracks will add to the disk: as much as the tracks, less those there."""
    tracks = sum(file.n_bytes for record in plan.done.values() for file in record.files)
    folder = plan.root / SHARDS
    held = sum(path.stat().st_size for path in folder.glob("*.tar")) if folder.is_dir() else 0
    return max(0.0, tracks + plan.todo_bytes() - held)


def write_shards(root: Path, shard_bytes: int, *, show_progress: bool = True) -> list[ShardRecord]:
    """Pack a finished dataset into ``root/shards``; return what lies there now.

    Raises UserError where the disk cannot hold it or the dataset is damaged; the same call goes
    on from there.
    """
    folder = root / SHARDS
    try:
        return _write_shards(root, folder, shard_bytes, show_progress)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise DiskFullError(
                f"{folder} is full; the shards that are whole are kept: free some space and run "
                "the same command again"
            ) from error
        raise UserError(f"{folder} cannot be written: {error}") from error


def _write_shards(
    root: Path, folder: Path, shard_bytes: int, show_progress: bool
) -> list[ShardRecord]:
    shards = plan_shards(root, shard_bytes)
    folder.mkdir(exist_ok=True)
    if (folder / INDEX).exists():  # from here on until its end it is not a whole one
        os.replace(folder / INDEX, folder / UNFINISHED)
    done = _reusable(folder, shards)
    _check_disk(folder, shards, done)
    with progress(
        total=sum(shard.n_bytes for shard in shards),
        unit="B",
        unit_scale=True,
        desc="shards",
        disable=not show_progress,
    ) as bar:
        for shard in shards:
            if shard.name not in done:
                done[shard.name] = _write_shard(root, folder, shard)
                write_index(folder / UNFINISHED, ShardIndex("", tuple(done.values())))
            bar.update(shard.n_bytes)
    files = [done[shard.name] for shard in shards] + _write_companions(root, folder, shards)
    _remove_others(folder, {file.path for file in files} | {UNFINISHED})
    metadata = next(file.sha256 for file in files if file.path == manifest.METADATA)
    write_index(folder / INDEX, ShardIndex(metadata, tuple(files)))
    (folder / UNFINISHED).unlink(missing_ok=True)
    return files


def _reusable(folder: Path, shards: Sequence[Shard]) -> dict[str, ShardRecord]:
    """Shards of this very plan that an earlier packing has finished."""
    try:
        noted = {file.path: file for file in read_index(folder / UNFINISHED).files}
    except UserError:
        return {}
    return {
        shard.name: noted[shard.name]
        for shard in shards
        if shard.name in noted
        and noted[shard.name].content == shard.content
        and (folder / shard.name).is_file()
        and (folder / shard.name).stat().st_size == noted[shard.name].n_bytes
    }


def _check_disk(folder: Path, shards: Sequence[Shard], done: dict[str, ShardRecord]) -> None:
    todo = [shard for shard in shards if shard.name not in done]
    held = [folder / shard.name for shard in todo]  # of another plan: they make room one by one
    freed = sum(path.stat().st_size for path in held if path.is_file())
    largest = max((shard.n_bytes for shard in todo), default=0)
    need = max(largest, sum(shard.n_bytes for shard in todo) - freed)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"{folder} has {free / 1e9:.2f} GB free, and the shards need {need / 1e9:.2f} GB more; "
            "free some space and run the same command again"
        )


class _HashedFile(io.RawIOBase):
    """A file in the making that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.sha256.update(data)
        return self._file.write(data)


def _write_shard(root: Path, folder: Path, shard: Shard) -> ShardRecord:
    with whole(folder / shard.name) as part, part.open("wb") as file:
        hashed = _HashedFile(file)
        with tarfile.open(
            fileobj=hashed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20
        ) as tar:
            for sample in shard.samples:
                _add_sample(tar, root, sample)
    sha256 = hashed.sha256.hexdigest()
    return ShardRecord(shard.name, shard.n_bytes, sha256, len(shard.samples), shard.content)


def _add_sample(tar: tarfile.TarFile, root: Path, sample: Sample) -> None:
    row = sample.track.row
    paths = [file.path for file in formats.audio_of(sample.track).values()]
    for member, path in zip(sample.members, (*paths, formats.onsets_path(row)), strict=True):
        data = (root / path).read_bytes() if path in paths else sample_json(root, row)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            raise UserError(
                f"{root / path} is not the file that was built; delete it and run the same command "
                "again"
            )
        tar.addfile(header(member.path, member.n_bytes), io.BytesIO(data))


def _write_companions(root: Path, folder: Path, shards: Sequence[Shard]) -> list[ShardRecord]:
    """Terms, metadata, settings and a card, for the shards may be hosted alone."""
    texts = {name: (root / name).read_text("utf-8") for name in _COPIED}
    tracks = [sample.track for shard in shards for sample in shard.samples]
    counts = {s: sum(track.row["split"] == s for track in tracks) for s in SPLITS}
    splits = {split: n for split, n in counts.items() if n}
    config = "  data_files:\n" + "".join(
        f"  - split: {split}\n    path: {split}-*.tar\n" for split in splits
    )
    texts[formats.CARD] = formats.card_text(config, splits, tracks, _LOADING)
    written = [manifest.write_recorded(folder / name, text) for name, text in texts.items()]
    return [ShardRecord(file.path, file.n_bytes, file.sha256) for file in written]


_LOADING: Final = """\
The tars are [WebDataset](https://github.com/webdataset/webdataset)'s; a sample is a track, with a
FLAC file for the mixture and for every piece, and a JSON with its facts and onsets.

```python
import webdataset

data = webdataset.WebDataset("train-000000.tar", shardshuffle=False)
```"""


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Shards of an earlier, larger plan and what a killed packing left."""
    for path in folder.iterdir():
        ours = re.fullmatch(r"(train|validation|test)-[0-9]{6}\.tar|\..+\.partial", path.name)
        if ours and path.name not in kept:
            path.unlink()
