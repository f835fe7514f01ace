"""Stems that another program made: any folder of audio files, found by name and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from baselines.system import SystemInfo
from benchmarks.tracks import Track
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

LAYOUTS: Final = (
    "{clip}/{stem}",
    "{kit}/{performance}/{stem}",
    "{kit}/{name}/{stem}",
    "{drummer_session}/{kit}/{stem}/{name}",
    "audio/{drummer_session}/{kit}/{stem}/{name}",
)
"""Where a stem's file may lie, below the folder and without its ending. ``clip`` is what `stemgmd
bench export` calls a mixture, <kit>--<performance with _ for />; the last is StemGMD's own."""

ENDINGS: Final = (".wav", ".flac", ".aiff", ".ogg", ".mp3")


@dataclass(frozen=True)
class EstimateFolder:
    """Estimates of a system by clip.

    ``names``: stem -> what the other program calls it. ``missing_is_silent``: a stem without
    file counts as silence instead of being an error.
    """

    root: Path
    info: SystemInfo
    names: tuple[tuple[str, str], ...]
    missing_is_silent: bool = False

    def find(self, track: Track) -> dict[str, Path]:
        """The file of each stem of a track.

        Raises UserError where one is missing, naming where it was looked for.
        """
        names = dict(self.names)
        for layout in LAYOUTS:
            found = {stem: self._file(layout, track, names[stem]) for stem in STEMS}
            there = {stem: path for stem, path in found.items() if path}
            if len(there) == len(STEMS) or (there and self.missing_is_silent):
                return there
            if there:
                missing = ", ".join(names[stem] for stem in STEMS if stem not in there)
                raise UserError(
                    f"{self.info.id} on {track.clip}: no file of {missing} beside "
                    f"{next(iter(there.values()))}; --map names them, --missing silence takes "
                    "them as silent"
                )
        examples = " or ".join(self._place(layout, track, names["kick"]) for layout in LAYOUTS[:2])
        raise UserError(f"{self.info.id} on {track.clip}: no stem in {self.root}: no {examples}")

    def load(self, track: Track, shape: Sequence[int]) -> NDArray[np.float32]:
        """The stems of a track: float32 (5, channels, n_samples).

        Args:
            track: which one.
            shape: (channels, n_samples) of its mixture. Mono files count for all channels.

        Raises:
            UserError: a file is missing, unreadable, of another rate, length or channel count.
        """
        stems = np.zeros((len(STEMS), *shape), np.float32)
        for stem, path in self.find(track).items():
            stems[STEMS.index(stem)] = _read(path, (shape[0], shape[1]))
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
            for stem, path in files.items():
                digest.update(f"{track.clip}/{stem} {sha256_of_file(path)}\n".encode())
        if not n_found:
            raise UserError(missing)
        return replace(self, info=replace(self.info, revision=f"files-{digest.hexdigest()[:16]}"))

    def _file(self, layout: str, track: Track, name: str) -> Path | None:
        place = self._place(layout, track, name)
        found = [self.root / f"{place}{ending}" for ending in ENDINGS]
        return next((path for path in found if path.is_file()), None)

    @staticmethod
    def _place(layout: str, track: Track, name: str) -> str:
        return layout.format(
            clip=track.clip,
            kit=track.kit,
            performance=track.performance,
            name=track.name,
            drummer_session=track.performance.rsplit("/", 1)[0],
            stem=name,
        )


def parse_map(text: str) -> tuple[tuple[str, str], ...]:
    """Stem -> name, from "kick=bd,hihat=hh"; stems that are not named keep their names.

    Raises UserError for an unknown stem or a name that leaves its folder.
    """
    names: dict[str, str] = {stem: stem for stem in STEMS}
    for item in filter(None, text.split(",")):
        stem, _, name = item.partition("=")
        if stem not in names:
            raise UserError(f"--map: no stem {stem!r}; there are {', '.join(STEMS)}")
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"--map: {name!r} is no name of a file (without its ending)")
        names[stem] = name
    return tuple(names.items())


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """float32 (channels, n_samples), checked against the mixture's shape."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE:
                raise UserError(f"{path} has {file.samplerate} Hz, not {SAMPLE_RATE}: resample it")
            if file.frames != shape[1]:
                raise UserError(
                    f"{path} has {file.frames} samples, its mixture {shape[1]}: estimates must be "
                    "as long as what was separated"
                )
            if file.channels not in (1, shape[0]):
                raise UserError(f"{path} has {file.channels} channels, its mixture {shape[0]}")
            audio: NDArray[np.float32] = file.read(dtype="float32", always_2d=True).T
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not np.isfinite(audio).all():
        raise UserError(f"{path} holds NaN or infinity")
    return np.broadcast_to(audio, shape)
