"""The leaderboard as tables of plain words: what each shows, and captions that say on what.

`benchmarks.report.markup` lays them out as Markdown and LaTeX, `benchmarks.report.tidy` writes the
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.records import SystemRecord
from benchmarks.report.board import (
    GROUPS,
    PUBLISHED,
    PUBLISHED_CAPTION,
    Board,
    Group,
    Metric,
    Row,
)
from benchmarks.report.results import ALL_TRACKS, Results
from benchmarks.report.statistics import N_PERMUTATIONS, N_RESAMPLES, Estimate, Summary
from benchmarks.sources import CONDITIONS, KITS
from stemgmd_build.taxonomy import STEM_ABBREVIATIONS, STEMS

DASH: Final = "\N{EN DASH}"
"""Stands for a value that is not defined or not there."""

FEW: Final = 10
"""Intervals from fewer performances are marked: so few clusters say little of the spread."""

_ALL_KITS: Final = ", all kits' clips of a performance together"
BOOTSTRAP: Final = (
    f"95 % percentile intervals by bootstrap over performances{_ALL_KITS} "
    f"({N_RESAMPLES:,} resamples, fixed seed)"
)
MARKED: Final = f"† marks those of fewer than {FEW} performances"
INTERVALS: Final = f"In brackets: {BOOTSTRAP}; {MARKED}."
BEST: Final = "the best of the group"
TESTS: Final = (
    "Δ: mean paired difference to {base}; p: two-sided sign-flip permutation test "
    f"over performances ({N_PERMUTATIONS:,} permutations), Holm-corrected within the group."
)
BY_STEM: Final = ("onset_f", "false_share", "leakage_db", "idle_db")
"""Metrics that recordings get a table of, stem by stem."""

POOLING: Final = (
    "all: every (clip, present stem) pair, as the paper pools; macro: mean over the stems' values."
)


@dataclass(frozen=True)
class Table:
    """A table of text. The first ``n_text`` columns are words, the others numbers."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_text: int = 1


def make_tables(results: Results, boards: Sequence[Board]) -> list[Table]:
    """Every table of the report, in order of reading."""
    tables = []
    for board in boards:
        tables += _board_tables(board, describe_data(board, results))
    tables += _condition_tables(boards)
    return [*tables, _systems_table(results), published_table()]


def describe_data(board: Board, results: Results) -> str:
    """What a board rests on: clips, kits, pairs, data source, metric version, in sentences."""
    pairs = ", ".join(f"{STEM_ABBREVIATIONS[s]} {n}" for s, n in board.n_pairs.items())
    source = describe_runs(results)
    chosen = "" if results.tracks == ALL_TRACKS else f"Performances {results.tracks} alone. "
    kits = f" ({', '.join(board.kits)})" if board.kits else ""
    return (
        f"{board.place.capitalize()}{kits}: {board.n_clips} clips, "
        f"{board.n_performances} performances, {board.hours:.2f} h; "
        f"{sum(board.n_pairs.values())} (clip, present stem) pairs ({pairs}). "
        f"{source}{chosen}{describe_machines(board)}{describe_versions(board)}"
        + "".join(f" {note}" for note in board.notes)
    )


def describe_runs(results: Results) -> str:
    """Where the audio came from and what scored it, as run.json tells; each run's words once."""
    told = [
        ", ".join(
            f"{key} {_words(run[key])}" for key in ("source", "split", "machine") if run.get(key)
        )
        for run in results.runs
    ]
    said = "; ".join(dict.fromkeys(text for text in told if text))
    return f"Data: {said}. " if said else ""


def describe_versions(board: Board) -> str:
    """The versions of the metrics and the commits that computed them, in words."""
    by = f" Scored by {', '.join(board.commits)}." if board.commits else ""
    if len(set(board.versions.values())) == 1:
        return f"All metrics are of version {next(iter(board.versions.values()))}.{by}"
    versions = ", ".join(f"{name} {version}" for name, version in board.versions.items())
    return f"Metric versions: {versions}.{by}"


def in_words(metric: Metric) -> str:
    """What a metric means, with its unit."""
    return f"{metric.meaning}, {metric.unit}" if metric.unit else metric.meaning


def describe_machines(board: Board) -> str:
    """The machines on which the board's systems were timed."""
    machines = dict.fromkeys(filter(None, (machine(row.system) for row in board.rows)))
    return f"Timed on: {'; '.join(machines)}. " if machines else ""


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _board_tables(board: Board, data: str) -> list[Table]:
    place, headline = f"on {board.place}", board.headline
    tables = []
    for group in _groups(board):
        rows = [row for row in board.rows if row.group == group]
        label = GROUPS[group]
        named = [row.system.name for row in rows if row.system.system == board.against]
        tests = TESTS.format(base=named[0] if named else BEST)
        tables.append(
            Table(
                f"{headline.label} {place}. {label}",
                f"{in_words(headline)}. {POOLING} {INTERVALS} {tests} {data}",
                ("#", "system", "all", "macro", *STEM_ABBREVIATIONS.values(), "Δ", "p"),
                (
                    *(_headline(row, headline) for row in rows),
                    *(("", *line, "", "") for line in _lines_to_beat(board, headline)),
                ),
                n_text=2,
            )
        )
    further = [metric for metric in board.metrics if metric != headline]
    tables.append(
        Table(
            f"Further metrics {place}",
            f"Over all pairs. {'; '.join(f'{m.label}: {m.meaning}' for m in further)}. {data}",
            ("system", "given", *(m.label for m in further)),
            tuple(_further(row, further) for row in board.rows),
            n_text=2,
        )
    )
    if board.source != KITS:
        tables += [
            _by_stem_table(board, metric, data) for metric in further if metric.id in BY_STEM
        ]
    tables += [
        _crosstalk_table(row, board, data)
        for row in board.rows
        if board.crosstalk[row.system.system]
    ]
    tables += [_kit_table(row, board, data) for row in board.rows if row.kits]
    return [replace(table, caption=told_of(board, table.caption)) for table in tables]


def told_of(board: Board, caption: str) -> str:
    """The same of recordings, where nothing is performed on several kits."""
    if board.kits:
        return caption
    return caption.replace(_ALL_KITS, "").replace("performance", "recording")


def _lines_to_beat(board: Board, metric: Metric) -> list[tuple[str, ...]]:
    """Of onsets: what the same detector finds in the mixture, and in the true stems if any."""
    lines = (
        ("the mixture: the line to beat", "onset_f_mixture"),
        ("the true stems: the ceiling", "onset_f_true"),
    )
    found = _same_for_all(board) if metric.id == "onset_f" else {}
    return [(name, *_cells(found[key], metric)) for name, key in lines if key in found]


def line_to_beat(board: Board) -> str:
    """Of a board that is ranked by onsets, a sentence with what the mixture itself has."""
    found = _same_for_all(board).get("onset_f_mixture")
    if board.headline.id != "onset_f" or found is None:
        return ""
    values = {"all": found.pooled, **{STEM_ABBREVIATIONS[s]: e for s, e in found.stems.items()}}
    digits = board.headline.digits
    told = ", ".join(f"{name} {number(e.value, digits)}" for name, e in values.items())
    return f"The same detector on the mixture, the line to beat: {told}. "


def _same_for_all(board: Board) -> Mapping[str, Summary]:
    """Summaries of a system that was run on every clip: the lines are the same for all of those."""
    found = [row.summaries for row in board.rows if "onset_f_mixture" in row.summaries]
    return max(found, key=lambda row: row["onset_f_mixture"].pooled.n) if found else {}


def _cells(summary: Summary, metric: Metric) -> tuple[str, ...]:
    """All, macro, and the stems."""
    stems = (summary.stems.get(stem) for stem in STEMS)
    return tuple(estimate_text(e, metric) for e in (summary.pooled, summary.macro, *stems))


def _by_stem_table(board: Board, metric: Metric, data: str) -> Table:
    label = metric.label[0].upper() + metric.label[1:]
    rows = [row for row in board.rows if metric.id in row.summaries]
    return Table(
        f"{label} by stem on {board.place}",
        f"{in_words(metric)}. {INTERVALS} {data}",
        ("system", "all", "macro", *STEM_ABBREVIATIONS.values()),
        (
            *((row.system.name, *_cells(row.summaries[metric.id], metric)) for row in rows),
            *_lines_to_beat(board, metric),
        ),
    )


def _condition_tables(boards: Sequence[Board]) -> list[Table]:
    """A table per source: each system on the clips as they are and under each condition."""
    families: dict[tuple[str, bool], list[Board]] = {}
    for board in boards:
        families.setdefault((board.source, board.seen), []).append(board)
    return [_condition_table(family) for family in families.values() if len(family) > 1]


def _condition_table(family: Sequence[Board]) -> Table:
    first = family[0]
    headline = first.headline
    same = [board for board in family if board.headline == headline]
    names = dict.fromkeys(row.system.name for board in same for row in board.rows)
    return Table(
        f"{headline.label} on {first.place}, as they are and changed",
        told_of(first, f"{in_words(headline)}. {POOLING} {INTERVALS}"),
        ("system", "the clips", "clips", "all", "macro", *STEM_ABBREVIATIONS.values()),
        tuple(
            (
                name,
                CONDITIONS[board.condition] if board.condition else "as they are",
                str(board.n_clips),
                *_cells(row.summaries[headline.id], headline),
            )
            for name in names
            for board in same
            for row in board.rows
            if row.system.name == name
        ),
        n_text=2,
    )


def _groups(board: Board) -> list[Group]:
    return list(dict.fromkeys(row.group for row in board.rows))


def _headline(row: Row, headline: Metric) -> tuple[str, ...]:
    summary = row.summaries[headline.id]
    against = row.against
    return (
        str(row.rank),
        row.system.name,
        *_cells(summary, headline),
        "" if against is None
        else f"{number(against.difference, headline.digits)} "
             f"[{number(against.low, headline.digits)}, {number(against.high, headline.digits)}]",
        "" if row.p_holm is None else p_text(row.p_holm),
    )  # fmt: skip


def _further(row: Row, metrics: Sequence[Metric]) -> tuple[str, ...]:
    cells = []
    for metric in metrics:
        summary = row.summaries.get(metric.id)
        cells.append(estimate_text(summary.pooled if summary else None, metric))
    return (row.system.name, " + ".join(row.system.inputs), *cells)


def _crosstalk_table(row: Row, board: Board, data: str) -> Table:
    matrix = board.crosstalk[row.system.system]
    return Table(
        f"Cross-talk on {board.place}: {row.system.name}",
        "Level of each estimate (columns) at hits of a stem (rows) that are alone within 100 ms, "
        f"dB relative to the mixture there, mean of powers over clips. {data}",
        ("hits of", *STEM_ABBREVIATIONS.values()),
        tuple(
            (stem, *(number(levels.get(to, math.nan), 1) for to in STEMS))
            for stem, levels in matrix.items()
        ),
    )


def _kit_table(row: Row, board: Board, data: str) -> Table:
    headline = board.headline
    return Table(
        f"Kit by stem on {board.place}: {row.system.name}",
        f"{in_words(headline)}; {row.system.name} is given {' + '.join(row.system.inputs)}. "
        f"{POOLING} {data}",
        ("kit", *STEM_ABBREVIATIONS.values(), "all"),
        tuple(
            (kit, *(number(values.get(key, math.nan), headline.digits) for key in (*STEMS, "all")))
            for kit, values in row.kits.items()
        ),
    )


def _systems_table(results: Results) -> Table:
    return Table(
        "Systems",
        "Real-time ratio: seconds of audio over seconds of wall clock of the separation alone, "
        "after a warm-up, median of five runs on one clip of 60 s. A dash: not measured.",
        ("system", "id", "given", "trained on", "licence", "machine", "parameters",
         "real-time ratio", "peak memory", "revision"),
        tuple(
            (
                s.name,
                s.system,
                " + ".join(s.inputs),
                s.trained_on,
                s.licence,
                machine(s) or DASH,
                f"{s.n_parameters:,}",
                DASH if s.real_time_ratio is None else f"{s.real_time_ratio:.3g}",
                DASH if s.peak_memory_bytes is None else f"{s.peak_memory_bytes / 2**20:,.0f} MiB",
                s.revision,
            )
            for s in results.systems
        ),
        n_text=6,
    )  # fmt: skip


def machine(system: SystemRecord) -> str:
    """Device, threads and number format in words; empty where nothing was measured."""
    threads = f"{system.n_threads} thread{'s' * (system.n_threads > 1)}" if system.n_threads else ""
    return ", ".join(filter(None, (system.device_name or system.device, threads, system.dtype)))


def published_table() -> Table:
    """The paper's figures."""
    return Table(
        "Published on other kits",
        PUBLISHED_CAPTION,
        ("system", "note", "all", "macro", *STEM_ABBREVIATIONS.values()),
        tuple(
            (
                p.name,
                p.note,
                number(p.pooled_nsdr_db, 2),
                DASH if p.macro_nsdr_db is None else number(p.macro_nsdr_db, 2),
                *(number(p.stems_db.get(stem, math.nan), 2) for stem in STEMS),
            )
            for p in PUBLISHED
        ),
        n_text=2,
    )


def number(value: float, digits: int) -> str:
    """A value to read: a true minus, an infinity sign, a dash for what is not defined."""
    if math.isnan(value):
        return DASH
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    return f"\N{MINUS SIGN}{text}" if value < 0 and text.strip("0.") else text


def estimate_text(estimate: Estimate | None, metric: Metric) -> str:
    """A value with its interval and how many of its pairs were infinite or undefined."""
    if estimate is None:
        return DASH
    text = number(estimate.value, metric.digits)
    if not math.isnan(estimate.low):
        low, high = (number(x, metric.digits) for x in (estimate.low, estimate.high))
        text += f" [{low}, {high}]" + ("†" if estimate.n_performances < FEW else "")
    asides = [
        f"{count} {word}"
        for count, word in ((estimate.n_infinite, "infinite"), (estimate.n_undefined, "undefined"))
        if count
    ]
    return (
        f"{text} ({', '.join(asides)} of {estimate.n + estimate.n_undefined})" if asides else text
    )


def p_text(p: float) -> str:
    """A p-value from 0 to 1 to read: three decimals, and "< 0.001" for what they cannot show."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
