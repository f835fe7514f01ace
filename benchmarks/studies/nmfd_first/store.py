"""Examples as the network trains on them, one file each, and their maker.

The spectral error of a mask ``m`` is ``sum xx (m - r)^2 + rest`` with ``r = xs / xx`` the best real
mask of the cell and ``rest`` what no real mask on cells removes. So a file holds the level of the
mixture, the side share, blind NMFD's masks and ``r`` of what sounds, on cells, and a few sums.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.factorization import FactorizationConfig
from baselines.learn import learn
from baselines.settings import Recipe
from benchmarks.studies.nmfd_first import kits
from benchmarks.studies.nmfd_first.cells import (
    STEM_ROWS,
    STFT,
    Bands,
    Cells,
    blind_masks,
    cells_of,
    pooled_templates,
)
from benchmarks.studies.nmfd_first.examples import Examples
from benchmarks.studies.nmfd_first.validation import read_segments
from stemgmd_build.performances.collection import read_collection
from stemgmd_build.rendering.render import strikes_of
from stemgmd_build.taxonomy import PIECES, STEMS

N_BANDS: Final = 128
RECIPE: Final = Recipe(n_fft=2048, template_sec=0.93)
BLIND: Final = FactorizationConfig(
    n_iterations=15, adaptation="semi", adaptation_power=1.0, extrapolate=True
)
FLOOR_DB: Final = -60.0


@dataclass(frozen=True)
class Item:
    """An example on cells. ``level_db``, ``side``: (bands, frames); ``blind_db``: (9, bands,
    frames), of NMFD's masks; ``best``: (9, bands, frames), r; ``rest``, ``power``: of pieces (9,)
    and of stems (5,), relative to the mixture's power; ``hits``: (n, 2), piece and frame."""

    level_db: NDArray[np.float16]
    side: NDArray[np.float16]
    blind_db: NDArray[np.uint8]
    best: NDArray[np.float16]
    rows: NDArray[np.int64]
    rest: NDArray[np.float32]
    power: NDArray[np.float32]
    stem_rest: NDArray[np.float32]
    stem_power: NDArray[np.float32]
    hits: NDArray[np.int64]


def item_of(cells: Cells, blind: Tensor, hits: NDArray[np.int64]) -> Item:
    """What is kept of an example."""
    total = float(cells.xx.sum()) + 1e-12
    best = (cells.xs / cells.xx.clamp_min(1e-12)).clamp(-4, 4)
    # best is kept in half precision: the rest is what is missing for that
    best = best.half().float()
    explained = (2 * best * cells.xs - best.square() * cells.xx).double()
    rows = np.flatnonzero(cells.ss.flatten(1).any(dim=1).numpy())
    stem_best = torch.zeros(len(STEMS), *cells.xx.shape).index_add_(
        0, torch.tensor(STEM_ROWS), best
    )
    stem_xs = torch.zeros_like(stem_best).index_add_(0, torch.tensor(STEM_ROWS), cells.xs)
    stem_explained = (2 * stem_best * stem_xs - stem_best.square() * cells.xx).double()
    power, stem_power = (x.double().sum(dim=(1, 2)) for x in (cells.ss, cells.stem_ss))
    level = 10 * torch.log10(cells.xx / total * cells.xx.numel() + 1e-9)
    decibels = 20 * torch.log10(blind.clamp_min(1e-6))
    return Item(
        level_db=level.half().numpy(),
        side=cells.side.clamp(0, 2).half().numpy(),
        blind_db=(decibels.clamp(FLOOR_DB, 0) / FLOOR_DB * 240).round().to(torch.uint8).numpy(),
        best=best[rows].half().numpy(),
        rows=rows,
        rest=((power - explained.sum(dim=(1, 2))) / total).clamp_min(0).float().numpy(),
        power=(power / total).float().numpy(),
        stem_rest=((stem_power - stem_explained.sum(dim=(1, 2))) / total)
        .clamp_min(0)
        .float()
        .numpy(),
        stem_power=(stem_power / total).float().numpy(),
        hits=hits,
    )


def write_item(path: Path, item: Item) -> None:
    """One file, whole or not at all."""
    waiting = path.with_suffix(f".{os.getpid()}")
    with waiting.open("wb") as file:
        np.savez(file, **vars_of(item))
    waiting.replace(path)


def vars_of(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in Item.__dataclass_fields__}


def read_item(path: Path) -> Item:
    with np.load(path) as file:
        return Item(**{name: file[name] for name in Item.__dataclass_fields__})


class Blind:
    """Blind NMFD on bands with the templates of the six template kits."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.bands = Bands(N_BANDS)
        templates = learn(kits.find_banks(kits.TEMPLATE_KITS, folders), RECIPE)
        self.values = pooled_templates(templates, self.bands)
        self.owners = [PIECES.index(piece) for piece in templates.piece_of_component]

    def masks(self, magnitude: Tensor) -> Tensor:
        return blind_masks(magnitude, self.values, self.owners, BLIND)


def main() -> None:
    parser = argparse.ArgumentParser(description="make training examples, or validation items")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gmd", type=Path, required=True)
    parser.add_argument("--kits", type=Path, nargs="*", default=[])
    parser.add_argument(
        "--singles", type=Path, help="folder of single drums, each with a single.toml"
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--light", type=float, default=0.0, help="share of lightly processed examples"
    )
    parser.add_argument("--validation", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    folders = tuple(options.kits)
    blind = Blind(folders)
    if options.validation:
        for segment in read_segments(options.validation):
            path = options.out / segment.path.name
            if not path.exists():
                cells = cells_of(torch.from_numpy(segment.pieces()), None, blind.bands)
                write_item(
                    path, item_of(cells, blind.masks(cells.magnitude), np.zeros((0, 2), np.int64))
                )
        return
    collection = read_collection(options.gmd)
    strikes = [strikes_of(collection.read_score(p)) for p in collection.select("train")]
    names = kits.training_names(folders)
    measured = [kits.measured(bank) for bank in kits.find_banks(names, folders)]
    singles = kits.single_drums(options.singles) if options.singles else {}
    facts = {
        "kits": names,
        "seed": options.seed,
        "singles": {g: [k.bank.kit.id for k in v] for g, v in singles.items()},
    }
    (options.out / "facts.json").write_text(json.dumps(facts, indent=1))
    examples = Examples(strikes, measured, singles, seed=options.seed, light=options.light)
    began = time.time()
    for n, index in enumerate(range(options.first, options.first + options.count)):
        path = options.out / f"{index:06d}.npz"
        if path.exists():
            continue
        example = examples[index]
        cells = cells_of(
            torch.from_numpy(example.pieces), torch.from_numpy(example.noise), blind.bands
        )
        hits = [
            (p, round(o / STFT.hop_samples))
            for p, onsets in enumerate(example.hits)
            for o in onsets.tolist()
        ]
        found = np.array(hits, np.int64).reshape(-1, 2)
        write_item(path, item_of(cells, blind.masks(cells.magnitude), found))
        if n % 50 == 0:
            print(f"{index}: {(time.time() - began) / (n + 1):.2f} s per example", flush=True)


if __name__ == "__main__":
    main()
