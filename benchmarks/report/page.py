"""The leaderboard as one static page that opens from disk.

Its data stand inside index.html. Styles and scripts lie in a folder of assets, which pages may
share, and clips (`benchmarks.report.clips`) beside it; they are loaded when one is chosen. The
data is JSON in a script element, with every character escaped that could end it; the page's
scripts put names into the document as text only.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any, Final

from benchmarks.records import SystemRecord
from benchmarks.report import tables
from benchmarks.report.board import GROUPS, METRICS, Board, Row, group_of
from benchmarks.report.clips import Clip
from benchmarks.report.results import Results
from benchmarks.report.statistics import Estimate, Summary
from stemgmd_build.taxonomy import STEM_ABBREVIATIONS, STEMS

TITLE: Final = "Drum stem separation: the leaderboard"
GUIDE: Final = "\n".join(
    (
        "nSDR in dB says how far a stem's error lies below the stem itself, wherever it is struck: "
        "higher is better.",
        "Systems are ranked within their group: blind ones see the mixture alone; oracles see the "
        "true stems and are bounds.",
        "In brackets: 95 % intervals over performances. Headings sort; the table goes on to the "
        "right.",
    )
)
ASSETS: Final = "assets"
_SCRIPTS: Final = ("page.js", "page_charts.js", "player.js", "page_player.js")


def make_page(
    results: Results, boards: Sequence[Board], clips: Sequence[Clip], assets: str = ASSETS
) -> str:
    """The whole of index.html. ``assets``: where it finds them, relative to itself."""
    facts = {
        "stems": [{"id": stem, "short": STEM_ABBREVIATIONS[stem]} for stem in STEMS],
        "few": tables.FEW,
        "metrics": [
            {"id": m.id, "label": m.label, "unit": m.unit, "higher": m.higher_is_better,
             "digits": m.digits, "meaning": m.meaning}
            for m in METRICS
        ],
        "groups": [{"id": group, "label": label} for group, label in GROUPS.items()],
        "against": boards[0].against,
        "systems": [_system(system) for system in results.systems],
        "boards": [_board(board, results) for board in boards],
        "published": _published(),
        "clips": [{"name": c.name, "title": c.title, "file": clip_file(c)} for c in clips],
    }  # fmt: skip
    footer = (
        f"stemgmd-bench {version('stemgmd-bench')}; tables as text: leaderboard.md, numbers: "
        "leaderboard.csv and comparisons.csv, LaTeX: leaderboard.tex, all beside this page."
    )
    return Template(_part("page.html")).substitute(
        title=html.escape(TITLE),
        guide=html.escape(GUIDE),
        assets=html.escape(assets),
        data=embed(facts),
        scripts="\n".join(f'<script src="{html.escape(assets)}/{s}"></script>' for s in _SCRIPTS),
        footer=html.escape(footer),
    )


def asset_files() -> dict[str, str]:
    """Name -> text of the files that pages load."""
    return {name: _part(name) + "\n" for name in ("page.css", *_SCRIPTS)}


def clip_file(clip: Clip) -> str:
    """Where the clip's script lies beside the page."""
    return f"clips/{clip.name}.js"


def embed(facts: Any) -> str:
    """JSON that may stand in a script element, whatever its texts hold."""
    text = json.dumps(_plain(facts), separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _plain(value: Any) -> Any:
    """Numbers as JSON can hold them: infinities as texts, None for NaN, seven digits."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return float(f"{value:.7g}") if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    return value


def _part(name: str) -> str:
    package = "larsnet.separation" if name == "player.js" else "benchmarks.report"
    return (files(package) / name).read_text("utf-8").rstrip()


def _system(system: SystemRecord) -> dict[str, Any]:
    return {
        "id": system.system,
        "name": system.name,
        "group": group_of(system),
        "inputs": system.inputs,
        "trained_on": system.trained_on,
        "kits_seen": system.kits_seen,
        "parameters": system.n_parameters,
        "licence": system.licence,
        "summary": system.summary,
        "url": system.url,
        "revision": system.revision,
        "speed": system.real_time_ratio,
        "machine": tables.machine(system),
        "memory": system.peak_memory_bytes,
    }


def _board(board: Board, results: Results) -> dict[str, Any]:
    return {
        "view": board.view,
        "place": board.place,
        "headline": board.headline.id,
        "metrics": [metric.id for metric in board.metrics],
        "crosstalk": board.crosstalk,
        "captions": {k: tables.told_of(board, text) for k, text in _captions(board).items()},
        "data": tables.told_of(board, tables.describe_data(board, results)),
        "machines": tables.describe_machines(board),
        "pairs": board.n_pairs,
        "rows": [_row(row) for row in board.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    against = row.against
    return {
        "system": row.system.system,
        "group": row.group,
        "rank": row.rank,
        "summaries": {metric: _summary(found) for metric, found in row.summaries.items()},
        "against": against and [against.difference, against.low, against.high],
        "p": row.p_holm,
        "kits": row.kits,
        "boxes": row.boxes,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    found = {"all": summary.pooled, "macro": summary.macro, **summary.stems}
    return {name: _estimate(estimate) for name, estimate in found.items()}


def _estimate(e: Estimate) -> list[float]:
    return [e.value, e.low, e.high, e.n, e.n_performances, e.n_undefined, e.n_infinite]


def _captions(board: Board) -> dict[str, str]:
    against, headline = board.against, board.headline
    base = f"{against}, in other groups to their best" if against else tables.BEST
    return {
        "board": f"{tables.in_words(headline)}. Columns without brackets show their intervals when "
        f"pointed at. {tables.line_to_beat(board)}{tables.INTERVALS} "
        f"{tables.TESTS.format(base=base)}",
        "columns": f"{tables.POOLING} "
        + " ".join(f"{m.label}: {m.meaning}." for m in board.metrics)
        + " Real time: seconds of audio separated in a second of wall clock.",
        "bars": f"Bars: {tables.BOOTSTRAP}",
        "marked": tables.MARKED,
        "speed": "Seconds of audio separated in a second of wall clock (after a warm-up, median of "
        "five runs on one clip of 60 s) against the pooled headline with its 95 % interval.",
        "boxes": "box from 25 to 75 %, line at the median, whiskers from 5 to 95 % of clips.",
    }


def _published() -> dict[str, Any]:
    table = tables.published_table()
    return {"caption": table.caption, "header": table.header, "rows": table.rows}
