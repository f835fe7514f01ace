"""Stems that another program made: any folder of audio files, found by name and checked.

A stem's file may be the sum of several (``cymbals=ride+crash``). Letter case does not count, so
that Kick.wav is a kick, and the folder is listed once.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from baselines.system import SystemInfo
from benchmarks.sources import Track
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.recordings import open_source, read_whole
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

LAYOUTS: Final = (
    "{clip}/{stem}",
    "{stem}/{clip}",
    "{clip}_{stem}",
    "{clip}/{clip}_{stem}",
    "{clip}-{stem}",
    "{clip}_({stem})",
    "{kit}/{id}/{stem}",
    "{kit}/{name}/{stem}",
    "{drummer_session}/{kit}/{stem}/{name}",
    "audio/{drummer_session}/{kit}/{stem}/{name}",
)
"""Where a stem's file may lie, below the folder and without its ending. ``clip`` is what `stemgmd
bench export` calls a mixture. The second is LarsNet's own, the last two are StemGMD's."""

ENDINGS: Final = (".wav", ".flac", ".aiff", ".ogg", ".mp3")
MAX_FILES: Final = 1_000_000

Names = Mapping[str, tuple[str, ...]]
"""Stem -> what the other program calls the files whose sum it is."""


@dataclass(frozen=True)
class EstimateFolder:
    """Estimates of a system by clip.

    ``names``: pairs of stem and the files whose sum it is. ``missing_is_silent``: a stem without
    file counts as silence instead of being an error.
    """

    root: Path
    info: SystemInfo
    names: tuple[tuple[str, tuple[str, ...]], ...]
    missing_is_silent: bool = False

    def find(self, track: Track) -> dict[str, tuple[Path, ...]]:
        """The files of each stem of a track.

        Raises UserError where one is missing, naming what was looked for and what is there.
        """
        for layout in LAYOUTS:
            found = {
                name: self._file(layout, track, name) for _, names in self.names for name in names
            }
            there = [path for path in found.values() if path]
            if not there:
                continue
            missing = [name for name, path in found.items() if not path]
            if missing and not self.missing_is_silent:
                raise UserError(
                    f"{self.info.id} on {track.clip}: no file of {', '.join(missing)} beside "
                    f"{there[0]}; --map names them, --missing silence takes them as silent"
                )
            paths = {stem: tuple(p for n in names if (p := found[n])) for stem, names in self.names}
            return {stem: files for stem, files in paths.items() if files}
        first = next(iter(_listed(self.root).values()), "no audio file at all")
        examples = ", ".join(self._place(layout, track, "kick") for layout in LAYOUTS[:3])
        raise UserError(
            f"{self.info.id} on {track.clip}: no stem in {self.root}: looked for {examples} and "
            f"others, found {first}"
        )

    def load(self, track: Track, shape: Sequence[int]) -> NDArray[np.float32]:
        """The stems of a track: float32 (5, channels, n_samples).

        Args:
            track: which one.
            shape: (channels, n_samples) of its mixture. Mono files count for all channels.

        Raises:
            UserError: a file is missing, unreadable, of another rate, length or channel count.
        """
        stems = np.zeros((len(STEMS), *shape), np.float32)
        for stem, paths in self.find(track).items():
            for path in paths:
                stems[STEMS.index(stem)] += _read(path, (shape[0], shape[1]))
        return stems

    def with_revision_of(self, tracks: Sequence[Track]) -> EstimateFolder:
        """The same with a hash of every file of these tracks as its revision.

        Raises UserError where no track has all of its files: another folder was meant.
        """
        digest, missing, n_found = hashlib.sha256(), "", 0
        for track in tracks:
            try:
                files = self.find(track)
            except UserError as error:
                missing = missing or str(error)  # told when the track is scored
                continue
            n_found += 1
            for stem, paths in files.items():
                for path in paths:
                    digest.update(f"{track.clip}/{stem} {sha256_of_file(path)}\n".encode())
        if not n_found:
            raise UserError(missing)
        return replace(self, info=replace(self.info, revision=f"files-{digest.hexdigest()[:16]}"))

    def faults(self, tracks: Sequence[Track]) -> list[str]:
        """A line for each track whose files are missing or of another kind, without scoring.

        Looks at names and headers alone, so that a wrong folder is told before hours of work.
        """
        _listed.cache_clear()  # the folder may have changed since an earlier call
        lines = []
        for track in tracks:
            try:
                for paths in self.find(track).values():
                    for path in paths:
                        _check_header(path)
            except UserError as error:
                lines.append(str(error))
        return lines

    def _file(self, layout: str, track: Track, name: str) -> Path | None:
        place = self._place(layout, track, name).casefold()
        listed = _listed(self.root)
        found = (listed.get(f"{place}{ending}") for ending in ENDINGS)
        return next((path for path in found if path), None)

    @staticmethod
    def _place(layout: str, track: Track, name: str) -> str:
        return layout.format(
            clip=track.clip,
            kit=track.kit or "-",
            id=track.id,
            name=track.name or track.id,
            drummer_session=track.id.rpartition("/")[0] or "-",
            stem=name,
        )


@functools.lru_cache(maxsize=4)
def _listed(root: Path) -> dict[str, Path]:
    """Every audio file below a folder by its path there, without case. Links are not followed."""
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if name.casefold().endswith(ENDINGS):
                path = Path(folder) / name
                found.setdefault(path.relative_to(root).as_posix().casefold(), path)
        if len(found) > MAX_FILES:
            raise UserError(f"{root} holds over {MAX_FILES:,} audio files: name the right folder")
    return dict(sorted(found.items()))


def parse_map(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Stem -> names, from "kick=bd,cymbals=ride+crash"; stems not named keep their names.

    Raises UserError for an unknown stem or a name that leaves its folder.
    """
    names: dict[str, tuple[str, ...]] = {stem: (stem,) for stem in STEMS}
    for item in filter(None, text.split(",")):
        stem, _, given = item.partition("=")
        if stem not in names:
            raise UserError(f"--map: no stem {stem!r}; there are {', '.join(STEMS)}")
        names[stem] = tuple(given.split("+"))
        for name in names[stem]:
            if not name or "/" in name or "\\" in name or name.startswith("."):
                raise UserError(f"--map: {name!r} is no name of a file (without its ending)")
    used = [name for several in names.values() for name in several]
    for name in used:
        if used.count(name) > 1:
            raise UserError(f"--map: {name!r} is given to two stems")
    return tuple(names.items())


def _check_header(path: Path) -> None:
    """Raise UserError for no audio or another rate."""
    with open_source(path) as source:
        if source.sample_rate != SAMPLE_RATE:
            raise UserError(f"{path} has {source.sample_rate} Hz, not {SAMPLE_RATE}: resample it")


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """float32 (channels, n_samples), checked against the mixture's shape."""
    most = 2 * shape[1] / SAMPLE_RATE + 60
    audio, rate = read_whole(path, max_sec=most, what="an estimate of its mixture")
    if rate != SAMPLE_RATE:
        raise UserError(f"{path} has {rate} Hz, not {SAMPLE_RATE}: resample it")
    if audio.shape[1] != shape[1]:
        raise UserError(
            f"{path} has {audio.shape[1]} samples, its mixture {shape[1]}: estimates must be "
            "as long as what was separated"
        )
    if len(audio) not in (1, shape[0]):
        raise UserError(f"{path} has {len(audio)} channels, its mixture {shape[0]}")
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds NaN or infinity")
    return np.broadcast_to(audio, shape)
