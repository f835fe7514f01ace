"""What the tests of the builder share: few short performances, two small kits, the command line."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from small_kits import Layered, noise, write_kit

from stemgmd_build import cli
from stemgmd_build.performances.collection import COLUMNS, Collection, Performance, read_collection
from stemgmd_build.taxonomy import PIECES

KIT = "timgm6mb-pretty-midi"
"""A kit of the catalogue that is at hand wherever the project is installed."""


def write_noise_kit(folder: Path, seed: int = 0) -> Path:
    """A Hydrogen kit of nine bursts of noise, no two alike; its id is the folder's name."""
    bursts = (noise(100 * seed + i, 4000 + 1000 * i, n_channels=2) for i in range(len(PIECES)))
    return write_kit(folder, {p: [Layered(b)] for p, b in zip(PIECES, bursts, strict=True)})


def write_collection(
    folder: Path, source: Collection, performances: Sequence[Performance]
) -> Collection:
    """A folder in GMD's format with copies of these performances."""
    write_index(folder, performances)
    for p in performances:
        (folder / p.midi_filename).parent.mkdir(parents=True, exist_ok=True)
        (folder / p.midi_filename).write_bytes(source.midi_path(p).read_bytes())
    return read_collection(folder)


def write_index(folder: Path, performances: Sequence[Performance]) -> None:
    """The info.csv of these performances."""
    folder.mkdir(parents=True)
    with (folder / "info.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for p in performances:
            fields = [getattr(p, "duration_sec" if c == "duration" else c) for c in COLUMNS]
            writer.writerow(fields)


def shortest(collection: Collection, n: int) -> list[Performance]:
    """The n shortest performances."""
    return sorted(collection.performances, key=lambda p: (p.duration_sec, p.id))[:n]


def command(*arguments: object) -> list[str]:
    """The command line ``stemgmd`` as a process of its own."""
    return [sys.executable, "-m", "stemgmd_build.cli", *map(str, arguments)]


def stemgmd(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``stemgmd`` to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )


def stemgmd_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported the libraries already."""
    line = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = cli.main(line)
        except SystemExit as stop:  # what argparse refuses
            status = int(stop.code or 0)
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal with status 2, after what the plan said; no traceback."""
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, result.stderr
    assert result.stderr.rstrip().endswith(lines[0])
    return lines[0]


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
