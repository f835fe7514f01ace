"""Tracks of a dataset that `stemgmd build` wrote. Bytes that have changed since are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.sources import KITS, LoadedTrack, Onsets, Selection, Track
from benchmarks.sources.performances import (
    INFO,
    clip_name,
    hash_midi,
    identity,
    loaded,
    onsets_by_piece,
    onsets_by_stem,
)
from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import manifest
from stemgmd_build.building.manifest import FileRecord
from stemgmd_build.dataset.select import choose_rows
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import EVAL_SESSION, read_score
from stemgmd_build.performances.notes import with_notes
from stemgmd_build.rendering.render import RENDERER_VERSION
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEMS

__all__ = ["INFO", "built_tracks", "load", "onsets", "tracks"]

DEFAULT_SPLIT: Final = (EVAL_SESSION,)
DEFAULT_KITS: Final = ("test",)


@dataclass(frozen=True)
class Files:
    """Where a dataset holds a track: files of stems or pieces by name, and its MIDI."""

    root: Path
    files: tuple[tuple[str, FileRecord], ...]
    midi: FileRecord


def tracks(selection: Selection) -> list[Track]:
    """As :class:`benchmarks.sources.Source`: by default the paper's clips on the held-out kits."""
    if selection.data is None:
        raise UserError("--source built needs --data, the folder that `stemgmd build` wrote")
    return built_tracks(
        selection.data,
        split=selection.split or DEFAULT_SPLIT,
        kits=selection.kits or DEFAULT_KITS,
        limit=selection.limit,
    )


def built_tracks(
    root: Path, *, split: Sequence[str], kits: Sequence[str] | None, limit: int | None = None
) -> list[Track]:
    """Tracks of a dataset that `stemgmd build` wrote, kit by kit.

    ``split`` and ``kits`` as in :mod:`stemgmd_build.dataset.select`; ``kits`` None means all.
    Raises UserError where the folder is no dataset or holds none of what is asked for.
    """
    settings, files = manifest.read_settings(root), manifest.read_manifest(root)
    if settings.get("renderer") != RENDERER_VERSION:
        raise UserError(
            f"{root} was built by renderer {settings.get('renderer')}, this is {RENDERER_VERSION}; "
            "build it again"
        )
    rows = manifest.read_metadata(root)
    chosen = choose_rows(root, rows, split, kits, limit)
    if not chosen:
        raise UserError(f"{root} holds no track of split {', '.join(split)} and these kits")
    return [_track(root, settings, files, row) for row in chosen]


def onsets(track: Track) -> Onsets:
    """As :class:`benchmarks.sources.Source`."""
    place = cast(Files, track.place)
    return onsets_by_stem(onsets_by_piece(read_score(place.root / place.midi.path)))


def load(track: Track) -> LoadedTrack:
    """Read a track. Raises UserError where a file is missing, damaged or changed."""
    place = cast(Files, track.place)
    pcm = {name: _checked_pcm(place.root, file) for name, file in place.files}
    n_samples = max(map(len, pcm.values()))
    for name, samples in pcm.items():
        if len(samples) != n_samples:
            raise UserError(
                f"{place.root}: {name} of {place.midi.path} has {len(samples)} samples, others "
                f"{n_samples}: `stemgmd verify {place.root}`"
            )
    midi = place.root / place.midi.path
    if hash_midi(midi) != place.midi.sha256:
        raise _changed(midi, place.root)
    whole = set(STEMS) <= set(pcm)
    members = {stem: (stem,) for stem in STEMS} if whole else PIECES_OF_STEM
    references = np.zeros((len(STEMS), 2, n_samples), np.float32)
    for row, stem in zip(references, STEMS, strict=True):
        for name in members[stem]:
            row += pcm[name].T / np.float32(FULL_SCALE)
    return loaded(references, read_score(midi))


def _track(
    root: Path, settings: dict[str, Any], files: dict[str, FileRecord], row: dict[str, str]
) -> Track:
    render, facts = settings["render"], settings["kits"].get(row["kit"], {})
    members = STEMS if render["stems"] != "nine" else PIECES
    folder, suffix = manifest.track_folder(row), f"{row['name']}.{render['file_format']}"
    paths = {name: f"{folder}/{name}/{suffix}" for name in members}
    midi = f"midi/{row['midi_filename']}"
    missing = [path for path in (*paths.values(), midi) if path not in files]
    if missing:
        raise UserError(f"{root / missing[0]} is not in the manifest: `stemgmd verify {root}`")
    return Track(
        source="built",
        board=KITS,
        id=row["id"],
        name=row["name"],
        clip=clip_name(row["kit"], row["id"]),
        kit=row["kit"],
        kit_split=row["kit_split"],
        duration_sec=int(row["n_samples"]) / SAMPLE_RATE,
        data=identity(
            render.get("articulations"),
            render.get("choke"),
            facts.get("bank"),
            float(row["gain"]),
            with_notes(root / midi, row["midi_sha256"]),
        ),
        place=Files(root, tuple((n, files[p]) for n, p in paths.items()), files[midi]),
    )


def _checked_pcm(root: Path, file: FileRecord) -> NDArray[np.int16]:
    """The samples of a file whose bytes are those that were built."""
    path = root / file.path
    if not path.exists():
        raise UserError(f"{path} is missing: `stemgmd verify {root}` tells what else is")
    if path.stat().st_size != file.n_bytes or sha256_of_file(path) != file.sha256:
        raise _changed(path, root)
    return read_pcm(path)


def _changed(path: Path, root: Path) -> UserError:
    return UserError(
        f"{path} has changed since the dataset was built: `stemgmd verify {root}` lists every such "
        "file; delete those and build again"
    )
