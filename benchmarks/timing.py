"""Real-time ratio: seconds of audio over seconds of wall clock, for ``separate`` alone.

A warm-up, then the median of five runs on one clip that lies in memory: no disk, no loading.
On a GPU the clock stops when its queue is empty. Peak memory is what the process holds at most
while the timed runs last, the interpreter and its libraries included; where the kernel does not
reset its high-water mark (anything but Linux, some sandboxes) it is the peak since the process
began, and ``memory_scope`` says so. A GPU's own peak, as torch's allocator counts it, stands
beside.
"""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from stemgmd_build.taxonomy import SAMPLE_RATE

CLIP_SEC: Final = 60
N_RUNS: Final = 5
_STATUS: Final = Path("/proc/self/status")
_N_RESETS: Final = 3  # another thread may raise the mark between its reset and the look at it
_MARK_SLACK_BYTES: Final = 8 * 2**20  # the kernel counts pages per core and sums now and then


class Signal(Protocol):
    """A numpy array or a torch tensor, (..., samples)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes; the last is in samples."""
        ...

    @property
    def dtype(self) -> object:
        """The type of a sample, as the library names it."""
        ...


SignalT = TypeVar("SignalT", bound=Signal)


@dataclass(frozen=True)
class Speed:
    """How fast a system separates, and on what."""

    real_time_ratio: float
    audio_sec: float
    run_sec: tuple[float, ...]
    device: str
    device_name: str
    n_threads: int
    dtype: str
    peak_memory_bytes: int
    memory_scope: Literal["runs", "process"]
    peak_device_memory_bytes: int | None


def measure_speed(
    separate: Callable[[SignalT], object],
    mixture: SignalT,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    n_runs: int = N_RUNS,
) -> Speed:
    """Time ``separate(mixture)`` after one run that does not count.

    Args:
        separate: the system, ready to run on ``device``.
        mixture: (..., samples) at the project's sample rate, where the system wants it.
        device: "cpu" or a torch device such as "cuda:0".
        dtype: what the system computes in; default: the mixture's.
        n_runs: the median of this many counts.

    Raises:
        ValueError: the mixture is empty, or there is no run.
    """
    if not mixture.shape or 0 in mixture.shape:
        raise ValueError(f"nothing to separate: the mixture's shape is {tuple(mixture.shape)}")
    if n_runs < 1:
        raise ValueError(f"{n_runs} runs have no median")
    on_gpu = torch.device(device).type == "cuda"
    _timed(separate, mixture, device if on_gpu else None)
    scope = _reset_peak_memory()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = tuple(_timed(separate, mixture, device if on_gpu else None) for _ in range(n_runs))
    audio_sec = mixture.shape[-1] / SAMPLE_RATE
    return Speed(
        real_time_ratio=audio_sec / statistics.median(seconds),
        audio_sec=audio_sec,
        run_sec=seconds,
        device=device,
        device_name=device_name(device),
        n_threads=count_threads(),
        dtype=dtype or str(mixture.dtype).removeprefix("torch."),
        peak_memory_bytes=_peak_memory_bytes(scope),
        memory_scope=scope,
        peak_device_memory_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
    )


def clip_of_60_sec(mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first 60 s of (channels, samples), repeated where it is shorter.

    Raises ValueError where there is nothing to repeat.
    """
    if mixture.size == 0:
        raise ValueError("the mixture is empty: no clip to time")
    n_samples = CLIP_SEC * SAMPLE_RATE
    n_repeats = -(-n_samples // mixture.shape[-1])
    return np.tile(mixture, n_repeats)[..., :n_samples]


def count_threads() -> int:
    """The most threads that torch, BLAS or OpenMP may use."""
    pools = [int(pool["num_threads"]) for pool in threadpool_info()]
    return max(torch.get_num_threads(), *pools)


def _timed(separate: Callable[[SignalT], object], mixture: SignalT, gpu: str | None) -> float:
    if gpu:
        torch.cuda.synchronize(gpu)
    start = time.perf_counter()
    separate(mixture)
    if gpu:
        torch.cuda.synchronize(gpu)
    return time.perf_counter() - start


def _reset_peak_memory() -> Literal["runs", "process"]:
    """Lower the kernel's high-water mark to what is resident now, where it can be done."""
    try:
        for _ in range(_N_RESETS):
            Path("/proc/self/clear_refs").write_text("5")
            if _mark_is_low(_STATUS.read_text()):
                return "runs"
    except OSError:
        pass
    return "process"


def _mark_is_low(status: str) -> bool:
    """Whether the mark fell to what is resident: some kernels take the request and ignore it."""
    mark, resident = _bytes_of("VmHWM", status), _bytes_of("VmRSS", status)
    return mark is not None and resident is not None and mark <= resident + _MARK_SLACK_BYTES


def _bytes_of(field: str, status: str) -> int | None:
    """A size of /proc/self/status, which counts in units of 1024 bytes."""
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _peak_memory_bytes(scope: Literal["runs", "process"]) -> int:
    mark = _bytes_of("VmHWM", _STATUS.read_text()) if scope == "runs" else None
    unit = 1 if sys.platform == "darwin" else 1024
    return mark or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: str) -> str:
    """The model of a torch device."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.get_device_name(device) if on_gpu else cpu_name()


def cpu_name() -> str:
    """The processor's model where Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
