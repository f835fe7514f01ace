"""What sources of recordings share: files on disk become a track."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.sources import LoadedTrack, Onsets, Selection, Track
from benchmarks.sources.reading import check_times, duration_sec, fitted, read_audio
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

SLACK_SEC: Final = 0.05
"""Exports of one session differ by some milliseconds at the end."""


@dataclass(frozen=True)
class Recording:
    """Where a recording lies.

    ``stems``: pairs of stem and file; a stem may have several. ``annotation``: none, one or
    several files, as the source reads them.
    """

    mixture: Path
    stems: tuple[tuple[str, Path], ...] = ()
    annotation: tuple[Path, ...] = ()


def find_root(selection: Selection, source: str, folders: Iterable[str], sign: str) -> Path:
    """The folder of a data set, where ``--data`` names it or one above it.

    Args:
        selection: with the folder that was named.
        source: the source's name, for errors.
        folders: what the set's own folder may be called, as paths below the named one.
        sign: a pattern of which the set's folder holds at least one file.

    Raises:
        UserError: no folder was named, or none of these holds such a file.
    """
    root = selection.data
    if root is None:
        raise UserError(f"--source {source} needs --data, the folder of its recordings")
    if not root.is_dir():
        raise UserError(f"{root} is no folder")
    for folder in (root, *(root / name for name in folders)):
        try:
            if any(folder.glob(sign)):
                return folder
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error
    raise UserError(f"{root} holds no {sign}; `stemgmd bench sources` says how to get the set")


def left_out(source: str, names: list[str], why: str) -> None:
    """Say which recordings are left out: fewer than published must not pass in silence."""
    if names:
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        print(f"{source}: {len(names)} recordings are left out, {why}: {some}", file=sys.stderr)


def track_of(
    source: str,
    board: str,
    name: str,
    recording: Recording,
    onsets: Onsets,
    *,
    gives: Iterable[str] = (),
    group: str = "",
    material: tuple[str, ...] = (),
) -> Track:
    """A track of files. Raises UserError where one cannot be read.

    ``gives``: what the track gives beyond what follows from its files.
    """
    known = {stem for stem, _ in recording.stems} | {s for s in STEMS if onsets.get(s) == ()}
    given = {"mixture", *gives, *({"references"} if known == {*STEMS} else ())}
    paths = [recording.mixture, *(path for _, path in recording.stems), *recording.annotation]
    return Track(
        source=source,
        board=board,
        id=name,
        name=name.rpartition("/")[2],
        clip=name.replace("/", "_"),
        data=hash_of(paths),
        duration_sec=duration_sec(recording.mixture),
        place=recording,
        group=group,
        material=material,
        gives=frozenset(given),
    )


def load_recording(
    recording: Recording, onsets: Onsets, score: Onsets | None = None, *, slack_sec: float = 0.0
) -> LoadedTrack:
    """Read a recording. Raises UserError where a file is damaged or a stem has another length.

    ``slack_sec``: by how much a stem's length may differ from the mixture's.
    """
    mixture = read_audio(recording.mixture)
    shape = (mixture.shape[0], mixture.shape[1])
    references = np.zeros((len(STEMS), *shape), np.float32)
    for stem, path in recording.stems:
        audio = fitted(read_audio(path), shape, path, round(slack_sec * SAMPLE_RATE))
        references[STEMS.index(stem)] += audio
    check_times(onsets, mixture.shape[1], (*recording.annotation, recording.mixture)[0])
    held = frozenset(stem for stem, _ in recording.stems)
    return LoadedTrack(mixture, references, onsets, held, score)


def hash_of(paths: Iterable[Path]) -> str:
    """A hash of the contents of files. Raises UserError where one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()[:32]
