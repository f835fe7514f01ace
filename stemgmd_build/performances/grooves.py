"""The built-in grooves: performances for a machine that has no Groove MIDI Dataset.

grooves.toml writes them down; this module plays them as a person might and stores them as GMD is
stored (info.csv and MIDI of type 0, 480 ticks a beat, channel 10, notes of a Roland TD-11). Three
imaginary drummers, "builtin1" to "builtin3", the last one's alone in the test split.
"""

from __future__ import annotations

import csv
import hashlib
import io
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import mido

from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.performances.collection import COLUMNS, Collection, read_collection
from stemgmd_build.performances.drummer import Stroke, Take, play
from stemgmd_build.performances.midi import DRUM_CHANNEL
from stemgmd_build.taxonomy import (
    ARTICULATION_OF_NOTE,
    HIHAT_PEDAL_CONTROLLER,
    PIECE_OF_ARTICULATION,
    STEM_OF_PIECE,
)

TICKS_PER_BEAT: Final = 480

_NOTE: Final = {articulation: note for note, articulation in ARTICULATION_OF_NOTE.items()}
_NOTE_SEC: Final = 0.02  # shorter than the distance of any two strokes of one hand


def write_grooves(folder: Path) -> Collection:
    """Write info.csv and MIDI of the built-in grooves into a folder and read them back.

    Each file appears whole or not at all, the index last; what is there already and right is
    left alone. Raises UserError where the folder cannot be written.
    """
    try:
        for name, data in groove_files().items():
            _write(folder / name, data)
    except OSError as error:
        raise UserError(
            f"{folder}: the built-in grooves cannot be written there: {error.strerror}; "
            "set STEMGMD_CACHE to a folder with room"
        ) from error
    return read_collection(folder)


def cached_grooves(cache_folder: Path) -> Collection:
    """The built-in grooves in a folder of the cache that is named for their content."""
    digest = hashlib.sha256()
    for name, data in groove_files().items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return write_grooves(cache_folder / f"grooves-{digest.hexdigest()[:12]}")


@cache
def groove_files() -> dict[str, bytes]:
    """Every file of the built-in collection: relative name -> bytes, info.csv last."""
    found: dict[str, bytes] = {}
    index = io.StringIO()
    writer = csv.DictWriter(index, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for take in _takes():
        data, duration_sec = _midi_bytes(take, play(take))
        found[take.midi_filename] = data
        writer.writerow(_row(take, duration_sec))
    found["info.csv"] = index.getvalue().encode("ascii")
    return found


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    write_whole(path, data, shared=True)


def _row(take: Take, duration_sec: float) -> dict[str, str | int]:
    return {
        "drummer": take.by.split("/")[0],
        "session": take.by,
        "id": f"{take.by}/{take.number}",
        "style": take.style,
        "bpm": take.bpm,
        "beat_type": take.beat_type,
        "time_signature": take.meter,
        "midi_filename": take.midi_filename,
        "audio_filename": "",
        "duration": f"{duration_sec:.6f}",
        "split": take.split,
    }


def _takes() -> Iterator[Take]:
    numbers: dict[str, int] = {}
    styles: dict[str, Any] = tomllib.loads(
        files("stemgmd_build.performances").joinpath("grooves.toml").read_text("utf-8")
    )
    for name, style in styles.items():
        for take in style["takes"]:
            numbers[take["by"]] = numbers.get(take["by"], 0) + 1
            yield Take(
                by=take["by"],
                number=numbers[take["by"]],
                split=take["split"],
                style=take.get("style", name),
                bpm=take["bpm"],
                meter=take.get("meter", style["meter"]),
                beat_type="fill" if "fill" in take else "beat",
                form=tuple(take.get("fill", take.get("form")).split()),
                bars=style["bars"],
                swing=style.get("swing", 0.5),
                lag_ms=style.get("lag_ms", {}),
            )


def _midi_bytes(take: Take, strokes: list[Stroke]) -> tuple[bytes, float]:
    """The take as a MIDI file, and its duration in seconds."""
    tempo = round(60_000_000 / take.bpm)
    ticks_per_sec = TICKS_PER_BEAT * 1_000_000 / tempo
    upper, lower = map(int, take.meter.split("-"))
    track = mido.MidiTrack(
        [
            mido.MetaMessage("track_name", name=take.midi_filename),
            mido.MetaMessage("set_tempo", tempo=tempo),
            mido.MetaMessage("time_signature", numerator=upper, denominator=lower),
        ]
    )
    now = 0
    for time_sec, _, message in sorted(_messages(strokes), key=lambda event: event[:2]):
        tick = max(round(time_sec * ticks_per_sec), 0)
        track.append(message.copy(time=tick - now))
        now = tick
    midi = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track])
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue(), now / ticks_per_sec


def _messages(strokes: list[Stroke]) -> Iterator[tuple[float, int, mido.Message]]:
    """(seconds, rank among events of one time, message): pedal, then note-off, then note-on."""
    for stroke in strokes:
        note, onset_sec = _NOTE[stroke.articulation], stroke.onset_sec
        for ahead_sec, position in _pedal(stroke):
            pedal = mido.Message(
                "control_change",
                channel=DRUM_CHANNEL,
                control=HIHAT_PEDAL_CONTROLLER,
                value=position,
            )
            yield max(onset_sec - ahead_sec, 0.0), 0, pedal
        on = mido.Message("note_on", channel=DRUM_CHANNEL, note=note, velocity=stroke.velocity)
        yield onset_sec, 2, on
        off = mido.Message("note_off", channel=DRUM_CHANNEL, note=note, velocity=64)
        yield onset_sec + _NOTE_SEC, 1, off


def _pedal(stroke: Stroke) -> Iterator[tuple[float, int]]:
    """(seconds ahead of the stroke, pedal position 0..127) around a stroke on the hi-hat."""
    if stroke.articulation == "hihat_pedal":
        yield from ((0.06, 20), (0.04, 55), (0.02, 90), (0.0, 127))
    elif PIECE_OF_ARTICULATION[stroke.articulation] == "hihat_open":
        yield from ((0.04, 60), (0.02, 25), (0.0, max(90 - stroke.velocity, 0)))
    elif STEM_OF_PIECE[PIECE_OF_ARTICULATION[stroke.articulation]] == "hihat":
        yield 0.0, 105 + stroke.velocity // 8
