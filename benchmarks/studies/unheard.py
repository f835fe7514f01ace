"""Which augmentations carry over to drums that were never heard.

    stemgmd study unheard --out unheard

Trains `larsnet-small` at equal steps with the paper's augmentations, with those of
`larsnet-small-varied`, and with reverberation as well; each time without the kits of some families
(a fold), on which it is then validated (GMD's validation split). The held-out kits of the
leaderboard have no part in it, so augmentations may be chosen by its table, DIR/unheard.csv. Every
run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.studies.variants import train_variant, variant_toml
from larsnet.training.config import CONFIGS, load_config
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.processes import usable_cpus

FOLDS: Final = {"avl": ("avl",), "bja-rumpf-audiophob": ("bja", "rumpf", "audiophob")}
"""Families of recorded drums. The two fonts, much of what there is, always stay in training."""

_VARIED: Final[dict[str, Any]] = tomllib.loads(
    (CONFIGS / "larsnet-small-varied.toml").read_text("utf-8")
)["augment"]

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "paper": {},
    "varied": _VARIED,
    "varied-reverb": _VARIED | {"reverb": 0.4},
}
"""Name -> its [augment] table."""


def fold_toml(variant: str, fold: str, *, steps: int, seed: int) -> str:
    """The configuration of one run: trained without a fold's families, validated on them."""
    kits = select_kits(load_config("larsnet-small").kits)
    unheard = [kit.id for kit in kits if kit.family in FOLDS[fold]]
    changes = {
        "kits": [kit.id for kit in kits if kit.id not in unheard],
        "validation_kits": unheard,
        "validation_segments": 96,
        "augment": VARIANTS[variant],
    }
    return variant_toml(changes, steps=steps, seed=seed)


def last_validation(run: Path) -> dict[str, str]:
    """The last row of a run's validation.csv."""
    with (run / "validation.csv").open(encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return last


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="stemgmd study unheard",
        description="which augmentations carry over to drums that were never heard",
    )
    parser.add_argument("--out", type=Path, default=Path("unheard"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--variants", default="all", help=", ".join(VARIANTS))
    parser.add_argument("--folds", default="all", help=", ".join(FOLDS))
    options = parser.parse_args(argv)
    rows = []
    try:
        for fold in _chosen(options.folds, tuple(FOLDS), "fold"):
            for variant in _chosen(options.variants, tuple(VARIANTS), "variant"):
                toml = fold_toml(variant, fold, steps=options.steps, seed=options.seed)
                name = f"{variant}--{fold}"
                run = train_variant(name, toml, options.out, threads=options.threads)
                row = {"variant": variant, "unheard": fold} | last_validation(run)
                rows.append(row)
                print(f"{name}: {float(row['nsdr_db']):.2f} dB")
    except UserError as error:
        print(f"benchmarks.studies.unheard: error: {error}", file=sys.stderr)
        return 2
    columns = [name for name in rows[0] if name not in ("seconds", "data_share")]
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
    write_whole(options.out / "unheard.csv", "\n".join(lines) + "\n")
    return 0


def _chosen(given: str, known: tuple[str, ...], what: str) -> list[str]:
    names = list(known) if given == "all" else given.split(",")
    for name in sorted(set(names) - set(known)):
        raise UserError(f"no {what} {name!r}; there are {', '.join(known)}")
    return names
