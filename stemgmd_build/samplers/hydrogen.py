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

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import NoSoundError, UserError
from stemgmd_build.samplers.drumkit_xml import Instrument, Layer, is_file, read_drumkit
from stemgmd_build.samplers.samples import read_sample

FIRST_NOTE: Final = 36
"""The instrument at index i of a kit answers to MIDI note 36 + i, unless the kit says otherwise."""


class HydrogenKit:
    """A kit that was read from a folder. Raises UserError for anything but a sound drumkit.xml.

    Sample files may be missing: only the instrument that asks for one fails.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = folder.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
            raise UserError(f"{folder}: is not a usable folder ({error})") from error
        self.xml_path = self.folder / "drumkit.xml"
        drumkit = read_drumkit(self.xml_path)
        self.name = drumkit.name or self.folder.name
        self.author = drumkit.author
        self.licence = drumkit.licence
        self.instruments = drumkit.instruments
        self._by_id = {instrument.id: instrument for instrument in self.instruments}

    def strike(
        self,
        instrument_id: int,
        velocity: int,
        *,
        semitones: float = 0.0,
        max_samples: int | None = None,
    ) -> NDArray[np.float32]:
        """The sound of one strike: float32 (2, n_samples) at 44,100 Hz, full scale 1.0.

        ``velocity`` is MIDI's, 1 to 127; ``semitones`` repitches (and so shortens or lengthens);
        ``max_samples`` cuts what is longer. Raises NoSoundError where this velocity is silent,
        UserError if the kit has no such instrument, or it has no layers, or its sample file is
        missing or broken.
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
            _play(instrument, layer, velocity / 127, semitones, max_samples)
            for layer in _chosen_layers(instrument.layers, velocity / 127)
        ]
        out = np.zeros((2, max(sound.shape[1] for sound in sounds)), np.float32)
        for sound in sounds:
            out[:, : sound.shape[1]] += sound
        is_whole = max_samples is None or out.shape[1] < max_samples
        if not out.any() and not is_whole:  # it may come late
            self.strike(instrument_id, velocity, semitones=semitones)
        elif not out.any() or not np.isfinite(out).all():
            raise NoSoundError(f"{where} ({instrument.name!r}) gives no sound; choose another")
        return out

    def general_midi_map(self) -> dict[int, int]:
        """General MIDI note -> instrument id, for every instrument that has a sample file.

        The kit's own output notes count where it really sets them (most are distinct: many old
        kits have 60 throughout); otherwise the instrument at index i answers to note 36 + i.
        """
        playable = [
            (index, instrument)
            for index, instrument in enumerate(self.instruments)
            if any(_is_sound(layer.path) for layer in instrument.layers)
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
        return (self.xml_path, *sorted(path for path in paths if is_file(path)))


def _is_sound(path: Path) -> bool:
    """Whether a sample file exists and is not the silent one of Hydrogen's empty slots."""
    return path.stem != "emptySample" and is_file(path)


def _ranges(ids: Iterable[int]) -> str:
    known = sorted(ids)
    return f"{len(known)} instruments with ids from {known[0]} to {known[-1]}"


def _chosen_layers(layers: tuple[Layer, ...], velocity: float) -> list[Layer]:
    """One layer a component: the first that holds the velocity, else the one starting nearest.

    Compared in single precision, like Hydrogen: kits hold 64/127 as "0.503937".
    """
    chosen = []
    struck = np.float32(velocity)
    for component in sorted({layer.component for layer in layers}):
        candidates = [layer for layer in layers if layer.component == component]
        fitting = (
            layer
            for layer in candidates
            if np.float32(layer.min_velocity) <= struck <= np.float32(layer.max_velocity)
        )
        nearest = min(candidates, key=lambda layer: abs(np.float32(layer.min_velocity) - struck))
        chosen.append(next(fitting, nearest))
    return chosen


def _play(
    instrument: Instrument, layer: Layer, velocity: float, semitones: float, max_samples: int | None
) -> NDArray[np.float32]:
    total = instrument.pitch_semitones + layer.pitch_semitones + semitones
    if not is_file(layer.path):
        raise UserError(
            f"{layer.path}: is missing, the sample of instrument {instrument.id} "
            f"({instrument.name!r}); choose another"
        )
    sound, step = read_sample(layer.path, total)
    sound = sound[:, :max_samples]  # what follows is causal: nothing before the cut changes
    sound = _enveloped(sound, instrument, step)
    sound = _filtered(sound, instrument.filter_cutoff, instrument.filter_resonance)
    gain = layer.gain * (velocity if instrument.apply_velocity else 1.0)
    gains = np.array([[instrument.gain_left], [instrument.gain_right]]) * gain
    return sound * gains.astype(np.float32)


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
    """Hydrogen's low pass: b <- r b + c (x - y), y <- y + c b; the identity at c = 1, r = 0."""
    if cutoff == 1.0 and resonance == 0.0:
        return sound
    # imported where a kit asks for it: it takes longer than all else that a build imports
    from scipy.signal import lfilter

    numerator = [cutoff**2]
    denominator = [1.0, cutoff**2 - 1.0 - resonance, resonance]
    filtered: NDArray[np.float32] = lfilter(
        numerator, denominator, sound.astype(np.float64), axis=1
    ).astype(np.float32)
    return filtered
