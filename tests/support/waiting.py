"""The one way in which tests wait for another process: for a fact, and not for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_until(
    fact: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    *,
    within_sec: float = 120.0,
) -> None:
    """Return as soon as ``fact()`` is true; fail if the process ends first, or time runs out."""
    until = time.monotonic() + within_sec
    while not fact():
        assert process is None or process.poll() is None, "the process ended before it came to be"
        assert time.monotonic() < until, f"it did not come to be within {within_sec:g} s"
        time.sleep(0.002)  # other processes show what they do by their files alone
