"""Results folders of `stemgmd bench run` and `bench score`, read, merged and checked.

A leaderboard compares like with like: one version of the metrics, one rendering of each track,
one revision of each system. Where a folder holds several, this says which; nothing is mixed and
nothing is left out without a note.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.records import (
    RECORDS,
    RUN,
    SYSTEMS,
    Record,
    StemRecord,
    SystemRecord,
    latest,
    read_records,
)
from stemgmd_build.errors import UserError

ALL_TRACKS = "*"
CHOICE = "--latest takes what was scored last, or name the folders of one kind only"


@dataclass(frozen=True)
class Results:
    """Records that may stand in one table.

    ``systems``: one for each system with records, in the order of their first record.
    ``notes``: what was left out, a sentence each. ``runs``: the run.json of each folder.
    ``tracks``: the pattern by which performances were chosen.
    """

    folders: tuple[Path, ...]
    records: tuple[StemRecord, ...]
    systems: tuple[SystemRecord, ...]
    notes: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]
    tracks: str = ALL_TRACKS


def read_results(
    folders: Sequence[Path],
    *,
    wanted: Sequence[str] = (),
    latest_only: bool = False,
    tracks: str = ALL_TRACKS,
) -> Results:
    """Read and merge results folders.

    Args:
        folders: of later folders the records replace those of earlier ones with the same key.
        wanted: ids of the systems to keep; none for all.
        latest_only: of several metric versions or renderings keep what was scored last.
        tracks: performances to keep, as a pattern of their ids with ``*``.

    Raises:
        UserError: a folder is missing, damaged or holds no records; a wanted system is not
            there; no performance has such an id; records of several metric versions or
            renderings; a system without its line.
    """
    records, described, runs = [], [], []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name one that `stemgmd bench run` wrote")
        found = _read(folder, RECORDS, StemRecord)
        if not found:
            raise UserError(
                f"{folder} holds no records ({RECORDS}): `stemgmd bench run --out {folder}` first"
            )
        records += found
        described += _read(folder, SYSTEMS, SystemRecord)
        runs.append(_read_run(folder / RUN))
    records = _keep_wanted(latest(records), wanted)
    records, _ = _filter(records, lambda r: fnmatchcase(r.track, tracks))
    if not records:
        raise UserError(
            f"no record is of a performance {tracks!r}; ids are <drummer>/<session>/<n>"
        )
    records, notes = _one_of_each(records, latest_only)
    systems = tuple(
        _describe(name, revision, described)
        for name, revision in dict.fromkeys((r.system, r.revision) for r in records)
    )
    return Results(tuple(folders), tuple(records), systems, tuple(notes), tuple(runs), tracks)


def _read(folder: Path, name: str, kind: type[Record]) -> list[Record]:
    """The compressed lines, then the plain ones: a run that goes on writes plain lines."""
    return read_records(folder / f"{name}.gz", kind) + read_records(folder / name, kind)


def _read_run(path: Path) -> dict[str, Any]:
    """What was run; nothing where the file is missing."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; remove it to go on without") from error
    return found if isinstance(found, dict) else {}


def _keep_wanted(records: list[StemRecord], wanted: Sequence[str]) -> list[StemRecord]:
    there = list(dict.fromkeys(record.system for record in records))
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UserError(f"no records of {', '.join(missing)}; there are {', '.join(there)}")
    return [record for record in records if not wanted or record.system in wanted]


def _one_of_each(
    records: list[StemRecord], latest_only: bool
) -> tuple[list[StemRecord], list[str]]:
    """Records of one metric version, one rendering of a track, one revision of a system."""
    notes = []
    last = {record.system: record.revision for record in records}
    records, n_old = _filter(records, lambda r: r.revision == last[r.system])
    if n_old:
        notes.append(f"{n_old} records of earlier revisions of systems are left out.")
    version = records[-1].metrics
    kept, n_old = _filter(records, lambda r: r.metrics == version)
    if n_old:
        versions = ", ".join(sorted({record.metrics for record in records}))
        if not latest_only:
            raise UserError(f"records of several metric versions ({versions}): {CHOICE}")
        notes.append(f"{n_old} records of metric versions other than {version} are left out.")
    rendered = {(r.track, r.kit): r.data for r in kept}
    final, n_old = _filter(kept, lambda r: r.data == rendered[r.track, r.kit])
    if n_old and not latest_only:
        raise UserError(f"{_differing(kept)}: {CHOICE}")
    if n_old:
        notes.append(f"{n_old} records of other renderings of the same tracks are left out.")
    return final, notes


def _filter(records: Iterable[StemRecord], keep: Any) -> tuple[list[StemRecord], int]:
    everything = list(records)
    kept = [record for record in everything if keep(record)]
    return kept, len(everything) - len(kept)


def _differing(records: list[StemRecord]) -> str:
    """One track that was scored on several renderings, and how many there are."""
    hashes: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for record in records:
        hashes[record.track, record.kit][record.data] = None
    several = {track: found for track, found in hashes.items() if len(found) > 1}
    (track, kit), found = next(iter(several.items()))
    names = ", ".join(name[:12] for name in found)
    return (
        f"{len(several)} tracks were scored on several renderings, {track} on {kit} among them "
        f"(data {names})"
    )


def _describe(name: str, revision: str, described: Sequence[SystemRecord]) -> SystemRecord:
    """The last line of a system, one with its speed before one without."""
    lines = [s for s in described if (s.system, s.revision) == (name, revision)]
    if not lines:
        raise UserError(
            f"{SYSTEMS} says nothing of {name}, revision {revision}: run or score it again "
            "(its scores are kept), or leave it out with --systems"
        )
    timed = [line for line in lines if line.real_time_ratio is not None]
    return (timed or lines)[-1]
