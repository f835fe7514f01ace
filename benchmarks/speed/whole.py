"""What the whole dataset takes: `stemgmd speed whole`.

All 1,150 performances on ten kits are 1,224 stem-hours; targets: 40 minutes on two cores, 75 GB.
Every so-many-th performance is built here on every kit, as `stemgmd build --no-mixture` builds it,
and the sums are scaled by the length of the performances. What a kit takes before its first track
(processes, imports, the bank) counts once; a build of the shortest performance alone measures it.
A kit is deleted before the next one, so a tenth of the dataset asks for a gigabyte of disk.
``--every 1`` builds all of it, kit by kit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemgmd_build.building import build
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.kits.catalogue import available, select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.processes import usable_cpus
from stemgmd_build.verify import verify


@dataclass(frozen=True)
class Built:
    """One build: wall-clock and processor seconds, audio bytes, tracks that failed."""

    wall_sec: float
    cpu_sec: float
    n_bytes: int
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Kitful:
    """A kit's part of the dataset, and the build of a single short performance."""

    kit: str
    part: Built
    start: Built

    def whole(self, share: float) -> tuple[float, float, float]:
        """Wall-clock seconds, processor seconds and bytes of all performances."""
        return (
            self.start.wall_sec + max(self.part.wall_sec - self.start.wall_sec, 0.0) / share,
            self.start.cpu_sec + max(self.part.cpu_sec - self.start.cpu_sec, 0.0) / share,
            self.part.n_bytes / share,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Build the sample, print what was measured and what it makes for all of it."""
    parser = argparse.ArgumentParser(
        prog="stemgmd speed whole",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gmd", type=Path, help="folder of the Groove MIDI Dataset")
    parser.add_argument("--kits", default="default", help="ids or sets (default: the ten)")
    parser.add_argument("--every", type=int, default=11, help="every N-th (default: 11)")
    parser.add_argument("--workers", type=int, default=usable_cpus())
    parser.add_argument("--verify", action="store_true", help="verify each kit before it goes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    try:
        collection = find_collection(options.gmd)
        kits = available(select_kits(options.kits.split(",")))
        figures = measure(
            collection, kits, max(1, options.every), options.workers, verified=options.verify
        )
    except UserError as error:
        print(f"stemgmd speed whole: error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 1 if figures["failed"] else 0


def measure(
    collection: Collection, kits: Sequence[Kit], every: int, n_workers: int, *, verified: bool
) -> dict[str, Any]:
    """All figures, as plain numbers."""
    chosen = sorted(collection.performances, key=lambda one: one.id)[every // 2 :: every]
    share = sum(p.duration_sec for p in chosen) / sum(
        p.duration_sec for p in collection.performances
    )
    shortest = min(collection.performances, key=lambda one: one.duration_sec)
    done = []
    for kit in kits:
        with tempfile.TemporaryDirectory(prefix="stemgmd-whole-") as folder:
            root = Path(folder)
            start = _build(root / "start", collection, [shortest], kit, n_workers, verified)
            part = _build(root / "part", collection, chosen, kit, n_workers, verified)
        done.append(Kitful(kit.id, part, start))
        print(f"{kit.id}: {part.n_bytes / 1e6:.1f} MB, {part.wall_sec:.1f} s, of which "
              f"{start.wall_sec:.1f} s before the first track", file=sys.stderr)  # fmt: skip
    wall_sec, cpu_sec, n_bytes = (
        sum(column) for column in zip(*(one.whole(share) for one in done), strict=True)
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {n_workers} workers",
        "performances": f"{collection.source}, {len(chosen)} of {len(collection.performances)}, "
        f"{share:.2%} of their length",
        "kits": [one.kit for one in done],
        "gigabytes": round(n_bytes / 1e9, 1),
        "minutes": round(wall_sec / 60, 1),
        "processor_minutes": round(cpu_sec / 60, 1),
        "largest_worker_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit // 10**6,
        "failed": [line for one in done for line in one.part.failed],
    }


def _build(
    root: Path,
    collection: Collection,
    chosen: Sequence[Any],
    kit: Kit,
    n_workers: int,
    verified: bool,
) -> Built:
    begin, cpu = time.perf_counter(), _children_sec()
    with locked(root, "build"):
        plan = build.make_plan(root, collection, chosen, [kit], RenderSettings(mixture=False))
        build.check_disk(plan)
        failed = build.run(plan, collection, n_workers=n_workers)
    wall_sec, cpu_sec = time.perf_counter() - begin, _children_sec() - cpu
    n_bytes = sum(path.stat().st_size for path in (root / "audio").rglob("*.flac"))
    faults = verify(root, show_progress=False) if verified else []
    return Built(wall_sec, cpu_sec, n_bytes, (*failed, *faults))


def _children_sec() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _text(figures: dict[str, Any]) -> str:
    lines = [f"{name}: {figures[name]}" for name in ("machine", "performances")]
    lines += [
        f"all of GMD on {len(figures['kits'])} kits, stems without mixtures, FLAC:",
        f"  {figures['gigabytes']} GB (target for ten kits: 75)",
        f"  {figures['minutes']} minutes, {figures['processor_minutes']} processor minutes "
        "(target for ten kits: 40 minutes on two cores)",
        f"  at most {figures['largest_worker_mb']} MB a process",
    ]
    return "\n".join(lines + [f"FAILED: {line}" for line in figures["failed"]])
