"""`stemgmd demo`: the mission in small, from a dataset to its leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  stemgmd demo
  stemgmd demo --out demo --gmd groove"""


def main(argv: list[str]) -> int:
    """Build a small dataset, run every system on it, separate one track; say where it all is."""
    parser = argparse.ArgumentParser(
        prog="stemgmd demo",
        description="Build a small dataset from the performances and kits at hand, verify it, "
        "draw one track of it, make a leaderboard of every system, and separate the track.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="default: demo")
    parser.add_argument("--gmd", type=Path, help="folder of the Groove MIDI Dataset")
    parser.add_argument(
        "--offline", action="store_true", help="do not download GMD (3 MB) where it is not here"
    )
    options = parser.parse_args(argv)

    from benchmarks.commands import bench
    from benchmarks.demo import build_demo
    from larsnet.commands import separate

    demo = build_demo(options.out, options.gmd, may_download=not options.offline)
    for line in demo.faults:
        print(f"FAULT {line}")
    print(f"{demo.n_tracks} tracks built and verified, {len(demo.faults)} faults", flush=True)
    if demo.faults:
        return 1
    results = options.out / "results"
    run = ["run", "--data", str(demo.dataset), "--kits", demo.kits[0].id, "--split", "all"]
    status = bench.main([*run, "--out", str(results), "--audio", "1", "--no-speed"])
    status = status or bench.main(["report", str(results), "--out", str(options.out / "report")])
    stems = options.out / "separated"
    status = status or separate.main([str(demo.listen), "-o", str(stems)])
    if status:
        return status
    print(f"\nlook:    {demo.picture}, {options.out / 'report' / 'index.html'}")
    kick = stems / demo.listen.stem / "kick.wav"
    print(
        f"listen:  {demo.listen}, its nine stems beside it, {kick} and four more "
        "as LarsNet separates them, and the players of the page"
    )
    print(
        f"read:    {options.out / 'report' / 'leaderboard.md'}, {demo.dataset}/metadata.csv, "
        f"{demo.dataset}/manifest.jsonl, {demo.dataset}/LICENSES.md"
    )
    return 0
