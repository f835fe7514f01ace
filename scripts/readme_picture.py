"""Draw the picture of the README: a mixture, and the five stems separated from it.

    python scripts/readme_picture.py

The music is a built-in groove. The kit is held out: the network was not trained on it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import larsnet
from benchmarks.report.clips import spectrogram_db
from stemgmd_build.dataset import RenderedStemGMD
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

KIT = "colombo"
SECONDS = 8.0
RANGE_DB = 70.0
TARGET = Path(__file__).resolve().parents[1] / "docs" / "assets" / "separation.png"


def draw() -> None:
    data = RenderedStemGMD(
        "builtin", split="all", kits=[KIT], segment_sec=SECONDS, stems="five", hop_sec=SECONDS
    )
    # The segment in which the quietest stem is loudest: all five can be seen.
    energy = [float((item.stems**2).sum(axis=(1, 2)).min()) for item in data]
    mixture = data[int(np.argmax(energy))].mixture
    stems = larsnet.separate(mixture, SAMPLE_RATE)
    rows = {"mixture": mixture, **{name: stems[name] for name in STEMS}}
    levels = {name: spectrogram_db(audio) for name, audio in rows.items()}
    top = max(level.max() for level in levels.values())

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=heights)
    for axis, (name, level) in zip(axes, levels.items(), strict=True):
        axis.imshow(
            level, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
            extent=(0, SECONDS, 0, 1),
        )  # fmt: skip
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
        axis.set_yticks([])
    axes[-1].set_xlabel("seconds (40 Hz at the bottom of each row, 18 kHz at the top)")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    # A palette of 64 colours makes the file a third as large.
    Image.open(buffer).convert("RGB").quantize(64).save(TARGET, optimize=True)


if __name__ == "__main__":
    draw()
