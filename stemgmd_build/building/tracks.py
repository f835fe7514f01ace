"""One track: a performance on a kit, rendered block by block and written in StemGMD's layout.

The mixture is the integer sum of its nine pieces, and the five stems are integer sums of their
members, so every sum in a dataset is exact. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.audio import AudioFile, ClippingError, FileFormat, copy_silent, quantize
from stemgmd_build.building.manifest import FileRecord, TrackRecord, metadata_row, track_folder
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.files import publish
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Performance, read_score
from stemgmd_build.performances.losses import why_silent
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import (
    Articulations,
    Schedule,
    Strikes,
    render,
    schedule,
    sounding_pieces,
    strikes_of,
)
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, STEMS

StemChoice = Literal["nine", "five", "both"]

PARTIAL: Final = ".partial"
"""Folder of files in the making, inside the dataset so that a rename is all that is left."""

_BLOCK_SAMPLES: Final = 1 << 17  # 3 s: long enough to amortize, nine float32 pieces in 9 MB


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How tracks are rendered and written; all tracks of a dataset share them."""

    file_format: FileFormat = "flac"
    stems: StemChoice = "nine"
    articulations: Articulations = "nine"
    choke: bool = True
    mixture: bool = True

    def folders(self) -> tuple[str, ...]:
        """Names of the folders of a track, the mixture last where it is written."""
        nine = PIECES if self.stems != "five" else ()
        five = tuple(s for s in STEMS if s not in nine) if self.stems != "nine" else ()
        return (*nine, *five, *(("mixture",) if self.mixture else ()))


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs for one track; ``kit`` carries its gain.

    ``with_md5``: every file's record holds its MD5 too.
    """

    root: Path
    midi: Path
    performance: Performance
    kit: Kit
    settings: RenderSettings
    with_md5: bool = False


@functools.lru_cache(maxsize=2)
def _bank(kit: Kit) -> Bank:
    return load_bank(kit)


@functools.cache  # all of GMD as arrays is 15 MB
def _strikes(midi: Path) -> Strikes:
    return strikes_of(read_score(midi))


def build_track(job: Job) -> TrackRecord:
    """Render and write one track; return its record.

    Raises UserError for a broken performance, OSError where files cannot be written.
    """
    strikes = _strikes(job.midi)
    if not len(strikes.onset):
        raise UserError(f"{job.midi} has no drum hit: {why_silent(read_score(job.midi))}")
    bank = _bank(job.kit)
    plan = schedule(
        strikes, bank, articulations=job.settings.articulations, choke=job.settings.choke
    )
    row = metadata_row(
        job.performance,
        kit=job.kit.id,
        kit_split=job.kit.split,
        midi_sha256=sha256_of_file(job.midi),
        n_samples=plan.n_samples,
        gain=job.kit.gain or 1.0,
        peak=0,
        hits=np.bincount(strikes.pieces(), minlength=len(PIECES)).tolist(),
    )
    files, peak = _write_files(job, plan, track_folder(row))
    return TrackRecord({**row, "peak": str(peak)}, files)


def _write_files(job: Job, plan: Schedule, folder: str) -> tuple[tuple[FileRecord, ...], int]:
    """Write every file of the track; return their records and the mixture's peak."""
    names = job.settings.folders()
    suffix = f"{job.performance.name}.{job.settings.file_format}"
    partial = job.root / PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    scratch = {name: partial / f"{uuid.uuid4().hex}.{job.settings.file_format}" for name in names}
    # Pieces that are never struck are one and the same silent file, which is encoded once.
    silent = [name for name in names if not _is_played(name, plan)]
    encoded = {name: scratch[name] for name in names if name not in silent[1:]}
    try:
        with _open_files(encoded, job, plan.n_samples) as files:
            peak = _write_blocks(job, plan, files)
            sizes = {name: file.finish() for name, file in files.items()}
        for name in silent[1:]:
            copy_silent(scratch[silent[0]], scratch[name], job.settings.file_format)
            sizes[name] = sizes[silent[0]]
        records = []
        for name in names:
            path = f"{folder}/{name}/{suffix}"
            (job.root / path).parent.mkdir(parents=True, exist_ok=True)
            publish(scratch[name], job.root / path)
            records.append(FileRecord(path, *sizes[name]))
    finally:
        for leftover in scratch.values():
            leftover.unlink(missing_ok=True)
    return tuple(records), peak


def _is_played(name: str, plan: Schedule) -> bool:
    """Whether a file of this name has a hit in it."""
    members = (name,) if name in PIECES else PIECES_OF_STEM.get(name, PIECES)
    return bool(np.isin(plan.piece, [PIECES.index(piece) for piece in members]).any())


@contextlib.contextmanager
def _open_files(paths: dict[str, Path], job: Job, n_samples: int) -> Iterator[dict[str, AudioFile]]:
    files: dict[str, AudioFile] = {}
    try:
        for name, path in paths.items():
            files[name] = AudioFile(
                path, job.settings.file_format, n_samples, with_md5=job.with_md5
            )
        yield files
    finally:
        for file in files.values():
            file.abandon()


def _write_blocks(job: Job, plan: Schedule, files: dict[str, AudioFile]) -> int:
    """Render block by block into the open files; return the mixture's peak in integer steps."""
    peak = 0
    try:
        for n_samples, pcm in pcm_blocks(plan):
            mixture = exact_sum(pcm, PIECES, n_samples)
            for name, file in files.items():
                if name == "mixture":
                    file.write(mixture)
                    continue
                # kick and snare are pieces and stems at once
                members = PIECES_OF_STEM[name] if name in STEMS else (name,)
                if any(piece in pcm for piece in members):
                    file.write(exact_sum(pcm, members, n_samples))
                else:
                    file.write_silence(n_samples)
            peak = max(peak, int(mixture.max(initial=0)), -int(mixture.min(initial=0)))
    except ClippingError:
        raise UserError(
            f"{job.midi} clips on kit {job.kit.id}: it plays harder than all of GMD, for which "
            f"the kit's gain is made; lower it, for example with --gain-db -6"
        ) from None
    return peak


def pcm_blocks(plan: Schedule) -> Iterator[tuple[int, dict[str, NDArray[np.int16]]]]:
    """The track as a dataset holds it, block by block: (n_samples, piece -> int16 (n_samples, 2)).

    Pieces that are silent in a block are left out of it. Raises ClippingError.
    """
    samples = np.empty((len(PIECES), 2, _BLOCK_SAMPLES), np.float32)
    scratch = np.empty((2, _BLOCK_SAMPLES), np.float32)
    for start in range(0, plan.n_samples, _BLOCK_SAMPLES):
        stop = min(start + _BLOCK_SAMPLES, plan.n_samples)
        block = samples[..., : stop - start]
        sounding = sounding_pieces(plan, start, stop)
        for piece in sounding:
            block[piece] = 0.0
        rows = [piece if piece in sounding else -1 for piece in range(len(PIECES))]
        render(plan, start=start, stop=stop, rows=rows, out=block)
        yield (
            stop - start,
            {PIECES[piece]: quantize(block[piece], scratch) for piece in sounding},
        )


def exact_sum(
    pcm: dict[str, NDArray[np.int16]], pieces: tuple[str, ...], n_samples: int
) -> NDArray[np.int16]:
    """Integer sum of the pieces that sound: int16 (n_samples, 2). Raises ClippingError."""
    parts = [pcm[piece] for piece in pieces if piece in pcm]
    if not parts:
        return np.zeros((n_samples, 2), np.int16)
    if len(parts) == 1:
        return parts[0]
    # Where not even their peaks together leave 16 bits, there is no need for wider integers.
    if (
        sum(int(part.min()) for part in parts) >= -32768
        and sum(int(part.max()) for part in parts) <= 32767
    ):
        narrow = parts[0] + parts[1]
        for part in parts[2:]:
            narrow += part
        return narrow
    total = parts[0].astype(np.int32)
    for part in parts[1:]:
        total += part
    if total.min() < -32768 or total.max() > 32767:
        raise ClippingError
    return total.astype(np.int16)
