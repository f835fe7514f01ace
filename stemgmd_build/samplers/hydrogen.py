"""Drum sounds from a Hydrogen drum kit: a folder with drumkit.xml and its sample files.

Facts are those of Hydrogen's own sampler (github.com/hydrogen-music/hydrogen, versions 1.1 and
1.2: Sampler.cpp, Instrument.cpp, Adsr.cpp, Note.h). Honoured: every dialect of drumkit.xml since
0.8 (layers within a component, within an instrument, or one file an instrument; with and without
XML namespace); velocity/127 x layer gain x component gain and volume x instrument gain and volume
x pan ("ratio straight polygonal", the default law; pan_L/pan_R of old kits by their ratio); the
first layer whose range holds the velocity, else the one that starts nearest; layer and instrument
pitch; attack, decay and sustain, in samples of the file; the resonant low-pass filter.

Not honoured: mute switches (they mark empty slots in old kits), FX sends, random pitch, sample
edits (loops, envelopes, stretching), hi-hat pedal ranges, and round robin or random layers (the
first that fits is played, so that a strike is always the same). Nothing ends a strike: note-offs,
Release and mute groups do not apply; the choke of the hi-hat is the renderer's.
Hydrogen interpolates linearly between samples where rates differ; soxr does it better here.
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
import numpy as np
import scipy.signal
import soundfile
import soxr
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE

MAX_XML_BYTES: Final = 8 << 20
MAX_INSTRUMENTS: Final = 1024
MAX_LAYERS: Final = 4096
MAX_SAMPLE_SEC: Final = 60.0
MAX_SEMITONES: Final = 36.0
SAMPLE_RATES: Final = (4000, 384000)
FIRST_NOTE: Final = 36
"""The instrument at index i of a kit answers to MIDI note 36 + i, unless the kit says otherwise."""

_MAX_GAIN: Final = 100.0
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


class HydrogenKit:
    """A kit that was read from a folder. Raises UserError for anything but a sound drumkit.xml.

    Sample files may be missing: only the instrument that asks for one fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.xml_path = self.folder / "drumkit.xml"
        root = _read_xml(self.xml_path)
        fields = _Fields(root, str(self.xml_path))
        self.name = fields.line("name") or self.folder.name
        self.author = fields.line("author")
        self.licence = fields.line("license") or fields.line("licence")
        self.instruments = _read_instruments(root, self.xml_path)
        self._by_id = {instrument.id: instrument for instrument in self.instruments}

    def strike(
        self, instrument_id: int, velocity: int, *, semitones: float = 0.0
    ) -> NDArray[np.float32]:
        """The whole sound of one strike: float32 (2, n_samples) at 44,100 Hz, full scale 1.0.

        ``velocity`` is MIDI's, 1 to 127; ``semitones`` repitches (and so shortens or lengthens).
        Raises UserError if the kit has no such instrument, or it has no layers or no sound, or
        its sample file is missing or broken.
        """
        instrument = self._by_id.get(instrument_id)
        where = f"{self.xml_path}: instrument {instrument_id}"
        if instrument is None:
            raise UserError(f"{where} does not exist; the kit has {_ranges(self._by_id)}")
        if not 1 <= velocity <= 127:
            raise UserError(f"{where}: velocity must be 1 to 127, not {velocity}")
        if not instrument.layers:
            raise UserError(f"{where} ({instrument.name!r}) has no layers; choose another")
        sounds = [
            _play(instrument, layer, velocity / 127, semitones)
            for layer in _chosen_layers(instrument.layers, velocity / 127)
        ]
        out = np.zeros((2, max(sound.shape[1] for sound in sounds)), np.float32)
        for sound in sounds:
            out[:, : sound.shape[1]] += sound
        if not out.any() or not np.isfinite(out).all():
            raise UserError(f"{where} ({instrument.name!r}) gives no sound; choose another")
        return out

    def general_midi_map(self) -> dict[int, int]:
        """General MIDI note -> instrument id, for every instrument whose samples exist.

        The kit's own output notes count where it really sets them (most are distinct: many old
        kits have 60 throughout); otherwise the instrument at index i answers to note 36 + i.
        """
        playable = [
            (index, instrument)
            for index, instrument in enumerate(self.instruments)
            if any(_is_file(layer.path) for layer in instrument.layers)
        ]
        own_notes = {i.midi_note for _, i in playable if i.midi_note is not None}
        notes: dict[int, int] = {}
        for index, instrument in playable:
            is_own = len(own_notes) > len(playable) / 2
            note = instrument.midi_note if is_own else FIRST_NOTE + index
            if note is not None and note <= 127:
                notes.setdefault(note, instrument.id)
        return notes

    def source_files(self) -> tuple[Path, ...]:
        """drumkit.xml and every sample file that is referred to and exists, sorted, resolved."""
        paths = {layer.path for i in self.instruments for layer in i.layers}
        return (self.xml_path, *sorted(path for path in paths if _is_file(path)))


# --- reading drumkit.xml ------------------------------------------------------------------------


def _read_xml(path: Path) -> Element:
    try:
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
        raise UserError(f"{path}: is not readable XML ({_one_line(str(error))})") from error
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
        return _one_line(self.text(name))

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
                f"{self.where}: {name} is {_one_line(self.text(name))!r}, "
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
    volumes = _component_volumes(root, xml_path)
    instruments = tuple(
        _read_instrument(element, index, volumes, xml_path)
        for index, element in enumerate(elements)
    )
    if sum(len(instrument.layers) for instrument in instruments) > MAX_LAYERS:
        raise UserError(f"{xml_path}: has more than {MAX_LAYERS:,} layers")
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
        path = _sample_path(fields, folder)
        if not _is_file(path) and _is_file(path.with_suffix(".flac")):
            path = path.with_suffix(".flac")
        yield Layer(path, 0.0, 1.0, 1.0, 0.0)
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
        path = (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise UserError(f"{fields.where}: {_one_line(name)!r} is not a usable file name") from error
    if folder not in path.parents:
        raise UserError(f"{fields.where}: {_one_line(name)!r} leads out of the kit's folder")
    return path


def _named(element: Element, name: str) -> Iterable[Element]:
    return (child for child in element if _local(child) == name)


def _local(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:197] + "..."


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _ranges(ids: Iterable[int]) -> str:
    known = sorted(ids)
    return f"{len(known)} instruments with ids from {known[0]} to {known[-1]}"


# --- playing ------------------------------------------------------------------------------------


def _chosen_layers(layers: tuple[Layer, ...], velocity: float) -> list[Layer]:
    """One layer a component: the first that holds the velocity, else the one starting nearest."""
    chosen = []
    for component in sorted({layer.component for layer in layers}):
        candidates = [layer for layer in layers if layer.component == component]
        fitting = (x for x in candidates if x.min_velocity <= velocity <= x.max_velocity)
        nearest = min(candidates, key=lambda x: abs(x.min_velocity - velocity))
        chosen.append(next(fitting, nearest))
    return chosen


def _play(
    instrument: Instrument, layer: Layer, velocity: float, semitones: float
) -> NDArray[np.float32]:
    total = instrument.pitch_semitones + layer.pitch_semitones + semitones
    if not abs(total) <= MAX_SEMITONES:
        raise UserError(f"{layer.path}: cannot be repitched by {total:g} semitones")
    try:
        stat = layer.path.stat()
    except OSError as error:
        raise UserError(
            f"{layer.path}: the sample of instrument {instrument.id} ({instrument.name!r}) "
            f"cannot be read ({error.strerror})"
        ) from error
    sound, step = _resampled(layer.path, stat.st_mtime_ns, stat.st_size, total)
    sound = _enveloped(sound, instrument, step)
    sound = _filtered(sound, instrument.filter_cutoff, instrument.filter_resonance)
    gain = layer.gain * (velocity if instrument.apply_velocity else 1.0)
    gains = np.array([[instrument.gain_left], [instrument.gain_right]]) * gain
    return sound * gains.astype(np.float32)


@functools.lru_cache(maxsize=8)
def _resampled(
    path: Path, mtime_ns: int, n_bytes: int, semitones: float
) -> tuple[NDArray[np.float32], float]:
    """A sample file at 44,100 Hz, float32 (1 or 2, n), and file samples per output sample."""
    samples, rate = _decoded(path)
    step = rate / SAMPLE_RATE * 2.0 ** (semitones / 12.0)
    if step != 1.0:
        samples = soxr.resample(samples, step * SAMPLE_RATE, SAMPLE_RATE, quality="VHQ")
    sound = np.ascontiguousarray(samples.T)
    sound.flags.writeable = False
    return sound, step


def _decoded(path: Path) -> tuple[NDArray[np.float32], int]:
    """A sample file as float32 (n_samples, 1 or 2), and its rate in Hz."""
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
                raise UserError(f"{path}: has a sample rate of {rate:,} Hz, which is no sound's")
            if file.frames > MAX_SAMPLE_SEC * rate:
                raise UserError(f"{path}: lasts longer than {MAX_SAMPLE_SEC:g} s, so no drum hit")
            # Like Hydrogen, the first two channels of files that have more.
            samples: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)[:, :2]
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise UserError(
            f"{path}: is not a readable sound file ({_one_line(str(error))})"
        ) from error
    if not len(samples) or not np.isfinite(samples).all():
        raise UserError(f"{path}: holds no sound, or samples that are not numbers")
    return samples, rate


def _enveloped(
    sound: NDArray[np.float32], instrument: Instrument, step: float
) -> NDArray[np.float32]:
    """Hydrogen's envelope: attack x^(1/e), decay x^e down to the sustain level, then that level."""
    attack, decay, sustain = (
        instrument.attack_samples,
        instrument.decay_samples,
        instrument.sustain,
    )
    if attack == 0.0 and sustain == 1.0:
        return sound
    gains = np.full(sound.shape[1], sustain)
    n_attack, n_decay = int(attack / step) + 1, int(decay / step) + 1
    rising = _stage(n_attack, attack, step) ** (1.0 / math.e) if attack else np.ones(1)
    falling = (1.0 - _stage(n_decay, decay, step)) ** math.e if decay else np.zeros(1)
    stages = np.concatenate([rising, falling * (1.0 - sustain) + sustain])[: len(gains)]
    gains[: len(stages)] = stages
    return sound * gains.astype(np.float32)


def _stage(n_samples: int, length: float, step: float) -> NDArray[np.float64]:
    stage: NDArray[np.float64] = np.minimum(np.arange(n_samples) * step / length, 1.0)
    return stage


def _filtered(sound: NDArray[np.float32], cutoff: float, resonance: float) -> NDArray[np.float32]:
    """Hydrogen's low pass: b += -(1-r) b + c (x - y), y += c b; identity at c = 1, r = 0."""
    if cutoff == 1.0 and resonance == 0.0:
        return sound
    numerator = [cutoff**2]
    denominator = [1.0, cutoff**2 - 1.0 - resonance, resonance]
    filtered: NDArray[np.float32] = scipy.signal.lfilter(
        numerator, denominator, sound.astype(np.float64), axis=1
    ).astype(np.float32)
    return filtered
