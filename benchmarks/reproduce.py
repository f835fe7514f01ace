"""The whole mission as one plan: dataset, weights, every system, report.

A plan is a list of steps, each an ordinary command of `stemgmd` that goes on where it was
stopped; so does the whole.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from larsnet.records import check_types, known
from stemgmd_build.building import build
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import require_at_hand

SIZES: Final = Path(__file__).parent / "sizes"
SHIPPED: Final = "shipped"

# What a system and its scores cost on one core of a shared machine, measured once: 6,555
# seconds of processor for ten systems on 160 clips of 6,512 seconds in all.
_CPU_SEC_PER_AUDIO_SEC: Final = 6555 / 10 / 6512
# What training does in a second on one core: the packaged weights' first run took 2.2 hours on two
# for 8,000 steps of 63 GFLOP each, rendering included.
_TRAINING_FLOPS_PER_CPU_SEC: Final = 32e9
_STEMS: Final = "five"


@dataclass(frozen=True)
class Experiment:
    """What to reproduce. ``weights``: "shipped", or the configuration to train LarsNet with."""

    split: str
    kits: tuple[str, ...]
    systems: tuple[str, ...] = ("all",)
    limit: int | None = None
    weights: str = SHIPPED
    speed: bool = True
    clips: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        if not (self.kits and self.systems):
            raise ValueError(f"{'systems' if self.kits else 'kits'} must be a list of names")
        if (self.limit is not None and self.limit < 1) or self.clips < 0:
            raise ValueError("limit must be at least 1, clips at least 0")


@dataclass(frozen=True)
class Step:
    """One command, and what it takes in words."""

    title: str
    command: tuple[str, ...]
    cost: str


def load_experiment(path: Path) -> Experiment:
    """Read an experiment's file. Raises UserError that names it for anything unknown in it."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    try:
        given = known(values, Experiment, "an experiment")
        for name in ("split", "kits"):
            if name not in given:
                raise ValueError(f"{name} is missing")
        return Experiment(**given)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def make_steps(
    experiment: Experiment, collection: Collection, out: Path, n_workers: int
) -> list[Step]:
    """The plan, for what is still to be done in ``out``.

    Raises UserError for an unknown split, kit or system, or a kit that is not on this machine.
    """
    from benchmarks import systems

    kits = select_kits(experiment.kits)
    require_at_hand(kits)
    performances = collection.select(experiment.split.split(","), experiment.limit)
    if not performances:
        raise UserError(f"no performance is of split {experiment.split!r}")
    names = list(systems.available())
    if "all" not in experiment.systems:
        for name in sorted(set(experiment.systems) - set(names)):
            raise UserError(f"no system {name!r}; there are {', '.join(names)}")
        names = list(experiment.systems)
    dataset, results = out / "dataset", out / "results"
    render = RenderSettings(stems=_STEMS)
    plan = build.make_plan(dataset, collection, performances, kits, render, sample=False)
    first = f"{build.count_of_kits(plan.unsampled)} to be sampled first; " if plan.unsampled else ""
    build_minutes = build.forecast_minutes(plan, n_workers)
    chosen = ["--gmd", str(collection.root), "--split", experiment.split]
    chosen += [] if experiment.limit is None else ["--limit", str(experiment.limit)]
    workers = ["--workers", str(n_workers)]
    ids = ",".join(kit.id for kit in kits)  # own kits, built from a path, have a name afterwards
    audio_sec = sum(job.performance.duration_sec for job in plan.jobs)
    cpu_sec = audio_sec * len(names) * _CPU_SEC_PER_AUDIO_SEC
    steps = [
        Step(
            "dataset",
            (
                "build",
                "--out",
                str(dataset),
                "--stems",
                _STEMS,
                *chosen,
                "--kits",
                ",".join(experiment.kits),
                *workers,
            ),
            f"{first}{len(plan.todo)} of {len(plan.jobs)} tracks to do, "
            f"{plan.todo_bytes() / 1e9:.2f} GB, about {build_minutes:.0f} min",
        ),
        Step("check", ("verify", str(dataset)), f"{len(plan.jobs)} tracks"),
    ]
    if experiment.weights != SHIPPED:
        steps.append(_training(experiment, collection, out, n_workers))
    steps += [
        Step(
            "systems",
            (
                *("bench", "run", "--data", str(dataset), "--out", str(results), "--split"),
                *(experiment.split, "--kits", ids, *workers),
                *("--systems", ",".join(experiment.systems)),
                *("--audio", str(experiment.clips)),
                *(() if experiment.speed else ("--no-speed",)),
            ),
            f"{len(names)} systems on {audio_sec / 3600:.2f} h of audio, about "
            f"{cpu_sec / n_workers / 60:.0f} min from the start",
        ),
        Step(
            "report",
            ("bench", "report", str(results), "--out", str(out / "leaderboard")),
            "tables and a page, about a minute",
        ),
    ]
    return steps


def _training(experiment: Experiment, collection: Collection, out: Path, n_workers: int) -> Step:
    from larsnet.network.protocol import flops
    from larsnet.training.config import load_config

    config = load_config(experiment.weights)
    hours = config.steps * config.batch * config.n_samples / 44_100 / 3600
    # forwards once, and backwards, which is twice as much: for the weights and for the inputs
    n_flops = 3 * config.steps * config.batch * flops(config.model, config.n_frames)
    wall_hours = n_flops / _TRAINING_FLOPS_PER_CPU_SEC / n_workers / 3600
    return Step(
        "training",
        ("train", experiment.weights, "--out", str(out / "training"), "--gmd",
         str(collection.root)),
        f"{config.steps:,} steps, {hours:,.0f} h of audio rendered on the fly, about "
        f"{wall_hours:,.1f} h on {n_workers} cores",
    )  # fmt: skip


def remember(experiment: Experiment, out: Path) -> None:
    """Note in ``out`` what it holds. Raises UserError where it holds another experiment."""
    path = out / "experiment.json"
    text = json.dumps(asdict(experiment), indent=2, sort_keys=True) + "\n"
    try:
        if path.exists():
            if path.read_text("utf-8") != text:
                raise UserError(f"{out} holds another experiment ({path}); name another --out")
            return
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
