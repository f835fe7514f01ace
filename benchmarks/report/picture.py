"""The leaderboard as one picture, for places that show no page: README, slides, papers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.board import GROUPS, HEADLINE, Board, Group, Row
from stemgmd_build.files import whole
from stemgmd_build.plots import COLORS
from stemgmd_build.taxonomy import STEMS

_LABEL_CHARACTERS: Final = 100  # of the line below; as wide as the picture
_GROUP_COLORS: Final[Mapping[Group, str]] = {
    "blind": "#1f2933",
    "score-informed": "#55606d",
    "oracle": "#8a94a0",
}
_LOWEST_DB: Final = -8.0  # what is worse than that is an arrow at the edge, and no scale's measure


def draw_board(board: Board, path: Path) -> None:
    """Write :func:`board_figure` as PNG; it appears whole or not at all."""
    with whole(path) as part:
        board_figure(board).savefig(part, dpi=130, format="png")


def board_figure(board: Board) -> Figure:
    """Pooled nSDR of every system with its interval, and the mean of each stem, in dB.

    Args:
        board: one view of the results; its first row is drawn on top.
    """
    rows = list(reversed(board.rows))
    figure = Figure(figsize=(9, 1.6 + 0.34 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    axes.set_yticks(range(len(rows)), [row.system.name for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(_GROUP_COLORS[row.group])
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, _LOWEST_DB - 0.5), high)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(0, color="0.7", linewidth=1, zorder=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    said = (
        f"{HEADLINE.label} in dB, {board.n_clips} clips of {board.n_performances} performances on "
        f"{board.view} kits ({', '.join(board.kits)})"
    )
    axes.set_xlabel(textwrap.fill(said, _LABEL_CHARACTERS, break_on_hyphens=False))
    _add_legends(axes, {row.group for row in rows})
    return figure


def _draw_row(axes: Any, place: int, row: Row) -> None:
    summary = row.summaries[HEADLINE.id]
    pooled, color = summary.pooled, _GROUP_COLORS[row.group]
    for stem in STEMS:
        estimate = summary.stems.get(stem)
        if estimate is None:
            continue
        seen = estimate.value >= _LOWEST_DB
        axes.plot(
            max(estimate.value, _LOWEST_DB), place, "o" if seen else "<", color=COLORS[stem],
            markersize=5, alpha=0.75, zorder=2,
        )  # fmt: skip
    axes.plot([pooled.low, pooled.high], [place, place], color=color, linewidth=2.5, zorder=3)
    axes.plot(pooled.value, place, "D", color=color, markersize=7, zorder=4)
    axes.annotate(
        f"{pooled.value:.1f}".replace("-", "\N{MINUS SIGN}"), (pooled.value, place), (0, 6),
        textcoords="offset points", ha="center", fontsize=8, color=color,
    )  # fmt: skip


def _add_legends(axes: Any, groups: set[Group]) -> None:
    """Stems by colour, groups by shade; both above the plot, where nothing lies beneath."""
    marks = [
        Line2D([], [], marker="D", linestyle="-", color=_GROUP_COLORS[group],
               label=GROUPS[group].partition(":")[0].lower() + ", pooled")
        for group in GROUPS if group in groups
    ] + [
        Line2D([], [], marker="o", linestyle="", color=COLORS[stem], alpha=0.75, label=stem)
        for stem in STEMS
    ]  # fmt: skip
    axes.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8
    )
