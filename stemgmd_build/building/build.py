"""`stemgmd build`: plan, render what is missing, say what was done.

A build is its settings and a list of tracks. What is finished is in the journal, so the same
command goes on after any interruption, and ends with the same bytes as one undisturbed run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from stemgmd_build.audio import AudioFile, encoder_name
from stemgmd_build.building import formats, licences, manifest, onsets
from stemgmd_build.building.manifest import TrackRecord
from stemgmd_build.building.tracks import PARTIAL, Job, RenderSettings
from stemgmd_build.building.workers import (
    DISK_FULL,
    DiskFullError,
    Outcome,
    run_here,
    run_on_cluster,
)
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.files import LOCK
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection, Performance
from stemgmd_build.performances.losses import losses
from stemgmd_build.performances.notes import differences, notes_of
from stemgmd_build.progress import progress
from stemgmd_build.rendering.bank import is_sampled, load_bank
from stemgmd_build.rendering.gain import tuned
from stemgmd_build.rendering.render import RENDERER_VERSION
from stemgmd_build.taxonomy import SAMPLE_RATE

# What the forecast is made from, measured over all of GMD: FLAC bytes a second of a whole set of
# stems and of a mixture, on the average of the ten default kits, and how long tracks ring on.
_FLAC_STEMS_BYTES: Final = 140_000
_FLAC_MIXTURE_BYTES: Final = 61_000
_WAV_BYTES: Final = 4 * SAMPLE_RATE
_MEAN_TAIL_SEC: Final = 1.7


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build will do: every track, those not done yet, and what they will cost.

    ``mirdata``: an index with the MD5 of every file is written too. ``unsampled``: ids of kits
    that a plan for reading alone has left to be sampled; their settings are not known yet.
    """

    root: Path
    jobs: tuple[Job, ...]
    todo: tuple[Job, ...]
    done: dict[tuple[str, str], TrackRecord]
    settings: dict[str, Any]
    mirdata: bool = False
    unsampled: tuple[str, ...] = ()

    @property
    def n_files(self) -> int:
        """Audio files of a track."""
        return len(self.jobs[0].settings.folders())

    def todo_sec(self) -> float:
        """Seconds of tracks to come, tails included as forecast."""
        return sum(job.performance.duration_sec + _MEAN_TAIL_SEC for job in self.todo)

    def todo_bytes(self) -> float:
        """Forecast size of the files to come."""
        render = self.jobs[0].settings
        if render.file_format == "wav":
            return self.todo_sec() * _WAV_BYTES * self.n_files
        # With both sets, toms, hi-hat and cymbals are there once more.
        stems = _FLAC_STEMS_BYTES * (1.7 if render.stems == "both" else 1.0)
        return self.todo_sec() * (stems + _FLAC_MIXTURE_BYTES * render.mixture)


def make_plan(
    root: Path,
    collection: Collection,
    performances: Sequence[Performance],
    kits: Sequence[Kit],
    render: RenderSettings,
    *,
    gain_db: float = 0.0,
    mirdata: bool = False,
    sample: bool = True,
    show_progress: bool = True,
) -> Plan:
    """Settle every kit's bank and gain, and see what is done already.

    Kits that were never sampled are sampled here, announced and with a bar, unless ``sample`` is
    false: then the plan counts them and cannot be run. Raises UserError where a kit is missing,
    or ``root`` holds a dataset of other settings, or of performances that are not in the
    collection.
    """
    if not performances or not kits:
        raise UserError("nothing to build: no performance or no kit is chosen")
    done = manifest.finished_tracks(root)
    onsets.check_held(root, collection, {performance_id for _, performance_id in done})
    unsampled = tuple(kit.id for kit in kits if not is_sampled(kit))
    ready, kit_facts = [], {}
    for kit in _announced(kits, unsampled) if sample and show_progress else kits:
        if not sample and kit.id in unsampled:
            ready.append(kit)
            continue
        ready.append(tuned(kit, collection, gain_db=gain_db))
        kit_facts[kit.id] = _kit_facts(ready[-1])
    settings: dict[str, Any] = {
        "renderer": RENDERER_VERSION,
        "render": asdict(render),
        "encoder": encoder_name(render.file_format),
        "gain_db": gain_db,
        "performances": collection.source,
        "kits": kit_facts,
    }
    notes = differences(notes_of(collection.root / "info.csv"))
    if notes:
        settings["notes"] = notes
    settings["kits"] = _check_settings(root, settings) | kit_facts
    # Kit by kit, so that all workers read the same bank; long tracks first, so that none is
    # left over at the end of a kit.
    order = sorted(performances, key=lambda p: (-p.duration_sec, p.id))
    jobs = tuple(
        # Absolute, for the workers of a cluster have working folders of their own.
        Job(
            root.absolute(),
            collection.midi_path(performance).absolute(),
            performance,
            kit,
            render,
            mirdata,
        )
        for kit in ready
        for performance in order
    )
    midi_sha256 = {performance.id: _hash(collection, performance) for performance in performances}
    for job in jobs:  # a track whose MIDI has changed since is rendered again
        record = done.get((job.kit.id, job.performance.id))
        if record and record.row["midi_sha256"] != midi_sha256[job.performance.id]:
            del done[record.key]
    todo = tuple(job for job in jobs if (job.kit.id, job.performance.id) not in done)
    return Plan(root, jobs, todo, done, settings, mirdata, () if sample else unsampled)


def _announced(kits: Sequence[Kit], unsampled: Sequence[str]) -> Iterable[Kit]:
    """The kits one by one; where some have yet to be sampled, a line says so, and a bar follows."""
    if unsampled:
        print(f"sampling first, once: {count_of_kits(unsampled)}", file=sys.stderr, flush=True)
    bar: Iterable[Kit] = progress(
        kits, desc="kits sampled", unit="kits", disable=not unsampled, leave=False
    )
    return bar


def count_of_kits(ids: Sequence[str]) -> str:
    """How many kits these are, and which."""
    return f"{len(ids)} kit{'s' * (len(ids) != 1)} ({', '.join(ids)})"


def _hash(collection: Collection, performance: Performance) -> str:
    try:
        return sha256_of_file(collection.midi_path(performance))
    except OSError:
        return ""  # no track can be made of it, and the worker says why


def _kit_facts(kit: Kit) -> dict[str, Any]:
    bank = load_bank(kit)
    facts = {
        name: getattr(kit, name) for name in ("name", "gain", "split", "author", "licence", "url")
    }
    package = f"{kit.package.name} {kit.package.version}" if kit.package else kit.wheel or "own kit"
    gains = {name: sound.gain_db for name, sound in sorted(kit.sounds.items()) if sound.gain_db}
    return facts | {
        "gain_db": gains,
        "package": package,
        "bank": bank.digest,
        "sampler": bank.source,
    }


def _check_settings(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Kits that the folder holds already; UserError where it was built with other settings."""
    if not (root / manifest.SETTINGS).exists():
        ours = {LOCK, f".{manifest.SETTINGS}.partial"}  # the latter of a build killed at once
        if root.exists() and any(path.name not in ours for path in root.iterdir()):
            raise UserError(f"{root} is not empty and holds no dataset; choose another --out")
        return {}
    before = manifest.read_settings(root)
    kits_before = before.get("kits", {})
    for name in ("renderer", "render", "encoder", "gain_db", "performances", "notes"):
        if before.get(name) != settings.get(name):
            raise UserError(
                f"{root} was built with {name} {before.get(name)}, not {settings.get(name)}; "
                "use the same options or another --out"
            )
    for kit_id, facts in settings["kits"].items():
        if kit_id in kits_before and kits_before[kit_id] != facts:
            raise UserError(
                f"{root} holds kit {kit_id} as sampled otherwise ({kits_before[kit_id]}, now "
                f"{facts}); use another --out"
            )
    return dict(kits_before)


def forecast_minutes(plan: Plan, n_workers: int) -> float:
    """Minutes that the plan will take here, from a moment's encoding of noise bursts."""
    noise = np.random.default_rng(0).normal(0, 2000, (10 * SAMPLE_RATE, 2))
    pcm = (noise * np.exp(-np.arange(len(noise)) % 22050 / 4000)[:, None]).astype(np.int16)
    begin = time.perf_counter()
    with contextlib.ExitStack() as stack:
        null = AudioFile(Path("/dev/null"), plan.jobs[0].settings.file_format, len(pcm))
        stack.callback(null.abandon)
        null.write(pcm)
        null.finish()
    rate = 10 / (time.perf_counter() - begin)
    # Half of a track's files are silent most of the time and cost a third of this.
    return plan.todo_sec() * plan.n_files * 0.6 / rate / max(1, n_workers) / 60


def check_disk(plan: Plan, more_bytes: float = 0.0) -> None:
    """Raise UserError unless the file system can hold what is to come, and ``more_bytes``."""
    existing = plan.root
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    need = plan.todo_bytes() + more_bytes
    if free < need:
        raise UserError(
            f"{plan.root} has {free / 1e9:.1f} GB free, and the build needs about "
            f"{need / 1e9:.1f} GB; choose fewer tracks (--limit, --split, --kits) or another --out"
        )


def run(
    plan: Plan,
    collection: Collection,
    *,
    n_workers: int = 1,
    cluster: str | None = None,
    show_progress: bool = True,
) -> list[str]:
    """Render what is missing and finish the dataset; return a line for each track that failed.

    Raises UserError where nothing more can be written, KeyboardInterrupt where told to stop; the
    same call goes on from there.
    """
    if plan.unsampled:
        raise ValueError("a plan made without sampling is there to be read, not run")
    try:
        return _run(plan, collection, n_workers, cluster, show_progress)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise _disk_full(plan) from error
        raise UserError(f"{plan.root} cannot be written: {error}") from error


def _run(
    plan: Plan, collection: Collection, n_workers: int, cluster: str | None, show_progress: bool
) -> list[str]:
    # A cluster that does not answer must leave the folder as it was: first of all, if at all.
    to_cluster = cluster if plan.todo else None
    outcomes = (
        run_on_cluster(plan.todo, to_cluster) if to_cluster else run_here(plan.todo, n_workers)
    )
    _refuse_links(plan.root)
    shutil.rmtree(plan.root / PARTIAL, ignore_errors=True)
    manifest.write_recorded(plan.root / manifest.SETTINGS, _json(plan.settings))
    done = dict(plan.done)
    failures: list[str] = []
    hours = sum(job.performance.duration_sec for job in plan.todo) * plan.n_files / 3600
    with (
        contextlib.closing(outcomes),  # type: ignore[type-var]
        (plan.root / manifest.JOURNAL).open("a", encoding="utf-8") as journal,
        progress(
            desc="rendered",
            unit="stem-hours",
            total=hours + 1e-9,  # the sum of the parts may exceed the whole by its rounding
            disable=not show_progress or not plan.todo,
            smoothing=0.05,
            bar_format="{l_bar}{bar}| {n:.2f}/{total:.2f} hours [{elapsed}<{remaining}]",
        ) as bar,
    ):
        # A journal that ends in a torn line must not swallow the next one.
        journal.write("\n")
        for outcome in outcomes:
            bar.update(outcome.job.performance.duration_sec * plan.n_files / 3600)
            if outcome.record is not None:
                manifest.append_to_journal(journal, outcome.record)
                done[outcome.record.key] = outcome.record
            elif outcome.disk_full:
                raise _disk_full(plan)
            else:
                failures.append(_failure(outcome))
    _finish(plan, collection, done)
    return sorted(failures)


def _refuse_links(root: Path) -> None:
    """Raise UserError where a folder of the dataset, or its journal, is a link: tracks would be
    written outside of it. Linked files are replaced, not written through."""
    for name, folders, _ in os.walk(root):
        for path in (Path(name, folder) for folder in folders):
            if path.is_symlink():
                raise UserError(f"{path} is a link: a dataset is written into folders of its own")
    if (root / manifest.JOURNAL).is_symlink():
        raise UserError(f"{root / manifest.JOURNAL} is a link; delete it")


def _disk_full(plan: Plan) -> DiskFullError:
    return DiskFullError(
        f"{plan.root} is full; what is rendered is kept: free some space and run the same command "
        "again"
    )


def _failure(outcome: Outcome) -> str:
    return f"{outcome.job.performance.id} on {outcome.job.kit.id}: {outcome.error}"


def _finish(plan: Plan, collection: Collection, done: dict[tuple[str, str], TrackRecord]) -> None:
    """Write what describes the whole: onsets, licences, metadata, manifest; drop the journal."""
    records = [done[key] for key in sorted(done)]
    if plan.mirdata:
        records = [formats.with_md5(plan.root, record) for record in records]
    files = [file for record in records for file in record.files]
    written, scores = onsets.write_onsets(plan.root, collection, {r.row["id"] for r in records})
    files += written
    used = {record.row["kit"] for record in records}
    kits = {kit: facts for kit, facts in plan.settings["kits"].items() if kit in used}
    files += licences.write_licences(plan.root, collection, kits)
    settings = _json({**plan.settings, **losses(scores), "kits": kits})
    files.append(manifest.write_recorded(plan.root / manifest.SETTINGS, settings))
    files.append(
        manifest.write_recorded(plan.root / manifest.METADATA, manifest.metadata_text(records))
    )
    files += formats.write_hosting(plan.root, records)
    if plan.mirdata:
        files.append(formats.write_mirdata_index(plan.root, records, files))
    else:  # one of an earlier build would lack what is new
        (plan.root / formats.MIRDATA_INDEX).unlink(missing_ok=True)
    text = manifest.manifest_text(files, with_md5=plan.mirdata)
    manifest.write_recorded(plan.root / manifest.MANIFEST, text)
    (plan.root / manifest.JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(plan.root / PARTIAL, ignore_errors=True)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
