"""Drum sounds from an SFZ instrument, played by sfizz.

SFZ files are templates: they include one another, define variables, and play another recording at
every strike. So the file is first written out as plain regions, one choice each:

- of a round robin (``seq_position``) the first region plays, and of a random choice (``lorand``)
  the region at zero;
- whatever is random (``amp_random``, ``offset_random``, the random controllers) is left out;
- the pitch wheel bends by +-24 semitones, for sounds that are tuned.

All else is sfizz's: velocity curves, envelopes, filters, exclusive groups, several microphones.
A strike is a note-on without a note-off. Only files of the SFZ file's own folder are included.
"""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import read_bytes
from stemgmd_build.taxonomy import SAMPLE_RATE

MAX_INCLUDES: Final = 1000
MAX_REGIONS: Final = 50_000
_MAX_CHARACTERS: Final = 32 << 20
_BLOCK: Final = 1024
_VOICES: Final = 256
_BEND_SEMITONES: Final = 24
_LEVELS: Final = ("global", "master", "group", "region")
_RANDOM: Final = re.compile(r"\w*_random|\w*cc13[56]")
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DIRECTIVE: Final = re.compile(r'#include\s*"([^"\n]+)"|#define\s+(\$\w+)\s+(\S+)')
_HEADER: Final = re.compile(r"<(\w+)>")
_OPCODE: Final = re.compile(r"([\w$]+)=([^\n]*?)(?=\s+[\w$]+=|\s*\n|\s*$)")
_NOTE: Final = re.compile(r"([a-g])([#b]?)(-?\d+)")
_SEMITONES: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


def library_version() -> str:
    """Version of the package that brings sfizz along."""
    _library()
    from importlib.metadata import version

    return version("pysfizz")


@functools.cache
def _library() -> ModuleType:
    try:
        # The synthesizer itself: the package's own class never silences a voice between two notes.
        from pysfizz import _sfizz
    except ImportError as error:
        raise UserError('SFZ kits need sfizz: pip install "stemgmd-bench[sfz]"') from error
    return _sfizz  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Region:
    """One recording of an instrument: its opcodes, inherited ones included, in their order."""

    opcodes: Mapping[str, str]
    sample: str

    def keys(self) -> range:
        """The keys that play it; none where it is not for a key."""
        low = high = None
        for name, value in self.opcodes.items():
            number = _key_number(value) if name in ("key", "lokey", "hikey") else None
            if number is not None:
                low = number if name in ("key", "lokey") else low
                high = number if name in ("key", "hikey") else high
        return range(0 if low is None else max(0, low), 128 if high is None else min(128, high + 1))

    def is_first_choice(self) -> bool:
        """Whether it is the one that plays, of a round robin or a random choice."""
        starts = (self.opcodes.get(name, "0") for name in ("lorand", "locc135", "locc136"))
        return self.opcodes.get("seq_position", "1").strip() == "1" and all(
            _float(start) <= 0.0 for start in starts
        )


class SfzKit:
    """An SFZ instrument: its regions, and what its keys sound like.

    Raises UserError where it is not an SFZ file, or includes what is missing or outside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.resolve().parent
        self._controls: list[tuple[int, Mapping[str, str]]] = []
        self.regions = tuple(self._read())
        if not self.regions:
            raise UserError(f"{path} has no region with a sample: it is no SFZ instrument")
        self._synth: Any = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def keys(self) -> frozenset[int]:
        """Every key that plays something."""
        return frozenset(key for region in self.regions for key in region.keys())  # noqa: SIM118

    def sample_files(self) -> frozenset[Path]:
        """Every recording that can play. They need not exist."""
        return frozenset(
            self.folder / region.sample for region in self.regions if region.sample[:1] != "*"
        )

    def digest(self) -> str:
        """SHA-256 of the regions as they are played and of every recording's bytes."""
        text = hashlib.sha256(self._text(relative=True).encode())
        for file in sorted(self.sample_files()):
            text.update(_file_hash(file, *_stamp(file)).encode() if file.is_file() else b"missing")
        return text.hexdigest()

    def strike(
        self, key: int, velocity: int, *, semitones: float = 0.0, max_samples: int
    ) -> NDArray[np.float32]:
        """One hit alone, rung out or cut at max_samples: float32 (2, n_samples <= max_samples).

        Raises UserError where the key plays nothing at this velocity, or a recording is missing.
        """
        synth = self._loaded()
        synth.all_sound_off()
        synth.pitch_wheel(0, round(semitones / _BEND_SEMITONES * 8192))
        synth.note_on(0, key, velocity)
        blocks: list[NDArray[np.float32]] = []
        while len(blocks) * _BLOCK < max_samples and (
            not blocks or synth.get_num_active_voices() > 0
        ):
            # The arrays are views of a buffer that the next block overwrites.
            blocks.append(np.array(synth.render_block(), np.float32))
        sound = np.concatenate(blocks, axis=1)[:, :max_samples]
        if not sound.any() and key not in self.keys():
            raise UserError(f"{self.path.name} plays nothing on key {key}")
        return sound

    def _loaded(self) -> Any:
        if self._synth is None:
            missing = sorted(file for file in self.sample_files() if not file.is_file())
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise UserError(f"{self.path}: the recording {missing[0]}{more} is missing")
            self._scratch = tempfile.TemporaryDirectory(prefix="stemgmd-sfz-")
            flat = Path(self._scratch.name) / "kit.sfz"
            flat.write_text(self._text(), "utf-8")
            self._synth = _library().Synth(SAMPLE_RATE, _BLOCK)
            self._synth.set_num_voices(_VOICES)
            self._synth.enable_freewheeling()
            if not self._synth.load_sfz_file(str(flat)) or not self._synth.get_num_regions():
                raise UserError(f"{self.path} cannot be loaded by sfizz")
        return self._synth

    def _text(self, *, relative: bool = False) -> str:
        """The instrument as plain regions, each recording with its whole path."""
        # In memory from the start: a recording still on its way from the disk is cut off at random.
        lines = [_line("control", {"hint_ram_based": "1"})]
        controls = dict(self._controls)
        for number, region in enumerate(self.regions):
            if number in controls:
                lines.append(_line("control", controls[number]))
            generated = relative or region.sample[:1] == "*"
            sample = region.sample if generated else str(self.folder / region.sample)
            bends = {"bend_up": f"{_BEND_SEMITONES}00", "bend_down": f"-{_BEND_SEMITONES}00"}
            lines.append(_line("region", {**region.opcodes, **bends, "sample": sample}))
        return "".join(lines)

    def _read(self) -> Iterator[Region]:
        """The regions that can play. Control blocks are kept with the number of the next region."""
        levels: dict[str, dict[str, str]] = {name: {} for name in _LEVELS}
        control: dict[str, str] = {}
        n_kept = 0
        for header, opcodes in _sections(self._expanded()):
            if header == "control":
                control = {**control, **opcodes}
                played = {k: v for k, v in control.items() if k != "default_path"}
                self._controls.append((n_kept, played))
            if header not in _LEVELS:
                continue
            depth = _LEVELS.index(header)
            for name in _LEVELS[depth:]:
                levels[name] = {}
            levels[header] = opcodes
            if header != "region":
                continue
            merged: dict[str, str] = {}
            for name in _LEVELS:
                for opcode, value in levels[name].items():
                    merged.pop(opcode, None)  # a later one takes effect later
                    merged[opcode] = value
            sample = merged.pop("sample", "")
            region = Region(merged, sample)
            if not sample or not region.is_first_choice():
                continue
            if sample[:1] != "*":
                sample = (control.get("default_path", "") + sample).replace("\\", "/")
            kept = {
                name: value
                for name, value in merged.items()
                if not _RANDOM.fullmatch(name)
                and name not in ("lorand", "hirand", "seq_length", "seq_position")
            }
            n_kept += 1
            if n_kept > MAX_REGIONS:
                raise UserError(f"{self.path} has more than {MAX_REGIONS:,} regions")
            yield Region(kept, sample)

    def _expanded(self) -> str:
        """The text with its includes and definitions put in."""
        defined: dict[str, str] = {}
        n_files = 0

        def expand(path: Path, parents: tuple[Path, ...]) -> Iterator[str]:
            nonlocal n_files
            n_files += 1
            if n_files > MAX_INCLUDES or path in parents:
                raise UserError(f"{self.path} includes too many files, or one of them itself")
            text = _COMMENT.sub("", read_bytes(path, "settings").decode("utf-8", "replace"))
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            position = 0
            for match in _DIRECTIVE.finditer(text):
                yield _substituted(text[position : match.start()], defined)
                position = match.end()
                if match[1] is None:
                    defined[match[2]] = match[3]
                    continue
                name = _substituted(match[1], defined).replace("\\", "/")
                included = (self.folder / name).resolve()
                if not included.is_relative_to(self.folder):
                    raise UserError(f"{self.path}: includes {name!r}, which is outside its folder")
                yield "\n"
                yield from expand(included, (*parents, path))
            yield _substituted(text[position:], defined)

        parts, n_characters = [], 0
        for part in expand(self.path.resolve(), ()):
            n_characters += len(part)
            if n_characters > _MAX_CHARACTERS:
                raise UserError(f"{self.path} and what it includes is too long for an SFZ file")
            parts.append(part)
        return "".join(parts)


def _substituted(text: str, defined: Mapping[str, str]) -> str:
    if "$" in text:
        for name in sorted(defined, key=len, reverse=True):  # $kick2 before $kick
            text = text.replace(name, defined[name])
    return text


def _sections(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(header, its opcodes) in the order of the text."""
    parts = _HEADER.split(text)
    for header, body in zip(parts[1::2], parts[2::2], strict=True):
        opcodes: dict[str, str] = {}
        for name, value in _OPCODE.findall(body):
            opcodes.pop(name, None)
            opcodes[name] = value.strip()
        yield header.lower(), opcodes


def _line(header: str, opcodes: Mapping[str, str]) -> str:
    # One opcode a line: a value may hold spaces.
    return f"<{header}>\n" + "".join(f"{name}={value}\n" for name, value in opcodes.items())


def _key_number(text: str) -> int | None:
    """A key as SFZ writes it: a number, or a note name with C4 for 60."""
    if text.lstrip("-").isdecimal():
        return int(text) if len(text) < 6 else None
    note = _NOTE.fullmatch(text.lower())
    if note is None or len(note[3]) > 3:
        return None
    sharp = {"#": 1, "b": -1, "": 0}[note[2]]
    return _SEMITONES[note[1]] + sharp + 12 * (int(note[3]) + 1)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


@functools.cache
def _file_hash(file: Path, mtime_ns: int, n_bytes: int) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
