"""Onsets and velocities of stems as a General MIDI file.

The detector is the benchmark's (:mod:`baselines.onsets`), scaled by the mixture's peak. A hit's
velocity is its peak below that of the stem's loudest hit, by General MIDI's own curve: level in
dB is 40 log10(velocity / 127). Files are read in parts, so memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from baselines.onsets import detect_onsets
from larsnet.separation.waveforms import resampled
from stemgmd_build.recordings import Block, open_source
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, PIECES, SAMPLE_RATE

_NOTE_OF_PIECE: Final = {
    name: note for note, name in ARTICULATION_OF_NOTE.items() if name in PIECES
}
NOTES: Final = {
    **_NOTE_OF_PIECE,
    "toms": _NOTE_OF_PIECE["mid_tom"],
    "hihat": _NOTE_OF_PIECE["hihat_closed"],
    "cymbals": _NOTE_OF_PIECE["crash_left"],
    "crash": _NOTE_OF_PIECE["crash_left"],
}
"""Stem or piece -> General MIDI note."""

_CHANNEL: Final = 9
"""General MIDI's drums, counted from 0."""
_TICKS_PER_SEC: Final = 1920
"""960 a quarter, at MIDI's default of 120 quarters a minute."""
_NOTE_SEC: Final = 0.05
_PART_SEC: Final = 60
_CONTEXT_SEC: Final = 1
"""Before and after each part; the detector looks 0.12 s around an onset."""
_STRUCK_SEC: Final = (0.01, 0.05)
"""Before and after an onset, where a hit's peak is looked for."""


def write_midi(path: Path, recording: Path, stems: Mapping[str, Path]) -> int:
    """Write the hits of stems; those that are in no General MIDI map, such as "no_kick", are left
    out.

    Args:
        path: of the MIDI file.
        recording: the mixture.
        stems: name -> audio file.

    Returns:
        How many hits there are.

    Raises:
        UserError: a file that cannot be read.
    """
    import mido

    with open_source(recording) as source:
        full_scale = max(float(np.abs(block).max(initial=0)) for block in source.blocks())
    events = []
    for stem, audio in stems.items():
        if stem in NOTES and full_scale > 0:
            for onset_sec, velocity in find_hits(audio, full_scale):
                tick = round(onset_sec * _TICKS_PER_SEC)
                off = tick + round(_NOTE_SEC * _TICKS_PER_SEC)
                events += [
                    (tick, "note_on", NOTES[stem], velocity),
                    (off, "note_off", NOTES[stem], 0),
                ]
    track = mido.MidiTrack()
    now = 0
    for tick, kind, note, velocity in sorted(events):
        track.append(
            mido.Message(kind, channel=_CHANNEL, note=note, velocity=velocity, time=tick - now)
        )
        now = tick
    file = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_SEC // 2)
    file.tracks.append(track)
    file.save(path)
    return len(events) // 2


def find_hits(audio: Path, full_scale: float) -> list[tuple[float, int]]:
    """Onsets of a stem in seconds, and their velocities 1 to 127.

    Args:
        audio: its file.
        full_scale: the mixture's peak.
    """
    onsets: list[float] = []
    peaks: list[float] = []
    before, after = (round(sec * SAMPLE_RATE) for sec in _STRUCK_SEC)
    for start_sec, samples, core in _parts(audio):
        found = detect_onsets(samples.astype(np.float64), full_scale=full_scale)
        for onset_sec in found[(found >= core[0]) & (found < core[1])]:
            place = round(onset_sec * SAMPLE_RATE)
            struck = samples[:, max(0, place - before) : place + after]
            onsets.append(start_sec + float(onset_sec))
            peaks.append(float(np.abs(struck).max(initial=0)))
    if not peaks:
        return []
    shares = np.sqrt(np.array(peaks) / max(max(peaks), 1e-12))
    velocities = np.clip(np.rint(127 * shares), 1, 127).astype(int).tolist()
    return list(zip(onsets, velocities, strict=True))


def _parts(audio: Path) -> Iterator[tuple[float, NDArray[np.float32], tuple[float, float]]]:
    """Parts of a file at 44.1 kHz with context: start in seconds, samples, and which of its
    seconds are its own."""
    part, context = _PART_SEC * SAMPLE_RATE, _CONTEXT_SEC * SAMPLE_RATE
    with open_source(audio) as source:
        held: list[Block] = []
        start = own = 0  # samples: of what is held, and of what is still to be looked at
        n_held = 0
        for block in resampled(source.blocks(), source.sample_rate, SAMPLE_RATE):
            held.append(block)
            n_held += block.shape[-1]
            while start + n_held >= own + part + context:
                joined = np.concatenate(held, axis=-1)
                shown = joined[:, : own + part + context - start]
                core = ((own - start) / SAMPLE_RATE, (own + part - start) / SAMPLE_RATE)
                yield start / SAMPLE_RATE, shown, core
                own += part
                held = [joined[:, own - context - start :]]
                start, n_held = own - context, held[0].shape[-1]
        if n_held:
            core = ((own - start) / SAMPLE_RATE, np.inf)
            yield start / SAMPLE_RATE, np.concatenate(held, axis=-1), core
