"""The process around a command: standard streams that may be closed or full, and signals."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
from typing import Any, TextIO


class Interrupted(BaseException):
    """SIGTERM or SIGHUP: as after Ctrl-C, nothing half-written stays behind."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def end_on_signals() -> None:
    """Let SIGTERM (a batch system) and SIGHUP (a closed terminal) unwind the program.

    Under nohup SIGHUP is ignored, and stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, _: Any) -> None:
    raise Interrupted(number)


def prepare_streams() -> None:
    """Make standard streams safe to use, whatever the shell has handed over.

    A stream that is closed is opened on nothing: else the next file that is opened would get its
    number, and what a library prints would go into that file. Names that are not UTF-8 are printed
    as the bytes that they are. Messages that cannot be written, to a full disk, end nothing.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    codecs.register_error("bytes-or-escapes", _bytes_or_escapes)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="bytes-or-escapes")
    sys.stderr = _Unfailing(sys.stderr)


def _bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


class _Unfailing:
    """A stream whose writes may fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
