"""Clips to listen to: from a run's FLAC excerpts to one script file a clip, beside the page.

A page opened from disk may load scripts but not fetch files, so a clip is a script that hands
the page one object: spectrograms as PNG, sounds as MP3 (what every browser decodes). Sounds
are coded at a variable rate, packed together, compressed (frames of silence are mostly
padding) and written in base64; the finest setting that keeps the file below `MAX_BYTES` is
taken, the coarsest where none does. Every sound of a clip has the same length and the same encoder
delay, so they stay in step. All of a clip is raised by one gain, and its spectrograms share one
scale: level of each band per Hz, `RANGE_DB` deep below the loudest of mixture and references.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from benchmarks.results_folder import AUDIO
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

INDEX: Final = "clips.json"
REFERENCE: Final = "reference"
MAX_BYTES: Final = 2_500_000
PEAK: Final = 0.89
RANGE_DB: Final = 70
_LEVELS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
"""libsndfile's compression levels for MP3, fine to coarse."""
_MAX_SEC: Final = 60
_HEAD_CHARACTERS: Final = 4096
_TITLE: Final = re.compile(r'stemgmd\.addClip\("[^"]+", \{"title": ("(?:[^"\\]|\\.)*+")')
_BANDS_HZ: Final = np.geomspace(40, 18000, 65)
_N_COLUMNS: Final = 300
_N_SHADES: Final = 20
_N_FFT: Final = 4096

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """Where an excerpt lies and what is known of it. ``name`` is its folders'.

    The first of the folders has mixture and references, and each some of the systems.
    """

    name: str
    folders: tuple[Path, ...]
    facts: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Performance and kit where they are known, else the folder's name."""
        if self.facts.get("title"):
            return str(self.facts["title"])
        known = [str(self.facts[key]) for key in ("track", "kit") if self.facts.get(key)]
        return " on ".join(known) or self.name


@dataclass(frozen=True)
class Row:
    """One line of a clip's grid: float32 (channels, n_samples) for each stem; the mixture's
    line has one sound."""

    id: str
    sounds: tuple[Audio | None, ...]


def find_clips(results: Path) -> list[Clip]:
    """The clips of a results folder; none where it has no audio.

    Raises UserError where clips.json is damaged or names a folder that is not there.
    """
    root = results / AUDIO
    path = root / INDEX
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        items = found["clips"] if isinstance(found, dict) else found
        facts = [item if isinstance(item, dict) else {"clip": item} for item in items]
        clips = [Clip(str(item["clip"]), (root / str(item["clip"]),), item) for item in facts]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error!r}): run the benchmark again") from error
    for clip in clips:
        if Path(clip.name).name != clip.name or not clip.folders[0].is_dir():
            raise UserError(f"{path} names the clip {clip.name!r}, which is no folder beside it")
    return clips


def written_clips(folder: Path) -> list[Clip]:
    """The clips whose scripts an earlier report wrote into a folder, without their audio."""
    found = []
    for path in sorted(folder.glob("*.js")):
        try:
            with path.open(encoding="utf-8") as file:
                head = file.read(_HEAD_CHARACTERS)
        except (OSError, UnicodeDecodeError):
            continue
        match = _TITLE.search(head)
        if head.startswith(SIGNATURE) and match:
            title = json.loads(match[1])
            found.append(Clip(path.stem, (), {"title": title}))
    return found


def merge_clips(found: Iterable[Clip], systems: Sequence[str]) -> list[Clip]:
    """One clip of each name, and of those only the ones on which the most systems are heard.

    What was cut from another rendering than the first clip of the name is left out: its systems
    heard another mixture.
    """
    by_name: dict[str, Clip] = {}
    for clip in found:
        first = by_name.setdefault(clip.name, clip)
        if first is not clip and first.facts.get("data") == clip.facts.get("data"):
            by_name[clip.name] = replace(first, folders=first.folders + clip.folders)
    heard = [
        sum(_folder_of(clip, system) is not None for system in systems) for clip in by_name.values()
    ]
    return [clip for clip, n in zip(by_name.values(), heard, strict=True) if n == max(heard)]


def clip_script(clip: Clip, systems: Sequence[str], max_bytes: int = MAX_BYTES) -> str:
    """The script of one clip, for those of the systems that have audio in it.

    Raises UserError where a file is missing, damaged or unlike the others.
    """
    rows = _read_rows(clip, systems)
    known = [sound for row in rows[:2] for sound in row.sounds if sound is not None]
    n_samples = known[0].shape[-1]
    peak = max(float(np.abs(sound).max()) for sound in known)
    if not peak:
        raise UserError(f"{clip.folders[0]} is silent: nothing to listen to")
    gain = PEAK / peak
    sounds = _Pool([[None if s is None else s * gain for s in row.sounds] for row in rows])
    pictures, top = _draw(sounds.unique, n_known=1 + max(sounds.places[1], default=-1))
    facts = {
        "title": clip.title,
        "seconds": n_samples / SAMPLE_RATE,
        "gain_db": round(20 * float(np.log10(gain)), 1),
        "range_db": RANGE_DB,
        "top_db": round(top, 1),
        "hz": [float(_BANDS_HZ[0]), float(_BANDS_HZ[-1])],
        "rows": [
            {"id": row.id, "cells": places} for row, places in zip(rows, sounds.places, strict=True)
        ],
        "images": pictures,
    }
    n_free = max_bytes - len(json.dumps(facts)) - 1000
    facts |= _encode(sounds.unique, n_free)
    return f"{SIGNATURE}\nstemgmd.addClip({json.dumps(clip.name)}, {json.dumps(facts)});\n"


def _encode(sounds: Sequence[Audio], max_chars: int) -> dict[str, Any]:
    """All sounds as MP3 at the finest level that fits: tried on every eighth of them first."""
    with ThreadPoolExecutor() as threads:

        def encode(some: Sequence[Audio], level: float) -> tuple[list[bytes], str]:
            mp3s = list(threads.map(lambda sound: encode_mp3(sound, level), some))
            return mp3s, base64.b64encode(gzip.compress(b"".join(mp3s), mtime=0)).decode()

        sample = sounds[:: max(1, len(sounds) // 8)]
        share = len(sample) / len(sounds)
        for level in _LEVELS:
            if level != _LEVELS[-1] and len(encode(sample, level)[1]) > max_chars * share:
                continue
            mp3s, text = encode(sounds, level)
            if len(text) <= max_chars:
                break
    seconds = sum(sound.shape[-1] for sound in sounds) / SAMPLE_RATE
    kbps = round(sum(map(len, mp3s)) * 8 / 1000 / seconds)
    return {"kbps": kbps, "lengths": [len(mp3) for mp3 in mp3s], "audio": text}


SIGNATURE: Final = "/* stemgmd-bench: a clip of the leaderboard */"


class _Pool:
    """Sounds that are equal are kept once; ``places`` is their number by row and cell, -1 for
    silence."""

    def __init__(self, rows: Sequence[Sequence[Audio | None]]) -> None:
        self.unique: list[Audio] = []
        numbers: dict[bytes, int] = {}
        self.places: list[list[int]] = []
        for row in rows:
            line = []
            for sound in row:
                if sound is None or not sound.any():
                    line.append(-1)
                    continue
                key = sound.tobytes()
                if key not in numbers:
                    numbers[key] = len(self.unique)
                    self.unique.append(sound)
                line.append(numbers[key])
            self.places.append(line)


def _read_rows(clip: Clip, systems: Sequence[str]) -> list[Row]:
    """Mixture, references, then the systems in their order. References that are absent are None;
    a system has all of its stems or none."""
    mixture = _read(clip.folders[0] / "mixture.flac", None)
    n = mixture.shape[-1]
    rows = [Row("mixture", (mixture,))]
    references = [clip.folders[0] / REFERENCE / f"{stem}.flac" for stem in STEMS]
    rows.append(Row(REFERENCE, tuple(_read(p, n) if p.exists() else None for p in references)))
    for system in systems:
        if folder := _folder_of(clip, system):
            rows.append(Row(system, tuple(_read(folder / f"{stem}.flac", n) for stem in STEMS)))
    return rows


def _folder_of(clip: Clip, system: str) -> Path | None:
    """Where a system's stems of the clip are, if anywhere."""
    if Path(system).name != system or system == REFERENCE:
        return None
    return next((f / system for f in clip.folders if (f / system).is_dir()), None)


def _read(path: Path, n_samples: int | None) -> Audio:
    """float32 (channels, n_samples), as long as the mixture."""
    try:
        with sf.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE or not 1 <= file.channels <= 2:
                raise UserError(f"{path} is not mono or stereo at {SAMPLE_RATE} Hz")
            audio = file.read(_MAX_SEC * SAMPLE_RATE, dtype="float32", always_2d=True).T
    except (sf.LibsndfileError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): run the benchmark again") from error
    if n_samples is not None and audio.shape[-1] != n_samples:
        raise UserError(f"{path} has {audio.shape[-1]} samples, its mixture {n_samples}")
    if not audio.size or not np.isfinite(audio).all():
        raise UserError(f"{path} is empty or holds NaN or infinity")
    return np.ascontiguousarray(audio)


def encode_mp3(audio: Audio, level: float) -> bytes:
    """MP3 at a variable rate of (channels, samples), what exceeds full scale clipped.

    Raises UserError where this machine's libsndfile writes no MP3.
    """
    target = io.BytesIO()
    try:
        with sf.SoundFile(
            target,
            "w",
            SAMPLE_RATE,
            len(audio),
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=level,
            bitrate_mode="VARIABLE",
        ) as file:
            file.write(np.clip(audio.T, -1, 1))
    except (sf.LibsndfileError, ValueError) as error:
        raise UserError(
            f"libsndfile {sf.__libsndfile_version__} writes no MP3 ({error}): "
            "install the wheel of soundfile, which brings one that does"
        ) from error
    return target.getvalue()


def _draw(sounds: Sequence[Audio], n_known: int) -> tuple[list[str], float]:
    """A data URI for each sound, and the level in dB where their common scale ends."""
    levels = [spectrogram_db(sound) for sound in sounds]
    top = float(max(level.max() for level in levels[: max(1, n_known)]))
    return [_png(np.clip((level - top) / RANGE_DB + 1, 0, 1)) for level in levels], top


def spectrogram_db(audio: Audio) -> NDArray[np.float64]:
    """Power per Hz in 64 bands of equal ratio, 40 Hz to 18 kHz: (bands, columns) in dB.

    Bands cut the running sum of the spectrum, so one that is narrower than a bin has its share.
    """
    mono = np.pad(audio.mean(axis=0, dtype=np.float64), _N_FFT // 2)
    centres = np.linspace(0, audio.shape[-1] - 1, _N_COLUMNS).astype(int)
    frames = mono[centres[:, None] + np.arange(_N_FFT)[None]] * np.hanning(_N_FFT)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 / _N_FFT
    edges = (np.arange(power.shape[1] + 1) - 0.5) * SAMPLE_RATE / _N_FFT
    running = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    at_band = np.stack([np.interp(_BANDS_HZ, edges, row) for row in running])
    density = np.diff(at_band, axis=1) / np.diff(_BANDS_HZ)
    return np.asarray(10 * np.log10(density.T + 1e-12))


def _png(shade: NDArray[np.float64]) -> str:
    """A picture of (bands, columns) in 0..1, low bands at the bottom, in few colours."""
    from matplotlib import colormaps
    from PIL import Image

    index = np.round(shade[::-1] * (_N_SHADES - 1)).astype(np.uint8)
    image = Image.fromarray(index)
    colors = colormaps["magma"](np.linspace(0, 1, _N_SHADES))[:, :3]
    image.putpalette(np.round(colors * 255).astype(np.uint8).tobytes())
    target = io.BytesIO()
    image.save(target, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()
