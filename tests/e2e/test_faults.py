"""What befalls a build: kill -9, Ctrl-C, a full disk, broken and hostile performances.

Every fault is a real one: real processes are killed, real file systems fill up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import mido
import psutil  # type: ignore[import-untyped]
import pytest
from small_builds import (
    KIT,
    command,
    error_line,
    hashes,
    shortest,
    stemgmd,
    write_collection,
    write_noise_kit,
)
from waiting import wait_until

from stemgmd_build.building import manifest
from stemgmd_build.performances.collection import Collection
from stemgmd_build.verify import verify

N_KILLS = 20


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 4))


@pytest.fixture(scope="module")
def noise_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit")


@pytest.fixture(scope="module")
def build_few(few: Collection, noise_kit: Path) -> list[object]:
    """Arguments that build four tracks on two kits, but for --out."""
    kits = f"{KIT},{noise_kit}"
    return ["build", "--gmd", few.root, "--kits", kits, "--workers", 1, "--out"]


@pytest.fixture(scope="module")
def undisturbed(
    build_few: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    root = tmp_path_factory.mktemp("undisturbed") / "dataset"
    result = stemgmd(*build_few, root)
    assert result.returncode == 0, result.stderr
    return hashes(root)


def start(arguments: Sequence[object]) -> subprocess.Popen[str]:
    """Start ``stemgmd`` in a session of its own and wait until it has made its plan."""
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("to do:"):
            break
    return process


def alive_in_session(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def assert_session_ends(session: int, within_sec: float = 60.0) -> None:
    wait_until(lambda: not alive_in_session(session), within_sec=within_sec)


# --- killed -------------------------------------------------------------------------------------


def test_killed_at_twenty_moments_a_build_completes_to_the_same_bytes(
    build_few: list[object], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    begin = time.monotonic()
    process = start([*build_few, root])
    planned = time.monotonic()
    process.communicate(timeout=60)
    startup_sec, work_sec = planned - begin, time.monotonic() - planned
    shutil.rmtree(root)
    moments = random.Random(20)
    n_unfinished = 0
    for i in range(N_KILLS):
        if i % 5 == 0:  # while it starts
            process = subprocess.Popen(
                command(*build_few, root),
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            moment_sec = moments.uniform(0, startup_sec)
        else:
            process = start([*build_few, root])
            moment_sec = moments.uniform(0, work_sec)
        with contextlib.suppress(subprocess.TimeoutExpired):  # or it is done before
            process.communicate(timeout=moment_sec)
        process.kill()
        process.communicate()
        assert_session_ends(process.pid)
        found = hashes(root) if root.exists() else {}
        audio = {name: sha for name, sha in found.items() if name.startswith("audio/")}
        assert audio.items() <= undisturbed.items()  # never a half-written file
        if found == undisturbed:
            shutil.rmtree(root)
        else:
            n_unfinished += 1
    assert n_unfinished >= N_KILLS / 2
    result = stemgmd(*build_few, root)
    assert result.returncode == 0, result.stderr
    assert hashes(root) == undisturbed


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    builtin_collection: Collection, tmp_path: Path
) -> None:
    """The terminal sends Ctrl-C to every process of the group, workers that start included."""
    arguments = ["build", "--gmd", builtin_collection.root, "--kits", KIT, "--workers", 2]
    arguments += ["--split", "validation", "--out"]
    journal = tmp_path / "d" / manifest.JOURNAL
    for n_tracks in (0, 2):
        process = start([*arguments, tmp_path / "d"])
        if n_tracks:
            wait_until(lambda: journal.exists() and journal.stat().st_size > 1000, process)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130, stderr
        lines = [line for line in stderr.splitlines() if line and "hours [" not in line]
        assert lines == ["stemgmd build: interrupted; the same command goes on from here"]
        assert_session_ends(process.pid)
    assert stemgmd(*arguments, tmp_path / "d").returncode == 0
    assert stemgmd(*arguments, tmp_path / "at-once").returncode == 0
    assert hashes(tmp_path / "d") == hashes(tmp_path / "at-once")


# --- no room ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        subprocess.run(options, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, n_left: int) -> Path:
    """Ballast that leaves so many bytes of a file system, whatever else is writing there."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (n_more := shutil.disk_usage(folder).free - n_left) > 0:
            file.write(b"\1" * min(n_more, 1 << 16))
    return ballast


@pytest.mark.parametrize("n_left", [0, 500_000])
def test_a_disk_that_fills_up_is_one_line_and_the_build_goes_on_when_there_is_room(
    build_few: list[object], undisturbed: dict[str, str], small_disk: Path, n_left: int
) -> None:
    root = small_disk / "d"
    process = start([*build_few, root])
    wait_until((root / "dataset.json").exists, process)  # until then the forecast would refuse it
    ballast = fill(small_disk, n_left)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if "error:" in line]
    assert f"{root} is full; what is rendered is kept: free some space" in line
    found = hashes(root)
    audio = {name: sha for name, sha in found.items() if name.startswith("audio/")}
    assert audio.items() <= undisturbed.items()
    assert not any(name.startswith(".partial/") for name in found)
    ballast.unlink()
    result = stemgmd(*build_few, root)
    assert result.returncode == 0, result.stderr
    assert hashes(root) == undisturbed


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    build_few: list[object], small_disk: Path
) -> None:
    fill(small_disk, 200_000)
    line = error_line(stemgmd(*build_few, small_disk / "d"))
    assert "0.0 GB free, and the build needs about" in line
    assert not (small_disk / "d").exists()


def test_files_that_the_system_refuses_fail_their_tracks_alone(
    build_few: list[object], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    limit = 60_000  # bytes: less than the mixtures, more than all that describes the dataset
    process = subprocess.run(
        command(*build_few, tmp_path / "d"),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    lines = failed_lines(process.stderr)
    assert lines
    assert all(os.strerror(errno.EFBIG) in line for line in lines)
    audio = hashes(tmp_path / "d" / "audio")
    assert {f"audio/{name}": sha for name, sha in audio.items()}.items() <= undisturbed.items()
    assert stemgmd(*build_few, tmp_path / "d").returncode == 0
    assert hashes(tmp_path / "d") == undisturbed


def failed_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("stemgmd build: failed: ")]


# --- broken performances ------------------------------------------------------------------------


def silence() -> mido.MidiFile:
    """A MIDI file without a note."""
    midi = mido.MidiFile(type=0)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)]))
    return midi


def test_broken_tracks_are_reported_the_others_built_and_mended_ones_made_up_for(
    few: Collection, tmp_path: Path
) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances)
    truncated, empty, missing, good = gmd.performances
    whole = gmd.midi_path(truncated).read_bytes()
    gmd.midi_path(truncated).write_bytes(whole[: len(whole) // 2])
    silence().save(gmd.midi_path(empty))
    gmd.midi_path(missing).unlink()
    arguments = ["build", "--gmd", gmd.root, "--kits", KIT, "--workers", 1, "--out"]
    result = stemgmd(*arguments, tmp_path / "d")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = failed_lines(result.stderr)
    assert len(lines) == 3
    for performance in (truncated, empty, missing):
        path = gmd.midi_path(performance)
        (line,) = [line for line in lines if str(path) in line]
        assert f"{performance.id} on {KIT}: " in line
    assert "1 of 4 tracks are in" in result.stderr
    assert {p.stem for p in (tmp_path / "d").glob("audio/**/*.flac")} == {good.name}
    assert verify(tmp_path / "d", show_progress=False) == []

    for performance in (truncated, empty, missing):
        gmd.midi_path(performance).write_bytes(few.midi_path(performance).read_bytes())
    assert stemgmd(*arguments, tmp_path / "d").returncode == 0
    at_once = ["build", "--gmd", few.root, "--kits", KIT, "--workers", 1, "--out"]
    assert stemgmd(*at_once, tmp_path / "at-once").returncode == 0
    assert hashes(tmp_path / "d") == hashes(tmp_path / "at-once")


def test_a_broken_track_fails_alone_on_a_kit_whose_gain_is_measured_over_all(
    few: Collection, noise_kit: Path, tmp_path: Path
) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances[:2])
    good, broken = gmd.performances
    gmd.midi_path(broken).write_bytes(gmd.midi_path(broken).read_bytes()[:100])
    arguments = ["build", "--gmd", gmd.root, "--kits", noise_kit, "--workers", 1]
    result = stemgmd(*arguments, "--out", tmp_path / "d")
    assert result.returncode == 1, result.stderr
    (line,) = failed_lines(result.stderr)
    assert str(gmd.midi_path(broken)) in line
    assert {p.stem for p in (tmp_path / "d").glob("audio/**/*.flac")} == {good.name}


def test_a_track_that_is_too_long_for_wav_fails_alone(few: Collection, tmp_path: Path) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances[:2])
    long, good = gmd.performances
    beats_of_8_hours = 8 * 3600 * 2  # at 120 a minute
    kick = mido.Message("note_on", channel=9, note=36, velocity=80)
    midi = mido.MidiFile(type=0, ticks_per_beat=96)
    midi.tracks.append(mido.MidiTrack([kick, kick.copy(time=96 * beats_of_8_hours)]))
    midi.save(gmd.midi_path(long))
    arguments = ["build", "--gmd", gmd.root, "--kits", KIT, "--format", "wav"]
    result = stemgmd(*arguments, "--workers", 1, "--out", tmp_path / "d")
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert failed_lines(result.stderr) == [
        f"stemgmd build: failed: {long.id} on {KIT}: 8.0 hours are too long for WAV; "
        "use --format flac"
    ]
    assert {p.stem for p in (tmp_path / "d").glob("audio/**/*.wav")} == {good.name}
    assert verify(tmp_path / "d", show_progress=False) == []


def test_when_every_track_fails_the_status_says_so(few: Collection, tmp_path: Path) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances[:2])
    for performance in gmd.performances:
        gmd.midi_path(performance).write_bytes(b"not MIDI")
    result = stemgmd("build", "--gmd", gmd.root, "--kits", KIT, "--out", tmp_path / "d")
    assert result.returncode == 1
    assert len(failed_lines(result.stderr)) == 2
    assert not (tmp_path / "d" / "audio").exists()


@pytest.mark.parametrize(
    "path", ["../../{}", "/etc/{}", "drummer1/../../../{}", "..\\..\\{}", "a//{}", "./{}"]
)
def test_paths_that_climb_out_of_the_collection_are_one_line(
    few: Collection, tmp_path: Path, path: str
) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances[:1])
    name = gmd.performances[0].midi_filename
    index = gmd.root / "info.csv"
    index.write_text(index.read_text().replace(name, path.format(name)))
    line = error_line(stemgmd("build", "--gmd", gmd.root, "--kits", KIT, "--out", tmp_path / "d"))
    assert f"{index}:2" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["groove"]


@pytest.mark.parametrize("name", ["verify", "info"])
def test_a_build_that_has_not_ended_is_called_that(tmp_path: Path, name: str) -> None:
    """As a first build leaves its folder that is killed while it renders."""
    (tmp_path / manifest.SETTINGS).write_text("{}")
    (tmp_path / manifest.JOURNAL).write_text("\n")
    line = error_line(stemgmd(name, tmp_path))
    assert f"{tmp_path} holds a build that has not ended" in line
    assert "the same `stemgmd build` command completes it" in line


# --- too loud -----------------------------------------------------------------------------------


def test_tracks_that_would_clip_fail_instead(few: Collection, tmp_path: Path) -> None:
    arguments = ["build", "--gmd", few.root, "--kits", KIT, "--limit", 1, "--out", tmp_path / "d"]
    result = stemgmd(*arguments, "--gain-db", 20)
    assert result.returncode == 1
    (line,) = failed_lines(result.stderr)
    assert f"clips on kit {KIT}" in line
    assert "--gain-db" in line
    assert not list((tmp_path / "d").glob("audio/**/*.flac"))
