"""The choice of hyperparameters: `stemgmd study sweep`.

On GMD's validation split alone, with training kits alone, and leave-one-out over families: a
clip on a kit is separated with templates from kits of other families, as a kit that nobody has
heard will be. The criterion was fixed beforehand: nSDR pooled over all (clip, present stem)
pairs, the paper's headline; the mean over stems is recorded beside it.

Settings are tried one axis at a time from a start, each axis from the best so far; axes that
hang together with what was chosen after them come twice (`AXES`). Which value wins is a rule of
:mod:`benchmarks.studies.sweep_table`. Every setting that is tried is a row of ``sweep.csv``,
written at once; rows that are there are not computed again.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from baselines.learn import learn, training_banks
from baselines.settings import Recipe, Settings
from baselines.system import Inputs
from baselines.systems import FactorizationSystem, describe
from baselines.templates import Templates
from benchmarks.scores.metrics import nsdr_db, pool
from benchmarks.studies.sweep_clips import Clip, clip_hash, make_clips
from benchmarks.studies.sweep_table import TRIED, Row, read_table, winner, write_table
from stemgmd_build.errors import UserError
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

TABLE: Final = Path(__file__).with_name("sweep.csv")

_NMF: Final = Recipe(n_fft=2048, template_sec=0.46, n_variants=1, attack_frames=0)
_NMFD: Final = Recipe(n_fft=2048, template_sec=0.46, n_variants=1)

STARTS: Final = {
    "nmf-fixed": Settings(_NMF, n_iterations=50, adaptation="fixed"),
    "nmf-sab": Settings(_NMF, n_iterations=25, adaptation="semi"),
    "nmfd": Settings(_NMFD, n_iterations=30, adaptation="joint"),
    "nmfd-score-informed": Settings(
        _NMFD, n_iterations=30, adaptation="joint", uses_score=True, decay_sec=0.3
    ),
}
"""System -> where its search begins: the literature's figures, a mask of powers."""

Axis = tuple[str, tuple[Any, ...]]

_FFT: Final[Axis] = ("n_fft", (2048, 4096))
_LENGTHS: Final[Axis] = ("template_sec", (0.1, 0.23, 0.46, 0.93))
_NMF_AXES: Final[tuple[Axis, ...]] = (
    _LENGTHS,
    _FFT,
    ("attack_frames", (0, 4, 8)),
    ("n_variants", (1, 2, 4, 8)),
    ("mask_exponent", (1.0, 1.5, 2.0, 3.0)),
)
_NMFD_AXES: Final[tuple[Axis, ...]] = (
    _LENGTHS,
    _FFT,
    ("adaptation", ("fixed", "semi", "joint", "free")),
)
AXES: Final[Mapping[str, tuple[Axis, ...]]] = {
    "nmf-fixed": (*_NMF_AXES, ("n_iterations", (25, 50, 100, 200))),
    "nmf-sab": (
        *_NMF_AXES,
        ("adaptation_power", (1.0, 2.0, 4.0, 8.0, 16.0)),
        ("n_iterations", (25, 50, 100)),
    ),
    "nmfd": (
        *_NMFD_AXES,
        ("n_variants", (1, 2, 3)),
        ("mask_exponent", (1.0, 2.0, 3.0)),
        ("adaptation_power", (2.0, 4.0, 8.0, 16.0)),
        ("template_sec", (0.23, 0.46, 0.93)),
        ("extrapolate", (False, True)),
        ("n_iterations", (15, 30, 60)),
        _FFT,
    ),
    "nmfd-score-informed": (
        *_NMFD_AXES,
        ("decay_sec", (0.0, 0.1, 0.3, 1.0)),
        ("elsewhere", (0.0, 1e-3)),
        ("n_variants", (1, 2)),
        ("mask_exponent", (1.0, 2.0, 3.0)),
        ("template_sec", (0.23, 0.46, 0.93)),
        ("n_iterations", (5, 8, 15, 30)),
        ("adaptation", ("semi", "joint", "free")),
    ),
}
"""System -> what is tried, in order."""


_RECIPE_FIELDS: Final = tuple(field.name for field in fields(Recipe))


def flat(settings: Settings) -> dict[str, Any]:
    """Settings and recipe side by side, as a row names them."""
    values = asdict(settings)
    values.update(values.pop("recipe"))
    return {name: values[name] for name in TRIED}


def with_value(settings: Settings, name: str, value: Any) -> Settings:
    """The same settings but for one value, of the recipe or of the rest."""
    if name in _RECIPE_FIELDS:
        return replace(settings, recipe=replace(settings.recipe, **{name: value}))
    return replace(settings, **{name: value})


class Sweep:
    """Settings are tried on clips; what was tried is kept in a table."""

    def __init__(self, banks: Sequence[Bank], clips: Sequence[Clip], table: Path) -> None:
        self._banks, self._clips, self._table = tuple(banks), tuple(clips), table
        self._hash = clip_hash(clips)
        self.rows = {row.key: row for row in read_table(table)}

    def search(self, system: str, progress: tqdm[Any]) -> Settings:
        """Go along the axes; return the settings that won."""
        best = STARTS[system]
        for name, values in AXES[system]:
            tried = [with_value(best, name, value) for value in values]
            rows = []
            for settings in tried:
                progress.set_description(f"{system} {name}")
                rows.append(self.row(system, settings))
                progress.update()
            best = tried[winner(rows)]
        return best

    def row(self, system: str, settings: Settings) -> Row:
        """The scores of a setting, from the table or computed and added to it."""
        key = (system, *flat(settings).values(), self._hash)
        if key not in self.rows:
            self.rows[key] = self._measure(system, settings)
            write_table(self._table, list(self.rows.values()))
        return self.rows[key]

    def _measure(self, system: str, settings: Settings) -> Row:
        scores: list[tuple[str, float]] = []
        seconds = 0.0
        for clip in self._clips:
            templates = self.templates_without(clip.family, settings.recipe)
            separator = FactorizationSystem(
                describe(system, settings, templates, ()), templates, settings, torch.device("cpu")
            )
            inputs = Inputs(clip.mixture, score=clip.score if settings.uses_score else None)
            begin = time.process_time()
            stems = separator.separate(inputs)
            seconds += time.process_time() - begin
            for index in clip.present:
                pair = {"reference": clip.references[index], "estimate": stems[index]}
                scores.append((STEMS[index], float(nsdr_db(**pair))))
        audio_sec = sum(clip.mixture.shape[1] for clip in self._clips) / SAMPLE_RATE
        pooled = pool(scores)
        by_stem = {stem.stem: round(stem.mean, 3) for stem in pooled.stems}
        columns: dict[str, Any] = {stem: by_stem.get(stem, math.nan) for stem in STEMS}
        return Row(
            system=system,
            **flat(settings),
            pooled_nsdr_db=round(pooled.mean, 3),
            macro_nsdr_db=round(pooled.macro_mean, 3),
            **columns,
            seconds=round(seconds, 2),
            real_time_ratio=round(audio_sec / seconds, 1),
            clips=self._hash,
        )

    @functools.lru_cache(maxsize=64)  # noqa: B019  one sweep a process
    def templates_without(self, family: str, recipe: Recipe) -> Templates:
        """Templates from the kits of every other family."""
        others = [bank for bank in self._banks if bank.kit.family != family]
        return learn(others, recipe)


def main(argv: Sequence[str] | None = None) -> int:
    """Search, and print what won."""
    parser = argparse.ArgumentParser(
        prog="stemgmd study sweep",
        description=__doc__,
        epilog="examples:\n  stemgmd study sweep\n"
        "  stemgmd study sweep --systems nmfd --table mine.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gmd", type=Path, help="folder of the Groove MIDI Dataset")
    parser.add_argument("--systems", default=",".join(AXES), help="default: all four")
    parser.add_argument("--table", type=Path, default=TABLE, help="default: the committed one")
    options = parser.parse_args(argv)
    try:
        names = options.systems.split(",")
        unknown = [name for name in names if name not in AXES]
        if unknown:
            raise UserError(f"no search for {unknown[0]!r}; there are {', '.join(AXES)}")
        banks = training_banks()
        collection = find_collection(options.gmd)
        with threadpool_limits(1):
            torch.set_num_threads(1)
            sweep = Sweep(banks, make_clips(collection, banks), options.table)
            total = sum(len(values) for name in names for _, values in AXES[name])
            with tqdm(total=total, unit="setting") as progress:
                won = {name: sweep.search(name, progress) for name in names}
    except UserError as error:
        print(f"stemgmd study sweep: error: {error}", file=sys.stderr)
        return 2
    for name, settings in won.items():
        row = sweep.row(name, settings)
        print(f"{name}: pooled {row.pooled_nsdr_db:.2f}, macro {row.macro_nsdr_db:.2f} dB, "
              f"{row.real_time_ratio} x real time\n  {settings}")  # fmt: skip
    return 0
