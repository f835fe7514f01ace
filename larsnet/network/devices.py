"""What torch can compute on, and how it says that memory is short."""

from __future__ import annotations

import os

import torch

from stemgmd_build.errors import UserError

_forked = False


def usable_threads(wanted: int) -> int:
    """How many threads torch may have: one in a process that was forked.

    A fork leaves the threads of torch's pool behind, and the child would wait for them for ever.
    """
    return 1 if _forked else wanted


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)


def usable_device(name: str | torch.device) -> torch.device:
    """A device that torch can put a number on. Raises UserError for any other."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"device {str(name)!r} cannot be used ({reason}); try cpu") from error
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how torch, on a processor or an accelerator, says that memory is short."""
    names = ("can't allocate memory", "not enough memory", "out of memory")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(name in str(error) for name in names)


def raise_if_out_of_memory(
    error: BaseException, device: torch.device, what: str = "one patch of audio"
) -> None:
    """Raise UserError with a way out where memory is what an error is about."""
    if is_out_of_memory(error):
        advice = "free some memory" if device.type == "cpu" else "try --device cpu"
        raise UserError(f"out of memory on {device} with {what}; {advice}") from error
