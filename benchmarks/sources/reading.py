"""Recordings and annotations of other people's data sets, as the benchmark wants them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soxr

from benchmarks.sources import Audio, Onsets
from benchmarks.sources.labels import OTHER, STEM_OF_LABEL, plain
from benchmarks.sources.performances import onsets_by_piece, onsets_by_stem
from stemgmd_build.errors import UserError
from stemgmd_build.files import read_text
from stemgmd_build.performances.collection import read_score
from stemgmd_build.recordings import open_source, read_whole
from stemgmd_build.taxonomy import SAMPLE_RATE, STEM_OF_NOTE, STEMS

MIDI: Final = (".mid", ".midi")
TEXT: Final = (".csv", ".tsv", ".txt")
LONGEST_SEC: Final = 2 * 3600
"""A recording is held in memory as a whole, with its stems and a system's."""

_HEADINGS: Final = frozenset({"time", "onset", "onsets", "onsetsec", "seconds", "timesec", "start"})


def read_audio(path: Path) -> Audio:
    """A whole file: float32 (channels, n_samples), one channel or two, resampled to 44.1 kHz.

    Raises UserError where it cannot be read, is damaged, too long or has more channels.
    """
    audio, rate = read_whole(path, max_sec=LONGEST_SEC, what="a recording of the benchmark")
    if len(audio) > 2:
        raise UserError(f"{path} has {len(audio)} channels: mix it to one or two first")
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds NaN or infinity")
    if rate != SAMPLE_RATE:
        audio = soxr.resample(audio.T, rate, SAMPLE_RATE, quality="VHQ").T
    return np.ascontiguousarray(audio, np.float32)


def fitted(audio: Audio, shape: tuple[int, int], where: Path, slack: int = 0) -> Audio:
    """A stem in the shape (channels, n_samples) of its mixture.

    Mono counts for both channels, and two channels are averaged for a mono mixture. Up to
    ``slack`` samples that are missing or too many are zeros or left out.

    Raises UserError for a stem that is longer or shorter than that.
    """
    n_channels, n_samples = shape
    if abs(audio.shape[1] - n_samples) > slack:
        raise UserError(f"{where} has {audio.shape[1]} samples, its mixture {n_samples}")
    if n_channels == 1:
        audio = audio.mean(axis=0, keepdims=True)
    out = np.zeros(shape, np.float32)
    n = min(n_samples, audio.shape[1])
    out[:, :n] = audio[:, :n]
    return out


def duration_sec(path: Path) -> float:
    """Seconds that a file says it lasts, 0 where it says nothing. Raises UserError for no audio."""
    with open_source(path) as file:
        return file.about_sec or 0.0


def check_times(onsets: Onsets, n_samples: int, path: Path) -> None:
    """Raise UserError where a hit lies behind the end of its recording."""
    last = max((times[-1] for times in onsets.values() if times), default=0.0)
    if last > n_samples / SAMPLE_RATE:
        raise UserError(
            f"{path}: a hit at {last:.3f} s, in a recording of {n_samples / SAMPLE_RATE:.3f} s"
        )


def read_onsets(path: Path) -> tuple[Onsets, Onsets | None]:
    """An annotation: stem -> onsets of all five, and piece -> onsets where it is that fine.

    MIDI files are read as GMD's are. CSV, TSV and text files have a time in seconds and a label
    in each row (:mod:`benchmarks.sources.labels`, or a MIDI note); one heading line is let pass.

    Raises UserError that names the line for what cannot be understood.
    """
    if path.suffix.lower() in MIDI:
        by_piece = onsets_by_piece(read_score(path))
        return onsets_by_stem(by_piece), by_piece
    return by_stem(labelled_times(path), path), None


def by_stem(hits: Iterable[tuple[float, str, int]], path: Path) -> Onsets:
    """Stem -> onsets of (seconds, label, line of the file).

    What belongs to no stem (cowbell, tambourine) stands under "other", so that hits beside it do
    not count as isolated.
    """
    found: dict[str, list[float]] = {stem: [] for stem in STEMS}
    for seconds, label, line in hits:
        name = plain(label)
        stem = STEM_OF_LABEL.get(name)
        if stem is None and name.isdecimal() and len(name) <= 3:
            stem = STEM_OF_NOTE.get(int(name))
        if stem is not None:
            found[stem].append(seconds)
        elif name in OTHER:
            found.setdefault("other", []).append(seconds)
        else:
            raise UserError(
                f"{path}, line {line}: no drum is called {label[:40]!r}; known are "
                f"{', '.join(STEMS)}, their usual abbreviations (KD, SD, TT, HH, CY) and 'other'"
            )
    return {stem: tuple(sorted(times)) for stem, times in found.items()}


def labelled_times(path: Path) -> list[tuple[float, str, int]]:
    """(seconds, label, line) of each row. Raises UserError for a row that has not both."""
    found: list[tuple[float, str, int]] = []
    for line, row in _rows(path):
        seconds = _number(row[0])
        if len(row) < 2 or seconds is None:
            if not found and plain(row[0]) in _HEADINGS:
                continue
            raise UserError(f"{path}, line {line}: needs a time in seconds and a name of a drum")
        if not 0 <= seconds <= LONGEST_SEC:
            raise UserError(f"{path}, line {line}: {row[0][:20]} is no time in seconds")
        found.append((seconds, row[1], line))
    return found


def _rows(path: Path) -> Iterable[tuple[int, Sequence[str]]]:
    """Rows that are not empty, by their line, separated by whatever the first one uses."""
    text = read_text(path, "settings").removeprefix("\ufeff")
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = next((mark for mark in "\t;," if mark in first), None)
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            row = next(csv.reader([line], delimiter=separator)) if separator else line.split()
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: is no row ({error})") from error
        yield number, [cell.strip() for cell in row]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
