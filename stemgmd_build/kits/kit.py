"""What a drum kit is: which sound of its source answers to each articulation of the taxonomy.

*Families* are kits that share samples (the same recordings in two packages, or two presets of
one font): a split that put one family on both sides would leak, and `stemgmd kits audit` listens
for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from stemgmd_build.config import decoded, one_line
from stemgmd_build.errors import UserError
from stemgmd_build.files import open_file
from stemgmd_build.kits.packages import Package
from stemgmd_build.kits.repositories import RepositoryFile
from stemgmd_build.samplers.drumgizmo import DrumGizmoKit, is_drumgizmo
from stemgmd_build.samplers.drumkit_xml import is_file
from stemgmd_build.samplers.hydrogen import HydrogenKit
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.sfz import SfzKit
from stemgmd_build.samplers.takes import Part, Take, files_of, pan_factors
from stemgmd_build.taxonomy import ARTICULATIONS, PIECE_OF_ARTICULATION, PIECES

Split = Literal["train", "test"]
Kind = Literal["soundfont", "hydrogen", "samples", "sfz", "drumgizmo"]

MICROPHONE: Final = "{microphone}"
"""Stands in a file's name for the name of each microphone."""

GENERAL_MIDI: Final[Mapping[str, int]] = {
    "kick": 36,
    "snare": 38,
    "snare_rim": 40,
    "snare_cross_stick": 37,
    "hi_tom": 50,
    "mid_tom": 47,
    "low_tom": 43,
    "hihat_closed": 42,
    "hihat_pedal": 44,
    "hihat_open": 46,
    "crash_left": 49,
    "crash_right": 57,
    "ride": 51,
    "ride_edge": 59,
    "ride_bell": 53,
}
"""Articulation -> General MIDI percussion key: the map of a kit that brings none of its own."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What an articulation sounds like: a key of the source, repitched and turned up or down.

    ``key`` is a note number, or an instrument id (Hydrogen). A kit of sample files has ``files``
    instead, one per velocity layer, softest first. Where layers are more than a file each,
    ``takes`` are the layers, and ``files`` all that they are made of.
    """

    key: int = 0
    semitones: float = 0.0
    gain_db: float = 0.0
    files: tuple[str, ...] = ()
    takes: tuple[Take, ...] = ()


@dataclass(frozen=True, slots=True)
class Kit:
    """One drum kit: where it comes from and how it answers.

    ``path`` is relative to the root of the Debian ``package`` or of the Python package ``wheel``
    for kits of the catalogue, absolute for own kits.
    ``sha256`` is that of the SoundFont file, or of the listing of the files used of a folder.
    ``description`` says in a line what drum set it is, how many layers, how recorded. ``files`` are
    those of public repositories that a recorded kit is made from; ``path`` is then their folder.
    ``microphones`` of a DrumGizmo kit, by name: gain in dB and pan; empty for the usual mix.
    ``gain`` is the one factor under which no sample of GMD clips; None until it is measured.
    ``by_general_midi``: your own kit came without a map, so a finer articulation that its source
    lacks sounds like its piece; what a map names must be there.
    """

    id: str
    name: str
    kind: Kind
    path: str
    sha256: str
    sounds: Mapping[str, Sound] = field(hash=False)
    bank: int = 128
    preset: int = 0
    package: Package | None = None
    wheel: str = ""
    family: str = ""
    split: Split | None = None
    default: bool = False
    author: str = ""
    licence: str = ""
    url: str = ""
    note: str = ""
    gain: float | None = None
    microphones: tuple[tuple[str, float, float], ...] = ()
    by_general_midi: bool = False
    description: str = ""
    files: tuple[RepositoryFile, ...] = ()

    def sound(self, articulation: str) -> Sound:
        """The sound of an articulation, or of its piece where the kit has no finer one."""
        return self.sounds.get(articulation) or self.sounds[PIECE_OF_ARTICULATION[articulation]]


def parse_microphones(table: Mapping[str, Any], where: str) -> dict[str, tuple[float, float]]:
    """Microphone -> (gain in dB, pan from -1 to 1) of a TOML table.

    A value is the gain, or a table with gain_db and pan. Raises UserError, naming ``where``.
    """
    found = {}
    for name, value in table.items():
        given = value if isinstance(value, Mapping) else {"gain_db": value}
        place = decoded(given, _Place, f"{where}: microphones.{one_line(name)}")
        found[name] = (place.gain_db, place.pan)
    return found


class _Place(msgspec.Struct, forbid_unknown_fields=True):
    gain_db: Annotated[float, Meta(ge=-60, le=60)] = 0.0
    pan: Annotated[float, Meta(ge=-1, le=1)] = 0.0


def parse_sounds(
    sounds: Mapping[str, Any],
    gain_db: Mapping[str, Any],
    where: str,
    microphones: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Sound]:
    """Articulation -> Sound from a TOML table, with gains by piece or articulation in dB.

    A value is a key, a file, a list of files (velocity layers, softest first), or a table of key or
    files and semitones. A file with "{microphone}" in its name stands for the sum of the files of
    all ``microphones``. Raises UserError, naming ``where``.
    """
    for name in (*sounds, *gain_db):
        if name not in ARTICULATIONS:
            known = ", ".join(ARTICULATIONS)
            raise UserError(f"{where}: no articulation {name!r}; there are {known}")
    missing = [piece for piece in PIECES if piece not in sounds]
    if missing:
        raise UserError(
            f"{where}: no sound for {', '.join(missing)}; every one of the nine is needed"
        )
    gains = {
        name: decoded(value, _Gain, f"{where}: gain_db.{name}") for name, value in gain_db.items()
    }
    return {
        name: replace(
            _mixed(
                _parse_sound(value, f"{where}: sounds.{name}"),
                microphones or {},
                f"{where}: sounds.{name}",
            ),
            gain_db=sum(
                gains.get(level, 0.0)
                for level in dict.fromkeys((PIECE_OF_ARTICULATION[name], name))
            ),
        )
        for name, value in sounds.items()
    }


_Gain = Annotated[float, Meta(ge=-40, le=40)]
_Key = Annotated[int, Meta(ge=0, le=10**6)]
_File = Annotated[str, Meta(min_length=1, max_length=1000)]
_Files = Annotated[list[_File], Meta(min_length=1, max_length=127)]  # a velocity each, at most


class _SoundTable(msgspec.Struct, forbid_unknown_fields=True):
    key: _Key | None = None
    files: _File | _Files | None = None
    semitones: Annotated[float, Meta(ge=-24, le=24)] = 0.0


def _parse_sound(value: Any, where: str) -> Sound:
    found: Any = decoded(value, _Key | _File | _Files | _SoundTable, where)  # type: ignore[arg-type]
    semitones = 0.0
    if isinstance(found, _SoundTable):
        if (found.key is None) == (found.files is None):
            raise UserError(f"{where}: a sound has key or files, one of them")
        semitones = found.semitones
        found = found.files if found.key is None else found.key
    if isinstance(found, int):
        return Sound(found, semitones)
    if isinstance(found, str) and not Path(found).suffix:
        raise UserError(f"{where}: {one_line(found)!r} is no key number, and no file's name")
    files = (found,) if isinstance(found, str) else tuple(found)
    return Sound(semitones=semitones, files=files)


def _mixed(sound: Sound, microphones: Mapping[str, tuple[float, float]], where: str) -> Sound:
    """The sound with every file that stands for several microphones as the sum of theirs."""
    if not any(MICROPHONE in file for file in sound.files):
        return sound
    if not microphones:
        raise UserError(f"{where}: {MICROPHONE} is in a file's name, but there is no [microphones]")
    takes = tuple(
        Take(
            tuple(
                Part(file.replace(MICROPHONE, name), *pan_factors(gain_db, pan))
                for name, (gain_db, pan) in microphones.items()
            )
            if MICROPHONE in file
            else (Part(file),)
        )
        for file in sound.files
    )
    return replace(sound, files=files_of(takes), takes=takes)


def source_hash(path: Path, sounds: Mapping[str, Sound]) -> str:
    """SHA-256 of a SoundFont file, or of the listing (name and SHA-256) of a folder's files.

    Those that are used and exist: ``sounds`` name sample files, a Hydrogen kit names its own.
    """
    if path.suffix.lower() == ".sfz":
        return SfzKit(path).digest()
    if is_drumgizmo(path):
        return DrumGizmoKit(path).digest()
    if not path.is_dir():
        return _file_hash(path)
    names = {file for sound in sounds.values() for file in sound.files}
    used = (
        {SampleFolder(path).path_of(name) for name in names if is_file(path / name)}
        if names
        else HydrogenKit(path).source_files()
    )
    lines = (
        f"{_file_hash(file)}  {file.relative_to(path.resolve()).as_posix()}\n"
        for file in sorted(used)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with open_file(path, "kit") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
