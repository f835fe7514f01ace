"""Where tracks are rendered: processes of this machine, or a Dask cluster.

Both take jobs and yield outcomes in whatever order they end; what a track's bytes are never
depends on where or beside what it was rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from typing import Any, Final

from stemgmd_build.building.manifest import TrackRecord
from stemgmd_build.building.tracks import Job, build_track
from stemgmd_build.errors import UserError
from stemgmd_build.processes import interrupts_held, prepare_worker, worker_pool

DISK_FULL: Final = (ENOSPC, EDQUOT)

CONNECT_SEC: Final = 10
"""How long a cluster has to answer."""

_TRIES: Final = 3
"""How often a track may take its worker down before it counts as failed."""


class DiskFullError(UserError):
    """No track can be written any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: its record, or the line that says why there is none."""

    job: Job
    record: TrackRecord | None = None
    error: str = ""
    disk_full: bool = False


def run_job(job: Job) -> Outcome:
    """Build one track; faults of its own become its outcome, so that the others go on."""
    try:
        return Outcome(job, build_track(job))
    except UserError as error:
        return Outcome(job, error=str(error))
    except OSError as error:
        return Outcome(job, error=str(error), disk_full=error.errno in DISK_FULL)
    except MemoryError:
        return Outcome(job, error="out of memory; use fewer workers")
    except Exception as error:  # a fault of ours: it costs this track, and no other
        return Outcome(job, error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def run_here(jobs: Sequence[Job], n_workers: int) -> Iterator[Outcome]:
    """Run the jobs on processes of this machine, in order of submission.

    A worker that dies (killed, out of memory) is replaced and its job tried again.
    """
    waiting = list(reversed(jobs))
    tries: dict[int, int] = {}
    while waiting:
        pool = worker_pool(n_workers, prepare_worker)
        running: dict[Future[Outcome], Job] = {}
        try:
            while waiting or running:
                # Only a few jobs lie in the pool, so that Ctrl-C and a dead worker cost little.
                # A job that lay beside a dead worker is tried alone, so that only one is blamed.
                while waiting and len(running) < (1 if id(waiting[-1]) in tries else 2 * n_workers):
                    with interrupts_held():
                        running[pool.submit(run_job, waiting[-1])] = waiting[-1]
                    waiting.pop()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()  # raises where the worker died
                    running.pop(future)
                    yield outcome
        except BrokenProcessPool:
            for future, job in running.items():
                if future.done() and not future.exception():
                    yield future.result()
                    continue
                tries[id(job)] = tries.get(id(job), 0) + 1
                if tries[id(job)] < _TRIES:
                    waiting.append(job)
                else:
                    why = "its worker died again and again (killed, or out of memory)"
                    yield Outcome(job, error=why)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def run_on_cluster(jobs: Sequence[Job], address: str) -> Iterator[Outcome]:
    """Run the jobs on a dask.distributed cluster that shares this machine's file system.

    Connects at once, before the first outcome is asked for. Raises UserError where the cluster
    cannot be reached or Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install 'stemgmd-bench[cluster]'") from error
    try:
        client: Any = Client(address, timeout=CONNECT_SEC)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no Dask scheduler answers at {address}: {error}") from error
    return _run_on(client, jobs)


def _run_on(client: Any, jobs: Sequence[Job]) -> Iterator[Outcome]:
    from distributed import as_completed

    with client:
        futures = {
            future.key: (future, job)
            for job in jobs
            # pure=False: a file on disk is a side effect that must happen in every build.
            for future in [client.submit(run_job, job, pure=False, retries=_TRIES)]
        }
        for future in as_completed([f for f, _ in futures.values()]):  # type: ignore[no-untyped-call]
            job = futures.pop(future.key)[1]
            if future.status == "finished":
                yield future.result()
            else:
                why = future.exception() or f"the cluster has {future.status} it"
                yield Outcome(job, error=str(why))
            future.release()
