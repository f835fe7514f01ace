"""Processes that the project starts: how many, how they end, and what they may import.

A Python that is started with ``-c`` or ``-m``, as multiprocessing does, puts the current folder
first on its ``sys.path``. A file ``numpy.py`` or ``multiprocessing.py`` that lies in a data folder
would then be run. Every process that is started here leaves the current folder out
(``PYTHONSAFEPATH``, ``python -P``).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Final

SAFE_PATH: Final = "PYTHONSAFEPATH"


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules as a program."""
    return [sys.executable, "-P", "-m", module, *arguments]


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Pythons that are started meanwhile import nothing from the current folder."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)
        else:
            os.environ[SAFE_PATH] = before


class _Worker(SpawnProcess):
    def start(self) -> None:
        with safe_path():
            super().start()


class _SafeSpawn(SpawnContext):
    Process = _Worker


def worker_pool(n_workers: int, initializer: Callable[[], None]) -> ProcessPoolExecutor:
    """A pool of new Python processes. Each runs ``initializer`` first."""
    with safe_path():  # multiprocessing's helper process is a Python too, and starts with the queue
        resource_tracker.ensure_running()
    return ProcessPoolExecutor(n_workers, mp_context=_SafeSpawn(), initializer=initializer)


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
    """A pool whose processes are ended at once where the block is left by an exception."""
    others = set(multiprocessing.active_children())
    pool = worker_pool(n_workers, initializer)
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


def usable_cpus() -> int:
    """How many CPUs this process may use: fewer than the machine has under taskset, SLURM, Docker.

    The scheduler says which CPUs it may run on; a container's quota says for how much of the time.
    """
    if hasattr(os, "sched_getaffinity"):
        n_cpus = len(os.sched_getaffinity(0))
    else:  # macOS
        n_cpus = os.cpu_count() or 1
    return max(1, min(n_cpus, round(_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")))))


def _quota(membership: Path, mounted: Path) -> float:
    """CPUs' worth of time that the control group and those above it allow, infinite without."""
    quotas = [1e9]
    with contextlib.suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            old = "cpu" in controllers.split(",")
            if controllers and not old:
                continue
            group = mounted / "cpu" if old else mounted
            for part in (".", *Path(own).relative_to("/").parts):
                group = group / part
                with contextlib.suppress(OSError, ValueError):
                    if old:
                        quota = (group / "cpu.cfs_quota_us").read_text()
                        period = (group / "cpu.cfs_period_us").read_text()
                    else:
                        quota, period = (group / "cpu.max").read_text().split()
                    if float(quota) > 0:  # "max", or -1: no limit
                        quotas.append(float(quota) / float(period))
    return min(quotas)
