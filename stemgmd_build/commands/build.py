"""`stemgmd build`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemgmd_build.errors import UserError
from stemgmd_build.processes import usable_cpus

if TYPE_CHECKING:
    from stemgmd_build.building.build import Plan

_EPILOG = """\
examples:
  stemgmd build --out stemgmd --split eval_session
      the paper's 40 clips on the ten default kits
  stemgmd build --gmd groove --out stemgmd --workers 8
      all 1,150 performances on ten kits, 1,224 stem-hours
  stemgmd build --out small --kits fluidr3-standard,my-kit.toml --split test --limit 5 --stems five
  stemgmd build --out stemgmd --shards
      the dataset, and beside it in stemgmd/shards WebDataset tars of 1 GB that others can host
  stemgmd build --out /shared/stemgmd --cluster tcp://head:8786
      the same on a dask.distributed cluster that sees the same file system

The same command goes on after Ctrl-C, a full disk or a crash, and writes the same bytes."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemgmd build",
        description="Render performances on drum kits into isolated stems and their exact mixture, "
        "in StemGMD's layout.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the dataset")
    add("--gmd", type=Path, help="folder of the Groove MIDI Dataset (default: STEMGMD_GMD, the "
        "cache, else built-in grooves)")  # fmt: skip
    add("--kits", default="default", help="ids, paths or sets (default, train, test, all), with "
        "commas (default: default)")  # fmt: skip
    add("--split", default="all", help="train, validation, test, eval_session or all, with commas")
    add("--limit", type=int, help="only the first N of all performances chosen")
    add("--workers", type=int, default=usable_cpus(),
        help="processes (default: one per CPU)")  # fmt: skip
    add("--format", choices=("flac", "wav"), default="flac", help="default: flac")
    add("--stems", choices=("nine", "five", "both"), default="nine", help="default: nine")
    add("--mixture", action=argparse.BooleanOptionalAction, default=True,
        help="write the mixture beside its stems (default); --no-mixture: a third less disk and "
        "time, for readers that sum the stems, as ours do")  # fmt: skip
    add("--articulations", choices=("nine", "full"), default="nine",
        help="one sound a piece, as StemGMD (default), or the kit's finer ones")  # fmt: skip
    add("--choke", action=argparse.BooleanOptionalAction, default=True,
        help="a closed hi-hat damps an open one (default); --no-choke: StemGMD's way")  # fmt: skip
    add("--gain-db", type=float, default=0.0, help="turn every kit up or down (default: 0)")
    add("--shards", nargs="?", const="1GB", metavar="SIZE",
        help="pack the finished dataset into WebDataset tars of this size (1GB where none is "
        "given) in OUT/shards, for hosting")  # fmt: skip
    add("--mirdata", action="store_true",
        help="write mirdata's index too, with the MD5 of every file; for a finished dataset the "
        "files are read for it")  # fmt: skip
    add("--cluster", metavar="ADDRESS", help="run on this dask.distributed scheduler")
    add("--dry-run", action="store_true", help="say what would be done and stop")
    add("--json", action="store_true", help="print the result as JSON, or with --dry-run the plan; "
        "no progress")  # fmt: skip
    return parser


def main(argv: list[str]) -> int:
    """Build a dataset; 0 if every track is done, 1 if some failed."""
    options = _parser().parse_args(argv)
    if options.workers < 1 or (options.limit is not None and options.limit < 1):
        raise UserError("--workers and --limit must be at least 1")
    if not -60 <= options.gain_db <= 20:
        raise UserError("--gain-db must lie between -60 and 20")

    from stemgmd_build.building import build, manifest
    from stemgmd_build.building.tracks import RenderSettings
    from stemgmd_build.dataset.select import choose_kits, choose_performances
    from stemgmd_build.files import locked
    from stemgmd_build.hosting import shards
    from stemgmd_build.hosting.shard_plan import parse_size
    from stemgmd_build.performances import gmd
    from stemgmd_build.performances.losses import lines_of
    from stemgmd_build.rendering.bank import require_at_hand

    shard_bytes = parse_size(options.shards) if options.shards else None
    say = _say_nothing if options.json else _say
    collection = gmd.find_collection(options.gmd)
    performances = choose_performances(collection, options.split.split(","), options.limit)
    kits = choose_kits(options.kits.split(","))
    require_at_hand(kits)
    say(f"{gmd.describe(collection)}; {len(performances)} chosen")
    source = {"performances": collection.source, "performances_root": str(collection.root)}
    settings = RenderSettings(
        options.format, options.stems, options.articulations, options.choke, options.mixture
    )
    with locked(options.out, "build"):
        plan = build.make_plan(
            options.out,
            collection,
            performances,
            kits,
            settings,
            gain_db=options.gain_db,
            mirdata=options.mirdata,
            sample=not options.dry_run,
            show_progress=not options.json,
        )
        minutes = build.forecast_minutes(plan, options.workers)
        say(_plan_text(plan, minutes, options.workers))
        if plan.unsampled:
            say(f"before that, once: {build.count_of_kits(plan.unsampled)} to be sampled")
        more_bytes = shards.forecast_bytes(plan) if shard_bytes else 0.0
        if shard_bytes:
            say(f"then shards of {options.shards}: about {more_bytes / 1e9:.2f} GB more")
        build.check_disk(plan, more_bytes)
        if options.dry_run:
            if options.json:
                print(json.dumps(source | _plan_facts(plan, minutes, more_bytes)))
            return 0
        failures = build.run(
            plan,
            collection,
            n_workers=options.workers,
            cluster=options.cluster,
            show_progress=not options.json,
        )
        if shard_bytes:
            packed = shards.write_shards(options.out, shard_bytes, show_progress=not options.json)
            say(f"{len(packed)} files, {sum(file.n_bytes for file in packed) / 1e9:.2f} GB")
    notes = lines_of(manifest.read_settings(options.out))
    if options.json:
        facts = {
            "out": str(options.out),
            "tracks": len(plan.jobs),
            "failed": failures,
            "notes": notes,
        }
        print(json.dumps(source | facts))
    for line in failures:
        print(f"stemgmd build: failed: {line}", file=sys.stderr)
    for line in notes:
        say(f"note: {line}")
    say(f"{len(plan.jobs) - len(failures)} of {len(plan.jobs)} tracks are in {options.out}")
    return 1 if failures else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _say_nothing(text: str) -> None:
    """--json leaves the screen to the program that reads it."""


def _plan_facts(plan: Plan, minutes: float, shard_bytes: float) -> dict[str, Any]:
    """What ``_plan_text`` says, for programs; ``tracks`` as in the result of a build."""
    return {
        "out": str(plan.root),
        "tracks": len(plan.jobs),
        "to_do": len(plan.todo),
        "files": len(plan.todo) * plan.n_files,
        "hours": round(plan.todo_sec() * plan.n_files / 3600, 3),
        "bytes": round(plan.todo_bytes()),
        "shard_bytes": round(shard_bytes),
        "minutes": round(minutes, 2),
        "kits_to_sample": list(plan.unsampled),
    }


def _plan_text(plan: Plan, minutes: float, n_workers: int) -> str:
    hours = plan.todo_sec() * plan.n_files / 3600
    return (
        f"to do: {len(plan.todo)} of {len(plan.jobs)} tracks, {hours:.1f} hours in "
        f"{len(plan.todo) * plan.n_files} files, about {plan.todo_bytes() / 1e9:.2f} GB and "
        f"{max(minutes, 0.1):.1f} minutes with {n_workers} workers"
    )
