"""What blind NMFD in bands is worth, and what a mask on bands can reach: cells against bins."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from baselines.factorization import FactorizationConfig
from baselines.learn import learn
from baselines.settings import Recipe
from benchmarks.studies.nmfd_first import cells, kits
from benchmarks.studies.nmfd_first.validation import Segment, read_segments
from stemgmd_build.taxonomy import PIECES, STEMS

BANDS: Final = (96, 128, 192, 1025)
VARIANTS: Final = (("six", 1), ("all", 1), ("all", 2), ("all", 4))
STEPS: Final = ((15, 4.0), (15, 1.0), (30, 4.0))
"""Iterations and adaptation power."""


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="validation segments")
    parser.add_argument("--kits", type=Path, nargs="*", default=[], help="folders of kits")
    parser.add_argument("--every", type=int, default=4, help="use every n-th segment")
    options = parser.parse_args()
    torch.set_num_threads(1)
    segments = read_segments(options.data)[:: options.every]
    folders = tuple(options.kits)
    sources = {
        "six": kits.find_banks(kits.TEMPLATE_KITS, folders),
        "all": kits.find_banks(kits.training_names(folders), folders),
    }
    for n_bands in BANDS:
        bands = cells.Bands(n_bands)
        analysed = [cells.cells_of(torch.from_numpy(s.pieces()), None, bands) for s in segments]
        best = [(one.xs / one.xx.clamp_min(1e-12)).clamp(0, 1) for one in analysed]
        print(n_bands, "ceiling", _line(analysed, best, segments), flush=True)
        many = n_bands == 128
        for (source, n_variants), (n, power) in itertools.product(
            VARIANTS if many else VARIANTS[:1], STEPS if many else STEPS[:1]
        ):
            if n_bands > 192:
                continue  # in bins NMFD takes ten times as long
            recipe = Recipe(n_fft=2048, template_sec=0.93, n_variants=n_variants)
            templates = learn(sources[source], recipe)
            values = cells.pooled_templates(templates, bands)
            owners = [PIECES.index(piece) for piece in templates.piece_of_component]
            config = FactorizationConfig(
                n_iterations=n, adaptation="semi", adaptation_power=power, extrapolate=True
            )
            began = time.process_time()
            found = [cells.blind_masks(a.magnitude, values, owners, config) for a in analysed]
            took = (time.process_time() - began) / len(segments)
            line = _line(analysed, found, segments)
            print(n_bands, source, n_variants, n, power, line, f"{took:.2f} s", flush=True)


def _line(
    analysed: Sequence[cells.Cells], masks: Sequence[Tensor], segments: Sequence[Segment]
) -> str:
    rows = [_scores(*one) for one in zip(analysed, masks, segments, strict=True)]
    values = np.array(rows)
    of_kit = np.array([segment.kit for segment in segments])
    unseen = np.isin(of_kit, kits.VALIDATION)
    parts = [f"unseen {np.nanmean(values[unseen]):.2f} known {np.nanmean(values[~unseen]):.2f}"]
    parts.append(" ".join(f"{value:.1f}" for value in np.nanmean(values[unseen], axis=0)))
    parts += [f"{kit} {np.nanmean(values[of_kit == kit]):.1f}" for kit in kits.VALIDATION]
    return " | ".join(parts)


def _scores(analysed: cells.Cells, masks: Tensor, segment: Segment) -> list[float]:
    """nSDR in the spectrum of the five stems, NaN where a stem is not hit."""
    rows = torch.tensor(cells.STEM_ROWS)
    shape = (len(STEMS), *masks.shape[1:])
    five = torch.zeros(shape).index_add(0, rows, masks)
    cross = torch.zeros(shape).index_add(0, rows, analysed.xs)
    error = cells.errors(five, analysed.xx, cross, analysed.stem_ss)
    ratio = analysed.stem_ss.sum(dim=(-2, -1)) / error.clamp_min(1e-9)
    decibels = (10 * torch.log10(ratio)).tolist()
    return [db if stem in segment.present else np.nan for stem, db in enumerate(decibels)]


if __name__ == "__main__":
    main()
