"""What blind NMFD in bands is worth, and what a mask on bands can reach: cells against bins."""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch

from baselines.factorization import FactorizationConfig
from baselines.learn import learn
from baselines.settings import Recipe
from benchmarks.studies.nmfd_first import cells, kits
from benchmarks.studies.nmfd_first.validation import read_segments


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kits", type=Path, nargs="*", default=[])
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    segments = read_segments(options.data)[:: options.every]
    names = kits.training_names(tuple(options.kits))
    six = kits.find_banks(kits.TEMPLATE_KITS, tuple(options.kits))
    every = kits.find_banks(names, tuple(options.kits))
    sources = {"six": six, "all": every}
    for n_bands in (96, 128, 192, 1025):
        bands = cells.Bands(n_bands)
        analysed = [cells.cells_of(torch.from_numpy(s.pieces()), None, bands) for s in segments]
        ceiling = [
            _score(a, (a.xs / a.xx.clamp_min(1e-12)).clamp(0, 1), s)
            for a, s in zip(analysed, segments)
        ]
        print(n_bands, "ceiling", _table(ceiling, segments), flush=True)
        variants = (
            [("six", 1), ("all", 1), ("all", 2), ("all", 4)] if n_bands == 128 else [("six", 1)]
        )
        for source, n_variants in variants:
            if n_bands == 1025:
                continue
            templates = learn(
                sources[source], Recipe(n_fft=2048, template_sec=0.93, n_variants=n_variants)
            )
            values = cells.pooled_templates(templates, bands)
            from stemgmd_build.taxonomy import PIECES

            owners = [PIECES.index(piece) for piece in templates.piece_of_component]
            for adaptation, n, power in [("semi", 15, 4.0)] + (
                [("semi", 15, 1.0), ("semi", 30, 4.0)] if n_bands == 128 else []
            ):
                config = FactorizationConfig(
                    n_iterations=n, adaptation=adaptation, adaptation_power=power, extrapolate=True
                )
                began = time.process_time()
                scores = [
                    _score(a, cells.blind_masks(a.magnitude, values, owners, config), s)
                    for a, s in zip(analysed, segments)
                ]
                took = (time.process_time() - began) / len(segments)
                print(
                    n_bands,
                    source,
                    n_variants,
                    adaptation,
                    n,
                    power,
                    _table(scores, segments),
                    f"{took:.2f} s",
                    flush=True,
                )


def _score(a, masks, segment):
    five = torch.stack(
        [masks[[p for p in range(9) if cells.STEM_ROWS[p] == s]].sum(0) for s in range(5)]
    )
    xs = torch.stack(
        [a.xs[[p for p in range(9) if cells.STEM_ROWS[p] == s]].sum(0) for s in range(5)]
    )
    error = cells.errors(five, a.xx, xs, a.stem_ss)
    power = a.stem_ss.sum(dim=(-2, -1))
    db = 10 * torch.log10(power / error.clamp_min(1e-9))
    return [float(db[i]) if i in segment.present else np.nan for i in range(5)]


def _table(scores, segments):
    values = np.array(scores)
    unseen = np.array([s.kit in kits.VALIDATION for s in segments])
    parts = [f"unseen {np.nanmean(values[unseen]):.2f} known {np.nanmean(values[~unseen]):.2f}"]
    parts.append(" ".join(f"{v:.1f}" for v in np.nanmean(values[unseen], axis=0)))
    parts += [
        f"{kit[:6]} {np.nanmean(values[[s.kit == kit for s in segments]]):.1f}"
        for kit in kits.VALIDATION
    ]
    return " | ".join(parts)


if __name__ == "__main__":
    main()
