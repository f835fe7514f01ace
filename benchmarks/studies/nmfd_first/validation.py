"""The fixed validation segments: 12 s each, rendered once and kept.

24 of each validation family and 8 of each known kit, from GMD's validation split. In turn a
segment is drawn around a hit of a tom, of a cymbal, or of anything; performances take turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.nmfd_first.examples import N_SAMPLES
from benchmarks.studies.nmfd_first.kits import KNOWN, VALIDATION, find_banks
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.rendering.gain import kit_gain
from stemgmd_build.rendering.render import NINE_ROWS, render, schedule, strikes_of
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE, STEM_OF_PIECE, STEMS

PER_FAMILY: Final = 24
PER_KNOWN: Final = 8
SEED: Final = 20
_TARGETS: Final = ((2, 3, 4), (7, 8), tuple(range(9)))


@dataclass(frozen=True)
class Segment:
    """A cached segment. ``present``: stems that are hit in it."""

    path: Path
    kit: str
    performance: str
    start: int
    present: tuple[int, ...]

    def pieces(self) -> NDArray[np.float32]:
        """float32 (9, 2, N_SAMPLES)."""
        with np.load(self.path) as file:
            packed, rows = file["pieces"], file["rows"]
        out = np.zeros((len(PIECES), 2, N_SAMPLES), np.float32)
        out[rows] = packed.astype(np.float32) / 32767
        return out


def make_segments(folder: Path, collection: Collection, kit_folders: Sequence[Path]) -> None:
    """Render all segments into a folder; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = [p for p in collection.select("validation") if p.duration_sec >= 14]
    strikes = {p.id: strikes_of(collection.read_score(p)) for p in pool}
    rng = np.random.default_rng(SEED)
    rows = []
    for kit in (*VALIDATION, *KNOWN):
        bank = None
        order = [pool[i] for i in rng.permutation(len(pool))]
        taken = 0
        for number in range(PER_FAMILY if kit in VALIDATION else PER_KNOWN):
            target = _TARGETS[number % 3]
            while True:
                performance = order[taken % len(order)]
                taken += 1
                one = strikes[performance.id]
                candidates = one.onset[np.isin(one.pieces(), target)]
                if len(candidates):
                    break
            onset = int(candidates[int(rng.integers(len(candidates)))])
            last = max(0, int(one.onset[-1]) + SAMPLE_RATE - N_SAMPLES)
            start = int(np.clip(onset - int(rng.uniform(0.1, 0.9) * N_SAMPLES), 0, last))
            inside = (one.onset >= start) & (one.onset < start + N_SAMPLES)
            hit = {PIECES[p] for p in np.unique(one.pieces()[inside])}
            present = sorted({STEMS.index(STEM_OF_PIECE[p]) for p in hit})
            path = folder / f"{kit}-{number:02d}.npz"
            rows.append([path.name, kit, performance.id, start, present])
            if path.exists():
                continue
            if bank is None:
                (bank,) = find_banks((kit,), tuple(kit_folders))
                bank = load_bank(bank.kit, gain=bank.kit.gain or kit_gain(bank.kit, collection))
            # what began before the window rings on in it, as in a recording
            audio = render(schedule(one, bank), start=start, stop=start + N_SAMPLES, rows=NINE_ROWS)
            sounding = [p for p in range(len(PIECES)) if audio[p].any()]
            packed = np.rint(np.clip(audio[sounding], -1, 1) * 32767).astype(np.int16)
            np.savez(path, pieces=packed, rows=np.array(sounding))
    (folder / "segments.json").write_text(json.dumps(rows))


def read_segments(folder: Path) -> list[Segment]:
    """The segments of a folder."""
    rows = json.loads((folder / "segments.json").read_text())
    return [Segment(folder / name, kit, p, start, tuple(s)) for name, kit, p, start, s in rows]


if __name__ == "__main__":
    import sys

    from stemgmd_build.performances.collection import read_collection

    make_segments(
        Path(sys.argv[1]), read_collection(Path(sys.argv[2])), [Path(a) for a in sys.argv[3:]]
    )
