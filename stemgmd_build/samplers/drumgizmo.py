"""Drum sounds from a DrumGizmo kit: its XML files, and recordings by all of its microphones.

Of an instrument DrumGizmo keeps many strikes, each with its *power*. A velocity asks for the
strike whose power is nearest to velocity / 127 of the strongest, which sounds as it was recorded.
DrumGizmo draws one of those that are near at random; here it is always the nearest. The
microphones are summed: those whose names end in L, Left, R or Right are panned hard, the others
stand in the middle, unless the kit's TOML file has ``microphones``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import read_bytes
from stemgmd_build.samplers.samples import SampleFolder
from stemgmd_build.samplers.takes import Part, Take, pan_factors

MAX_INSTRUMENTS: Final = 256
MAX_STRIKES: Final = 4096
_SIDE: Final = re.compile(r"(?:.*[^A-Z])?(L|R)|.*(?:(left)|(right))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Microphone:
    """How loud a microphone is in the mix, and where: -1 is left, 1 is right."""

    gain_db: float = 0.0
    pan: float = 0.0


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike of an instrument: its power, and (microphone, file, channel from 0) of each."""

    power: float
    recordings: tuple[tuple[str, str, int], ...]


def is_drumgizmo(path: Path) -> bool:
    """Whether the file is the description of a DrumGizmo kit."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    try:
        return _parsed(path).tag == "drumkit"
    except UserError:
        return False


class DrumGizmoKit:
    """A DrumGizmo kit: the keys that its MIDI map names, and the strikes of each.

    ``microphones`` replaces the panning by name. Raises UserError where a file is missing, is not
    DrumGizmo's, or leads out of the kit's folder.
    """

    def __init__(self, path: Path, microphones: Mapping[str, Microphone] | None = None) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self._files = SampleFolder(self.folder)
        kit = _parsed(path)
        if kit.tag != "drumkit":
            raise UserError(f"{path} is not the drumkit file of a DrumGizmo kit")
        self.name = (kit.get("name") or kit.findtext("metadata/title") or path.stem).strip()
        self.licence = (kit.findtext("metadata/license") or "").strip()
        self.author = (kit.findtext("metadata/author") or "").strip()
        self.microphones = tuple(
            name for node in kit.iterfind("channels/channel") if (name := node.get("name"))
        )
        unknown = sorted(set(microphones or ()) - set(self.microphones))
        if unknown:
            raise UserError(
                f"{path} has no microphone {unknown[0]!r}; it has {', '.join(self.microphones)}"
            )
        self._mix = microphones or {name: _by_name(name) for name in self.microphones}
        nodes = kit.findall("instruments/instrument")
        if not nodes or len(nodes) > MAX_INSTRUMENTS:
            raise UserError(f"{path} has {len(nodes)} instruments")
        self._instruments = {node.get("name", ""): node for node in nodes}
        self._instrument_of = dict(self._midi_map())

    def keys(self) -> frozenset[int]:
        """Every key that plays an instrument."""
        return frozenset(self._instrument_of)

    def digest(self) -> str:
        """SHA-256 of the strikes, and of the names and sizes of their recordings, which are GBs."""
        lines = []
        for key in sorted(self.keys()):
            for strike in self.strikes(key):
                lines.append(f"{key} {strike}")
                for _, name, _ in strike.recordings:
                    file = self.folder / name
                    lines.append(f"{name} {file.stat().st_size if file.is_file() else 'missing'}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def strike(self, key: int, velocity: int, *, semitones: float = 0.0) -> NDArray[np.float32]:
        """The whole sound of one strike: float32 (2, n_samples) at 44,100 Hz.

        Raises UserError where the key plays no instrument or a recording is missing.
        """
        strikes = self.strikes(key)
        wanted = max(strike.power for strike in strikes) * velocity / 127
        nearest = min(strikes, key=lambda strike: (abs(strike.power - wanted), strike.power))
        parts = []
        for microphone, file, channel in nearest.recordings:
            place = self._mix.get(microphone)
            if place is not None:
                left, right = pan_factors(place.gain_db, place.pan)
                parts.append(Part(file, left, right, channel=channel))
        # Velocity 127, since a folder of samples turns the layer down by velocity / 127.
        return self._files.strike([Take(tuple(parts))], 127, semitones=semitones)

    @functools.cache  # noqa: B019  (as long-lived as the kit)
    def strikes(self, key: int) -> tuple[Strike, ...]:
        """The strikes of a key's instrument, weakest first."""
        name = self._instrument_of.get(key)
        if name is None:
            raise UserError(f"{self.path.name} plays nothing on key {key}")
        node = self._instruments[name]
        outputs = {
            mapped.get("in", ""): mapped.get("out", "") for mapped in node.iterfind("channelmap")
        }
        path = self._files.path_of(node.get("file", ""))
        found = tuple(self._read(path, outputs))
        if not found or len(found) > MAX_STRIKES:
            raise UserError(f"{path} has {len(found)} strikes")
        return tuple(sorted(found, key=lambda strike: strike.power))

    def _read(self, path: Path, outputs: Mapping[str, str]) -> Iterator[Strike]:
        inside = path.parent.relative_to(self.folder)
        for node in _parsed(path).iterfind("samples/sample"):
            recordings = []
            for audio in node.iterfind("audiofile"):
                microphone = outputs.get(audio.get("channel", ""), audio.get("channel", ""))
                channel = _number(audio.get("filechannel", "1"), path)
                file = (inside / audio.get("file", "")).as_posix()
                recordings.append((microphone, file, int(channel) - 1))
            yield Strike(_number(node.get("power", "0"), path), tuple(recordings))

    def _midi_map(self) -> Iterator[tuple[int, str]]:
        """(key, instrument) of the first MIDI map of the folder, by name."""
        for path in sorted(self.folder.glob("*.xml")):
            try:
                root = _parsed(path)
            except UserError:
                continue
            if root.tag != "midimap":
                continue
            for node in root.iterfind("map"):
                name = node.get("instr", "")
                if name in self._instruments:
                    yield int(_number(node.get("note", ""), path)), name
            return
        raise UserError(f"{self.path}: no MIDI map (an XML file with <midimap>) lies beside it")


def _by_name(microphone: str) -> Microphone:
    match = _SIDE.fullmatch(microphone) or _SIDE.fullmatch(microphone.lower())
    if match is None:
        return Microphone()
    return Microphone(pan=-1.0 if match[1] == "L" or match[2] else 1.0)


def _parsed(path: Path) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(read_bytes(path, "JSON"))
    except (ParseError, ValueError, RecursionError) as error:  # ValueError: entities
        raise UserError(f"{path} is not a readable XML file: {error}") from error
    return root


def _number(text: str, path: Path) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1e9:
        raise UserError(f"{path}: {text!r} is not a number from 0 on")
    return number
