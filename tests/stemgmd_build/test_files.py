"""One look before opening; files that appear whole; a build that stays inside of its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stemgmd_build import processes
from stemgmd_build.building.build import _refuse_links
from stemgmd_build.errors import UserError
from stemgmd_build.files import MOST_BYTES, parse_toml, publish, read_text, whole
from stemgmd_build.paths import cache_folder


def test_more_bytes_than_a_kind_can_have_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES["settings"] + 1)
    with pytest.raises(UserError, match="more than a file of its kind"):
        read_text(path, "settings")


def test_other_bytes_than_utf8_are_told_by_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"good = 1\nbad = '\xe9'\n" + b"x" * 10_000)
    with pytest.raises(UserError, match=r"is not UTF-8 \(line 2\)$"):
        read_text(path, "settings")


@pytest.mark.parametrize("part", ["a", "'a b'", '"a.b"'])
def test_a_key_of_ten_thousand_parts_takes_no_memory(part: str) -> None:
    with pytest.raises(UserError, match="more than 32 parts"):
        parse_toml(".".join([part] * 10_000) + " = 1", "my.toml")
    text = "a.b.c = [1.5, 2.5]\nname = '" + "x." * 100 + "'"
    assert parse_toml(text, "my.toml")["a"] == {"b": {"c": [1.5, 2.5]}}


@pytest.mark.parametrize("name", ["a.json", "a" * 255, "é" * 127])
def test_a_file_of_any_name_appears_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with whole(path) as part:
        part.write_text("one")
    with pytest.raises(RuntimeError), whole(path) as part:  # noqa: PT012
        part.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_published_is_on_the_disk_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power loss leaves the name, and zeros behind it."""
    flushed: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        assert not (tmp_path / "kit").exists()
        flushed.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "part" / "inner").mkdir(parents=True)
    file = tmp_path / "part" / "inner" / "a.wav"
    file.write_text("sound")
    inode = file.stat().st_ino
    publish(tmp_path / "part", tmp_path / "kit")
    assert inode in flushed
    assert (tmp_path / "kit" / "inner" / "a.wav").read_text() == "sound"


def test_a_dataset_is_not_written_through_links(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "audio").symlink_to(tmp_path)
    with pytest.raises(UserError, match="audio is a link"):
        _refuse_links(tmp_path / "dataset")


def test_a_tilde_in_a_variable_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STEMGMD_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "cache"


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/job\n", {"job/cpu.max": "150000 100000"}, 1.5),
        ("0::/job/step\n", {"job/cpu.max": "200000 100000", "job/step/cpu.max": "max 100000"}, 2),
        ("3:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "50000",
                                "cpu/d/cpu.cfs_period_us": "100000"}, 0.5),
        ("3:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, 1e9),
        ("", {}, 1e9),
    ],
)  # fmt: skip
def test_the_quota_of_a_container_counts(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: float
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in limits.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert processes._quota(tmp_path / "cgroup", tmp_path / "fs") == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_no_more_workers_than_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert processes.usable_cpus() == 1
