"""drumkit.xml, the file that describes a Hydrogen drum kit, read into records without trust.

Every dialect since Hydrogen 0.8: layers within components, layers within instruments, or one file
an instrument; with and without XML namespace. Entities and document types are refused, numbers
are bounded, sample files must lie inside the kit's folder (they need not exist).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree

from stemgmd_build.config import one_line
from stemgmd_build.errors import UserError

MAX_XML_BYTES: Final = 8 << 20
MAX_INSTRUMENTS: Final = 1024
MAX_LAYERS: Final = 4096
MAX_SEMITONES: Final = 36.0

_MAX_GAIN: Final = 100.0
_SOUND_ENDINGS: Final = (".wav", ".flac", ".aif", ".aiff", ".ogg", ".au", ".w64", ".caf", ".mp3")
_MAX_RESONANCE: Final = 0.999
_MAX_STAGE_SAMPLES: Final = 100_000.0  # Hydrogen clips attack and decay to this


@dataclass(frozen=True)
class Layer:
    """One sample file and the velocities (0 to 1, both ends included) that it is played for.

    Layers of different components sound together; ``gain`` holds the component's.
    """

    path: Path
    min_velocity: float
    max_velocity: float
    gain: float
    pitch_semitones: float
    component: int = 0


@dataclass(frozen=True)
class Instrument:
    """One slot of a kit. Gains are volume x gain x pan; attack and decay count file samples."""

    id: int
    name: str
    midi_note: int | None
    gain_left: float
    gain_right: float
    layers: tuple[Layer, ...]
    apply_velocity: bool = True
    pitch_semitones: float = 0.0
    attack_samples: float = 0.0
    decay_samples: float = 0.0
    sustain: float = 1.0
    filter_cutoff: float = 1.0
    filter_resonance: float = 0.0


@dataclass(frozen=True)
class Drumkit:
    """What drumkit.xml says; texts are single lines, empty where the file has none."""

    name: str
    author: str
    licence: str
    instruments: tuple[Instrument, ...]


def read_drumkit(path: Path) -> Drumkit:
    """Read a drumkit.xml, given by its resolved path.

    Raises UserError naming the file if it is missing, no XML, no drum kit, or holds values that
    no drum kit has.
    """
    root = _read_xml(path)
    fields = _Fields(root, str(path))
    return Drumkit(
        name=fields.line("name"),
        author=fields.line("author"),
        licence=fields.line("license") or fields.line("licence"),
        instruments=_read_instruments(root, path),
    )


def _read_xml(path: Path) -> Element:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path}: is not a file")
        with path.open("rb") as stream:
            data = stream.read(MAX_XML_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); a Hydrogen kit is a folder with drumkit.xml"
        ) from error
    if len(data) > MAX_XML_BYTES:
        raise UserError(f"{path}: is larger than {MAX_XML_BYTES:,} bytes, so no drum kit")
    if not data.lstrip().startswith((b"<?xml", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        # Kits written before Hydrogen 0.9.6 declare no encoding and may hold stray bytes.
        data = data.decode("utf-8", errors="replace").encode()
    try:
        root: Element = defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
    except (ParseError, ValueError, LookupError) as error:  # DefusedXmlException is a ValueError
        raise UserError(f"{path}: is not readable XML ({one_line(str(error))})") from error
    if _local(root) != "drumkit_info":
        raise UserError(f"{path}: is not a Hydrogen drum kit (no drumkit_info element)")
    return root


class _Fields:
    """The leaf children of an element as text and checked numbers; the first of a name counts."""

    def __init__(self, element: Element, where: str) -> None:
        self.where = where
        self._texts: dict[str, str] = {}
        for child in element:
            self._texts.setdefault(_local(child), (child.text or "").strip())

    def __contains__(self, name: str) -> bool:
        return bool(self._texts.get(name))

    def text(self, name: str) -> str:
        return self._texts.get(name, "")

    def line(self, name: str) -> str:
        return one_line(self.text(name))

    def flag(self, name: str, default: bool) -> bool:
        return self.text(name).lower() == "true" if name in self else default

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        if name not in self:
            return default
        try:
            value = float(self.text(name))
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:
            raise UserError(
                f"{self.where}: {name} is {self.line(name)!r}, "
                f"not a number from {lowest:g} to {highest:g}"
            )
        return value

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        value = self.number(name, default, lowest, highest)
        if value != int(value):
            raise UserError(f"{self.where}: {name} is {value:g}, not a whole number")
        return int(value)


def _read_instruments(root: Element, xml_path: Path) -> tuple[Instrument, ...]:
    elements = [
        element for part in _named(root, "instrumentList") for element in _named(part, "instrument")
    ]
    if not 0 < len(elements) <= MAX_INSTRUMENTS:
        raise UserError(
            f"{xml_path}: has {len(elements):,} instruments, not 1 to {MAX_INSTRUMENTS:,}"
        )
    if sum(_local(element) == "layer" for element in root.iter()) > MAX_LAYERS:
        raise UserError(f"{xml_path}: has more than {MAX_LAYERS:,} layers")
    volumes = _component_volumes(root, xml_path)
    instruments = tuple(
        _read_instrument(element, index, volumes, xml_path)
        for index, element in enumerate(elements)
    )
    seen: set[int] = set()
    for instrument in instruments:
        if instrument.id in seen:
            raise UserError(f"{xml_path}: two instruments have the id {instrument.id}")
        seen.add(instrument.id)
    return instruments


def _component_volumes(root: Element, xml_path: Path) -> dict[int, float]:
    volumes: dict[int, float] = {}
    for part in _named(root, "componentList"):
        for element in _named(part, "drumkitComponent"):
            fields = _Fields(element, f"{xml_path}: component")
            component = fields.whole("id", 0, -1, 10**6)
            volumes.setdefault(component, fields.number("volume", 1.0, 0.0, _MAX_GAIN))
    return volumes


def _read_instrument(
    element: Element, index: int, volumes: Mapping[int, float], xml_path: Path
) -> Instrument:
    fields = _Fields(element, f"{xml_path}: instrument at index {index}")
    if "id" not in fields:
        raise UserError(f"{fields.where} has no id")
    left, right = _pan_gains(fields)
    gain = fields.number("volume", 1.0, 0.0, _MAX_GAIN) * fields.number("gain", 1.0, 0.0, _MAX_GAIN)
    filters = fields.flag("filterActive", True)
    cutoff = fields.number("filterCutoff", 1.0, 0.0, 1.0)
    resonance = fields.number("filterResonance", 0.0, 0.0, _MAX_RESONANCE)
    note = fields.whole("midiOutNote", -1, -1, 127)
    return Instrument(
        id=fields.whole("id", 0, 0, 10**6),
        name=fields.line("name"),
        midi_note=note if note >= 0 else None,
        gain_left=gain * left,
        gain_right=gain * right,
        layers=tuple(_read_layers(element, fields, volumes, xml_path.parent)),
        apply_velocity=fields.flag("applyVelocity", True),
        pitch_semitones=fields.number("pitchOffset", 0.0, -MAX_SEMITONES, MAX_SEMITONES),
        attack_samples=min(fields.number("Attack", 0.0, 0.0, 1e9), _MAX_STAGE_SAMPLES),
        decay_samples=min(fields.number("Decay", 0.0, 0.0, 1e9), _MAX_STAGE_SAMPLES),
        sustain=fields.number("Sustain", 1.0, 0.0, 1.0),
        filter_cutoff=cutoff if filters else 1.0,
        filter_resonance=resonance if filters else 0.0,
    )


def _pan_gains(fields: _Fields) -> tuple[float, float]:
    """Gains of left and right: the louder side is 1, as in Hydrogen since 1.1."""
    if "pan" in fields:
        pan = fields.number("pan", 0.0, -1.0, 1.0)
        return min(1.0, 1.0 - pan), min(1.0, 1.0 + pan)
    left = fields.number("pan_L", 1.0, 0.0, _MAX_GAIN)
    right = fields.number("pan_R", 1.0, 0.0, _MAX_GAIN)
    loudest = max(left, right)
    return (left / loudest, right / loudest) if loudest > 0 else (1.0, 1.0)


def _read_layers(
    element: Element, fields: _Fields, volumes: Mapping[int, float], folder: Path
) -> Iterable[Layer]:
    components = list(_named(element, "instrumentComponent"))
    if components:
        for index, component in enumerate(components):
            part = _Fields(component, fields.where)
            gain = part.number("gain", 1.0, 0.0, _MAX_GAIN)
            gain *= volumes.get(part.whole("component_id", 0, -1, 10**6), 1.0)
            for layer in _named(component, "layer"):
                yield _read_layer(_Fields(layer, f"{fields.where}, layer"), gain, index, folder)
    elif "filename" in fields:  # up to 0.9.0: one file, whatever the velocity
        yield Layer(_sample_path(fields, folder), 0.0, 1.0, 1.0, 0.0)
    else:
        for layer in _named(element, "layer"):
            yield _read_layer(_Fields(layer, f"{fields.where}, layer"), 1.0, 0, folder)


def _read_layer(fields: _Fields, component_gain: float, component: int, folder: Path) -> Layer:
    return Layer(
        path=_sample_path(fields, folder),
        min_velocity=fields.number("min", 0.0, -1.0, 2.0),
        max_velocity=fields.number("max", 1.0, -1.0, 2.0),
        gain=fields.number("gain", 1.0, 0.0, _MAX_GAIN) * component_gain,
        pitch_semitones=fields.number("pitch", 0.0, -MAX_SEMITONES, MAX_SEMITONES),
        component=component,
    )


def _sample_path(fields: _Fields, folder: Path) -> Path:
    """The sample's resolved path, which must lie inside the kit's (resolved) folder."""
    name = fields.text("filename")
    if not name:
        raise UserError(f"{fields.where} names no sample file")
    try:
        path = (folder / name.replace("\\", "/")).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{fields.where}: {one_line(name)!r} is not a usable file name") from error
    if folder not in path.parents:
        raise UserError(f"{fields.where}: {one_line(name)!r} leads out of the kit's folder")
    return path if is_file(path) else _as_on_disk(path, folder)


def _as_on_disk(path: Path, folder: Path) -> Path:
    """The file that is meant, where it is spelt otherwise: kits come from systems that do not
    tell capitals apart, and are repacked as FLAC. The path itself where there is none."""
    here = folder
    for part in path.relative_to(folder).parts:
        names = _listing(here)
        same = names.get(part.casefold()) or names.get(Path(part).stem.casefold() + "/")
        if same is None:
            return path
        here = here / same
    return here if is_file(here) and folder in here.resolve().parents else path


def _listing(folder: Path) -> dict[str, str]:
    """What a folder holds by its name in small letters, sounds also by their stem and a slash."""
    try:
        about = folder.stat()
        return _names(folder, about.st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=16)
def _names(folder: Path, mtime_ns: int) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir())
    stems = {
        Path(name).stem.casefold() + "/": name
        for name in names
        if Path(name).suffix.lower() in _SOUND_ENDINGS
    }
    return stems | {name.casefold(): name for name in names}


def _named(element: Element, name: str) -> Iterable[Element]:
    return (child for child in element if _local(child) == name)


def _local(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def is_file(path: Path) -> bool:
    """Whether the file is there; False for names that the system cannot even look up."""
    try:
        return path.is_file()
    except OSError:
        return False
