"""Where the benchmark's recordings come from: one module per data set.

A source is a module with the four members of :class:`Source`. Its name stands in :data:`SOURCES`;
nothing else of the benchmark knows it. A source gives what its data have and demands no more:
stems may be missing, onsets may be all there is. `benchmarks.sources.folder` is the shortest
example.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS

Audio = NDArray[np.float32]
Onsets = Mapping[str, tuple[float, ...]]
"""Stem (or piece) -> seconds, ascending. No key: not annotated. An empty tuple: never played.
"other" holds what is struck and belongs to no stem."""

KITS: Final = "kits"
"""The board of performances on drum kits, whether rendered or read from a dataset folder."""

SOURCES: Final[dict[str, str]] = {
    "rendered": "benchmarks.sources.rendered",
    "built": "benchmarks.sources.built",
    "folder": "benchmarks.sources.folder",
    "idmt": "benchmarks.sources.idmt",
    "mdb": "benchmarks.sources.mdb",
    "enst": "benchmarks.sources.enst",
    "stemgmd": "benchmarks.sources.stemgmd",
}
"""Name on the command line -> module."""

CONDITIONS: Final[dict[str, str]] = {
    "quiet": "at -20 dB",
    "mono": "in mono",
    "mp3": "as MP3 of 128 kbit/s",
}
"""What may be done to a track before it is separated (`benchmarks.sources.conditions`) -> words."""


@dataclass(frozen=True)
class Archive:
    """A zip file to download. ``md5``: its publisher's checksum. ``megabytes``: about how many."""

    url: str
    md5: str
    megabytes: int
    max_members: int
    max_unpacked_megabytes: int


@dataclass(frozen=True)
class SourceInfo:
    """What a table says of a source.

    ``board``: sources of one board have the same tracks; their records stand in one table.
    ``get``: one line that says how to get the data. ``archive``: what `stemgmd bench fetch`
    downloads, where the licence lets everybody do that. ``may_share``: whether excerpts may be
    published with results; where not, none are kept unless they are asked for.
    """

    board: str
    name: str
    licence: str
    citation: str
    get: str
    archive: Archive | None = None
    may_share: bool = True


@dataclass(frozen=True)
class Selection:
    """Which tracks are asked for; a source ignores what means nothing to it.

    ``data``: the folder of the data. ``gmd``: the folder of performances to render. ``split`` and
    ``kits`` are None where nothing is asked for.
    """

    data: Path | None = None
    gmd: Path | None = None
    split: tuple[str, ...] | None = None
    kits: tuple[str, ...] | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Track:
    """One recording that is separated and scored.

    Attributes:
        source: key of :data:`SOURCES`.
        board: as in :class:`SourceInfo`.
        id: what is played: GMD's performance id, or the recording's name.
        clip: a name for files, unique in a run.
        data: a hash of all that the samples and the annotation follow from.
        duration_sec: length of the mixture.
        place: where the source finds it, known to the source alone. Must pickle.
        name: the last part of ``id``, as files are called.
        group: tracks of one group are not independent; intervals resample groups. Default: ``id``.
        kit, kit_split: id and side ("train", "test") of the drum kit, where there is one.
        material: further names under which a system may have been trained on this track, such as
            the kit's family or the data set (compare ``SystemInfo.kits_seen``).
        condition: key of :data:`CONDITIONS`; empty for the track as it is.
        gives: what a system can be given of it, of ``baselines.system.Input``. "references" needs
            all true stems, "score" an annotation by pieces.
    """

    source: str
    board: str
    id: str
    clip: str
    data: str
    duration_sec: float
    place: object
    name: str = ""
    group: str = ""
    kit: str = ""
    kit_split: str = ""
    material: tuple[str, ...] = ()
    condition: str = ""
    gives: frozenset[str] = frozenset({"mixture", "score", "references"})


@dataclass(frozen=True)
class LoadedTrack:
    """A track in memory, at the project's sample rate.

    Attributes:
        mixture: float32 (channels, n_samples), full scale 1.0, one channel or two.
        references: float32 (5, channels, n_samples); zero where the data have no such stem.
        onsets: stem -> onsets of its hits.
        held: the stems whose audio the data have.
        score: piece -> onsets, where the annotation is that fine; score-informed systems need it.
    """

    mixture: Audio
    references: Audio
    onsets: Onsets
    held: frozenset[str] = frozenset(STEMS)
    score: Onsets | None = None

    def present(self, stem: str) -> bool | None:
        """Whether a stem is played; None where the data do not say.

        A stem that is annotated but whose audio was rounded to silence counts as absent: there
        is nothing to compare an estimate with.
        """
        annotated = stem in self.onsets
        if stem in self.held:
            played = bool(self.references[STEMS.index(stem)].any())
            return played and (not annotated or bool(self.onsets[stem]))
        return bool(self.onsets[stem]) if annotated else None

    @property
    def whole(self) -> bool:
        """Whether the true stems are all known, so that bounds can be computed from them."""
        return all(s in self.held or self.present(s) is False for s in STEMS)


class Source(Protocol):
    """What a module in this package offers."""

    INFO: SourceInfo

    def tracks(self, selection: Selection) -> list[Track]:
        """List what is asked for. Raises UserError where there is nothing of it."""
        ...

    def onsets(self, track: Track) -> Onsets:
        """Stem -> onsets, without reading audio. Raises UserError for a damaged annotation."""
        ...

    def load(self, track: Track) -> LoadedTrack:
        """Read a track. Raises UserError where it is missing, damaged or changed."""
        ...


def source(name: str) -> Source:
    """The module of a source. Raises UserError for an unknown name."""
    if name not in SOURCES:
        raise UserError(f"no source {name!r}; there are {', '.join(SOURCES)}")
    return cast(Source, importlib.import_module(SOURCES[name]))


def load(track: Track) -> LoadedTrack:
    """Read a track from the source that listed it, under its condition.

    Raises UserError as that source does.
    """
    loaded = source(track.source).load(track)
    if not track.condition:
        return loaded
    from benchmarks.sources.conditions import apply

    return apply(track.condition, loaded)


def onsets(track: Track) -> Onsets:
    """What the annotation says, without reading audio."""
    return source(track.source).onsets(track)
