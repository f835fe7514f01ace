"""Drum sounds from a SoundFont, through FluidSynth's own voice engine.

Conventions and deviations from how a sequencer would play the font:
- every strike is a note-on without a note-off on a voice of its own, started on a block of
  FluidSynth's 64 samples and left to ring: note-offs of drum pads mean nothing;
- every voice is fresh: FluidSynth fades a voice's first block in from the level at which that
  voice last ended, so a reused voice starts otherwise than a new one;
- reverb and chorus are off, interpolation is 7th order, output is float (the 16-bit writers
  dither);
- bank and preset are looked up exactly: FluidSynth would play a missing preset as silence.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import struct
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import NoSoundError, UserError
from stemgmd_build.files import open_file
from stemgmd_build.taxonomy import SAMPLE_RATE

BLOCK: Final = 64
"""Samples: FluidSynth starts notes on multiples of this."""

N_CHANNELS: Final = 16
"""MIDI channels: so many strikes can sound without an exclusive class cutting one by another."""

_POLYPHONY: Final = 256
_INTERPOLATION_7TH_ORDER: Final = 7
_LIBRARY_HINT: Final = (
    "FluidSynth's library is not installed; Debian/Ubuntu: sudo apt-get install libfluidsynth3, "
    "macOS: brew install fluid-synth, Fedora: sudo dnf install fluidsynth-libs"
)


@functools.cache
def _library() -> ModuleType:
    """pyfluidsynth, loaded when first needed: it fails at import where the library is missing."""
    try:
        # With CI set, pyfluidsynth prints where it found the library, which would spoil --json.
        with contextlib.redirect_stdout(io.StringIO()):
            import fluidsynth
    except (ImportError, OSError) as error:
        raise UserError(_LIBRARY_HINT) from error
    library = getattr(fluidsynth, "_fl", None)
    if library is None:  # PyPI's "fluidsynth" is another package that takes the module's name
        raise UserError(
            f"the module fluidsynth at {fluidsynth.__file__} is not pyfluidsynth's; "
            "`pip uninstall fluidsynth`, then `pip install --force-reinstall pyfluidsynth`"
        )
    # pyfluidsynth passes pointers as plain integers, which ctypes cuts to 32 bits where it
    # declares none; it does not wrap the float writer and the log switch at all.
    library.fluid_synth_write_float.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int,
        *[ctypes.c_void_p, ctypes.c_int, ctypes.c_int] * 2,
    ]
    library.fluid_synth_set_interp_method.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.fluid_synth_pitch_wheel_sens.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    library.fluid_set_log_function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    for name in ("fluid_synth_add_sfont", "fluid_synth_remove_sfont"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    for level in range(5):  # its warnings would run through progress bars; faults become UserErrors
        library.fluid_set_log_function(level, None, None)
    return fluidsynth  # type: ignore[no-any-return]


def library_version() -> str:
    """Version of the FluidSynth library, such as "2.3.1"."""
    fluidsynth = _library()
    fluidsynth._fl.fluid_version_str.restype = ctypes.c_char_p
    return str(fluidsynth._fl.fluid_version_str().decode())


def check_riff(path: Path) -> None:
    """Raise UserError unless the file is a RIFF "sfbk" whose chunks lie within the file.

    FluidSynth's parser is C code that trusts sizes; what is plainly broken never reaches it.
    """
    try:
        n_bytes = path.stat().st_size
        with open_file(path, "kit") as file:
            head = file.read(12)
            if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"sfbk":
                raise UserError(f"{path} is not a SoundFont (no RIFF sfbk header)")
            if struct.unpack("<I", head[4:8])[0] + 8 > n_bytes + 1:
                raise UserError(f"{path} is cut short: its header promises more bytes than it has")
            lists = set()
            position = 12
            while position + 12 <= n_bytes:
                file.seek(position)
                name, size, kind = struct.unpack("<4sI4s", file.read(12))
                if position + 8 + size > n_bytes:
                    raise UserError(f"{path} is cut short or corrupt in chunk {name!r}")
                lists.add(kind)
                position += 8 + size + size % 2
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not {b"sdta", b"pdta"} <= lists:
        raise UserError(f"{path} is not a whole SoundFont: its sample or preset list is missing")


class SoundFont:
    """One preset of a SoundFont, ready to be struck.

    Raises UserError if the file is not a SoundFont or does not hold the preset.
    """

    def __init__(self, path: Path, *, bank: int, preset: int) -> None:
        check_riff(path)
        self.path, self.bank, self.preset = path, bank, preset
        self._fs = _library()
        self._settings = self._fs.new_fluid_settings()
        for name, number in (("synth.gain", 1.0), ("synth.sample-rate", float(SAMPLE_RATE))):
            self._fs.fluid_settings_setnum(self._settings, name.encode(), number)
        for name, value in (
            ("synth.reverb.active", 0),
            ("synth.chorus.active", 0),
            ("synth.midi-channels", N_CHANNELS),
            ("synth.polyphony", _POLYPHONY),
            ("synth.dynamic-sample-loading", 1),
        ):
            self._fs.fluid_settings_setint(self._settings, name.encode(), value)
        # The owner loads the font and keeps its samples; the player that strikes is renewed.
        self._owner = self._fs.new_fluid_synth(self._settings)
        self._player = None
        font_id = self._fs.fluid_synth_sfload(self._owner, str(path).encode(), 0)
        if font_id < 0:
            self.close()
            raise UserError(
                f"{path} cannot be loaded by FluidSynth: it is corrupt or not a SoundFont"
            )
        self._font = self._fs.fluid_synth_get_sfont_by_id(self._owner, font_id)
        if not self._has_preset(bank, preset):
            held = ", ".join(f"{b}:{p}" for b, p in self.presets()[:12])
            self.close()
            raise UserError(f"{path} has no preset {bank}:{preset} (bank:preset); it has {held}")
        # A new player selects 0:0 and 128:0 for a moment; were they not held here, their samples
        # would be loaded (from an SF3: decoded, for a second) and dropped at every strike.
        for channel, held_preset in enumerate(((bank, preset), (0, 0), (128, 0))):
            self._fs.fluid_synth_program_select(self._owner, channel, font_id, *held_preset)
        self.renew()

    def renew(self) -> None:
        """Silence everything and start over with fresh voices."""
        self._drop_player()
        self._player = self._fs.new_fluid_synth(self._settings)
        font_id = self._fs._fl.fluid_synth_add_sfont(self._player, self._font)
        self._fs._fl.fluid_synth_set_interp_method(self._player, -1, _INTERPOLATION_7TH_ORDER)
        for channel in range(N_CHANNELS):
            self._fs.fluid_synth_program_select(
                self._player, channel, font_id, self.bank, self.preset
            )

    def _drop_player(self) -> None:
        if self._player:
            # Taken out first: the player would delete the owner's font with itself.
            self._fs._fl.fluid_synth_remove_sfont(self._player, self._font)
            self._fs.delete_fluid_synth(self._player)
            self._player = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the synthesizer; the object is of no use afterwards."""
        if self._owner:
            self._drop_player()
            self._fs.delete_fluid_synth(self._owner)
            self._fs.delete_fluid_settings(self._settings)
            self._owner = None

    def _has_preset(self, bank: int, preset: int) -> bool:
        return bool(self._fs.fluid_sfont_get_preset(self._font, bank, preset))

    def presets(self) -> list[tuple[int, int]]:
        """Every (bank, preset) of the font, percussion (bank 128) first."""
        banks = [128, *range(128)]
        return [(b, p) for b in banks for p in range(128) if self._has_preset(b, p)]

    def start(self, note: int, velocity: int, *, channel: int = 0, semitones: float = 0.0) -> None:
        """Begin a strike on a channel; it sounds from the next block on.

        ``semitones`` bends it within +-24. Raises UserError where the preset has no sample there.
        """
        if semitones:
            self._fs._fl.fluid_synth_pitch_wheel_sens(self._player, channel, 24)
        bend = round(semitones / 24 * 8192)
        self._fs.fluid_synth_pitch_bend(self._player, channel, bend + 8192)
        before = self._fs.fluid_synth_get_active_voice_count(self._player)
        self._fs.fluid_synth_noteon(self._player, channel, note, velocity)
        if self._fs.fluid_synth_get_active_voice_count(self._player) <= before:
            raise NoSoundError(
                f"{self.path.name}, preset {self.bank}:{self.preset}, has no sound on note {note} "
                f"at velocity {velocity}"
            )

    def write(self, n_samples: int) -> NDArray[np.float32]:
        """Let the synthesizer run: float32 (2, n_samples), full scale 1.0.

        n_samples is a multiple of BLOCK: FluidSynth keeps the rest of a block it has begun, and
        the next note would come late by it.
        """
        assert n_samples % BLOCK == 0
        out = np.zeros((2, n_samples), np.float32)
        left, right = (ctypes.c_void_p(out[channel].ctypes.data) for channel in range(2))
        self._fs._fl.fluid_synth_write_float(self._player, n_samples, left, 0, 1, right, 0, 1)
        return out

    def is_sounding(self) -> bool:
        """Whether any voice is still active."""
        return bool(self._fs.fluid_synth_get_active_voice_count(self._player))

    def strike(
        self, note: int, velocity: int, *, semitones: float = 0.0, max_samples: int
    ) -> NDArray[np.float32]:
        """One hit alone, rung out or cut at max_samples: float32 (2, n_samples <= max_samples).

        Raises UserError where the preset has no sample for this note and velocity.
        """
        self.renew()
        self.start(note, velocity, semitones=semitones)
        parts: list[NDArray[np.float32]] = []
        n_samples = 0
        while n_samples < max_samples and (not parts or self.is_sounding()):
            parts.append(self.write(128 * BLOCK))
            n_samples += parts[-1].shape[1]
        return np.concatenate(parts, axis=1)[:, :max_samples]
