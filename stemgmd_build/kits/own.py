"""Your own kits, by path: SFZ, SoundFont, Hydrogen, DrumGizmo, or a TOML file that maps sounds."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from stemgmd_build.config import decoded, one_line
from stemgmd_build.errors import UserError
from stemgmd_build.files import lock_file, publish, read_toml, scratch_folder
from stemgmd_build.kits.archives import unpack_export
from stemgmd_build.kits.kit import (
    GENERAL_MIDI,
    Kind,
    Kit,
    Sound,
    Split,
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

_LONGEST_ID: Final = 60
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
        return _own_kit(KitFile(path=str(path)), Path(), str(path))
    return _own_kit(decoded(read_toml(path), KitFile, str(path)), path.parent, str(path))


_Text = Annotated[str, Meta(max_length=2000)]


class KitFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A kit's TOML file."""

    path: Annotated[str, Meta(min_length=1)]
    id: str | None = None
    name: _Text | None = None
    bank: Annotated[int, Meta(ge=0, le=16383)] = 128
    preset: Annotated[int, Meta(ge=0, le=127)] = 0
    family: _Text | None = None
    split: Split | None = None
    author: _Text | None = None
    licence: _Text | None = None
    url: _Text | None = None
    sounds: dict[str, Any] = {}
    gain_db: dict[str, Any] = {}
    microphones: dict[str, Any] = {}


def _own_kit(entry: KitFile, base: Path, where: str) -> Kit:
    path = base / entry.path
    try:
        is_folder = path.name == "drumkit.xml" and not is_drumgizmo(path)
        source = (path.parent if is_folder else path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{where}: {one_line(str(path))!r} does not exist") from error
    kit_id = _id_of(source) if entry.id is None else entry.id
    if not _is_id(kit_id):
        raise UserError(
            f"{where}: {one_line(kit_id)!r} cannot be a kit's id: use at most {_LONGEST_ID} small "
            "letters and digits of any script, with dashes between"
        )
    microphones = parse_microphones(entry.microphones, where)
    sounds = parse_sounds(entry.sounds, entry.gain_db, where, microphones) if entry.sounds else {}
    if source.suffix.lower() == ".h2drumkit" and source.is_file():
        source = _unpacked(source)
    kind, player = _recognize(source, sounds, microphones, where)
    sounds = sounds or parse_sounds(_general_midi(player, where), entry.gain_db, where)
    stated = _stated(source, kind, player)

    def text(name: str) -> str:
        given = getattr(entry, name)
        return one_line(stated.get(name, "") if given is None else given)

    return Kit(
        id=kit_id,
        kind=kind,
        path=str(source),
        sha256=source_hash(source, sounds),
        sounds=sounds,
        bank=entry.bank,
        preset=entry.preset,
        family=f"own-{kit_id}" if entry.family is None else one_line(entry.family),
        split=entry.split,
        name=text("name") or kit_id,
        author=text("author"),
        licence=text("licence"),
        url=text("url"),
        microphones=tuple((name, *place) for name, place in microphones.items())
        if kind == "drumgizmo"
        else (),
        by_general_midi=not entry.sounds,
    )


def _id_of(source: Path) -> str:
    """An id from the source's name, in its own script; from its path where it has no letter."""
    text = "".join(c if _is_letter(c) else " " for c in _small(source.stem))
    slug = "-".join(text.split())[:_LONGEST_ID].strip("-")
    return slug or f"kit-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}"


def _is_id(text: str) -> bool:
    words = re.split("[-_.]", text)
    is_short = len(text) <= _LONGEST_ID and text == _small(text)
    return is_short and all(word and all(map(_is_letter, word)) for word in words)


def _small(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())


def _is_letter(sign: str) -> bool:
    # Category M: the vowel signs of Indic scripts are no letters of their own.
    return sign.isalnum() or unicodedata.category(sign)[0] == "M"


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
    if missing and not by_note:
        raise UserError(f"{where}: none of its sample files is there; unpack the whole kit")
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
