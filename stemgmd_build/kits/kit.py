"""What a drum kit is: which sound of its source answers to each articulation of the taxonomy.

*Families* are kits that share samples (the same recordings in two packages, or two presets of
one font): a split that put one family on both sides would leak, and `stemgmd kits audit` listens
for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from stemgmd_build.errors import UserError
from stemgmd_build.files import open_file
from stemgmd_build.kits.packages import Package
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

    def sound(self, articulation: str) -> Sound:
        """The sound of an articulation, or of its piece where the kit has no finer one."""
        return self.sounds.get(articulation) or self.sounds[PIECE_OF_ARTICULATION[articulation]]


def parse_microphones(table: Any, where: str) -> dict[str, tuple[float, float]]:
    """Microphone -> (gain in dB, pan from -1 to 1) of a TOML table.

    A value is the gain, or a table with gain_db and pan. Raises UserError, naming ``where``.
    """
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: microphones is not a table")
    found = {}
    for name, value in table.items():
        place = value if isinstance(value, Mapping) else {"gain_db": value}
        if set(place) - {"gain_db", "pan"}:
            raise UserError(f"{where}: microphone {name} has gain_db and pan, not {sorted(place)}")
        found[str(name)] = (
            number(place.get("gain_db", 0.0), f"{where}: microphones.{name}", limit=60),
            number(place.get("pan", 0.0), f"{where}: microphones.{name}.pan", limit=1),
        )
    return found


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
    return {
        name: replace(
            _mixed(_parse_sound(value, f"{where}: {name}"), microphones or {}, f"{where}: {name}"),
            gain_db=sum(
                number(gain_db.get(level, 0.0), f"{where}: gain_db.{level}", limit=40)
                for level in dict.fromkeys((PIECE_OF_ARTICULATION[name], name))
            ),
        )
        for name, value in sounds.items()
    }


def _parse_sound(value: Any, where: str) -> Sound:
    if isinstance(value, Mapping):
        if set(value) - {"key", "files", "semitones"} or {"key", "files"} <= set(value):
            raise UserError(
                f"{where}: a sound has key or files, and semitones, not {sorted(value)}"
            )
        semitones = number(value.get("semitones", 0.0), where, limit=24)
        return replace(
            _parse_sound(value.get("files", value.get("key")), where), semitones=semitones
        )
    if isinstance(value, str) and _looks_like_a_file(value):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(x, str) and x for x in value):
        return Sound(files=tuple(value))
    return Sound(key=number(value, where, whole=True))


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


def _looks_like_a_file(text: str) -> bool:
    return bool(Path(text).suffix)


def number(value: Any, where: str, *, whole: bool = False, limit: float = 1e6) -> Any:
    """The value, where it is a finite number from -limit to limit, and an int if ``whole``.

    Raises UserError, naming ``where``, for anything else.
    """
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or abs(value) > limit:
        raise UserError(
            f"{where}: {value!r} is not a {'key number' if whole else 'number'} in range"
        )
    return value


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
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
