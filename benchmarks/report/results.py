"""Results folders of `stemgmd bench run` and `bench score`, read, merged and checked.

A leaderboard compares like with like: one version of the metrics, one rendering of each track,
one revision of each system. Where a folder holds several, this says which; nothing is mixed and
nothing is left out without a note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.records import StemRecord, SystemRecord, latest
from benchmarks.results_folder import RECORDS, SYSTEMS, ResultsFolder
from benchmarks.systems import SYSTEMS as SYSTEMS_OF_OURS
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS

ALL_TRACKS = "*"
CHOICE = "--latest takes what was scored last, or name the folders of one kind only"


@dataclass(frozen=True)
class Results:
    """Records that may stand in one table.

    ``systems``: one for each system with records, in the registry's order, then by name.
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
        results = ResultsFolder(folder)
        records += results.records()
        described += results.systems()
        runs.append(results.facts())
    if not records:
        raise UserError(
            f"{folder} holds no records ({RECORDS}): `stemgmd bench run --out {folder}` first"
        )
    records = _keep_wanted(latest(records), wanted)
    records, _ = _filter(records, lambda r: fnmatchcase(r.track, tracks))
    if not records:
        raise UserError(
            f"no record is of a performance {tracks!r}; ids are <drummer>/<session>/<n>"
        )
    records, notes = _one_of_each(records, latest_only)
    # Tables do not depend on the order in which records were made.
    place = {name: number for number, name in enumerate(SYSTEMS_OF_OURS)}
    records.sort(
        key=lambda r: (place.get(r.system, len(place)), r.system, *r.key, STEMS.index(r.stem))
    )
    systems = tuple(
        _describe(name, revision, described)
        for name, revision in dict.fromkeys((r.system, r.revision) for r in records)
    )
    return Results(tuple(folders), tuple(records), systems, tuple(notes), tuple(runs), tracks)


def _keep_wanted(records: list[StemRecord], wanted: Sequence[str]) -> list[StemRecord]:
    there = list(dict.fromkeys(record.system for record in records))
    missing = [name for name in wanted if name not in there]
    if missing:
        raise UserError(f"no records of {', '.join(missing)}; there are {', '.join(there)}")
    return [record for record in records if not wanted or record.system in wanted]


def _one_of_each(
    records: list[StemRecord], latest_only: bool
) -> tuple[list[StemRecord], list[str]]:
    """Records of one version of each metric, one rendering of a track, one revision of a system."""
    notes = []
    last = {record.system: record.revision for record in records}
    records, n_old = _filter(records, lambda r: r.revision == last[r.system])
    if n_old:
        notes.append(f"{n_old} records of earlier revisions of systems are left out.")
    # Versions are compared metric by metric: a metric that some systems lack spoils no other.
    newest: dict[str, int] = {}
    for record in records:
        for name, version in record.metrics.items():
            newest[name] = max(version, newest.get(name, 0))
    kept, n_old = _filter(
        records, lambda r: all(version == newest[name] for name, version in r.metrics.items())
    )
    if n_old:
        old = [r for r in records if any(v < newest[name] for name, v in r.metrics.items())]
        names = sorted({n for r in old for n, v in r.metrics.items() if v < newest[n]})
        systems = ", ".join(sorted({r.system for r in old}))
        if not latest_only:
            raise UserError(
                f"records of several metric versions ({', '.join(names)}; older ones of {systems}):"
                f" run those systems again, or {CHOICE}"
            )
        notes.append(f"{n_old} records of earlier versions of {', '.join(names)} are left out.")
    rendered = {(r.board, r.track, r.kit): r.data for r in kept}
    final, n_old = _filter(kept, lambda r: r.data == rendered[r.board, r.track, r.kit])
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
        hashes[record.track, record.kit or record.board][record.data] = None
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
