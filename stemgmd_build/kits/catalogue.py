"""Drum kits as data: the catalogue, own kits, and where their files are.

A kit says which sound of its source answers to each articulation of the taxonomy. *Families*
are kits that share samples (the same recordings in two packages, or two presets of one font):
a split that put one family on both sides would leak, and `stemgmd kits audit` listens for it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from stemgmd_build.errors import UserError
from stemgmd_build.kits.packages import Package
from stemgmd_build.paths import cache_folder
from stemgmd_build.samplers.hydrogen import HydrogenKit
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.soundfont import check_riff
from stemgmd_build.taxonomy import ARTICULATIONS, PIECE_OF_ARTICULATION, PIECES

CATALOGUE: Final = Path(__file__).with_name("catalogue.toml")

Split = Literal["train", "test"]
Kind = Literal["soundfont", "hydrogen", "samples"]

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

_SECOND_CHOICE: Final[Mapping[str, tuple[int, ...]]] = {
    "kick": (35,),
    "snare": (40,),
    "hi_tom": (48,),
    "mid_tom": (45,),
    "low_tom": (41,),
    "crash_left": (57,),
    "ride": (59,),
}
"""General MIDI's other keys of a piece, for Hydrogen kits that lack the first."""

_KIT_ID: Final = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Sound:
    """What an articulation sounds like: a key of the source, repitched and turned up or down.

    ``key`` is a note number (SoundFont) or an instrument id (Hydrogen). A kit of sample files has
    ``files`` instead, one a velocity layer, softest first.
    """

    key: int = 0
    semitones: float = 0.0
    gain_db: float = 0.0
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kit:
    """One drum kit: where it comes from and how it answers.

    ``path`` is relative to the root of the Debian ``package`` or of the Python package ``wheel``
    for kits of the catalogue, absolute for own kits.
    ``sha256`` is that of the SoundFont file, or of the listing of the files used of a folder.
    ``gain`` is the one factor under which no sample of GMD clips; None until it is measured.
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

    def sound(self, articulation: str) -> Sound:
        """The sound of an articulation, or of its piece where the kit has no finer one."""
        return self.sounds.get(articulation) or self.sounds[PIECE_OF_ARTICULATION[articulation]]


@functools.cache
def catalogue() -> tuple[Kit, ...]:
    """Every kit of the catalogue, in its order."""
    table = tomllib.loads(CATALOGUE.read_text("utf-8"))
    packages = {name: Package(name=name, **entry) for name, entry in table["package"].items()}
    return tuple(_kit_of_entry(entry, packages) for entry in table["kit"])


def _kit_of_entry(entry: Mapping[str, Any], packages: Mapping[str, Package]) -> Kit:
    fields = {key: value for key, value in entry.items() if key not in ("sounds", "gain_db")}
    if "package" in entry:
        fields["package"] = packages[entry["package"]]
    sounds = parse_sounds(entry.get("sounds", GENERAL_MIDI), entry.get("gain_db", {}), entry["id"])
    return Kit(**{**fields, "sounds": sounds})


def parse_sounds(
    sounds: Mapping[str, Any], gain_db: Mapping[str, Any], where: str
) -> dict[str, Sound]:
    """Articulation -> Sound from a TOML table, with gains by piece or articulation in dB.

    A value is a key, a file, a list of files (velocity layers, softest first), or a table of key or
    files and semitones. Raises UserError, naming ``where``.
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
            _parse_sound(value, f"{where}: {name}"),
            gain_db=sum(
                _number(gain_db.get(level, 0.0), f"{where}: gain_db.{level}", limit=40)
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
        semitones = _number(value.get("semitones", 0.0), where, limit=24)
        return replace(
            _parse_sound(value.get("files", value.get("key")), where), semitones=semitones
        )
    if isinstance(value, str) and _looks_like_a_file(value):
        value = [value]
    if isinstance(value, list) and value and all(isinstance(x, str) and x for x in value):
        return Sound(files=tuple(value))
    return Sound(key=_number(value, where, whole=True))


def _looks_like_a_file(text: str) -> bool:
    return bool(Path(text).suffix)


def _number(value: Any, where: str, *, whole: bool = False, limit: float = 1e6) -> Any:
    good = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or abs(value) > limit:
        raise UserError(
            f"{where}: {value!r} is not a {'key number' if whole else 'number'} in range"
        )
    return value


def find_kit(name: str) -> Kit:
    """The catalogue's kit of this id, or an own kit where ``name`` is a path.

    Raises UserError for an unknown id or a path that is no kit.
    """
    by_id = {kit.id: kit for kit in catalogue()}
    if name in by_id:
        return by_id[name]
    if os.sep in name or Path(name).exists():
        return own_kit(Path(name))
    raise UserError(
        f"no kit {name!r}; `stemgmd kits list` names them all, and an own kit is given by its path"
    )


def select_kits(names: Sequence[str]) -> tuple[Kit, ...]:
    """Kits by id, path or set: "default" (the ten), "train", "test" (of the ten), "all"."""
    sets = {
        "all": catalogue(),
        "default": tuple(kit for kit in catalogue() if kit.default),
        "train": tuple(kit for kit in catalogue() if kit.default and kit.split == "train"),
        "test": tuple(kit for kit in catalogue() if kit.default and kit.split == "test"),
    }
    chosen: dict[str, Kit] = {}
    for name in names:
        for kit in sets.get(name) or (find_kit(name),):
            if chosen.setdefault(kit.id, kit) != kit:
                raise UserError(f"two different kits are both called {kit.id!r}; rename one")
    return tuple(chosen.values())


def own_kit(path: Path) -> Kit:
    """A kit of the user's: a TOML file with a map, a SoundFont, or a Hydrogen folder.

    A TOML file has ``path`` (of the font or folder, relative to itself) and may have id, name,
    family, split, author, licence, bank, preset, sounds and gain_db. Without a map, General MIDI
    holds; a folder of sample files needs one. Raises UserError naming the file.
    """
    if path.suffix.lower() != ".toml":
        return _own_kit({"path": str(path)}, Path(), str(path))
    try:
        entry = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    known = [
        "id",
        "name",
        "path",
        "bank",
        "preset",
        "family",
        "split",
        "author",
        "licence",
        "url",
        "sounds",
        "gain_db",
    ]
    unknown = sorted(set(entry) - set(known))
    if unknown or not isinstance(entry.get("path"), str):
        problem = f"unknown {', '.join(unknown)}" if unknown else "no path to a font or folder"
        raise UserError(f"{path}: {problem}; a kit file may hold {', '.join(known)}")
    return _own_kit(entry, path.parent, str(path))


def _own_kit(entry: Mapping[str, Any], base: Path, where: str) -> Kit:
    try:
        source = (base / entry["path"]).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{where}: {str(base / entry['path'])!r} does not exist") from error
    kit_id = entry.get("id", re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-"))
    if not isinstance(kit_id, str) or not _KIT_ID.fullmatch(kit_id):
        raise UserError(f"{where}: {kit_id!r} cannot be a kit's id: use a-z, 0-9 and dashes")
    if entry.get("split") not in (None, "train", "test"):
        raise UserError(f"{where}: split is {entry['split']!r}, not train or test")
    for name in ("sounds", "gain_db"):
        if not isinstance(entry.get(name, {}), Mapping):
            raise UserError(f"{where}: {name} is not a table")
    gain_db = entry.get("gain_db", {})
    sounds = parse_sounds(entry["sounds"], gain_db, where) if entry.get("sounds") else {}
    kind, hydrogen = _recognize(source, sounds, where)
    sounds = sounds or parse_sounds(_general_midi(hydrogen, where), gain_db, where)
    author, licence, url = (str(entry.get(key, "")) for key in ("author", "licence", "url"))
    return Kit(
        id=kit_id,
        kind=kind,
        path=str(source),
        sha256=source_hash(source, sounds),
        sounds=sounds,
        bank=_number(entry.get("bank", 128), f"{where}: bank", whole=True),
        preset=_number(entry.get("preset", 0), f"{where}: preset", whole=True),
        family=str(entry.get("family", f"own-{kit_id}")),
        split=entry.get("split"),
        name=str(entry.get("name", kit_id)),
        author=author,
        licence=licence,
        url=url,
    )


def _recognize(
    source: Path, sounds: Mapping[str, Sound], where: str
) -> tuple[Kind, HydrogenKit | None]:
    """What an own kit is. Raises UserError where it is nothing that can be played."""
    if any(sound.files for sound in sounds.values()):
        _check_files(source, sounds, where)
        return "samples", None
    if not source.is_dir():
        check_riff(source)
        return "soundfont", None
    if not (source / "drumkit.xml").exists():
        raise UserError(
            f"{where}: {source} has no drumkit.xml, and sample files need a map: a TOML file with "
            "path and [sounds]"
        )
    return "hydrogen", HydrogenKit(source)


def _general_midi(hydrogen: HydrogenKit | None, where: str) -> Mapping[str, int]:
    """General MIDI's map, through Hydrogen's own notes where it is a Hydrogen kit."""
    if hydrogen is None:
        return GENERAL_MIDI
    by_note = hydrogen.general_midi_map()
    found = {
        name: by_note[key]
        for name, note in GENERAL_MIDI.items()
        for key in reversed((note, *_SECOND_CHOICE.get(name, ())))
        if key in by_note
    }
    missing = [piece for piece in PIECES if piece not in found]
    if missing:
        raise UserError(
            f"{where}: no General MIDI sound for {', '.join(missing)}; give a map: a TOML file "
            "with path and [sounds]"
        )
    return found


def _check_files(folder: Path, sounds: Mapping[str, Sound], where: str) -> None:
    """Raise UserError unless every sound is of files, and all of them are in the folder."""
    if not folder.is_dir():
        raise UserError(f"{where}: {folder} is no folder, and its sounds have keys, not files")
    for name, sound in sounds.items():
        if not sound.files:
            raise UserError(f"{where}: {name} has a key where other sounds have files")
        for file in sound.files:
            try:
                SampleFolder(folder).path_of(file)
            except UserError as error:
                raise UserError(f"{where}: {name}: {error}") from error


def source_hash(path: Path, sounds: Mapping[str, Sound]) -> str:
    """SHA-256 of a SoundFont file, or of the listing (name and SHA-256) of a folder's files.

    Those that are used: ``sounds`` name sample files, a Hydrogen kit names its own.
    """
    if not path.is_dir():
        return _file_hash(path)
    names = {file for sound in sounds.values() for file in sound.files}
    used = (
        {SampleFolder(path).path_of(name) for name in names}
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
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def locate(kit: Kit) -> Path | None:
    """The kit's file or folder, if it is on this machine.

    Looked for in the folder STEMGMD_KITS, in what `stemgmd kits fetch` unpacked, and where
    Debian's packages put it; a kit of a Python package is in that package. That it is the right
    file is checked when it is read.
    """
    if kit.wheel:
        spec = importlib.util.find_spec(kit.wheel)
        return Path(spec.origin).with_name(kit.path) if spec and spec.origin else None
    if kit.package is None:
        return Path(kit.path)
    roots = [cache_folder() / "packages" / f"{kit.package.name}_{kit.package.version}", Path("/")]
    if "STEMGMD_KITS" in os.environ:
        roots.insert(0, Path(os.environ["STEMGMD_KITS"]))
    for root in roots:
        for candidate in (root / kit.path, root / Path(kit.path).name):
            if candidate.exists() and candidate != Path("/"):
                return candidate
    return None


def require(kit: Kit) -> Path:
    """The kit's file or folder. Raises UserError where it is missing or not the one catalogued."""
    path = locate(kit)
    if path is None:
        package = kit.package.name if kit.package else ""
        raise UserError(
            f"kit {kit.id} is not on this machine; `stemgmd kits fetch {kit.id}` downloads it, or "
            f"install the Debian package {package}"
        )
    if (kit.package or kit.wheel) and source_hash(path, kit.sounds) != kit.sha256:
        raise UserError(
            f"{path} is not the {kit.id} of the catalogue (its SHA-256 differs); "
            f"`stemgmd kits fetch {kit.id}` downloads the right one, or give the file as an own kit"
        )
    return path


def available(kits: Sequence[Kit]) -> tuple[Kit, ...]:
    """Those of the kits that are on this machine."""
    return tuple(kit for kit in kits if locate(kit))


def with_gain(kit: Kit, gain: float) -> Kit:
    """The same kit with its measured gain."""
    return replace(kit, gain=gain)
