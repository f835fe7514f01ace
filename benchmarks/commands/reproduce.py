"""`stemgmd reproduce`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Final

from stemgmd_build.processes import usable_cpus

SIZES: Final = Path(__file__).parent.parent / "sizes"

_EPILOG = """\
The sizes: paper (the paper's 40 clips on ten kits), full (GMD's whole test split
on the four held-out kits, as in leaderboard/). Each is a TOML file that --config can replace;
--size X --dry-run shows the plan.
What is done is kept: the same command goes on after Ctrl-C or a crash.

examples:
  stemgmd reproduce --size full
  stemgmd reproduce --size paper --out paper --dry-run
  stemgmd reproduce --config my-experiment.toml --out mine"""


def main(argv: list[str]) -> int:
    """Dataset, weights, every system, report: 0 if all went well."""
    parser = argparse.ArgumentParser(
        prog="stemgmd reproduce",
        description="Reproduce the comparison: dataset, weights, every system, tables and page.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sizes = sorted(path.stem for path in SIZES.glob("*.toml"))
    parser.add_argument("--size", choices=sizes, default="paper", help="default: paper")
    parser.add_argument("--config", type=Path, metavar="FILE", help="an experiment of your own")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: reproduced/<size>")
    parser.add_argument("--gmd", type=Path, metavar="DIR", help="the Groove MIDI Dataset")
    parser.add_argument("--workers", type=int, default=usable_cpus(), metavar="N")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    options = parser.parse_args(argv)

    from benchmarks.reproduce import SHIPPED, load_experiment, make_steps, remember
    from stemgmd_build import cli
    from stemgmd_build.performances.gmd import describe, find_collection

    source = options.config or SIZES / f"{options.size}.toml"
    out = options.out or Path("reproduced") / source.stem
    experiment = load_experiment(source)
    collection = find_collection(options.gmd)
    steps = make_steps(experiment, collection, out, max(1, options.workers))
    print(describe(collection))
    for number, step in enumerate(steps, 1):
        print(f"{number}. {step.title}: {step.cost}\n   stemgmd {shlex.join(step.command)}")
    if options.dry_run:
        return 0
    remember(experiment, out)
    for number, step in enumerate(steps, 1):
        print(f"\n{number} of {len(steps)}: {step.title}", file=sys.stderr)
        status = cli.main(list(step.command))
        if status:
            print(
                f"stemgmd reproduce: step {number} ({step.title}) ended with status {status}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
            return status
        if step.title == "training":
            # What is scored and demonstrated from here on is what was just trained.
            os.environ["STEMGMD_WEIGHTS"] = str((out / "training" / "best.safetensors").absolute())
    report = out / "leaderboard"
    shipped = os.environ.get("STEMGMD_WEIGHTS", "the shipped weights")
    print(f"\nreproduced with {shipped if experiment.weights == SHIPPED else experiment.weights}")
    print(f"look and listen: {report / 'index.html'}")
    print(f"read:            {report / 'leaderboard.md'}, {report / 'leaderboard.csv'}")
    return 0
