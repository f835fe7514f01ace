"""The leaderboard's numbers as CSV, one value a row, with every digit.

-inf is written so, a value that is not defined is empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.report.board import HEADLINE, METRICS, Board, Row

FIELDS: Final = ("view", "group", "rank", "system", "revision", "metric", "average", "kit", "stem",
                 "value", "low", "high", "n_pairs", "n_performances", "n_undefined", "n_infinite",
                 "metrics_version")  # fmt: skip


def averages_csv(boards: Sequence[Board]) -> str:
    """Every average with its interval; ``stem`` is "all" and "macro" for the two poolings."""
    rows = [record for board in boards for row in board.rows for record in _csv_rows(board, row)]
    return _csv(FIELDS, rows)


def _csv_rows(board: Board, row: Row) -> list[dict[str, object]]:
    same = {"view": board.view, "group": row.group, "rank": row.rank, "system": row.system.system,
            "revision": row.system.revision, "metrics_version": board.metrics_version}  # fmt: skip
    rows: list[dict[str, object]] = []
    for metric in METRICS:
        summary = row.summaries.get(metric.id)
        if not summary:
            continue
        found = {"all": summary.pooled, "macro": summary.macro, **summary.stems}
        what = {**same, "metric": metric.id, "average": metric.average, "kit": "all"}
        for stem, e in found.items():
            counts = {"n_pairs": e.n, "n_performances": e.n_performances,
                      "n_undefined": e.n_undefined, "n_infinite": e.n_infinite}  # fmt: skip
            values = {"value": e.value, "low": e.low, "high": e.high}
            rows.append({**what, "stem": stem, **values, **counts})
    for kit, stems in row.kits.items():
        what = {**same, "metric": HEADLINE.id, "average": HEADLINE.average, "kit": kit}
        rows += [{**what, "stem": stem, "value": value} for stem, value in stems.items()]
    return rows


COMPARISON_FIELDS: Final = ("view", "group", "system", "against", "metric", "difference", "low",
                            "high", "p", "p_holm", "n_pairs", "n_performances",
                            "n_left_out")  # fmt: skip


def comparisons_csv(boards: Sequence[Board]) -> str:
    """Each system against the one that its group is compared with."""
    rows: list[dict[str, object]] = []
    for board in boards:
        base = {row.group: row.system.system for row in board.rows if row.against is None}
        for row in board.rows:
            if not (c := row.against):
                continue
            rows.append(
                {"view": board.view, "group": row.group, "system": row.system.system,
                 "against": base[row.group], "metric": HEADLINE.id, "difference": c.difference,
                 "low": c.low, "high": c.high, "p": c.p, "p_holm": row.p_holm, "n_pairs": c.n,
                 "n_performances": c.n_performances, "n_left_out": c.n_left_out}
            )  # fmt: skip
    return _csv(COMPARISON_FIELDS, rows)


def _csv(fields: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        )
    return text.getvalue()
