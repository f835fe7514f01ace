"""Where tracks are rendered: processes of this machine, or a Dask cluster.

Both take jobs and yield outcomes in whatever order they end; what a track's bytes are never
depends on where or beside what it was rendered.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from typing import Any, Final

from stemgmd_build.building.manifest import TrackRecord
from stemgmd_build.building.tracks import Job, build_track
from stemgmd_build.errors import UserError

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
        pool = ProcessPoolExecutor(
            n_workers, mp_context=multiprocessing.get_context("spawn"), initializer=prepare_worker
        )
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


def prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent does, even by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def disposable_pool(
    n_workers: int, initializer: Callable[[], None] = prepare_worker
) -> Iterator[ProcessPoolExecutor]:
    """Processes whose work nobody waits for when the block is left by an exception: they end."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        n_workers, mp_context=multiprocessing.get_context("spawn"), initializer=initializer
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    pool.shutdown()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; processes started meanwhile never see it, not even while they import."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
