"""The leaderboard as one picture, for places that show no page: README, slides, papers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from benchmarks.report.board import GROUPS, Board, Group, Metric, Row
from benchmarks.report.tables import number
from stemgmd_build.files import whole
from stemgmd_build.plots import COLORS
from stemgmd_build.taxonomy import STEMS

_LABEL_CHARACTERS: Final = 100  # of the line below; as wide as the picture
_GROUP_COLORS: Final[Mapping[Group, str]] = {
    "blind": "#1f2933",
    "score-informed": "#55606d",
    "oracle": "#8a94a0",
}
_LOWEST_DB: Final = -8.0  # stems that are worse do not widen the scale, pooled means do
_MARGIN: Final = 0.02  # of the scale, on either side
_OFF_PITCH: Final = 8.0  # points from one mark left of the axis to the next
_OFF_LABEL_PITCH: Final = 25.0  # points from the value of one to that of the next


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
    low, high = _limits(rows, board.headline)
    figure = Figure(figsize=(9, 1.6 + 0.34 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlim(low, high)
    n_off = max(_draw_row(axes, place, row, board.headline) for place, row in enumerate(rows))
    axes.set_yticks(range(len(rows)), [row.system.name for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(_GROUP_COLORS[row.group])
        label.set_parse_math(False)  # a name may hold dollars
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(0, color="0.7", linewidth=1, zorder=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    # Names stand left of the marks that are off the axis.
    axes.tick_params(axis="y", length=0, pad=6 + _OFF_PITCH * n_off)
    said = (
        f"{board.headline.label}{' in ' * bool(board.headline.unit)}{board.headline.unit}, "
        f"{board.n_clips} clips of {board.n_performances} performances, {board.place}"
        + f" ({', '.join(board.kits)})"
        * bool(board.kits)
    )
    figure.supxlabel(
        textwrap.fill(said, _LABEL_CHARACTERS, break_on_hyphens=False),
        fontsize="medium",
        parse_math=False,
    )
    _add_legend(figure, {row.group for row in rows}, off=n_off > 0)
    return figure


def _limits(rows: Sequence[Row], headline: Metric) -> tuple[float, float]:
    """Where the scale begins and ends: every pooled mean is on it with its whole interval."""
    summaries = [row.summaries[headline.id] for row in rows]
    pooled = [x for s in summaries for x in (s.pooled.value, s.pooled.low, s.pooled.high)]
    pooled = [x for x in pooled if math.isfinite(x)]
    stems = [stem.value for s in summaries for stem in s.stems.values()]
    known = [*pooled, *(x for x in stems if math.isfinite(x) and x >= min([*pooled, _LOWEST_DB]))]
    if not known:  # nothing but infinities: marks stand at an edge, or nowhere
        return -1.0, 1.0
    margin = _MARGIN * (max(known) - min(known)) or 1.0
    return min(known) - margin, max(known) + margin


def _draw_row(axes: Any, place: int, row: Row, headline: Metric) -> int:
    """Draw a system; returns how many of its stems are off the axis."""
    summary = row.summaries[headline.id]
    pooled, color = summary.pooled, _GROUP_COLORS[row.group]
    low = axes.get_xlim()[0]
    off = []
    for stem in STEMS:
        estimate = summary.stems.get(stem)
        if estimate is None:
            continue
        if estimate.value <= low:
            off.append((estimate.value, stem))
            continue
        # On top of the pooled mean, which is larger: it would hide a stem of the same value.
        axes.plot(
            estimate.value, place, "o", color=COLORS[stem], markersize=6, markeredgecolor="white",
            markeredgewidth=0.5, alpha=0.75, zorder=5, clip_on=False,
        )  # fmt: skip
    _draw_off(axes, place, sorted(off, reverse=True))
    if not math.isfinite(pooled.value):
        return len(off)
    axes.plot([pooled.low, pooled.high], [place, place], color=color, linewidth=2.5, zorder=3)
    axes.plot(pooled.value, place, "D", color=color, markersize=7, zorder=4)
    axes.annotate(
        number(pooled.value, max(1, headline.digits - 1)), (pooled.value, place), (0, 6),
        textcoords="offset points", ha="center", fontsize=8, color=color,
    )  # fmt: skip
    return len(off)


def _draw_off(axes: Any, place: int, off: Sequence[tuple[float, str]]) -> None:
    """Stems that lie below the axis: side by side left of it, their values beneath.

    Args:
        off: value and stem, the highest first: it stands nearest to the axis.
    """
    edge = axes.get_yaxis_transform()  # x in widths of the axes, from their left edge
    for i, (value, stem) in enumerate(off):
        spot = offset_copy(edge, axes.figure, -_OFF_PITCH * (i + 0.75), units="points")
        axes.plot(
            0, place, "<", color=COLORS[stem], markersize=5, alpha=0.75, transform=spot,
            clip_on=False,
        )  # fmt: skip
        axes.annotate(
            number(value, 1), (0, place), (-_OFF_LABEL_PITCH * i, -11), xycoords=edge,
            textcoords="offset points", ha="right", va="center", fontsize=7, color=COLORS[stem],
        )  # fmt: skip


def _add_legend(figure: Figure, groups: set[Group], *, off: bool) -> None:
    """Stems by colour, groups by shade; both above the plot, where nothing lies beneath."""
    marks = [
        Line2D([], [], marker="D", linestyle="-", color=_GROUP_COLORS[group],
               label=GROUPS[group].partition(":")[0].lower() + ", pooled")
        for group in GROUPS if group in groups
    ] + [
        Line2D([], [], marker="o", linestyle="", color=COLORS[stem], alpha=0.75, label=stem)
        for stem in STEMS
    ]  # fmt: skip
    if off:
        label = "stem below the axis, with value"
        marks.append(Line2D([], [], marker="<", linestyle="", color="0.4", label=label))
    figure.legend(
        handles=marks, loc="outside upper center", ncols=4 + off, frameon=False, fontsize=8
    )
