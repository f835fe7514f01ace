"""The few clips that a report lets people hear: which, which seconds of them, and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.records import AUDIO
from benchmarks.tracks import LoadedTrack, Track
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

EXCERPT_SEC: Final = 8.0
INDEX: Final = "clips.json"


def choose(tracks: Sequence[Track], n_hits: Mapping[str, Mapping[str, int]], n: int) -> list[Track]:
    """The tracks to be heard: most stems present, then most hits of the rarer half of them.

    Args:
        tracks: the run's.
        n_hits: performance -> stem -> hits.
        n: how many; each on another kit and of another performance as long as there are any.
    """

    def merit(track: Track) -> tuple[int, int, str]:
        hits = n_hits[track.performance]
        rare = sum(hits[stem] for stem in ("toms", "cymbals"))
        return (-sum(count > 0 for count in hits.values()), -rare, track.clip)

    chosen: list[Track] = []
    ranked = sorted(tracks, key=merit)
    for new_kit, new_performance in ((True, True), (False, True), (True, False)):
        for track in ranked:
            if len(chosen) >= n:
                return chosen
            if track in chosen:
                continue
            if new_kit and track.kit in {other.kit for other in chosen}:
                continue
            if new_performance and track.performance in {o.performance for o in chosen}:
                continue
            chosen.append(track)
    return chosen


def busiest_window(loaded: LoadedTrack) -> tuple[int, int]:
    """Start and stop in samples of the excerpt: most stems in it, then most hits."""
    n_samples = loaded.mixture.shape[-1]
    length = min(n_samples, round(EXCERPT_SEC * SAMPLE_RATE))
    onsets = [np.array(loaded.onsets_of(stem)) for stem in STEMS]
    starts = sorted({max(0.0, t - 0.1) for found in onsets for t in found if t < 1e6})
    best = (-1, -1, 0.0)
    for start in starts:
        begin = min(start, (n_samples - length) / SAMPLE_RATE)
        inside = [int(((o >= begin) & (o < begin + EXCERPT_SEC)).sum()) for o in onsets]
        best = max(best, (sum(map(bool, inside)), sum(inside), -begin))
    first = round(-best[2] * SAMPLE_RATE)
    return first, first + length


def write_excerpt(
    root: Path, track: Track, name: str, stems: Mapping[str, NDArray[np.floating]]
) -> None:
    """Write stems (channels, samples), cut already, into a folder of the clip.

    ``name`` is "" for the mixture, "reference" or a system's id. Estimates may exceed full
    scale: they are clipped, which is what a player would do.
    """
    folder = root / AUDIO / track.clip / name
    folder.mkdir(parents=True, exist_ok=True)
    for stem, audio in stems.items():
        scratch = folder / f".{stem}.partial"
        soundfile.write(scratch, np.clip(audio.T, -1, 1), SAMPLE_RATE, "PCM_16", format="FLAC")
        os.replace(scratch, folder / f"{stem}.flac")


def has_excerpt(root: Path, track: Track, name: str) -> bool:
    """Whether all stems of the clip are there for a system."""
    folder = root / AUDIO / track.clip / name
    return all((folder / f"{stem}.flac").exists() for stem in STEMS)


def write_index(root: Path, clips: Sequence[tuple[Track, float]]) -> None:
    """Write clips.json: each clip with the second at which its excerpt starts."""
    items = [
        {
            "clip": track.clip,
            "track": track.performance,
            "kit": track.kit,
            "start_sec": round(start_sec, 3),
            "duration_sec": EXCERPT_SEC,
            "data": track.data,
        }
        for track, start_sec in clips
    ]
    path = root / AUDIO / INDEX
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{INDEX}.partial")
    scratch.write_text(json.dumps({"clips": items}, indent=2) + "\n", "utf-8")
    os.replace(scratch, path)
