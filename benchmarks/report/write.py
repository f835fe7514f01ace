"""From records to a folder of tables, a picture and a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import clips
from benchmarks.report.board import Board, Row, make_boards
from benchmarks.report.clips import clip_script, find_clips, merge_clips, written_clips
from benchmarks.report.markup import to_latex, to_markdown
from benchmarks.report.page import ASSETS, TITLE, asset_files, clip_file, make_page
from benchmarks.report.picture import draw_board
from benchmarks.report.results import Results
from benchmarks.report.tables import make_tables, number
from benchmarks.report.tidy import averages_csv, comparisons_csv
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.progress import progress

PAGE: Final = "index.html"
PICTURE: Final = "leaderboard.png"


def write_report(
    results: Results, out: Path, *, audio: bool = True, against: str | None = None
) -> tuple[Board, ...]:
    """Write page, tables, picture and clips into a folder, each file whole or not at all.

    Where the results hold no audio, clips that an earlier report wrote stay.

    ``against``: a system to compare those of its group with, in place of the group's best.

    Raises UserError where records or clips do not allow it, or the folder cannot be written.
    """
    boards = make_boards(results, against)
    tables = make_tables(results, boards)
    ids = list(dict.fromkeys(row.system.system for board in boards for row in board.rows))
    everywhere = (clip for folder in results.folders for clip in find_clips(folder))
    found = merge_clips(everywhere, ids) if audio else []
    kept = written_clips(out / "clips") if audio and not found else []
    try:
        write_whole(out / "leaderboard.md", to_markdown(tables, TITLE))
        write_whole(out / "leaderboard.tex", to_latex(tables))
        write_whole(out / "leaderboard.csv", averages_csv(boards))
        write_whole(out / "comparisons.csv", comparisons_csv(boards))
        draw_board(boards[0], out / PICTURE)
        for clip in progress(found, desc="clips", unit="clips", disable=not found, leave=False):
            write_whole(out / clip_file(clip), clip_script(clip, ids))
        assets = _assets(out)
        for name, text in asset_files().items():
            write_whole(out / assets / name, text)
        write_whole(out / PAGE, make_page(results, boards, found or kept, assets))
        _remove_old_clips(out, {out / clip_file(clip) for clip in (*found, *kept)})
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    return boards


def headline(boards: Sequence[Board], out: Path) -> dict[str, Any]:
    """What the command says, for programs."""
    return {
        "page": str(out / PAGE),
        "boards": {
            board.view: {
                "clips": board.n_clips,
                "performances": board.n_performances,
                "notes": board.notes,
                "systems": [
                    {
                        "system": row.system.system,
                        "group": row.group,
                        "rank": row.rank,
                        f"pooled_{board.headline.id}": _plain(row, board, "pooled"),
                        f"macro_{board.headline.id}": _plain(row, board, "macro"),
                        "p_holm": row.p_holm,
                    }
                    for row in board.rows
                ],
            }
            for board in boards
        },
    }


def _plain(row: Row, board: Board, pooling: str) -> float | None:
    """An average as JSON can hold it: None for an infinity."""
    value = getattr(row.summaries[board.headline.id], pooling).value
    return value if math.isfinite(value) else None


def lines_of(board: Board) -> Iterator[str]:
    width = max(len(row.system.system) for row in board.rows)
    for row in board.rows:
        pooled = row.summaries[board.headline.id].pooled
        value, low, high = (
            number(x, board.headline.digits) for x in (pooled.value, pooled.low, pooled.high)
        )
        name = f"{row.group:<14} {row.rank:>2}  {row.system.system:<{width}}"
        yield f"  {name}  {value:>6}  [{low}, {high}]"


def _assets(out: Path) -> str:
    """Where the page's styles and scripts lie: beside it, or with those of a page above it."""
    return f"../{ASSETS}" if (out.parent / ASSETS / "page.js").is_file() else ASSETS


def _remove_old_clips(out: Path, kept: set[Path]) -> None:
    """Scripts of clips that an earlier report wrote and this one does not name."""
    for path in set((out / "clips").glob("*.js")) - kept:
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.read(len(clips.SIGNATURE)) == clips.SIGNATURE:
                path.unlink()
