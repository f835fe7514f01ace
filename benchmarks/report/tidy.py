"""The leaderboard's numbers as CSV, one value a row, with every digit.

-inf is written so, a value that is not defined is empty. Text that a spreadsheet would take for a
formula gets an apostrophe before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pandas as pd

from benchmarks.records import METRIC_OF_FIELD
from benchmarks.report.board import Board, Row

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def averages_csv(boards: Sequence[Board]) -> str:
    """Every average with its interval; ``stem`` is "all" and "macro" for the two poolings."""
    return _csv([line for board in boards for row in board.rows for line in _averages(board, row)])


def _averages(board: Board, row: Row) -> Iterator[dict[str, Any]]:
    same = {"view": board.view, "group": row.group, "rank": row.rank, "system": row.system.system,
            "revision": row.system.revision}  # fmt: skip
    for metric in board.metrics:
        summary = row.summaries.get(metric.id)
        found = {"all": summary.pooled, "macro": summary.macro, **summary.stems} if summary else {}
        for stem, e in found.items():
            yield {
                **same, "metric": metric.id, "average": metric.average, "kit": "all", "stem": stem,
                "value": e.value, "low": e.low, "high": e.high, "n_pairs": e.n,
                "n_performances": e.n_performances, "n_undefined": e.n_undefined,
                "n_infinite": e.n_infinite,
                "metrics_version": board.versions.get(METRIC_OF_FIELD[metric.id]),
            }  # fmt: skip
    headline = board.headline
    for kit, stems in row.kits.items():
        for stem, value in stems.items():
            yield {**same, "metric": headline.id, "average": headline.average, "kit": kit,
                   "stem": stem, "value": value,
                   "metrics_version": board.versions.get(METRIC_OF_FIELD[headline.id])}  # fmt: skip


def comparisons_csv(boards: Sequence[Board]) -> str:
    """Each system against the one that its group is compared with."""
    rows = []
    for board in boards:
        base = {row.group: row.system.system for row in board.rows if row.against is None}
        rows += [
            {"view": board.view, "group": row.group, "system": row.system.system,
             "against": base[row.group], "metric": board.headline.id, "difference": c.difference,
             "low": c.low, "high": c.high, "p": c.p, "p_holm": row.p_holm, "n_pairs": c.n,
             "n_performances": c.n_performances, "n_left_out": c.n_left_out}
            for row in board.rows if (c := row.against)
        ]  # fmt: skip
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV; counts stay whole numbers where some are missing."""
    frame = pd.DataFrame([{k: harmless(v) for k, v in row.items()} for row in rows])
    counts = [name for name in frame if str(name).startswith(("n_", "metrics_"))]
    text: str = frame.astype(dict.fromkeys(counts, "Int64")).to_csv(index=False)
    return text


def harmless(value: Any) -> Any:
    """Text that a spreadsheet does not take for a formula; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
