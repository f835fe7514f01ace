"""Real-time ratio and what is reported beside it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmarks import timing

SECOND = np.ones((2, 44100), dtype=np.float32)


def test_one_warm_up_and_five_runs() -> None:
    calls: list[np.ndarray] = []
    speed = timing.measure_speed(calls.append, SECOND)
    assert len(calls) == 6
    assert len(speed.run_sec) == 5


def test_the_warm_up_does_not_count() -> None:
    work = iter([20_000_000, 0, 0, 0])
    start = time.perf_counter()
    speed = timing.measure_speed(lambda _: sum(range(next(work))), SECOND, n_runs=3)
    assert sum(speed.run_sec) < (time.perf_counter() - start) / 2


def test_the_ratio_is_audio_over_the_median_run() -> None:
    work = iter([0, 10, 10**6, 10, 10, 10])
    speed = timing.measure_speed(lambda _: sum(range(next(work))), SECOND)
    assert speed.audio_sec == 1
    assert speed.real_time_ratio == 1 / statistics.median(speed.run_sec)
    assert speed.real_time_ratio > 2 / max(speed.run_sec)


PEAKS = """
import json
import numpy as np
from benchmarks.timing import measure_speed
second = np.ones((2, 44100), dtype=np.float32)
def hold(n_bytes):
    speed = measure_speed(lambda _: bytearray(n_bytes).count(1), second, n_runs=1)
    return speed.peak_memory_bytes, speed.memory_scope
print(json.dumps([hold(300_000_000), hold(1)]))
"""


def test_the_runs_peak_memory_is_seen_though_it_was_given_back() -> None:
    """In a process of its own: how its memory comes and goes is not other tests' doing."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, "-c", PEAKS]
    text = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    (large, _), (small, scope) = json.loads(text)
    assert large > 300_000_000
    if scope == "runs":
        assert large - small > 200_000_000
    else:
        assert small > 290_000_000


@pytest.mark.parametrize(
    ("status", "low"),
    [
        ("VmHWM:\t  306484 kB\nVmRSS:\t   13516 kB\n", False),
        ("VmHWM:\t   13600 kB\nVmRSS:\t   13516 kB\n", True),
        ("VmRSS:\t   13516 kB\n", False),
        ("", False),
    ],
)
def test_a_mark_that_did_not_fall_is_noticed(status: str, low: bool) -> None:
    assert timing._mark_is_low(status) is low


def test_where_the_mark_cannot_be_reset_the_process_peak_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "_reset_peak_memory", lambda: "process")
    speed = timing.measure_speed(lambda _: None, SECOND, n_runs=1)
    assert speed.memory_scope == "process"
    assert speed.peak_memory_bytes > 10_000_000


def test_the_machine_is_described() -> None:
    speed = timing.measure_speed(lambda _: None, SECOND, n_runs=1)
    assert (speed.device, speed.dtype) == ("cpu", "float32")
    assert speed.device_name
    assert speed.peak_device_memory_bytes is None


def test_threads_are_those_that_torch_is_limited_to_or_more() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)
        assert timing.count_threads() >= 7
    finally:
        torch.set_num_threads(before)


def test_torch_tensors_are_timed_and_the_dtype_of_the_system_is_named() -> None:
    mixture = torch.from_numpy(SECOND)
    assert timing.measure_speed(torch.abs, mixture, n_runs=1).dtype == "float32"
    assert timing.measure_speed(torch.abs, mixture, n_runs=1, dtype="bfloat16").dtype == "bfloat16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_waited_for_and_its_memory_is_reported() -> None:
    mixture = torch.ones(4096, 4096, device="cuda")
    speed = timing.measure_speed(lambda x: x @ x @ x, mixture, device="cuda")
    assert speed.peak_device_memory_bytes is not None
    assert speed.peak_device_memory_bytes > mixture.nbytes
    assert min(speed.run_sec) > 1e-4


@pytest.mark.parametrize("n_samples", [1, 44100, 44100 * 60, 44100 * 61 + 1])
def test_a_clip_is_60_seconds_long(n_samples: int) -> None:
    mixture = np.arange(2 * n_samples, dtype=np.float32).reshape(2, n_samples)
    clip = timing.clip_of_60_sec(mixture)
    assert clip.shape == (2, 60 * 44100)
    assert clip.dtype == np.float32
    assert np.array_equal(clip, mixture[:, np.arange(60 * 44100) % n_samples])


@pytest.mark.parametrize(
    ("mixture", "n_runs", "message"),
    [
        (np.zeros((2, 0)), 5, "nothing to separate"),
        (np.float32(0), 5, "nothing to separate"),
        (SECOND, 0, "no median"),
    ],
)
def test_bad_input_is_refused(mixture: np.ndarray, n_runs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timing.measure_speed(lambda _: None, mixture, n_runs=n_runs)


def test_an_empty_mixture_makes_no_clip() -> None:
    with pytest.raises(ValueError, match="mixture is empty"):
        timing.clip_of_60_sec(np.zeros((2, 0), dtype=np.float32))


def test_a_system_that_fails_is_not_hidden() -> None:
    def fail(_: np.ndarray) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        timing.measure_speed(fail, SECOND)
