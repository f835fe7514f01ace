"""`stemgmd verify`: does a dataset hold what it says, to the sample?"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.audio import open_audio
from stemgmd_build.building import manifest
from stemgmd_build.building.manifest import FileRecord, track_folder
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import LOCK, open_file
from stemgmd_build.hosting.shard_index import INDEX, SHARDS, verify_beside, verify_shards
from stemgmd_build.processes import disposable_pool, interrupts_held
from stemgmd_build.progress import progress
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEM_OF_PIECE, STEMS

_BLOCK_SAMPLES: Final = 1 << 19
_FULL_SCALE_RUN: Final = 3
"""So many samples at full scale in a row are clipping; one may be a peak that just fits."""


@dataclass(frozen=True, slots=True)
class TrackCheck:
    """One track to verify: its row of metadata.csv and the files that the manifest lists."""

    root: Path
    row: dict[str, str]
    files: tuple[FileRecord, ...]


def verify(root: Path, *, n_workers: int = 1, show_progress: bool = True) -> list[str]:
    """Check every file of a dataset; return a line for each fault, none if all is well.

    A folder of shards alone is checked as `shard_index.verify_shards` says. Raises UserError
    where the folder is neither.
    """
    if (root / INDEX).exists():
        return verify_shards(root)
    files = manifest.read_manifest(root)
    rows = manifest.read_metadata(root)
    settings = manifest.read_settings(root)
    problems = []
    checks = []
    names = RenderSettings(
        stems=settings["render"]["stems"], mixture=settings["render"].get("mixture", True)
    ).folders()
    for row in rows:
        folder, suffix = track_folder(row), f"{row['name']}.{settings['render']['file_format']}"
        mine = [files.pop(f"{folder}/{name}/{suffix}", None) for name in names]
        missing = [name for name, file in zip(names, mine, strict=True) if not file]
        problems += [f"{folder}/{name}/{suffix}: not in the manifest" for name in missing]
        checks.append(TrackCheck(root, row, tuple(file for file in mine if file)))
    problems += [p for file in files.values() for p in _check_bytes(root, file)[1]]
    problems += [f"{p}: not in {manifest.METADATA}" for p in files if p.startswith("audio/")]
    listed = {file.path for check in checks for file in check.files} | set(files)
    problems += [f"{path}: not in the manifest" for path in _unlisted(root, listed)]
    problems += verify_beside(root)
    with contextlib.closing(_check_tracks(checks, n_workers)) as results:
        for found in progress(
            results, desc="verified", total=len(checks), unit="tracks", disable=not show_progress
        ):
            problems += found
    return sorted(problems)


def _check_tracks(checks: Sequence[TrackCheck], n_workers: int) -> Generator[list[str]]:
    if n_workers == 1:
        yield from map(check_track, checks)
        return
    try:
        with disposable_pool(n_workers) as pool:
            with interrupts_held():
                results = pool.map(check_track, checks, chunksize=4)
            yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a worker died (killed, or out of memory); try again with fewer --workers"
        ) from error


def _unlisted(root: Path, listed: set[str]) -> Iterator[str]:
    """Files that are in the folder but not in the manifest."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        ours = name in (manifest.MANIFEST, LOCK) or name.startswith(f"{SHARDS}/")
        if path.is_file() and name not in listed and not ours:
            yield name


def _check_bytes(root: Path, file: FileRecord) -> tuple[Path, list[str]]:
    """The file's path, and what is wrong with its bytes."""
    path = root / file.path
    try:
        with open_file(path, "audio") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            n_bytes = stream.tell()
    except UserError as error:
        return path, [f"{file.path}: {str(error).removeprefix(f'{path} ')}"]
    except OSError as error:
        return path, [f"{file.path}: {error.strerror}"]
    if n_bytes != file.n_bytes:
        return path, [f"{file.path}: {n_bytes} bytes, not {file.n_bytes}"]
    return path, [] if digest == file.sha256 else [f"{file.path}: its SHA-256 differs"]


def check_track(check: TrackCheck) -> list[str]:
    """Bytes, lengths, the exact sum, clipping and presence of one track."""
    problems: list[str] = []
    paths: dict[str, Path] = {}
    for file in check.files:
        path, wrong = _check_bytes(check.root, file)
        problems += wrong
        paths[path.parent.name] = path
    if problems:
        return problems
    try:
        return _check_audio(check, paths)
    except (soundfile.SoundFileError, OSError, ValueError, UserError) as error:
        return [f"{track_folder(check.row)}: {check.row['name']}: cannot be decoded: {error}"]


def _check_audio(check: TrackCheck, paths: dict[str, Path]) -> list[str]:
    """Decode all files of a track side by side, block by block."""
    n_samples = int(check.row["n_samples"])
    open_files = {name: open_audio(path) for name, path in paths.items()}
    here = f"{track_folder(check.row)}: {check.row['name']}"
    problems = [
        f"{here}: {name} has {file.frames} samples at {file.samplerate} Hz, "
        f"{file.channels} channels, {file.subtype}; "
        f"expected {n_samples} at {SAMPLE_RATE} Hz, 2 channels, PCM_16"
        for name, file in open_files.items()
        if (file.frames, file.samplerate, file.channels, file.subtype)
        != (n_samples, SAMPLE_RATE, 2, "PCM_16")
    ]
    sounding: set[str] = set()
    faults: set[str] = set()
    for start in range(0, 0 if problems else n_samples, _BLOCK_SAMPLES):
        size = min(_BLOCK_SAMPLES, n_samples - start)
        block = {name: file.read(size, "int16") for name, file in open_files.items()}
        sounding |= {name for name, pcm in block.items() if pcm.any()}
        faults |= {f"{name} clips" for name, pcm in block.items() if _clips(pcm)}
        faults |= set(_sum_faults(block))
    for file in open_files.values():
        file.close()
    if not problems:
        faults |= set(_presence_faults(check.row, paths, sounding))
    return problems + [f"{here}: {fault}" for fault in sorted(faults)]


def _clips(pcm: NDArray[np.int16]) -> bool:
    """Whether a channel stays at full scale for several samples in a row."""
    if pcm.size == 0 or (pcm.max() < 32767 and pcm.min() > -32768):
        return False
    full = ((pcm == 32767) | (pcm == -32768)).astype(np.int8)
    window = np.ones(_FULL_SCALE_RUN, np.int8)
    return any(np.convolve(full[:, i], window).max() >= _FULL_SCALE_RUN for i in range(2))


def _sum_faults(block: dict[str, NDArray[np.int16]]) -> Iterator[str]:
    """Sums that do not hold to the last integer."""
    parts: Sequence[str] = PIECES if set(PIECES) <= set(block) else STEMS
    if not set(parts) <= set(block):
        return  # what the manifest lacks is a fault of its own
    total = np.sum([block[name] for name in parts], axis=0, dtype=np.int32)
    if "mixture" not in block and total.size and not -32768 <= total.min() <= total.max() < 32768:
        yield f"the sum of its {len(parts)} stems clips"
    if "mixture" in block and not np.array_equal(block["mixture"], total):
        yield f"mixture is not the exact sum of its {len(parts)} stems"
    if set(PIECES) | set(STEMS) <= set(block):
        for stem, pieces in PIECES_OF_STEM.items():
            if not _is_sum(block[stem], [block[piece] for piece in pieces]):
                yield f"{stem} is not the exact sum of {', '.join(pieces)}"


def _is_sum(total: NDArray[np.int16], parts: list[NDArray[np.int16]]) -> bool:
    return np.array_equal(total, np.sum(parts, axis=0, dtype=np.int32))


def _presence_faults(
    row: dict[str, str], paths: dict[str, Path], sounding: set[str]
) -> Iterator[str]:
    """Pieces that metadata.csv says are played but are silent, or the reverse."""
    for name in paths:
        if name == "mixture":
            continue
        played = any(
            int(row[f"hits_{piece}"]) > 0
            for piece in PIECES
            if piece == name or STEM_OF_PIECE[piece] == name
        )
        if played != (name in sounding):
            yield f"{name} is {'silent but played' if played else 'not played but sounds'}"
