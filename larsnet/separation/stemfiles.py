"""Recordings on disk to stems on disk: DIR/<track>/<stem>.wav, as Demucs and Open-Unmix write.

WAV files are 32-bit float, which never clips; FLAC files 24-bit. All stems of a track appear at
once, when all are written: until then they lie in a hidden folder that no failure leaves behind.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile

from larsnet.separation.inference import Separator
from larsnet.separation.waveforms import separate_blocks
from stemgmd_build.errors import UserError
from stemgmd_build.files import publish, scratch_folder
from stemgmd_build.recordings import SUFFIXES, Block, Source, open_source

FileFormat = Literal["wav", "flac"]

_SUBTYPES: Final = {"wav": "FLOAT", "flac": "PCM_24"}
_WAV_BYTES: Final = 4_000_000_000
"""A WAV file's sizes are 32-bit numbers; beyond this RF64 is written, its extension."""


@dataclass(frozen=True)
class Track:
    """A recording, and the folder below the output folder that its stems go to."""

    path: Path
    name: str


@dataclass(frozen=True)
class Written:
    """What became of a track. ``n_clipped``: samples of 24-bit stems beyond full scale."""

    folder: Path
    n_samples: int
    sample_rate: int
    n_clipped: int


def find_tracks(inputs: Sequence[Path], out: Path) -> list[Track]:
    """The recordings among files and folders, with a name of its own for each.

    A track is named after its file, below the folder that was searched; where two would share a
    name both keep their extension, and where they still would, the later ones get a number.

    Raises:
        UserError: an input that does not exist, or a folder without recordings.
    """
    found: list[tuple[Path, Path]] = []
    for path in inputs:
        if not path.is_dir():
            found.append((path, Path(path.name)))
            continue
        inside = [p for p in sorted(_files_below(path)) if _is_recording(p, path, out)]
        if not inside:
            within = path.resolve().is_relative_to(out.resolve())
            raise UserError(
                f"{path} is inside the output folder, whose files are not separated; name another"
                if within
                else f"{path} holds no audio files"
            )
        found += [(p, p.relative_to(path)) for p in inside]
    shared = Counter(_key(_bare(name)) for _, name in found)
    taken: set[str] = set()
    tracks = []
    for path, name in found:
        bare = _bare(name)
        wanted = name if shared[_key(bare)] > 1 else bare
        unique, number = wanted, 2
        while _key(unique) in taken:
            unique, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
        taken.add(_key(unique))
        tracks.append(Track(path, str(unique)))
    return tracks


def refuse_to_overwrite(
    tracks: Sequence[Track], out: Path, stems: Sequence[str], file_format: FileFormat
) -> None:
    """Raise UserError where a stem would be written over one of the recordings themselves."""
    recordings = {track.path.resolve(): track.path for track in tracks}
    for track in tracks:
        for stem in stems:
            target = (out / track.name / f"{stem}.{file_format}").resolve()
            if target in recordings:
                raise UserError(
                    f"{recordings[target]} would be overwritten by the stem {stem} of "
                    f"{track.path}; name another output folder"
                )


def separate_file(
    separator: Separator,
    track: Track,
    out: Path,
    file_format: FileFormat = "wav",
    *,
    progress: Callable[[float, float | None], None] = lambda done_sec, all_sec: None,
) -> Written:
    """Separate one recording; its stems appear in ``out / track.name`` when all are done.

    Args:
        separator: made with ``sum_to_mixture`` for stems that add up to the recording.
        track: from :func:`find_tracks`.
        out: the output folder.
        file_format: of the stems.
        progress: is told seconds done, and in all where that is known.

    Raises:
        UserError: a recording that cannot be read or is empty, a folder or disk that cannot be
            written, memory that does not suffice. No stem of this track is left behind.
    """
    with open_source(track.path) as source:
        folder = out / track.name
        try:
            runs = separate_blocks(separator, source.blocks(), source.sample_rate)
            with scratch_folder(out) as partial:
                written = _write(
                    partial, runs, separator.stems, file_format, source, folder, progress
                )
                if written.n_samples == 0:
                    raise UserError("it holds no samples")
                _check(partial, written.n_samples)
                folder.mkdir(parents=True, exist_ok=True)
                for path in partial.iterdir():
                    if (folder / path.name).is_dir():
                        raise UserError(f"{folder / path.name} is a folder; a stem is to go there")
                for path in partial.iterdir():
                    publish(path, folder / path.name)
        except UserError as error:
            named = str(track.path) in str(error)
            raise UserError(str(error) if named else f"{track.path}: {error}") from error
        except MemoryError as error:
            raise UserError(f"{track.path}: out of memory; free some memory") from error
        except (OSError, soundfile.SoundFileError, AssertionError) as error:
            raise UserError(f"{folder} cannot be written: {_reason(error, out)}") from error
    return written


def _write(
    partial: Path,
    runs: Iterable[Block],
    stems: Sequence[str],
    file_format: FileFormat,
    source: Source,
    folder: Path,
    progress: Callable[[float, float | None], None],
) -> Written:
    container = file_format.upper()
    if file_format == "flac" and not _suits_flac(source):
        raise UserError(
            f"FLAC cannot hold {source.n_channels} channels at {source.sample_rate} Hz; "
            "use --format wav"
        )
    if file_format == "wav" and _may_be_too_long(source):
        container = "RF64"
    n_samples = n_clipped = 0
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                soundfile.SoundFile(
                    # a descriptor: libsndfile's Python takes no name that is not UTF-8
                    os.open(partial / f"{stem}.{file_format}", os.O_CREAT | os.O_RDWR, 0o666),
                    "w",
                    source.sample_rate,
                    source.n_channels,
                    subtype=_SUBTYPES[file_format],
                    format=container,
                    closefd=True,
                )
            )
            for stem in stems
        ]
        for block in runs:
            n_samples += block.shape[-1]
            if container == "WAV" and 4 * source.n_channels * n_samples > _WAV_BYTES:
                raise UserError("it is too long for WAV; use --format flac")
            if file_format == "flac":
                n_clipped += int(np.count_nonzero(np.abs(block) > 1))
            for file, stem_block in zip(files, block, strict=True):
                file.write(stem_block.T)
            progress(n_samples / source.sample_rate, source.about_sec)
    for path in partial.iterdir():
        _forget_the_time(path)
    return Written(folder, n_samples, source.sample_rate, n_clipped)


def _forget_the_time(path: Path) -> None:
    """Set the time of writing to 0, so that the same stems have the same bytes.

    libsndfile notes it in the chunk that holds the peaks of a WAV file of floats.
    """
    with path.open("r+b") as file:
        place = file.read(4096).find(b"PEAK")
        if place >= 0:
            file.seek(place + 12)  # after the chunk's name, size and version
            file.write(bytes(4))


def _suits_flac(source: Source) -> bool:
    """At most eight channels; above 65,535 Hz libFLAC's subset knows tens of hertz alone."""
    rate = source.sample_rate
    plain = rate <= 65_535 or (rate % 10 == 0 and rate <= 655_350)
    return source.n_channels <= 8 and plain


def _may_be_too_long(source: Source) -> bool:
    """Whether stems might not fit into WAV. What ffprobe tells may be wrong by a half."""
    if source.n_samples is not None:
        return 4 * source.n_channels * source.n_samples > _WAV_BYTES
    if source.about_sec is None:
        return True
    return 8 * source.n_channels * source.about_sec * source.sample_rate > _WAV_BYTES


def _check(folder: Path, n_samples: int) -> None:
    """libsndfile says nothing when the last bytes do not fit on the disk."""
    for path in folder.iterdir():
        with soundfile.SoundFile(os.open(path, os.O_RDONLY), closefd=True) as file:
            if file.frames != n_samples:
                raise OSError(f"{path.name} came out short; is the disk full?")


def _reason(error: Exception, out: Path) -> str:
    """Why stems cannot be written; libsndfile calls a full disk a system error."""
    if isinstance(error, soundfile.LibsndfileError | AssertionError):
        existing = next(folder for folder in (out, *out.parents) if folder.exists())
        if shutil.disk_usage(existing).free < 1 << 20:
            return "the disk is full"
    return getattr(error, "strerror", None) or str(error) or "the disk is full"


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below it, linked ones too, each folder once."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen = set()
    for name, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        about = os.stat(name)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        yield from (Path(name, file) for file in files)


def _bare(name: Path) -> Path:
    """The folder of a recording's stems: its name without the ending.

    What is left of "...wav" would be "..", another folder; and names that end in dots or spaces are
    other names on some systems. Longer names than 240 bytes leave no room for a number.
    """
    stem = name.stem.rstrip(". ")
    while len(os.fsencode(stem)) > 240:
        stem = stem[:-1]
    return name.with_name(stem or "recording")


def _is_recording(path: Path, searched: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(searched).parts)
    own = path.resolve().is_relative_to(out.resolve())
    return path.suffix.lower() in SUFFIXES and not hidden and not own and path.is_file()


def _key(name: Path) -> str:
    """Names that some file systems hold for the same."""
    return str(name).casefold()
