"""`stemgmd verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from stemgmd_build.errors import UserError
from stemgmd_build.processes import usable_cpus

_EPILOG = """\
examples:
  stemgmd verify stemgmd
  stemgmd verify stemgmd --json --workers 8"""


def main(argv: list[str]) -> int:
    """Check a dataset; 0 if all is well, 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="stemgmd verify",
        description="Check every file of a dataset: checksums, lengths, the exact sum of the "
        "stems, clipping, presence against audio.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", type=Path, help="folder of the dataset")
    parser.add_argument(
        "--workers",
        type=int,
        default=usable_cpus(),
        help="processes (default: one per CPU)",
    )
    parser.add_argument("--json", action="store_true", help="print the faults as JSON")
    options = parser.parse_args(argv)
    if options.workers < 1:
        raise UserError("--workers must be at least 1")

    from stemgmd_build.building import manifest
    from stemgmd_build.performances.losses import lines_of
    from stemgmd_build.verify import verify

    try:
        problems = verify(options.dir, n_workers=options.workers, show_progress=not options.json)
    except KeyboardInterrupt:  # the next run begins anew: no promise that it goes on
        print("\nstemgmd verify: interrupted; nothing was changed", file=sys.stderr)
        return 130
    n_tracks = len(manifest.read_metadata(options.dir))
    notes = lines_of(manifest.read_settings(options.dir))
    if options.json:
        print(json.dumps({"tracks": n_tracks, "faults": problems, "notes": notes}))
    else:
        for line in notes:
            print(f"note: {line}")
        for line in problems:
            print(line)
        print(
            f"{n_tracks} tracks, {len(problems)} faults"
            if problems
            else f"{n_tracks} tracks, all well"
        )
    return 1 if problems else 0
