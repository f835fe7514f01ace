"""The few clips that a report lets people hear: which, which seconds of them, and their files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.results_folder import AUDIO
from benchmarks.sources import LoadedTrack, Track, load
from stemgmd_build.files import write_whole
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

EXCERPT_SEC: Final = 8.0
INDEX: Final = "clips.json"


def choose(tracks: Sequence[Track], n_hits: Mapping[str, Mapping[str, int]], n: int) -> list[Track]:
    """The tracks to be heard: most stems present, then most hits of the rarer half of them.

    Args:
        tracks: the run's.
        n_hits: track's id -> stem -> hits; a stem that is not annotated may be left out.
        n: how many; each on another kit and of another performance as long as there are any.
    """

    def merit(track: Track) -> tuple[int, int, str]:
        hits = n_hits[track.id]
        rare = sum(hits.get(stem, 0) for stem in ("toms", "cymbals"))
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
            if new_performance and track.id in {o.id for o in chosen}:
                continue
            chosen.append(track)
    return chosen


def busiest_window(loaded: LoadedTrack) -> tuple[int, int]:
    """Start and stop in samples of the excerpt: most stems in it, then most hits."""
    n_samples = loaded.mixture.shape[-1]
    length = min(n_samples, round(EXCERPT_SEC * SAMPLE_RATE))
    onsets = [np.array(loaded.onsets.get(stem, ())) for stem in STEMS]
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

    ``name`` is "" for the mixture, "reference" or a system's id. Raises OSError.
    """
    for stem, audio in stems.items():
        write_audio(root / AUDIO / track.clip / name / f"{stem}.flac", audio)


def write_audio(path: Path, audio: NDArray[np.floating]) -> None:
    """Write (channels, samples) as 16 bit, the whole file or none, in the format of its ending.

    Estimates may exceed full scale: they are clipped, which is what a player would do. Raises
    OSError; encoded in memory, since libsndfile does not tell a full disk from other faults.
    """
    encoded = io.BytesIO()
    kind = path.suffix.removeprefix(".").upper()
    soundfile.write(encoded, np.clip(audio.T, -1, 1), SAMPLE_RATE, "PCM_16", format=kind)
    write_whole(path, encoded.getvalue())


def has_excerpt(root: Path, track: Track, name: str) -> bool:
    """Whether all stems of the clip are there for a system."""
    folder = root / AUDIO / track.clip / name
    return all((folder / f"{stem}.flac").exists() for stem in STEMS)


def write_index(root: Path, clips: Sequence[Track]) -> None:
    """Add the clips whose excerpts are there to clips.json; those of earlier runs stay.

    Raises UserError where a clip cannot be loaded, OSError where nothing can be written.
    """
    items = {item["clip"]: item for item in _index(root)}
    new = [track for track in clips if (items.get(track.clip) or {}).get("data") != track.data]
    new = [track for track in new if (root / AUDIO / track.clip / "mixture.flac").exists()]
    for track in new:
        start, stop = busiest_window(load(track))
        items[track.clip] = {
            "clip": track.clip,
            "track": track.id,
            "kit": track.kit,
            "start_sec": round(start / SAMPLE_RATE, 3),
            "duration_sec": round((stop - start) / SAMPLE_RATE, 3),
            "data": track.data,
        }
    if new:
        text = json.dumps({"clips": list(items.values())}, indent=2) + "\n"
        write_whole(root / AUDIO / INDEX, text)


def _index(root: Path) -> list[dict[str, object]]:
    """The items of clips.json whose folders are there; none where it is missing or damaged."""
    try:
        items = json.loads((root / AUDIO / INDEX).read_text("utf-8"))["clips"]
        return [item for item in items if (root / AUDIO / str(item["clip"])).is_dir()]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
