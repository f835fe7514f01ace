"""What each part of LarsNet's recipe is worth: the same small nets trained without it.

    python -m benchmarks.studies.ablation --out ablation

Trains `larsnet-small` at equal steps with all augmentations, without any, without each, and as
one shared net instead of five; then `stemgmd bench run` enters them all. Every part is a command
that goes on where it was stopped. The table, with intervals and a paired test against the best,
is DIR/report/leaderboard.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from larsnet.augment import NAMES
from larsnet.training_config import CONFIGS
from stemgmd_build import cli
from stemgmd_build.errors import UserError

BASE: Final = "larsnet-small"
FULL: Final = "all-augmentations"

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    FULL: {},
    "no-augmentation": {"augment": {"example": 0.0}},
    **{f"no-{name.replace('_', '-')}": {"augment": {name: 0.0}} for name in NAMES},
    "one-shared-net": {"model": {"shared": True, "unet": {"n_masks": 5}}},
}
"""Name -> what differs from the base, as nested values of its TOML file."""


def variant_toml(name: str, steps: int, seed: int) -> str:
    """The configuration of a variant; the learning rate falls over the last half of the steps."""
    values = tomllib.loads((CONFIGS / f"{BASE}.toml").read_text("utf-8"))
    values |= {
        "steps": steps,
        "seed": seed,
        "decay_steps": steps // 2,
        "warmup_steps": min(values["warmup_steps"], steps // 10),
        "validate_every": steps,
        "checkpoint_every": min(values["checkpoint_every"], steps),
    }
    _merge(values, VARIANTS[name])
    return _as_toml(values)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def _as_toml(values: dict[str, Any], path: str = "") -> str:
    """Numbers, texts, lists of them, and tables."""
    lines = [f"[{path}]"] if path else []
    tables = []
    for key, value in values.items():
        if isinstance(value, dict):
            tables.append(_as_toml(value, f"{path}.{key}" if path else key))
        else:
            text = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n" + "".join(tables)


def train_variant(name: str, out: Path, *, steps: int, seed: int, threads: int) -> Path:
    """Train one variant; its last weights. Raises UserError where training fails."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{name}.toml"
    config.write_text(variant_toml(name, steps, seed), "utf-8")
    command = ["train", str(config), "--out", str(folder / "run"), "--threads", str(threads)]
    if status := cli.main(command):
        raise UserError(f"{name}: stemgmd train ended with status {status}")
    # Not its best on validation: that would be a choice more.
    return folder / "run" / "last.safetensors"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description="train and score larsnet-small without each part of its recipe"
    )
    parser.add_argument("--out", type=Path, default=Path("ablation"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--variants", default="all", help=", ".join(VARIANTS))
    parser.add_argument("--split", default="eval_session")
    parser.add_argument("--kits", default="test")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    names = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
    tracks = ["--split", options.split, "--kits", options.kits]
    tracks += [] if options.limit is None else ["--limit", str(options.limit)]
    try:
        for name in sorted(set(names) - set(VARIANTS)):
            raise UserError(f"no variant {name!r}; there are {', '.join(VARIANTS)}")
        weights = {
            name: train_variant(
                name,
                options.out,
                steps=options.steps,
                seed=options.seed,
                threads=options.threads,
            )
            for name in names
        }
    except UserError as error:
        print(f"benchmarks.studies.ablation: error: {error}", file=sys.stderr)
        return 2
    results, report = str(options.out / "results"), str(options.out / "report")
    entrants = ",".join(f"{name}={path}" for name, path in weights.items())
    run = ["bench", "run", "--out", results, "--systems", entrants, "--audio", "0", "--no-speed"]
    status = cli.main([*run, *tracks])
    return status or cli.main(["bench", "report", results, "--out", report])


if __name__ == "__main__":
    sys.exit(main())
