"""Your own kits, by path: SFZ, SoundFont, Hydrogen, DrumGizmo, or a TOML file that maps sounds."""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stemgmd_build.config import one_line
from stemgmd_build.errors import UserError
from stemgmd_build.files import lock_file, publish, scratch_folder
from stemgmd_build.kits.archives import unpack_export
from stemgmd_build.kits.kit import (
    GENERAL_MIDI,
    Kind,
    Kit,
    Sound,
    number,
    parse_microphones,
    parse_sounds,
    source_hash,
)
from stemgmd_build.paths import cache_folder, unwritable
from stemgmd_build.samplers.drumgizmo import DrumGizmoKit, Microphone, is_drumgizmo
from stemgmd_build.samplers.drumkit_xml import is_file
from stemgmd_build.samplers.hydrogen import HydrogenKit
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.sfz import SfzKit
from stemgmd_build.samplers.soundfont import check_riff
from stemgmd_build.taxonomy import PIECES

_SECOND_CHOICE: Final[Mapping[str, tuple[int, ...]]] = {
    "kick": (35,),
    "snare": (40,),
    "hi_tom": (48,),
    "mid_tom": (45,),
    "low_tom": (41,),
    "crash_left": (57,),
    "ride": (59,),
}
"""General MIDI's other keys of a piece, for kits that lack the first."""

_KIT_ID: Final = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")
_INFO: Final = {b"INAM": "name", b"IENG": "author", b"ICOP": "licence"}
_MAX_INFO_BYTES: Final = 1 << 20


def own_kit(path: Path) -> Kit:
    """Your own kit: a TOML file with a map, an SFZ file, a SoundFont, a Hydrogen or DrumGizmo kit.

    A Hydrogen kit is a folder, its drumkit.xml, or an export (.h2drumkit), which is unpacked into
    the cache. A DrumGizmo kit is its drumkit file. A TOML file has ``path`` (of the font or kit,
    relative to itself). It may have id, name, family, split, author, licence, bank, preset, sounds,
    gain_db and microphones. Without a map, General MIDI holds; a folder of sample files needs one.
    Name, author and licence are by default what the source says of itself. Sample files may be
    missing: only what plays one fails, when it is sampled. Raises UserError naming the file.
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
        "microphones",
    ]
    unknown = sorted(set(entry) - set(known))
    if unknown or not isinstance(entry.get("path"), str):
        problem = f"unknown {', '.join(unknown)}" if unknown else "no path to a font or folder"
        raise UserError(f"{path}: {problem}; a kit file may hold {', '.join(known)}")
    return _own_kit(entry, path.parent, str(path))


def _own_kit(entry: Mapping[str, Any], base: Path, where: str) -> Kit:
    path = base / entry["path"]
    try:
        is_folder = path.name == "drumkit.xml" and not is_drumgizmo(path)
        source = (path.parent if is_folder else path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{where}: {str(path)!r} does not exist") from error
    kit_id = entry.get("id", re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-"))
    if not isinstance(kit_id, str) or not _KIT_ID.fullmatch(kit_id):
        raise UserError(f"{where}: {kit_id!r} cannot be a kit's id: use a-z, 0-9 and dashes")
    if entry.get("split") not in (None, "train", "test"):
        raise UserError(f"{where}: split is {entry['split']!r}, not train or test")
    for name in ("sounds", "gain_db"):
        if not isinstance(entry.get(name, {}), Mapping):
            raise UserError(f"{where}: {name} is not a table")
    gain_db = entry.get("gain_db", {})
    microphones = parse_microphones(entry.get("microphones", {}), where)
    sounds = (
        parse_sounds(entry["sounds"], gain_db, where, microphones) if entry.get("sounds") else {}
    )
    if source.suffix.lower() == ".h2drumkit" and source.is_file():
        source = _unpacked(source)
    kind, player = _recognize(source, sounds, microphones, where)
    sounds = sounds or parse_sounds(_general_midi(player, where), gain_db, where)
    stated = _stated(source, kind, player)
    name, author, licence, url = (
        str(entry.get(key, stated.get(key, ""))) for key in ("name", "author", "licence", "url")
    )
    return Kit(
        id=kit_id,
        kind=kind,
        path=str(source),
        sha256=source_hash(source, sounds),
        sounds=sounds,
        bank=number(entry.get("bank", 128), f"{where}: bank", whole=True),
        preset=number(entry.get("preset", 0), f"{where}: preset", whole=True),
        family=str(entry.get("family", f"own-{kit_id}")),
        split=entry.get("split"),
        name=name or kit_id,
        author=author,
        licence=licence,
        url=url,
        microphones=tuple((name, *place) for name, place in microphones.items())
        if kind == "drumgizmo"
        else (),
    )


def _recognize(
    source: Path,
    sounds: Mapping[str, Sound],
    microphones: Mapping[str, tuple[float, float]],
    where: str,
) -> tuple[Kind, HydrogenKit | SfzKit | DrumGizmoKit | None]:
    """What your own kit is. Raises UserError where it is nothing that can be played."""
    if source.suffix.lower() == ".sfz":
        return "sfz", SfzKit(source)
    if is_drumgizmo(source):
        places = {name: Microphone(*place) for name, place in microphones.items()}
        return "drumgizmo", DrumGizmoKit(source, places)
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


def _unpacked(export: Path) -> Path:
    """The folder of a kit that Hydrogen exported, in the cache by the hash of the export."""
    folder = cache_folder() / "drumkits" / source_hash(export, {})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(folder.with_suffix(".lock")):
            if not folder.exists():
                with scratch_folder(folder.parent) as scratch:
                    unpack_export(export, scratch / "kit")
                    publish(scratch / "kit", folder)
    except OSError as error:
        raise unwritable(folder.parent, f"the files of {export}", error) from error
    kits = [xml.parent for xml in folder.rglob("drumkit.xml")]
    if len(kits) != 1:
        raise UserError(
            f"{export}: holds {len(kits)} drumkit.xml, not one; unpack it and give a kit's folder"
        )
    return kits[0].resolve()


def _stated(
    source: Path, kind: Kind, player: HydrogenKit | SfzKit | DrumGizmoKit | None
) -> dict[str, str]:
    """Name, author and licence as the source gives them, as far as it does."""
    if isinstance(player, HydrogenKit | DrumGizmoKit):
        return {key: getattr(player, key) for key in ("name", "author", "licence")}
    return _font_info(source) if kind == "soundfont" else {}


def _font_info(font: Path) -> dict[str, str]:
    """What a SoundFont that was checked says in its INFO list, which is the first of its lists."""
    with font.open("rb") as file:
        file.seek(12)
        size, kind = struct.unpack("<4xI4s", file.read(12))
        data = file.read(min(size, _MAX_INFO_BYTES)) if kind == b"INFO" else b""
    stated: dict[str, str] = {}
    position = 0
    while position + 8 <= min(len(data), size - 4):
        name, length = struct.unpack_from("<4sI", data, position)
        text = data[position + 8 : position + 8 + length].partition(b"\0")[0]
        if name in _INFO:
            stated[_INFO[name]] = one_line(text.decode("utf-8", errors="replace"))
        position += 8 + length + length % 2
    return stated


def _general_midi(
    player: HydrogenKit | SfzKit | DrumGizmoKit | None, where: str
) -> Mapping[str, int]:
    """General MIDI's map, through a Hydrogen kit's own notes, of those keys that play something."""
    if player is None:
        return GENERAL_MIDI
    by_note = (
        player.general_midi_map()
        if isinstance(player, HydrogenKit)
        else {key: key for key in player.keys()}  # noqa: SIM118
    )
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
    """Raise UserError unless every sound is of files, and none that is there is outside."""
    if not folder.is_dir():
        raise UserError(f"{where}: {folder} is no folder, and its sounds have keys, not files")
    for name, sound in sounds.items():
        if not sound.files:
            raise UserError(f"{where}: {name} has a key where other sounds have files")
        for file in filter(lambda file: is_file(folder / file), sound.files):
            try:
                SampleFolder(folder).path_of(file)
            except UserError as error:
                raise UserError(f"{where}: {name}: {error}") from error
