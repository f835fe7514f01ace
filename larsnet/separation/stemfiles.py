"""Recordings on disk to stems on disk: DIR/<track>/<stem>.wav, as Demucs and Open-Unmix write.

WAV files are 32-bit float unless asked otherwise, which never clips. All stems of a track appear at
once, when all are written: until then they lie in a hidden folder that no failure leaves behind.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Final

import numpy as np
import soundfile

from larsnet.separation.midi import write_midi
from larsnet.separation.player import write_player
from larsnet.separation.waveforms import Engine, separate_blocks
from stemgmd_build.errors import UserError
from stemgmd_build.files import publish, scratch_folder
from stemgmd_build.recordings import SUFFIXES, Source, open_source


@dataclass(frozen=True)
class StemFormat:
    """A kind of audio file: its ending, and what libsndfile calls the coding of samples."""

    ext: str
    subtype: str
    words: str

    @property
    def clips(self) -> bool:
        """Whether samples beyond full scale are lost."""
        return self.subtype != "FLOAT"


FORMATS: Final = {
    ("wav", "float32"): StemFormat("wav", "FLOAT", "WAV, 32-bit float"),
    ("wav", "int24"): StemFormat("wav", "PCM_24", "WAV, 24 bits"),
    ("wav", "int16"): StemFormat("wav", "PCM_16", "WAV, 16 bits"),
    ("flac", "int24"): StemFormat("flac", "PCM_24", "FLAC, 24 bits"),
    ("flac", "int16"): StemFormat("flac", "PCM_16", "FLAC, 16 bits"),
    ("mp3", ""): StemFormat("mp3", "MPEG_LAYER_III", "MP3, 320 kbit/s"),
}
"""(container, samples) -> format. The first of a container is its default."""

WAV: Final = FORMATS["wav", "float32"]

FILENAME: Final = "{track}/{stem}.{ext}"
_FIELDS: Final = ("track", "trackext", "stem", "ext")
_MP3_RATES_HZ: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BYTES: Final = {"FLOAT": 4, "PCM_24": 3, "PCM_16": 2}
_WAV_BYTES: Final = 4_000_000_000
"""A WAV file's sizes are 32-bit numbers; beyond this RF64 is written, its extension."""


@dataclass(frozen=True)
class Track:
    """A recording, and the folder below the output folder that its stems go to."""

    path: Path
    name: str


@dataclass(frozen=True)
class Output:
    """Where stems go, and how they are written.

    ``filename`` is Demucs': a path below ``folder`` with {track}, {trackext}, {stem} and {ext}.
    ``midi``: the hits of the stems too, as ``onsets.mid``. ``player``: a page that plays them,
    ``player.html``. Raises UserError where a name leaves the folder, or two stems would share a
    file.
    """

    folder: Path
    file_format: StemFormat = WAV
    filename: str = FILENAME
    midi: bool = False
    player: bool = False

    def __post_init__(self) -> None:
        try:
            parts = list(Formatter().parse(self.filename))
        except ValueError as error:
            raise UserError(f"--filename {self.filename!r}: {error}") from error
        fields = [field for _, field, _, _ in parts if field is not None]
        if any(spec or conversion for _, _, spec, conversion in parts) or set(fields) - {*_FIELDS}:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise UserError(f"--filename {self.filename!r}: the fields are {known}")
        if not {"track", "stem"} <= set(fields):
            raise UserError(f"--filename {self.filename!r} must name {{track}} and {{stem}}")
        if Path(self.filename).is_absolute() or ".." in Path(self.filename).parts:
            raise UserError(f"--filename {self.filename!r} leads out of the output folder")

    def path(self, track: Track, name: str, ext: str | None = None) -> Path:
        """Where the stem, or another file, of a track goes."""
        return self.folder / self.filename.format(
            track=track.name,
            trackext=track.path.suffix.removeprefix("."),
            stem=name,
            ext=ext or self.file_format.ext,
        )

    def is_there(self, track: Track, stems: Sequence[str]) -> bool:
        """Whether all stems of a track are there already."""
        return all(self.path(track, stem).is_file() for stem in stems)


@dataclass(frozen=True)
class Written:
    """What became of a track. ``n_clipped``: samples beyond full scale that were clipped."""

    paths: tuple[Path, ...]
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
        wanted = _bare(name, keep_ending=True) if shared[_key(bare)] > 1 else bare
        unique, number = wanted, 2
        while _key(unique) in taken:
            unique, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
        taken.add(_key(unique))
        tracks.append(Track(path, str(unique)))
    return tracks


def refuse_to_overwrite(tracks: Sequence[Track], output: Output, stems: Sequence[str]) -> None:
    """Raise UserError where a stem would be written over one of the recordings themselves."""
    recordings = {track.path.resolve(): track.path for track in tracks}
    for track in tracks:
        for stem in stems:
            target = output.path(track, stem).resolve()
            if target in recordings:
                raise UserError(
                    f"{recordings[target]} would be overwritten by the stem {stem} of "
                    f"{track.path}; name another output folder"
                )


def separate_file(
    engine: Engine,
    track: Track,
    output: Output,
    *,
    progress: Callable[[float, float | None], None] = lambda done_sec, all_sec: None,
) -> Written:
    """Separate one recording; its stems appear when all are done.

    Args:
        engine: what separates.
        track: from :func:`find_tracks`.
        output: where stems go.
        progress: is told seconds done, and in all where that is known.

    Raises:
        UserError: a recording that cannot be read or is empty, a folder or disk that cannot be
            written, memory that does not suffice. No stem of this track is left behind.
    """
    folder = output.path(track, engine.stems[0]).parent
    with open_source(track.path) as source:
        try:
            with scratch_folder(output.folder) as partial:
                n_samples, n_clipped = _write(partial, engine, output.file_format, source, progress)
                if n_samples == 0:
                    raise UserError("it holds no samples")
                _check(partial, n_samples)
                moves = [
                    (partial / f"{stem}.{output.file_format.ext}", output.path(track, stem))
                    for stem in engine.stems
                ]
                written = (path for path, _ in moves)
                files = dict(zip(engine.stems, written, strict=True))
                if output.midi:
                    write_midi(partial / "onsets.mid", track.path, files)
                    moves.append((partial / "onsets.mid", output.path(track, "onsets", "mid")))
                if output.player:
                    write_player(partial / "player.html", track.name, track.path, files)
                    moves.append((partial / "player.html", output.path(track, "player", "html")))
                for _, target in moves:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if target.is_dir():
                        raise UserError(f"{target} is a folder; a file is to go there")
                for path, target in moves:
                    publish(path, target)
        except UserError as error:
            named = str(track.path) in str(error)
            raise UserError(str(error) if named else f"{track.path}: {error}") from error
        except MemoryError as error:
            raise UserError(f"{track.path}: out of memory; free some memory") from error
        except (OSError, soundfile.SoundFileError, AssertionError) as error:
            reason = _reason(error, output.folder)
            raise UserError(f"{folder} cannot be written: {reason}") from error
        paths = tuple(target for _, target in moves)
        return Written(paths, n_samples, source.sample_rate, n_clipped)


def _write(
    partial: Path,
    engine: Engine,
    file_format: StemFormat,
    source: Source,
    progress: Callable[[float, float | None], None],
) -> tuple[int, int]:
    """Write the stems; how many samples each has, and how many of all were clipped."""
    _check_container(file_format, source)
    container = file_format.ext.upper()
    sample_bytes = source.n_channels * _BYTES.get(file_format.subtype, 0)
    if container == "WAV" and _may_be_too_long(source, sample_bytes):
        container = "RF64"
    how = {"compression_level": 0.0, "bitrate_mode": "CONSTANT"} if container == "MP3" else {}
    n_samples = n_clipped = 0
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                soundfile.SoundFile(
                    # a descriptor: libsndfile's Python takes no name that is not UTF-8
                    os.open(partial / f"{stem}.{file_format.ext}", os.O_CREAT | os.O_RDWR, 0o666),
                    "w",
                    source.sample_rate,
                    source.n_channels,
                    subtype=file_format.subtype,
                    format=container,
                    closefd=True,
                    **how,
                )
            )
            for stem in engine.stems
        ]
        for block in separate_blocks(engine, source.blocks(), source.sample_rate):
            n_samples += block.shape[-1]
            if container == "WAV" and sample_bytes * n_samples > _WAV_BYTES:
                raise UserError("it is too long for WAV; use --flac")
            if file_format.clips:
                n_clipped += int(np.count_nonzero(np.abs(block) > 1))
            for file, stem_block in zip(files, block, strict=True):
                file.write(stem_block.T)
            progress(n_samples / source.sample_rate, source.about_sec)
    for path in partial.iterdir():
        _forget_the_time(path)
    return n_samples, n_clipped


def _forget_the_time(path: Path) -> None:
    """Set the time of writing to 0, so that the same stems have the same bytes.

    libsndfile notes it in the chunk that holds the peaks of a WAV file of floats.
    """
    with path.open("r+b") as file:
        place = file.read(4096).find(b"PEAK")
        if place >= 0:
            file.seek(place + 12)  # after the chunk's name, size and version
            file.write(bytes(4))


def _check_container(file_format: StemFormat, source: Source) -> None:
    """Raise UserError where a container cannot hold such a recording.

    FLAC: above 65,535 Hz libFLAC's subset knows tens of hertz alone.
    """
    rate, n_channels = source.sample_rate, source.n_channels
    suits = {
        "wav": True,
        "flac": n_channels <= 8 and (rate <= 65_535 or (rate % 10 == 0 and rate <= 655_350)),
        "mp3": n_channels <= 2 and rate in _MP3_RATES_HZ,
    }
    if not suits[file_format.ext]:
        raise UserError(
            f"{file_format.ext.upper()} cannot hold {n_channels} channels at {rate} Hz; write WAV"
        )


def _may_be_too_long(source: Source, sample_bytes: int) -> bool:
    """Whether stems might not fit into WAV. What a container tells may be wrong by a half."""
    if source.n_samples is not None:
        return sample_bytes * source.n_samples > _WAV_BYTES
    if source.about_sec is None:
        return True
    return 2 * sample_bytes * source.about_sec * source.sample_rate > _WAV_BYTES


def _check(folder: Path, n_samples: int) -> None:
    """libsndfile says nothing when the last bytes do not fit on the disk."""
    for path in folder.iterdir():
        with soundfile.SoundFile(os.open(path, os.O_RDONLY), closefd=True) as file:
            if file.frames != n_samples:  # of MP3 too: its first frame tells the length
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


def _bare(name: Path, *, keep_ending: bool = False) -> Path:
    """The folder of a recording's stems: its name without the ending.

    What is left of "...wav" would be "..", another folder; and names that end in dots or spaces are
    other names on some systems. Longer names than 240 bytes leave no room for a number.
    """
    stem = (name.name if keep_ending else name.stem).rstrip(". ")
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
