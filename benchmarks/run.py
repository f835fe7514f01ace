"""`stemgmd bench run`: every system over every track, only what is missing, nothing lost.

Tracks go to processes of one thread each, so that they do not fight over cores and a score does
not depend on how many there are. A process loads a track once for all systems. This process
alone writes: after each track its records are on disk before the next is begun.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from baselines.system import System, SystemInfo
from benchmarks import excerpts, systems
from benchmarks.estimates import EstimateFolder
from benchmarks.records import StemRecord, whole_keys
from benchmarks.results_folder import ResultsFolder, faults_told
from benchmarks.scoring import ReadyTrack, check_estimate, inputs_for, score_estimate
from benchmarks.sources import LoadedTrack, Track, load, onsets
from stemgmd_build.errors import UserError
from stemgmd_build.processes import disposable_pool, prepare_worker
from stemgmd_build.progress import progress
from stemgmd_build.taxonomy import STEMS

_KEEP_MEMORY: Final = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(1 << 28),
}

Entrant = str | EstimateFolder
"""What :func:`benchmarks.systems.load` takes, or a folder of what another program made."""


@dataclass(frozen=True)
class Task:
    """One track, the entrants to be scored on it, and those whose excerpt is wanted."""

    track: Track
    score: tuple[Entrant, ...]
    excerpt: tuple[Entrant, ...]
    root: Path
    device: str


@dataclass(frozen=True)
class Outcome:
    """What became of a task: lines to be kept, and a line for each failure."""

    task: Task
    records: tuple[StemRecord, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a run will do. ``stale``: tracks that were scored while they sounded otherwise."""

    tasks: tuple[Task, ...]
    n_done: int
    stale: int
    clips: tuple[Track, ...]

    @property
    def audio_sec(self) -> float:
        """Seconds of audio to be separated, each system counted."""
        return sum(task.track.duration_sec * len(task.score) for task in self.tasks)


def id_of(entrant: Entrant) -> str:
    """The name in the table."""
    return systems.id_of(entrant) if isinstance(entrant, str) else entrant.info.id


def make_plan(
    tracks: Sequence[Track],
    entrants: Sequence[Entrant],
    infos: dict[str, SystemInfo],
    root: Path,
    *,
    n_clips: int = 0,
    device: str = "cpu",
    known: Sequence[Path] = (),
) -> Plan:
    """Compare what is asked for with what the folder holds.

    ``known``: further folders of results; what was scored there is not scored again.

    Raises UserError where its records cannot be read.
    """
    held = [r for folder in (*known, root) for r in ResultsFolder(folder).records()]
    done = whole_keys(held)
    data = {(track.board, track.id, track.kit): track.data for track in tracks}
    stale = {p for r in held if data.get(p := (r.board, r.track, r.kit), r.data) != r.data}
    clips = tuple(excerpts.choose(tracks, _hits(tracks), n_clips)) if n_clips else ()
    tasks, n_done = [], 0
    for track in tracks:

        def is_missing(entrant: Entrant, track: Track = track) -> bool:
            info = infos[id_of(entrant)]
            key = (track.board, info.id, info.revision, track.id, track.kit, track.data)
            return key not in done

        able = [e for e in entrants if track.gives.issuperset(infos[id_of(e)].inputs)]
        score = tuple(entrant for entrant in able if is_missing(entrant))
        excerpt = tuple(
            entrant
            for entrant in able
            if track in clips
            and (entrant in score or not excerpts.has_excerpt(root, track, id_of(entrant)))
        )
        n_done += len(able) - len(score)
        if score or excerpt:
            tasks.append(Task(track, score, excerpt, root, device))
    return Plan(tuple(tasks), n_done, len(stale), clips)


def _hits(tracks: Sequence[Track]) -> dict[str, dict[str, int]]:
    """Track's id -> stem -> hits."""
    found: dict[str, dict[str, int]] = {}
    for track in tracks:
        if track.id not in found:
            found[track.id] = {}
            with contextlib.suppress(UserError):  # told when the track itself is loaded
                found[track.id] = {stem: len(times) for stem, times in onsets(track).items()}
    return found


def run(
    plan: Plan, infos: dict[str, SystemInfo], *, n_workers: int = 1, show_progress: bool = True
) -> list[str]:
    """Do what is planned; return a line for each estimate that failed.

    Raises UserError where nothing can be written or a worker dies; the same call goes on.
    """
    if not plan.tasks:
        return []
    root = plan.tasks[0].root
    folder = ResultsFolder(root)
    failures: list[str] = []
    begin = time.monotonic()
    try:
        with (
            faults_told(root),
            progress(
                desc="scored",
                unit="min of audio",
                total=plan.audio_sec / 60 + 1e-9,
                disable=not show_progress,
                smoothing=0.05,
                bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} min of audio [{elapsed}<{remaining}]",
            ) as bar,
        ):
            for outcome in _outcomes(plan.tasks, n_workers):
                failures += outcome.failures
                if outcome.records:
                    folder.add_records(outcome.records)
                bar.update(outcome.task.track.duration_sec * len(outcome.task.score) / 60)
    finally:
        with contextlib.suppress(OSError):
            folder.add_seconds(time.monotonic() - begin, n_workers)
    return sorted(failures)


def _outcomes(tasks: Sequence[Task], n_workers: int) -> Iterator[Outcome]:
    """Long tracks first, so that no worker is left with one at the end."""
    waiting = sorted(tasks, key=lambda task: task.track.duration_sec * len(task.score))
    # Scores come from arrays of many megabytes. Where glibc gives each back to the kernel, half of
    # the time goes into clearing pages; these settings, read by new processes, let it keep them.
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    running: set[Future[Outcome]] = set()
    try:
        with disposable_pool(n_workers, _prepare) as pool:
            while waiting or running:
                while waiting and len(running) < n_workers + 1:
                    running.add(pool.submit(run_task, waiting.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker died (killed, or out of memory); what is scored is kept: run again, with "
            "fewer --workers if memory is short"
        ) from error


def _prepare() -> None:
    """One thread a process."""
    prepare_worker()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def run_task(task: Task) -> Outcome:
    """Load a track, separate it with every entrant, score; faults become lines.

    Raises OSError where an excerpt cannot be written: then nothing else can.
    """
    records: list[StemRecord] = []
    failures: list[str] = []
    try:
        loaded = load(task.track)
        ready = ReadyTrack.of(task.track, loaded) if task.score else None
        if task.excerpt:
            window = slice(*excerpts.busiest_window(loaded))
            write = functools.partial(excerpts.write_excerpt, task.root, task.track)
            write("", {"mixture": loaded.mixture[:, window]})
            write(
                "reference",
                {
                    stem: audio[:, window]
                    for stem, audio in zip(STEMS, loaded.references, strict=True)
                    if stem in loaded.held and loaded.present(stem)
                },
            )
    except (UserError, MemoryError) as error:
        return Outcome(task, (), (describe_fault(error, task.track.clip),))
    for entrant in dict.fromkeys((*task.score, *task.excerpt)):
        name = id_of(entrant)
        try:
            estimate, revision = _separate(entrant, task, loaded)
            check_estimate(estimate, task.track, loaded, name)
            if ready and entrant in task.score:
                records += score_estimate(ready, estimate, system=name, revision=revision)
        except Exception as error:  # another's system may raise anything; the others go on
            failures.append(describe_fault(error, f"{name} on {task.track.clip}"))
            continue
        if entrant in task.excerpt:
            write(name, dict(zip(STEMS, estimate[..., window], strict=True)))
    return Outcome(task, tuple(records), tuple(failures))


def describe_fault(error: Exception, where: str) -> str:
    """One line for whatever a system has raised."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{where}: out of memory; use fewer --workers"
    return f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _separate(entrant: Entrant, task: Task, loaded: LoadedTrack) -> tuple[NDArray[np.float32], str]:
    if isinstance(entrant, EstimateFolder):
        estimate = entrant.load(task.track, loaded.mixture.shape)
        return estimate, entrant.info.revision
    system = _system(entrant, task.device)
    return system.separate(inputs_for(system.info, loaded)), system.info.revision


@functools.cache
def _system(name: str, device: str) -> System:
    return systems.load(name, device)
