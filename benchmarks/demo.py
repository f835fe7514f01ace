"""A small dataset from whatever is at hand, and one track of it to look at: `stemgmd demo`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import build
from stemgmd_build.building.manifest import track_folder
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.kits.catalogue import available, catalogue, select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances import gmd
from stemgmd_build.performances.collection import Collection, Performance
from stemgmd_build.plots import overview
from stemgmd_build.processes import usable_cpus
from stemgmd_build.taxonomy import PIECE_OF_NOTE, PIECES, SAMPLE_RATE
from stemgmd_build.verify import verify

_N_TRACKS = 3
_N_KITS = 2
_PICTURE_SEC = 12.0


@dataclass(frozen=True)
class Demo:
    """What was made: the dataset, a picture of its first track, and where that track lies.

    ``kits``: those used, held-out ones first. ``faults``: a line for each; where there are any,
    nothing is drawn, and the track may be missing.
    """

    dataset: Path
    picture: Path
    track: Path
    listen: Path
    kits: tuple[Kit, ...]
    n_tracks: int
    faults: tuple[str, ...]


def build_demo(out: Path, gmd_folder: Path | None, *, may_download: bool = False) -> Demo:
    """Build, verify and draw a small dataset of the most varied clips that nobody trains on.

    Where there is no GMD it is downloaded, if that is allowed and can be done. Raises UserError
    where no kit is at hand or the folder cannot be written.
    """
    collection = find_or_fetch(gmd_folder) if may_download else gmd.find_collection(gmd_folder)
    performances = _most_varied(collection)
    here = available(select_kits(["test", "train"])) or available(catalogue())
    kits = here[:_N_KITS]
    if not kits:
        raise UserError("no drum kit is on this machine; `stemgmd kits fetch` downloads ten")
    print(gmd.describe(collection))
    print(f"kits: {', '.join(kit.id for kit in kits)}", flush=True)
    dataset = out / "dataset"
    n_workers = min(4, usable_cpus())
    with locked(dataset, "build"):
        plan = build.make_plan(dataset, collection, performances, kits, RenderSettings())
        failures = build.run(plan, collection, n_workers=n_workers)
    faults = (*failures, *verify(dataset, n_workers=n_workers, show_progress=False))
    picture = out / "overview.png"
    row = {"midi_filename": performances[0].midi_filename, "kit": kits[0].id}
    folder = dataset / track_folder(row)
    if not faults:
        _draw(folder, collection, performances[0], kits[0], picture)
    return Demo(
        dataset=dataset,
        picture=picture,
        track=folder,
        listen=folder / "mixture" / f"{performances[0].name}.flac",
        kits=kits,
        n_tracks=len(plan.jobs),
        faults=faults,
    )


def find_or_fetch(gmd_folder: Path | None) -> Collection:
    """The performances at hand; if nothing is named and there is no GMD, GMD if it can be had."""
    collection = gmd.find_collection(gmd_folder)
    if gmd_folder or os.environ.get(gmd.GMD_VARIABLE) or collection.source != "builtin":
        return collection
    try:
        return gmd.fetch()
    except UserError as error:
        print(f"{error}\nbuilt-in grooves stand in for the Groove MIDI Dataset", flush=True)
        return collection


def _most_varied(collection: Collection) -> tuple[Performance, ...]:
    """The eval_session performances that use most of the nine pieces."""
    candidates = collection.select("eval_session", None)

    def variety(performance: Performance) -> tuple[int, float]:
        hits = collection.read_score(performance).hits
        return -len({PIECE_OF_NOTE[hit.note] for hit in hits}), performance.duration_sec

    return tuple(sorted(candidates, key=variety)[:_N_TRACKS])


def _draw(
    folder: Path, collection: Collection, performance: Performance, kit: Kit, picture: Path
) -> None:
    """Draw the track in a folder of the dataset, read back from its files."""
    stems = {
        name: (read_pcm(folder / name / f"{performance.name}.flac").T / FULL_SCALE).astype(
            np.float32
        )
        for name in (*PIECES, "mixture")
    }
    onsets = [(hit.onset_sec, hit.note) for hit in collection.read_score(performance).hits]
    window = _busiest_window(onsets, stems["mixture"].shape[1] / SAMPLE_RATE)
    overview(picture, stems, onsets, f"{performance.id} on {kit.name}", window)


def _busiest_window(onsets: list[tuple[float, int]], duration_sec: float) -> tuple[float, float]:
    """The seconds in which most of the nine pieces are struck."""
    last = max(0.0, duration_sec - _PICTURE_SEC)
    starts = [min(start, last) for start in range(int(last) + 2)]

    def n_pieces(start: float) -> int:
        return len({PIECE_OF_NOTE[n] for t, n in onsets if start <= t < start + _PICTURE_SEC})

    start = max(starts, key=n_pieces)
    return start, min(start + _PICTURE_SEC, duration_sec)
