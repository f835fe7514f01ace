"""`stemgmd bench report`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

EPILOG: Final = """\
examples:
  stemgmd bench report results                          tables and page in results/report
  stemgmd bench report results mine --out leaderboard   with the records of another folder
  stemgmd bench report results --systems nmfd,zero      of some systems only
  stemgmd bench report results --tracks '*/eval_session/*' --out paper   of some performances only
  stemgmd bench report results --against nmfd           differences to that, not to the best"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("results", nargs="+", type=Path, help="folders of results; they merge")
    parser.add_argument("--out", type=Path, help="folder to write (default: RESULTS/report)")
    parser.add_argument("--systems", default="", help="ids to keep, comma-separated (default: all)")
    parser.add_argument(
        "--tracks",
        default="*",
        metavar="PATTERN",
        help="performances to keep, such as '*/eval_session/*' (default: all)",
    )
    parser.add_argument(
        "--against",
        metavar="ID",
        help="system to compare others with (default: their group's best)",
    )
    parser.add_argument(
        "--latest",
        action="store_true",
        help="of several metric versions or renderings of a track, take what was scored last",
    )
    parser.add_argument("--no-audio", action="store_true", help="leave the clips out of the page")
    parser.add_argument(
        "--with-records",
        action="store_true",
        help="write the records that the tables are of beside them, compressed, in place of others",
    )
    parser.add_argument("--json", action="store_true", help="print the headline as JSON")


def main(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    # What draws and tests takes seconds to import.
    from benchmarks.report.results import read_results
    from benchmarks.report.write import PAGE, PICTURE, headline, lines_of, write_report
    from benchmarks.results_folder import ResultsFolder, faults_told

    wanted = [name for name in options.systems.split(",") if name]
    results = read_results(
        options.results, wanted=wanted, latest_only=options.latest, tracks=options.tracks
    )
    out = options.out or options.results[0] / "report"
    boards = write_report(results, out, audio=not options.no_audio, against=options.against)
    if options.with_records:
        with faults_told(out):
            ResultsFolder(out).publish(results.records, results.systems, results.runs[-1])
    if options.json:
        print(json.dumps(headline(boards, out), indent=2))
        return 0
    for note in results.notes:
        print(f"note: {note}")
    for board in boards:
        print(f"pooled {board.headline.label} on {board.place} ({board.n_clips} clips):")
        print("\n".join(lines_of(board)))
    print(f"open {out / PAGE}; tables: {out / 'leaderboard.md'}; picture: {out / PICTURE}")
    return 0
