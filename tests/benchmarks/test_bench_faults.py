"""What befalls a benchmark run: systems that break, Ctrl-C, a full disk, a death at a bad moment.

Every fault is a real one: another's package is installed, a file system is full.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from small_builds import KIT, command, error_line, shortest, stemgmd, stemgmd_here, write_collection
from waiting import wait_until

from benchmarks.results_folder import ResultsFolder
from stemgmd_build.performances.collection import Collection

SYSTEM = """
import threading

import numpy as np
from baselines.system import SystemInfo

class Broken:
    info = SystemInfo("{name}", "x", ("mixture",), "1", "nothing", 0, "MIT", "breaks")
    def separate(self, inputs):
        {body}

def make(device):
    return Broken()
"""


def install(folder: Path, name: str, body: str) -> None:
    """A package of a third party with a system in its entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[stemgmd.systems]\n{name} = {name}:make\n")
    (folder / f"{name}.py").write_text(SYSTEM.format(name=name, body=body))


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 3))


@pytest.fixture
def run_one(few: Collection) -> list[object]:
    """Arguments of a run over the shortest performance, but for --systems and --out."""
    where = ("--gmd", few.root, "--kits", KIT, "--split", "all", "--limit", 1, "--workers", 1)
    return ["bench", "run", *where]


def systems_of(out: Path) -> set[str]:
    return {r.system for r in ResultsFolder(out).records()}


def test_a_system_that_lacks_a_file_fails_alone(
    run_one: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "p", "lacks", "open('no/such/weights')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p"))
    out = tmp_path / "r"
    result = stemgmd(
        *run_one, "--systems", "lacks,mixture", "--no-speed", "--audio", 0, "--out", out
    )
    assert result.returncode == 1
    assert "lacks on " in result.stderr
    assert "FileNotFoundError" in result.stderr
    assert "cannot be written" not in result.stderr
    assert systems_of(out) == {"mixture"}


def test_a_system_that_cannot_be_timed_is_one_line_and_the_others_are_timed(
    run_one: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "p", "dies", "raise RuntimeError('two\\nlines')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p"))
    result = stemgmd(*run_one, "--systems", "dies,mixture", "--audio", 0, "--out", tmp_path / "r")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "not timed: dies on 60 s of " in result.stderr
    assert "RuntimeError: two lines" in result.stderr
    assert "mixture: " in result.stderr.rpartition("not timed")[2]


def test_ctrl_c_does_not_wait_for_a_slow_system(
    few: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    install(tmp_path / "p", "slow", f"open({str(begun)!r}, 'w').close(); threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p"))
    arguments = ["--kits", KIT, "--split", "all", "--workers", 1, "--systems", "slow", "--audio", 0]
    process = subprocess.Popen(
        command("bench", "run", "--gmd", few.root, *arguments, "--out", tmp_path / "r"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(begun.exists, process)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=300)  # the system alone would never end
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted; the same command goes on from here" in stderr


def test_an_index_of_clips_that_was_never_written_is_made_up_for(
    run_one: list[object], tmp_path: Path
) -> None:
    out, index = tmp_path / "r", tmp_path / "r" / "audio" / "clips.json"
    arguments = [*run_one, "--systems", "mixture", "--no-speed", "--audio", 1, "--out", out]
    assert stemgmd_here(*arguments).returncode == 0
    whole = json.loads(index.read_text())
    for text in (None, '{"clips": 5}'):  # killed before it was written; damaged
        index.unlink() if text is None else index.write_text(text)
        assert stemgmd_here(*arguments).returncode == 0
        assert json.loads(index.read_text()) == whole
    (clip,) = whole["clips"]
    length = soundfile.info(out / "audio" / clip["clip"] / "mixture.flac").duration
    assert clip["duration_sec"] == pytest.approx(length, abs=1e-3)


def test_clips_of_an_earlier_run_stay_in_the_index(run_one: list[object], tmp_path: Path) -> None:
    out = tmp_path / "r"
    rest = ["--systems", "mixture", "--no-speed", "--audio", 1, "--out", out]
    assert stemgmd_here(*run_one, *rest).returncode == 0
    assert stemgmd_here(*run_one, "--limit", 3, *rest).returncode == 0
    clips = json.loads((out / "audio" / "clips.json").read_text())["clips"]
    folders = {path.name for path in (out / "audio").iterdir() if path.is_dir()}
    assert {clip["clip"] for clip in clips} == folders


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_that_leaves_no_half_file(
    run_one: list[object], few: Collection, small_disk: Path
) -> None:
    rest = ["--systems", "mixture", "--no-speed", "--audio", 1]
    assert "is full" in error_line(stemgmd_here(*run_one, *rest, "--out", small_disk / "r"))
    where = ["--gmd", few.root, "--kits", KIT, "--split", "all"]
    line = error_line(stemgmd_here("bench", "export", *where, "--out", small_disk / "m"))
    assert "cannot be written: No space left" in line
    assert not list(small_disk.rglob("*.partial"))
    for path in (*small_disk.rglob("*.flac"), *small_disk.rglob("*.wav")):
        soundfile.read(path)
    (small_disk / "ballast").write_bytes(bytes(max(0, free(small_disk))))
    assert "is full" in error_line(stemgmd_here(*run_one, *rest, "--out", small_disk / "q"))


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
