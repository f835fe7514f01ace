"""The leaderboard as plain numbers: what tables and the page show, computed once.

A *board* is one view of the results: a source's recordings, those that a system was trained on
apart. A track is seen if its kit is of the training side of the catalogue, or if the system names
its kit or other material in ``kits_seen``. Only clips that every
system of the board was scored on count, so that all rows rest on the same pairs; the rest is
counted in the notes. Recordings may lack what a bound needs (true stems): those clips count for
the other systems. Systems are ranked within their group by the pooled headline: nSDR, or the
onsets' F-measure where a source has no true stems. What a system is given decides the group, and
bounds that see the true stems compete with nobody.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from benchmarks.records import METRIC_OF_FIELD, StemRecord, SystemRecord
from benchmarks.report.results import Results
from benchmarks.report.statistics import (
    Average,
    Comparison,
    Score,
    Summary,
    compare,
    holm,
    summarize,
)
from benchmarks.scores.metrics import decibels, pool
from benchmarks.sources import CONDITIONS, KITS
from benchmarks.sources.conditions import split_board
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import STEMS

Group = Literal["blind", "score-informed", "oracle"]
GROUPS: Final[dict[Group, str]] = {
    "blind": "Blind: the mixture alone",
    "score-informed": "Score-informed: the mixture and the onsets of its hits",
    "oracle": "Oracle: bounds that see the true stems, not competitors",
}
Box = tuple[float, float, float, float, float]
"""5th, 25th, 50th, 75th and 95th percentile."""


@dataclass(frozen=True)
class Metric:
    """A column: its field in the records, how pairs are averaged, and what it means."""

    id: str
    label: str
    unit: str
    average: Average
    higher_is_better: bool
    digits: int
    meaning: str


_FRAMES: Final = "median over a stem's own active 1 s frames, then median over pairs"
METRICS: Final = (
    Metric("nsdr_db", "nSDR", "dB", "mean", True, 2,
           "nSDR in LarsNet's definition, mean (errors below float32's epsilon count as none, so "
           "quiet stems have a ceiling)"),
    Metric("nsdr_mdx_db", "nSDR (MDX)", "dB", "mean", True, 2, "nSDR in the MDX definition, mean"),
    Metric("si_sdr_db", "SI-SDR", "dB", "median", True, 2,
           "SI-SDR, median over pairs (a silent estimate scores -inf, which a mean cannot bear)"),
    Metric("sdr_db", "SDR", "dB", "median", True, 2, f"BSS Eval v4 images SDR, {_FRAMES}"),
    Metric("isr_db", "ISR", "dB", "median", True, 2, f"BSS Eval v4 images ISR, {_FRAMES}"),
    Metric("sir_db", "SIR", "dB", "median", True, 2,
           f"BSS Eval v4 images SIR of stem against rest, {_FRAMES}"),
    Metric("sar_db", "SAR", "dB", "median", True, 2,
           f"BSS Eval v4 images SAR of stem against rest, {_FRAMES}"),
    Metric("leakage_db", "leakage", "dB", "power", False, 1,
           "level of estimates of absent stems relative to the mixture, mean of powers"),
    Metric("onset_f", "onset F", "", "mean", True, 3,
           "F-measure of onsets within 50 ms found in the estimate by one fixed detector, mean"),
    Metric("onset_f_true", "onset F, true stems", "", "mean", True, 3,
           "the same detector's F-measure on the true stems: its own ceiling"),
    Metric("onset_f_mixture", "onset F, mixture", "", "mean", True, 3,
           "the same detector's F-measure on the mixture: the line to beat"),
    Metric("false_share", "false onsets", "", "mean", False, 3,
           "onsets found in estimates of stems that nobody plays, as a share of those found in the "
           "mixture, mean"),
    Metric("spill_db", "spill", "dB", "power", False, 1,
           "level of the four other estimates at a stem's isolated hits relative to the mixture, "
           "mean of powers"),
    Metric("idle_db", "idle", "dB", "power", False, 1,
           "level of an estimate while its stem is not played relative to the mixture, mean of "
           "powers"),
)  # fmt: skip
HEADLINES: Final = tuple(m for m in METRICS if m.id in ("nsdr_db", "onset_f"))
"""A board is ranked by the first of these that its records have."""

OF_ABSENT: Final = ("leakage_db", "false_share")
"""Metrics of the stems that nobody plays."""


@dataclass(frozen=True)
class Published:
    """A figure of the literature, measured on other kits: beside the ranking, never in it."""

    name: str
    pooled_nsdr_db: float
    macro_nsdr_db: float | None
    stems_db: Mapping[str, float]
    note: str


PUBLISHED: Final = (
    Published(
        "LarsNet (published weights)",
        17.70,
        13.72,
        {"kick": 27.19, "snare": 21.77, "toms": 9.10, "hihat": 6.43, "cymbals": 4.09},
        "62.5 times real time on a Titan V, 6.7 on a Xeon E5-2687W",
    ),
    Published("factorization baseline, the better", 10.97, None, {}, "NMFD or SAB-NMF"),
    Published("factorization baseline, the other", 7.24, None, {}, "NMFD or SAB-NMF"),
)
PUBLISHED_CAPTION: Final = (
    "Published on other kits, not ranked: nSDR in dB on StemGMD's own ten kits, which cannot be "
    "had here, from table 3 of Mezza et al. 2024 (arXiv 2312.09663) as cited second-hand. "
    "Sources disagree on which factorization baseline is NMFD and which semi-adaptive NMF."
)


@dataclass(frozen=True)
class Row:
    """A system on a board. ``against``: this system minus the one that its group is compared with,
    None for that one.

    ``summaries``: metric id -> averages, without the metrics that have no value. ``kits``: kit
    -> stem or "all" -> mean nSDR. ``boxes``: metric id -> stem -> percentiles.
    """

    system: SystemRecord
    group: Group
    rank: int
    summaries: Mapping[str, Summary]
    against: Comparison | None
    p_holm: float | None
    kits: Mapping[str, Mapping[str, float]]
    boxes: Mapping[str, Mapping[str, Box]]


@dataclass(frozen=True)
class Board:
    """One view of the results; ``rows`` by group, then rank.

    ``view`` is its id: "unseen" and "seen" of kits, else the source's board, with ", seen" where
    systems were trained on it. ``place`` says the same in words. ``source`` is the source's board,
    ``condition`` a key of `benchmarks.sources.CONDITIONS` or empty, ``seen`` whether
    systems were trained on the tracks. ``metrics``: those with values.
    ``crosstalk``: system -> stem of the hit -> stem of the estimate -> level in dB.
    ``against``: id of the system that those of its group are compared with, None for the best.
    """

    view: str
    place: str
    headline: Metric
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    kits: tuple[str, ...]
    n_clips: int
    n_performances: int
    n_pairs: Mapping[str, int]
    hours: float
    versions: Mapping[str, int]
    commits: tuple[str, ...]
    crosstalk: Mapping[str, Mapping[str, Mapping[str, float]]]
    notes: tuple[str, ...]
    against: str | None = None
    source: str = KITS
    condition: str = ""
    seen: bool = False


def group_of(system: SystemRecord) -> Group:
    """What a system is given decides whom it competes with."""
    if "references" in system.inputs:
        return "oracle"
    return "score-informed" if "score" in system.inputs else "blind"


def make_boards(results: Results, against: str | None = None) -> tuple[Board, ...]:
    """The boards that the results hold: unseen kits, then seen ones.

    Args:
        results: with the records of several systems.
        against: id of a system; those of its group are compared with it, others with the best.

    Raises:
        UserError: the systems of a view have no clip in common, no stem is present, no such system.
    """
    there = [system.system for system in results.systems]
    if against is not None and against not in there:
        raise UserError(f"no records of {against}; there are {', '.join(there)}")
    seen_by = {s.system: set(s.kits_seen) for s in results.systems}

    def is_seen(r: StemRecord) -> bool:
        return r.kit_split == "train" or not seen_by[r.system].isdisjoint((r.kit, *r.material))

    views: dict[tuple[str, bool], list[StemRecord]] = defaultdict(list)
    for record in results.records:
        views[record.board, is_seen(record)].append(record)
    # Kits before other sources, clips as they are before changed ones, unseen before seen ones.
    order = sorted(views, key=lambda view: (split_board(view[0])[0] != KITS, view))
    return tuple(_board(results, views[view], *view, against) for view in order)


def _names(source: str, seen: bool) -> tuple[str, str]:
    """Id and words of a view."""
    base, name = split_board(source)
    how = f" {CONDITIONS[name]}" if name else ""
    if base == KITS:
        view = "seen" if seen else "unseen"
        return (f"{view}, {name}" if name else view), f"{view} kits{how}"
    words = f"recordings of {base}{how}"
    return (f"{source}, seen", f"{words}, seen in training") if seen else (source, words)


def _board(
    results: Results, records: list[StemRecord], source: str, seen: bool, against: str | None
) -> Board:
    view, place = _names(source, seen)
    # Kits give everything to everybody: what is missing there was not run.
    given = {
        s.system: () if split_board(source)[0] == KITS else tuple(sorted(s.inputs))
        for s in results.systems
    }
    records, notes = _common(records, place, given)
    headline = _headline(records)
    by_system: dict[str, list[StemRecord]] = defaultdict(list)
    for record in records:
        by_system[record.system].append(record)
    systems = [s for s in results.systems if s.system in by_system]
    rows = [
        row
        for group in GROUPS
        for row in _ranked(
            group, [s for s in systems if group_of(s) == group], by_system, headline, against
        )
    ]
    one = max(by_system.values(), key=len)
    clips = {(r.track, r.kit): r.duration_sec for r in one}
    base, condition = split_board(source)
    return Board(
        view=view,
        source=base,
        condition=condition,
        seen=seen,
        place=place,
        headline=headline,
        metrics=tuple(m for m in METRICS if any(m.id in row.summaries for row in rows)),
        rows=tuple(rows),
        kits=tuple(sorted({r.kit for r in one if r.kit})),
        n_clips=len(clips),
        n_performances=len({r.cluster for r in one}),
        n_pairs={s: sum(r.present for r in one if r.stem == s) for s in STEMS},
        hours=sum(clips.values()) / 3600,
        versions={name: v for r in records for name, v in sorted(r.metrics.items())},
        commits=tuple(sorted({r.commit for r in records if r.commit})),
        crosstalk={s.system: _crosstalk(by_system[s.system]) for s in systems},
        notes=(*notes, *results.notes),
        against=against,
    )


def _common(
    records: Sequence[StemRecord], place: str, inputs: Mapping[str, tuple[str, ...]]
) -> tuple[list[StemRecord], list[str]]:
    """The records of clips that every system has whole, and a note on the others.

    ``inputs``: system -> what it is given. A clip that no system with the same inputs has is
    taken for one that does not give them, and is not asked of them.
    """
    stems: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    wanted: dict[tuple[str, str], int] = {}
    for r in records:
        stems[r.track, r.kit][r.system].add(r.stem)
        wanted[r.track, r.kit] = r.n_stems
    systems = {r.system for r in records}

    def is_whole(found: Mapping[str, set[str]], n_stems: int) -> bool:
        able = {inputs[name] for name in found}
        asked = {name for name in systems if inputs[name] in (*able, ("mixture",))}
        return asked == set(found) and all(len(s) == n_stems for s in found.values())

    whole = {clip for clip, found in stems.items() if is_whole(found, wanted[clip])}
    partial = [clip for clip in whole if len(stems[clip]) < len(systems)]
    if not whole or any(all(name not in stems[clip] for clip in whole) for name in systems):
        counts = {name: sum(name in found for found in stems.values()) for name in systems}
        few = min(sorted(counts), key=counts.__getitem__)
        raise UserError(
            f"no clip on {place} was scored whole by all of {', '.join(sorted(systems))} "
            f"({few} has the fewest, {counts[few]}): run what is missing, or choose with --systems"
        )
    kept = [r for r in records if (r.track, r.kit) in whole]
    if not any(r.present for r in kept):
        raise UserError(f"no stem is present in any clip on {place}: nothing to rank")
    notes = []
    if len(whole) < len(stems):
        lacking = sorted({name for found in stems.values() for name in systems - set(found)})
        by = f" (missing from {', '.join(lacking)})" if lacking else ""
        notes.append(
            f"Only the {len(whole)} clips that every system was scored on count; "
            f"{len(stems) - len(whole)} more{by} are left out."
        )
    if partial:
        names = sorted({name for clip in partial for name in systems - set(stems[clip])})
        notes.append(
            f"{', '.join(names)} cannot be run on {len(partial)} of the {len(whole)} clips, which "
            "lack what they need."
        )
    return kept, notes


def _ranked(
    group: Group,
    systems: Sequence[SystemRecord],
    records: Mapping[str, Sequence[StemRecord]],
    headline: Metric,
    against: str | None,
) -> list[Row]:
    summaries = {s.system: _summaries(records[s.system], headline) for s in systems}
    ranked = sorted(systems, key=lambda s: -summaries[s.system][headline.id].pooled.value)
    scores = {s.system: scores_of(records[s.system], headline) for s in ranked}
    base = next(
        (s.system for s in ranked if s.system == against), ranked[0].system if ranked else ""
    )
    others = [s.system for s in ranked if s.system != base]
    found = {}
    for name in others:
        try:
            found[name] = compare(scores[name], scores[base])
        except ValueError as error:
            raise UserError(
                f"{name} and {base} cannot be compared: {error}; leave one out with --systems"
            ) from error
    p_values = dict(zip(others, holm([found[name].p for name in others]), strict=True))
    return [
        Row(
            system=system,
            group=group,
            rank=place + 1,
            summaries=summaries[system.system],
            against=found.get(system.system),
            p_holm=p_values.get(system.system),
            kits=_kits(records[system.system], headline),
            boxes=_boxes(records[system.system]),
        )
        for place, system in enumerate(ranked)
    ]


def scores_of(records: Sequence[StemRecord], metric: Metric) -> list[Score]:
    """The values of a metric: of absent stems for :data:`OF_ABSENT`, else of present ones.

    None becomes NaN, which averages count. A record without the metric is none of its pairs: the
    data lack what it needs.
    """
    family = METRIC_OF_FIELD[metric.id]
    chosen = [r for r in records if r.present != (metric.id in OF_ABSENT) and family in r.metrics]
    values = [getattr(record, metric.id) for record in chosen]
    return [
        Score(r.cluster, f"{r.track} {r.kit}", r.stem, math.nan if value is None else value)
        for r, value in zip(chosen, values, strict=True)
    ]


def _summaries(records: Sequence[StemRecord], headline: Metric) -> dict[str, Summary]:
    found = {metric: scores_of(records, metric) for metric in METRICS}
    if all(math.isnan(score.value) for score in found[headline]):
        raise UserError(f"{records[0].system} has no {headline.label} at all: score it again")
    return {
        metric.id: summarize(scores, average=metric.average)
        for metric, scores in found.items()
        if not all(math.isnan(score.value) for score in scores)
    }


def _headline(records: Sequence[StemRecord]) -> Metric:
    """The first that any record has; UserError where none has any."""
    for metric in HEADLINES:
        if any(not math.isnan(score.value) for score in scores_of(records, metric)):
            return metric
    names = " nor ".join(metric.label for metric in HEADLINES)
    raise UserError(f"no record has {names}: nothing to rank by")


def _crosstalk(records: Sequence[StemRecord]) -> dict[str, dict[str, float]]:
    """Stem of the hit -> stem of the estimate -> level in dB, mean of powers over clips."""
    matrix: dict[str, dict[str, float]] = {}
    for stem in STEMS:
        found = [r.crosstalk_db for r in records if r.stem == stem and r.crosstalk_db]
        if found:
            matrix[stem] = {
                to: float(decibels(np.mean([10 ** (one[to] / 10) for one in found]), 1.0))
                for to in STEMS
                if all(to in one for one in found)
            }
    return matrix


def _kits(records: Sequence[StemRecord], headline: Metric) -> dict[str, dict[str, float]]:
    kit_of = {(r.cluster, f"{r.track} {r.kit}"): r.kit for r in records}
    by_kit: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for score in scores_of(records, headline):
        kit = kit_of[score.performance, score.clip]
        if kit and not math.isnan(score.value):
            by_kit[kit].append((score.stem, score.value))
    return {kit: _means(by_kit[kit]) for kit in sorted(by_kit)}


def _means(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    pooled = pool(pairs)
    return {"all": pooled.mean, **{stem.stem: stem.mean for stem in pooled.stems}}


def _boxes(records: Sequence[StemRecord]) -> dict[str, dict[str, Box]]:
    boxes: dict[str, dict[str, Box]] = {}
    for metric in METRICS:
        by_stem: dict[str, list[float]] = defaultdict(list)
        for score in scores_of(records, metric):
            if not math.isnan(score.value):
                by_stem[score.stem].append(score.value)
        boxes[metric.id] = {stem: _box(by_stem[stem]) for stem in STEMS if by_stem[stem]}
    return boxes


def _box(values: Sequence[float]) -> Box:
    """Nearest ranks: between -inf and a number there is nothing to interpolate."""
    p5, p25, p50, p75, p95 = np.percentile(values, (5, 25, 50, 75, 95), method="nearest")
    return float(p5), float(p25), float(p50), float(p75), float(p95)
