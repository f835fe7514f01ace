"""`stemgmd demo`: one command that builds, verifies and draws a small dataset."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.image
import pytest
from small_builds import error_line, stemgmd, write_collection

from stemgmd_build.performances.collection import Collection
from stemgmd_build.verify import verify


@pytest.fixture(scope="module")
def demo(
    builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """The folder and what was said, of two short performances."""
    out = tmp_path_factory.mktemp("demo")
    clips = builtin_collection.select("eval_session")
    chosen = sorted(clips, key=lambda p: p.duration_sec)[:2]
    few = write_collection(tmp_path_factory.mktemp("few") / "groove", builtin_collection, chosen)
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
    assert "performances: builtin" in text


def test_a_collection_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    line = error_line(stemgmd("demo", "--out", tmp_path / "d", "--gmd", tmp_path / "nowhere"))
    assert "nowhere" in line
    assert not (tmp_path / "d").exists()
