"""Any folder of recordings: a mixture each, whatever stems there are, whatever onsets there are.

Two layouts, which may stand side by side::

    FOLDER/NAME/mixture.wav  kick.wav  snare.flac ...  onsets.mid      a folder per recording
    FOLDER/NAME.wav          NAME_kick.wav ...         NAME.csv        flat

A mixture is called mixture, mix or drums. Stems are called as :mod:`benchmarks.sources.labels`
says; several files of one stem (ride and crash) are summed. Onsets are MIDI, CSV, TSV or text. An
annotation covers all five stems: what it does not name is never played.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, cast

from benchmarks.sources import LoadedTrack, Onsets, Selection, SourceInfo, Track
from benchmarks.sources.labels import STEM_OF_LABEL, plain
from benchmarks.sources.reading import MIDI, TEXT, read_onsets
from benchmarks.sources.recording import Recording, load_recording, track_of
from stemgmd_build.errors import UserError
from stemgmd_build.recordings import SUFFIXES

INFO: Final = SourceInfo(
    board="folder",
    name="a folder of recordings",
    licence="not stated",
    citation="",
    get="give your own folder with --data",
)
MIXTURES: Final = ("mixture", "mix", "drums")
_ANNOTATIONS: Final = frozenset({*MIDI, *TEXT} - {".txt"})
_ONSETS: Final = "onsets"  # also as .txt, which elsewhere is a readme


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: every recording with a stem or an annotation."""
    root = selection.data
    if root is None:
        raise UserError("--source folder needs --data, the folder of the recordings")
    if not root.is_dir():
        raise UserError(f"{root} is no folder")
    try:
        found = sorted({**_in_folders(root), **_flat(root)}.items())
    except OSError as error:
        raise UserError(f"{root} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UserError(
            f"{root} holds no recording that can be scored: NAME/mixture.wav or NAME.wav, with "
            "stems (NAME/kick.wav, NAME_kick.wav) or onsets (NAME/onsets.csv, NAME.mid) beside it"
        )
    # Files are hashed, so only those of the tracks that are wanted.
    return [_track(name, files) for name, files in found[: selection.limit]]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`; empty where there is no annotation."""
    return _annotated(cast(Recording, track.place))[0]


def load(track: Track) -> LoadedTrack:
    """Read a recording. Raises UserError where a file is damaged or a stem has another length."""
    place = cast(Recording, track.place)
    return load_recording(place, *_annotated(place))


def _annotated(place: Recording) -> tuple[Onsets, Onsets | None]:
    return read_onsets(place.annotation[0]) if place.annotation else ({}, None)


def _track(name: str, place: Recording) -> Track:
    by_stem, by_piece = _annotated(place)
    gives = frozenset() if by_piece is None else frozenset({"score"})
    return track_of("folder", INFO.board, name, place, by_stem, gives=gives)


def _in_folders(root: Path) -> dict[str, Recording]:
    found: dict[str, Recording] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        named = {plain(path.stem): path for path in reversed(files) if _is_audio(path)}
        mixture = next((named[name] for name in MIXTURES if name in named), None)
        if mixture is not None:
            found |= _recording(folder.name, mixture, named, _annotation(files, _ONSETS))
    return found


def _flat(root: Path) -> dict[str, Recording]:
    files = [path for path in sorted(root.iterdir()) if path.is_file()]
    audio = {path.stem: path for path in reversed(files) if _is_audio(path)}
    parts: dict[str, dict[str, Path]] = {}
    for name, path in audio.items():
        base, _, last = name.rpartition("_")
        if base and (plain(last) in MIXTURES or (base in audio and plain(last) in STEM_OF_LABEL)):
            parts.setdefault(base, {})[plain(last)] = path
        else:
            parts.setdefault(name, {})["mixture"] = path
    found: dict[str, Recording] = {}
    for name, named in parts.items():
        mixture = next((named[part] for part in MIXTURES if part in named), None)
        if mixture is not None:
            found |= _recording(name, mixture, named, _annotation(files, name))
    return found


def _recording(
    name: str, mixture: Path, named: Mapping[str, Path], annotation: Path | None
) -> dict[str, Recording]:
    """The recording by its name; nothing where there is nothing to score it against."""
    stems = tuple((STEM_OF_LABEL[n], path) for n, path in named.items() if n in STEM_OF_LABEL)
    annotations = (annotation,) if annotation else ()
    return {name: Recording(mixture, stems, annotations)} if stems or annotation else {}


def _annotation(files: Iterable[Path], name: str) -> Path | None:
    kinds = {*_ANNOTATIONS, ".txt"} if name == _ONSETS else _ANNOTATIONS
    there = (path for path in files if path.suffix.lower() in kinds)
    return next((path for path in there if path.stem.casefold() == name.casefold()), None)


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
