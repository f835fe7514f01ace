"""What each part of LarsNet's recipe is worth: the same small nets trained without it.

    stemgmd study ablation --out ablation

Trains `larsnet-small` at equal steps with all augmentations, without any, without each, and as
one shared net instead of five; then `stemgmd bench run` enters them all. Every part is a command
that goes on where it was stopped. The table, with intervals and a paired test against the whole
recipe, is DIR/report/leaderboard.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.studies.variants import train_variant, variant_toml
from larsnet.training.augment import NAMES
from stemgmd_build import cli
from stemgmd_build.errors import UserError
from stemgmd_build.processes import usable_cpus

FULL: Final = "all-augmentations"

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    FULL: {},
    "no-augmentation": {"augment": {"example": 0.0}},
    **{f"no-{name.replace('_', '-')}": {"augment": {name: 0.0}} for name in NAMES},
    "one-shared-net": {"model": {"shared": True, "unet": {"n_masks": 5}}},
}
"""Name -> what differs from larsnet-small, as nested values of its TOML file."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="stemgmd study ablation",
        description="train and score larsnet-small without each part of its recipe",
    )
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--variants", default="all", help=", ".join(VARIANTS))
    parser.add_argument("--split", default="eval_session")
    parser.add_argument("--kits", default="test")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args(argv)
    names = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
    tracks = ["--split", options.split, "--kits", options.kits]
    tracks += [] if options.limit is None else ["--limit", str(options.limit)]
    try:
        for name in sorted(set(names) - set(VARIANTS)):
            raise UserError(f"no variant {name!r}; there are {', '.join(VARIANTS)}")
        weights = {
            # Its last weights, not its best on validation: that would be a choice more.
            name: train_variant(
                name,
                variant_toml(VARIANTS[name], steps=options.steps, seed=options.seed),
                options.out,
                threads=options.threads,
            )
            / "last.safetensors"
            for name in names
        }
    except UserError as error:
        print(f"benchmarks.studies.ablation: error: {error}", file=sys.stderr)
        return 2
    results, report = str(options.out / "results"), str(options.out / "report")
    entrants = ",".join(f"{name}={path}" for name, path in weights.items())
    run = ["bench", "run", "--out", results, "--systems", entrants, "--audio", "0", "--no-speed"]
    status = cli.main([*run, *tracks])
    against = ["--against", FULL] if FULL in names else []
    return status or cli.main(["bench", "report", results, "--out", report, *against])
