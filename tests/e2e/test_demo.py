"""`stemgmd demo`: one command that builds, verifies and draws a small dataset."""

from __future__ import annotations

import functools
import re
import resource
import subprocess
from pathlib import Path

import matplotlib.image
import pytest
from small_builds import command, error_line, stemgmd, write_collection

from benchmarks.demo import find_or_fetch
from stemgmd_build.performances import gmd
from stemgmd_build.performances.collection import Collection
from stemgmd_build.verify import verify


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """One short performance, which the demo plays on two kits and separates with every system."""
    clips = builtin_collection.select("eval_session")
    chosen = sorted(clips, key=lambda p: p.duration_sec)[:1]
    return write_collection(tmp_path_factory.mktemp("few") / "groove", builtin_collection, chosen)


@pytest.fixture(scope="module")
def demo(few: Collection, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and what was said."""
    out = tmp_path_factory.mktemp("demo")
    result = stemgmd("demo", "--out", out, "--gmd", few.root)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return out, result.stdout


def test_the_last_lines_name_files_that_are_there(demo: tuple[Path, str]) -> None:
    out, text = demo
    look, listen, read = text.splitlines()[-3:]
    named = re.findall(rf"{re.escape(str(out))}[^\s,]+", "\n".join((look, listen, read)))
    assert len(named) == 8
    assert all(Path(name).is_file() for name in named)
    kick = Path(next(name for name in named if name.endswith("kick.wav")))
    assert len(list(kick.parent.glob("*.wav"))) == 5
    mixture = Path(next(name for name in named if name.endswith(".flac")))
    assert len(list(mixture.parents[1].glob(f"*/{mixture.name}"))) == 10


def test_the_picture_shows_something(demo: tuple[Path, str]) -> None:
    picture = matplotlib.image.imread(demo[0] / "overview.png")
    height, width = picture.shape[:2]
    assert min(height, width) > 400
    ink = picture[..., :3].reshape(-1, 3)
    assert (ink.min(axis=1) < 0.9).mean() > 0.01
    assert ink.std() > 0.02


def test_the_dataset_is_well_and_says_so(demo: tuple[Path, str]) -> None:
    out, text = demo
    assert verify(out / "dataset", show_progress=False) == []
    assert re.search(r"^\d+ tracks built and verified, 0 faults$", text, re.M)
    assert "performances: built-in grooves" in text


def test_tracks_that_fail_are_named_and_nothing_is_said_to_be_there(
    few: Collection, tmp_path: Path
) -> None:
    limit = 30_000  # bytes: less than the mixtures
    result = subprocess.run(
        command("demo", "--out", tmp_path / "demo", "--gmd", few.root),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1, result.stderr
    assert "FAULT builtin" in result.stdout
    assert "look:" not in result.stdout
    assert "Traceback" not in result.stderr


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing named, nothing in the cache."""
    monkeypatch.delenv("STEMGMD_GMD", raising=False)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("bare_machine")
def test_gmd_is_taken_where_it_can_be_had(
    few: Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gmd, "fetch", lambda: few)
    assert find_or_fetch(None) is few
    assert find_or_fetch(few.root) is not few, "what is named is not replaced"
    monkeypatch.setenv("STEMGMD_GMD", str(few.root))
    assert find_or_fetch(None) is not few


@pytest.mark.usefixtures("bare_machine")
def test_grooves_stand_in_where_gmd_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "http://127.0.0.1:9/groove.zip"
    monkeypatch.setattr(gmd, "fetch", functools.partial(gmd.fetch, url=nowhere))
    assert find_or_fetch(None).source == "builtin"
    said = capsys.readouterr().out
    assert nowhere in said
    assert "built-in grooves stand in" in said


def test_a_collection_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    line = error_line(stemgmd("demo", "--out", tmp_path / "d", "--gmd", tmp_path / "nowhere"))
    assert "nowhere" in line
    assert not (tmp_path / "d").exists()
