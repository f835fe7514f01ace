"""`stemgmd gmd`: fetch or verify the Groove MIDI Dataset."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stemgmd_build.errors import UserError
from stemgmd_build.paths import cache_folder

if TYPE_CHECKING:
    from stemgmd_build.performances.collection import Collection

_EPILOG: Final = """\
examples:
  stemgmd gmd fetch                     download GMD's MIDI (3 MB) into the cache, verified
  stemgmd gmd fetch --dir groove        ... into a folder of your own
  stemgmd gmd verify groove             check that a copy has every file and row of GMD
  stemgmd gmd verify groove --json      ... for a program to read

GMD is looked for where --gmd says, where STEMGMD_GMD says, then in the cache. It is licensed
CC BY 4.0; cite Gillick et al., "Learning to Groove with Inverse Sequence Transformations"."""

_MOST_NAMED: Final = 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemgmd gmd",
        description="Fetch the Groove MIDI Dataset, or verify a copy of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    fetch = commands.add_parser(
        "fetch",
        help="download the official MIDI-only archive, verify and unpack it",
        description="Download the official MIDI-only archive, verify it, unpack it. "
        "An interrupted download goes on where it stopped.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetch.add_argument(
        "--dir", type=Path, metavar="DIR", help=f"where to (default: {cache_folder() / 'groove'})"
    )
    fetch.add_argument("--url", help="another place of the archive")
    fetch.add_argument("--sha256", help="of another archive; needs --url and --size")
    fetch.add_argument("--size", type=int, metavar="BYTES", help="of another archive")
    fetch.add_argument("--json", action="store_true", help="print JSON")
    verify = commands.add_parser(
        "verify",
        help="compare a copy with the official one",
        description="Compare every file and row of a copy with the official GMD 1.0.0.\n"
        "Exit status: 0 the same, 1 it differs, 2 it cannot be read.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verify.add_argument("dir", type=Path, metavar="DIR", help="the folder that holds info.csv")
    verify.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(argv: list[str]) -> int:
    """Run `stemgmd gmd`; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    return _fetch(options) if options.command == "fetch" else _verify(options)


def _fetch(options: argparse.Namespace) -> int:
    from stemgmd_build.performances import gmd

    if options.size is not None and options.size < 1:
        raise UserError("--size must be at least 1 byte")
    if options.sha256 is None and options.size is None:
        collection = gmd.fetch(options.dir, url=options.url or gmd.ARCHIVE_URL)
    elif options.sha256 and options.size and options.url:
        collection = gmd.fetch(
            options.dir, url=options.url, sha256=options.sha256, n_bytes=options.size
        )
    else:
        raise UserError("another archive needs --url, --sha256 and --size, all three")
    _print_fetched(collection, as_json=options.json)
    return 0


def _print_fetched(collection: Collection, *, as_json: bool) -> None:
    from stemgmd_build.performances import gmd

    n_performances = len(collection.performances)
    if as_json:
        facts = {"root": str(collection.root), "n_performances": n_performances}
        print(json.dumps(facts | {"source": collection.source}))
        return
    print(f"{n_performances:,} performances in {collection.root} ({collection.licence})")
    if collection.root != gmd.default_folder():
        print(f"use them with --gmd {collection.root}, or set {gmd.GMD_VARIABLE}")


def _verify(options: argparse.Namespace) -> int:
    from stemgmd_build.performances import gmd

    try:
        report = gmd.verify(options.dir)
    except KeyboardInterrupt:  # the next run begins anew: no promise that it goes on
        print("\nstemgmd gmd verify: interrupted; nothing was changed", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(asdict(report) | {"is_right": report.is_right}, indent=2))
        return 0 if report.is_right else 1
    splits = ", ".join(f"{split} {count:,}" for split, count in sorted(report.splits.items()))
    print(
        f"{report.root}: {report.n_performances:,} performances ({splits}; eval_session "
        f"{report.n_eval_session}), {report.hours:.2f} h, {report.n_hits:,} hits, "
        f"{report.n_pedal_events:,} pedal events"
    )
    for kind, paths in report.differences.items():
        print(f"{len(paths):,} {kind}:")
        for path in paths[:_MOST_NAMED]:
            print(f"  {path}")
        if len(paths) > _MOST_NAMED:
            print(f"  ... and {len(paths) - _MOST_NAMED:,} more (--json: all)")
    print("the same as GMD 1.0.0" if report.is_right else "differs from GMD 1.0.0")
    return 0 if report.is_right else 1
