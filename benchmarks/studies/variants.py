"""`larsnet-small` with something changed, trained at equal steps: what the studies of it share."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from larsnet.training.config import CONFIGS
from stemgmd_build import cli
from stemgmd_build.errors import UserError

BASE: Final = "larsnet-small"


def variant_toml(changes: Mapping[str, Any], *, steps: int, seed: int) -> str:
    """The configuration of a variant; the learning rate falls over the last half of the steps.

    ``changes`` are nested values of the base's TOML file.
    """
    values = tomllib.loads((CONFIGS / f"{BASE}.toml").read_text("utf-8"))
    values |= {
        "steps": steps,
        "seed": seed,
        "decay_steps": steps // 2,
        "warmup_steps": min(values["warmup_steps"], steps // 10),
        "validate_every": steps,
        "checkpoint_every": min(values["checkpoint_every"], steps),
    }
    _merge(values, changes)
    return _as_toml(values)


def train_variant(name: str, toml: str, out: Path, *, threads: int) -> Path:
    """Train one variant, or go on with it; its run's folder. UserError where training fails."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"{name}.toml"
    config.write_text(toml, "utf-8")
    command = ["train", str(config), "--out", str(folder / "run"), "--threads", str(threads)]
    if status := cli.main(command):
        raise UserError(f"{name}: stemgmd train ended with status {status}")
    return folder / "run"


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def _as_toml(values: Mapping[str, Any], path: str = "") -> str:
    """Numbers, texts, lists of them, and tables."""
    lines = [f"[{path}]"] if path else []
    tables = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            tables.append(_as_toml(value, f"{path}.{key}" if path else key))
        else:
            text = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n" + "".join(tables)
