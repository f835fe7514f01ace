"""Fixtures that several test files share: the performances."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from stemgmd_build.performances.collection import Collection, read_collection
from stemgmd_build.performances.grooves import write_grooves

# A suite in the background of a plain shell ignores Ctrl-C, under nohup SIGHUP too, and so would
# every process it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def gmd_root() -> Path | None:
    """The real Groove MIDI Dataset: STEMGMD_GMD, else ../shared/gmd, else None."""
    named = os.environ.get("STEMGMD_GMD")
    root = Path(named) if named else REPOSITORY.parent / "shared" / "gmd"
    return root if named or (root / "info.csv").is_file() else None


@pytest.fixture(scope="session")
def builtin_collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The built-in grooves in a folder of their own."""
    return write_grooves(tmp_path_factory.mktemp("grooves"))


@pytest.fixture(scope="session")
def collection(gmd_root: Path | None, builtin_collection: Collection) -> Collection:
    """The real GMD where it is at hand, else the built-in grooves."""
    return read_collection(gmd_root) if gmd_root else builtin_collection
