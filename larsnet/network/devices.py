"""What torch can compute on, and how it says that memory is short."""

from __future__ import annotations

import torch

from stemgmd_build.errors import UserError


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
