"""Where tracks are rendered: one worker, two, a Dask cluster, and the death of any of them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from small_builds import (
    KIT,
    error_line,
    hashes,
    shortest,
    stemgmd,
    stemgmd_here,
    write_collection,
    write_noise_kit,
)
from waiting import wait_until

from stemgmd_build.building import build, workers
from stemgmd_build.building.tracks import Job, RenderSettings
from stemgmd_build.building.workers import Outcome, run_here
from stemgmd_build.files import locked
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 5))


@pytest.fixture(scope="module")
def noise_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit")


@pytest.fixture(scope="module")
def undisturbed(
    few: Collection, noise_kit: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What one worker writes that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed") / "dataset"
    assert build_into(root, few, noise_kit) == []
    return hashes(root)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two worker processes on this machine."""
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as running:
        yield running


def build_into(
    root: Path,
    few: Collection,
    noise_kit: Path,
    *,
    n_workers: int = 1,
    cluster: str | None = None,
    on_first_track: Callable[[], object] | None = None,
) -> list[str]:
    kits = select_kits([KIT, str(noise_kit)])
    with locked(root, "build"):
        plan = build.make_plan(root, few, few.performances, kits, RenderSettings())
        if on_first_track:
            threading.Thread(target=when_audio_appears, args=(root, on_first_track)).start()
        return build.run(plan, few, n_workers=n_workers, cluster=cluster, show_progress=False)


def when_audio_appears(root: Path, act: Callable[[], object]) -> None:
    wait_until(lambda: any((root / "audio").glob("*/*/*/*/*.flac")))
    act()


def children() -> list[psutil.Process]:
    """This process's render workers."""
    return [
        child
        for child in psutil.Process().children()
        if "multiprocessing.spawn" in " ".join(child.cmdline())
    ]


# --- processes of this machine ------------------------------------------------------------------


def test_two_workers_write_the_same_bytes(
    few: Collection, noise_kit: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert build_into(tmp_path / "d", few, noise_kit, n_workers=2) == []
    assert hashes(tmp_path / "d") == undisturbed


def test_a_build_survives_the_death_of_a_worker(
    few: Collection, noise_kit: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        worker = children()[0]
        worker.kill()
        killed.append(worker.pid)

    failures = build_into(tmp_path / "d", few, noise_kit, n_workers=2, on_first_track=kill_one)
    assert len(killed) == 1
    assert failures == []
    assert hashes(tmp_path / "d") == undisturbed


class _Deadly:
    """Takes the process down that reads it, as running out of memory would."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)


def jobs_of(root: Path, few: Collection, kits: tuple[Kit, ...]) -> tuple[Job, ...]:
    return build.make_plan(root, few, few.performances, kits, RenderSettings()).jobs


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_job_that_kills_its_workers_fails_alone(
    few: Collection, noise_kit: Path, tmp_path: Path, n_workers: int
) -> None:
    good = jobs_of(tmp_path, few, select_kits([str(noise_kit)]))
    deadly = Job(
        _Deadly(),  # type: ignore[arg-type]
        good[0].midi,
        good[0].performance,
        good[0].kit,
        good[0].settings,
    )
    outcomes = list(run_here([*good[:2], deadly, *good[2:]], n_workers))
    assert len(outcomes) == len(good) + 1
    failed = [outcome for outcome in outcomes if outcome.record is None]
    assert [outcome.job for outcome in failed] == [deadly]
    assert "its worker died again and again" in failed[0].error


def test_a_fault_of_ours_fails_its_track_alone(
    few: Collection, noise_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs_of(tmp_path, few, select_kits([str(noise_kit)]))[0]

    def fail(job: Job) -> None:
        raise ZeroDivisionError("nothing\nto divide by")

    monkeypatch.setattr(workers, "build_track", fail)
    outcome = workers.run_job(job)
    assert outcome == Outcome(job, error="ZeroDivisionError: nothing to divide by")


def test_no_job_is_lost_when_the_pool_breaks_between_two_jobs(
    few: Collection, noise_kit: Path, tmp_path: Path
) -> None:
    """The worker dies while the parent is busy elsewhere: the next hand-over meets a dead pool."""
    good = jobs_of(tmp_path, few, select_kits([str(noise_kit)]))
    seen: list[Outcome] = []
    for outcome in run_here(good, 1):
        if not seen:
            for worker in (alive := children()):
                worker.send_signal(signal.SIGKILL)
            psutil.wait_procs(alive, timeout=10)
            wait_until_pool_knows()
        seen.append(outcome)
    assert all(outcome.record for outcome in seen)
    assert {o.job.performance.id for o in seen} == {p.id for p in few.performances}


def wait_until_pool_knows() -> None:
    """Until the executor's manager thread, which marks the pool as broken, has ended."""
    for thread in threading.enumerate():
        if type(thread).__name__ == "_ExecutorManagerThread":
            thread.join(10)


# --- a cluster ----------------------------------------------------------------------------------


def test_a_cluster_writes_the_same_bytes(
    few: Collection, noise_kit: Path, undisturbed: dict[str, str], tmp_path: Path, cluster: Any
) -> None:
    address = cluster.scheduler_address
    assert build_into(tmp_path / "d", few, noise_kit, cluster=address) == []
    assert hashes(tmp_path / "d") == undisturbed


def test_relative_paths_mean_the_same_to_a_cluster_that_runs_elsewhere(
    few: Collection, noise_kit: Path, undisturbed: dict[str, str], tmp_path: Path, cluster: Any
) -> None:
    gmd = os.path.relpath(few.root, tmp_path)
    arguments = ["--gmd", gmd, "--kits", f"{KIT},{noise_kit}", "--out", "relative"]
    address = cluster.scheduler_address
    result = stemgmd("build", *arguments, "--cluster", address, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert hashes(tmp_path / "relative") == undisturbed


def test_the_cluster_survives_the_death_of_a_worker(
    few: Collection, noise_kit: Path, undisturbed: dict[str, str], tmp_path: Path, cluster: Any
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        pid = next(iter(cluster.workers.values())).pid
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    failures = build_into(
        tmp_path / "d",
        few,
        noise_kit,
        cluster=cluster.scheduler_address,
        on_first_track=kill_one,
    )
    assert len(killed) == 1
    assert failures == []
    assert hashes(tmp_path / "d") == undisturbed


def test_a_track_that_fails_on_a_cluster_is_reported(
    few: Collection, noise_kit: Path, tmp_path: Path, cluster: Any
) -> None:
    gmd = write_collection(tmp_path / "groove", few, few.performances[:2])
    gmd.midi_path(gmd.performances[0]).write_bytes(b"MThd")
    arguments = ["--gmd", gmd.root, "--kits", KIT, "--out", tmp_path / "d"]
    result = stemgmd("build", *arguments, "--cluster", cluster.scheduler_address)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "failed:" in line]
    assert len(lines) == 1
    assert gmd.performances[0].id in lines[0]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CONNECT_SEC", 1)


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_does_not_answer_is_one_line(few: Collection, tmp_path: Path) -> None:
    arguments = ["--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d"]
    line = error_line(stemgmd_here("build", *arguments, "--cluster", "tcp://127.0.0.1:9"))
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in line


@pytest.mark.usefixtures("impatient")
def test_a_cluster_is_not_asked_for_where_nothing_is_to_do_and_leaves_nothing_where_it_is_silent(
    few: Collection, tmp_path: Path
) -> None:
    arguments = ["build", "--gmd", few.root, "--kits", KIT, "--out", tmp_path / "d"]
    nowhere = ["--cluster", "tcp://127.0.0.1:9"]
    error_line(stemgmd_here(*arguments, "--limit", 1, *nowhere))
    assert not (tmp_path / "d").exists()
    assert stemgmd(*arguments, "--limit", 1).returncode == 0
    before = hashes(tmp_path / "d")
    assert stemgmd(*arguments, "--limit", 1, *nowhere).returncode == 0
    assert hashes(tmp_path / "d") == before
    error_line(stemgmd_here(*arguments, *nowhere))
    assert hashes(tmp_path / "d") == before
