"""Speed of the dataset: `stemgmd speed dataset` (part of `make bench`).

Every figure is a ratio of two things measured side by side in this run, or a count per second and
core; machines differ, ratios hold. All is done by one process on one core, in processor seconds:
- the build of a track against the obvious way: pretty_midi's fluidsynth once a piece, then the
  same encoder (target: at least 15 times as fast), as WAV and as FLAC: with FLAC both spend the
  same time in the same encoder, which bounds what rendering can win;
- the build against encoding the very same arrays alone (target: at most 1.3 times as long);
- segments of 11.85 s with five stereo stems from `RenderedStemGMD` (target: at least 100 a second);
- peak memory of the process that did it (target: at most 1 GB a worker).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from stemgmd_build.audio import AudioFile, FileFormat, encoder_name, read_pcm
from stemgmd_build.building.manifest import FileRecord
from stemgmd_build.building.tracks import Job, RenderSettings, build_track
from stemgmd_build.dataset import SEGMENT_SEC, RenderedStemGMD
from stemgmd_build.kits.catalogue import available, locate, select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection, Performance
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.rendering.gain import tuned
from stemgmd_build.taxonomy import PIECE_OF_NOTE, PIECES, SAMPLE_RATE

_N_SEGMENTS = 300
_N_ROUNDS = 5
"""Rounds over the same segments; the first brings the kits' samples into memory."""
_USUAL_KITS = ("fluidr3-standard", "timgm6mb-pretty-midi")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print which targets are met and which are missed."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gmd", help="folder of the Groove MIDI Dataset")
    parser.add_argument("--tracks", type=int, default=6, help="tracks to build (default: 6)")
    parser.add_argument("--kit", help="a SoundFont kit (default: fluidr3-standard if it is here)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    with threadpool_limits(1):
        figures = measure(find_collection(options.gmd), options.kit, options.tracks)
    print(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def measure(collection: Collection, kit_id: str | None, n_tracks: int) -> dict[str, Any]:
    """All figures, as plain numbers."""
    performances = collection.select("eval_session", n_tracks)
    kit = available(select_kits([kit_id] if kit_id else _USUAL_KITS))[0]
    kit = tuned(kit, collection)
    wav = _race(collection, performances, kit, "wav")
    flac = _race(collection, performances, kit, "flac")
    at_first, per_second = _segments_per_second(collection)
    stem_sec = sum(p.duration_sec for p in performances) * len(PIECES)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform == "linux" else 1024**2
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
        "performances": f"{collection.source}, {len(performances)} of eval_session",
        "kit": kit.id,
        "encoder": encoder_name("flac"),
        "stem_seconds_per_second": {
            "wav": round(stem_sec / wav.build_sec, 1),
            "flac": round(stem_sec / flac.build_sec, 1),
        },
        "first_segments_per_second": round(at_first, 1),
        "targets": [
            _target("obvious way / build, WAV", wav.obvious_sec / wav.build_sec, at_least=15),
            _target("obvious way / build, FLAC", flac.obvious_sec / flac.build_sec, at_least=15),
            _target("build / encoding alone, FLAC", flac.build_sec / flac.encode_sec, at_most=1.3),
            _target("segments a second and core", per_second, at_least=100),
            _target("peak memory, MB", peak_mb, at_most=1000),
        ],
    }


def _target(
    name: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    met = value >= at_least if at_least is not None else value <= (at_most or 0)
    goal = f">= {at_least}" if at_least is not None else f"<= {at_most}"
    return {"name": name, "value": round(value, 2), "goal": goal, "met": bool(met)}


@dataclass(slots=True)
class _Times:
    """Processor seconds for the same tracks."""

    build_sec: float = 0.0
    encode_sec: float = 0.0
    obvious_sec: float = 0.0


def _race(
    collection: Collection, performances: Sequence[Performance], kit: Kit, file_format: FileFormat
) -> _Times:
    """Build, encode alone and go the obvious way, in turn track by track."""
    times = _Times()
    settings = RenderSettings(file_format=file_format)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        jobs = [Job(root, collection.midi_path(p), p, kit, settings) for p in performances]
        # The bank's samples come into memory when they are first touched, once a kit and not once
        # a track: all are touched before the clock runs.
        for job in jobs:
            build_track(replace(job, root=root / "before"))
        for job in tqdm(jobs, desc=file_format, unit="track", leave=False):
            begin = time.process_time()
            record = build_track(job)
            times.build_sec += time.process_time() - begin
            times.encode_sec += _encode_alone(root, record.files, file_format)
            times.obvious_sec += _the_obvious_way(root, job)
    return times


def _encode_alone(root: Path, files: Sequence[FileRecord], file_format: FileFormat) -> float:
    """Seconds to encode the arrays of a track again, with nothing else."""
    arrays = [read_pcm(root / file.path) for file in files]
    begin = time.process_time()
    for number, pcm in enumerate(arrays):
        _encode(root / f"alone-{number}", pcm, file_format)
    return time.process_time() - begin


def _the_obvious_way(root: Path, job: Job) -> float:
    """Seconds that pretty_midi takes: the file read, each piece synthesized, encoded in stereo."""
    path = locate(job.kit)
    begin = time.process_time()
    midi = pretty_midi.PrettyMIDI(str(job.midi))
    notes = [note for instrument in midi.instruments for note in instrument.notes]
    mixture = np.zeros(0)
    for piece in PIECES:
        instrument = pretty_midi.Instrument(program=job.kit.preset, is_drum=True)
        instrument.notes = [note for note in notes if PIECE_OF_NOTE.get(note.pitch) == piece]
        part = pretty_midi.PrettyMIDI()
        part.instruments.append(instrument)
        audio = part.fluidsynth(fs=SAMPLE_RATE, synthesizer=str(path))
        mixture = np.pad(mixture, (0, max(0, len(audio) - len(mixture))))
        mixture[: len(audio)] += audio
        _encode(root / f"obvious-{piece}", _stereo_pcm(audio), job.settings.file_format)
    _encode(root / "obvious-mixture", _stereo_pcm(mixture), job.settings.file_format)
    return time.process_time() - begin


def _stereo_pcm(audio: NDArray[np.float64]) -> NDArray[np.int16]:
    level = np.clip(audio * 20000, -32768, 32767).astype(np.int16)
    return np.stack([level, level], axis=1)


def _encode(path: Path, pcm: NDArray[np.int16], file_format: FileFormat) -> None:
    encoder = AudioFile(path, file_format, len(pcm))
    encoder.write(pcm)
    encoder.finish()


def _segments_per_second(collection: Collection) -> tuple[float, float]:
    """Segments of five stereo stems and the mixture that one core renders in a second.

    The first rate is of a process that has just begun and touches most samples for the first
    time; the second, of a training run, is the median of the further rounds.
    """
    kits = [kit.id for kit in available(select_kits(["train"]))]
    data = RenderedStemGMD(collection.root, split="validation", kits=kits, kit_mix=0.5)
    order = np.random.default_rng(0).permutation(len(data))[:_N_SEGMENTS].tolist()
    data[order[0]]
    rates = []
    for _ in range(_N_ROUNDS):
        begin = time.process_time()
        for index in order:
            data[index]
        rates.append(len(order) / (time.process_time() - begin))
    return rates[0], statistics.median(rates[1:])


def _text(figures: dict[str, Any]) -> str:
    lines = [f"{name}: {figures[name]}" for name in ("machine", "performances", "kit", "encoder")]
    rates = figures["stem_seconds_per_second"]
    lines.append(f"build, stem-seconds a second: WAV {rates['wav']}, FLAC {rates['flac']}")
    lines.append(
        f"segments: {SEGMENT_SEC} s, five stereo stems and the mixture, kit_mix 0.5; "
        f"{figures['first_segments_per_second']} a second while samples are first touched"
    )
    for row in figures["targets"]:
        mark = "met" if row["met"] else "MISSED"
        lines.append(f"{row['name']:<30} {row['value']:>10}   target {row['goal']:<8} {mark}")
    return "\n".join(lines)
