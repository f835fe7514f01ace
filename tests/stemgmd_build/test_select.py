"""One rule says which kits and performances a name means, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_builds import KIT, write_collection, write_noise_kit

from benchmarks.sources.built import built_tracks
from stemgmd_build.building import build
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.dataset import RenderedStemGMD, StemGMD
from stemgmd_build.dataset.select import choose_kits, choose_performances
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.taxonomy import PIECES


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training kit of the catalogue, your own one for training, your own one without a split."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("mine", "other"):
        write_noise_kit(folder / name, seed=len(name))
    (folder / "mine.toml").write_text('path = "mine"\nsplit = "train"\n')
    return [KIT, str(folder / "mine.toml"), str(folder / "other")]


@pytest.fixture(scope="module")
def some(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Performances of ids that sort otherwise as text: 10 before 2."""
    mine = [p for p in builtin_collection.performances if p.drummer == "builtin1"]
    tenth = next(p for p in mine if p.id.endswith("/10"))
    others = sorted(mine, key=lambda p: p.duration_sec)[:2]
    folder = tmp_path_factory.mktemp("some") / "g"
    return write_collection(folder, builtin_collection, [tenth, *others])


@pytest.fixture(scope="module")
def root(kits: list[str], some: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built") / "d"
    root.mkdir()
    plan = build.make_plan(root, some, some.performances, choose_kits(kits), RenderSettings())
    assert build.run(plan, some, show_progress=False) == []
    return root


@pytest.mark.parametrize("names", ["train", "all", "default", [KIT], ["mine", "train"]])
@pytest.mark.parametrize("split", ["all", "train"])
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_the_benchmark_reads_what_the_reader_reads(
    root: Path, names: list[str], split: str, limit: int | None
) -> None:
    given = [names] if isinstance(names, str) else names
    ours = StemGMD(root, kits=names, split=split, limit=limit).rows
    theirs = built_tracks(root, kits=given, split=[split], limit=limit)
    assert [(row["id"], row["kit"]) for row in ours] == [(t.id, t.kit) for t in theirs]


def test_a_set_is_what_the_folder_holds_of_it(root: Path, kits: list[str]) -> None:
    def held(names: str) -> set[str]:
        return {row["kit"] for row in StemGMD(root, kits=names).rows}

    assert held("train") == {KIT, "mine"}
    assert held("all") == {KIT, "mine", "other"}
    assert held("default") == {KIT}
    assert held(kits[1]) == {"mine"}
    with pytest.raises(UserError, match="holds no kit 'test'"):
        held("test")


def test_a_limit_is_of_the_same_performances_built_read_and_rendered(
    root: Path, some: Collection
) -> None:
    for limit in (1, 2):
        chosen = [p.id for p in choose_performances(some, "all", limit)]
        assert {row["id"] for row in StemGMD(root, limit=limit).rows} == {*chosen}
        data = RenderedStemGMD(some.root, split="all", kits=KIT, limit=limit)
        assert [p.id for p in data.performances] == chosen
    with pytest.raises(UserError, match="a limit of -1"):
        StemGMD(root, limit=-1)


def test_the_eval_session_is_gmds_unless_the_grooves_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path))
    monkeypatch.delenv("STEMGMD_GMD", raising=False)
    with pytest.raises(UserError, match=r"eval_session .*stemgmd gmd fetch.*--gmd builtin"):
        choose_performances(find_collection(), ["test", "eval_session"])
    assert choose_performances(find_collection(), "test")
    assert choose_performances(find_collection("builtin"), "eval_session")


# --- the published StemGMD, which has no manifest -----------------------------------------------


def write_original(root: Path, pieces: tuple[str, ...] = PIECES) -> Path:
    for kit in ("brooklyn", "east_bay"):
        for i, piece in enumerate((*pieces, "mixture")):
            folder = root / "drummer1" / "eval_session" / kit / piece
            folder.mkdir(parents=True)
            pcm = np.full((44100, 2), i + 1, np.int16)
            soundfile.write(folder / "1_funk-groove1_138_beat_4-4.wav", pcm, 44100)
    return root


@pytest.mark.parametrize("below", ["", "audio"])
def test_the_published_stemgmd_is_read_as_it_lies_there(tmp_path: Path, below: str) -> None:
    write_original(tmp_path / "StemGMD" / below)
    data = StemGMD(tmp_path / "StemGMD", kits="brooklyn", split="eval_session", stems="nine")
    segment = data[0]
    assert (len(data), segment.performance, segment.kit) == (
        1,
        "drummer1/eval_session/1",
        "brooklyn",
    )
    np.testing.assert_array_equal(segment.stems[:, 0, 0] * 32768, range(1, 10))
    five = StemGMD(tmp_path / "StemGMD")
    assert len(five) == 2
    np.testing.assert_array_equal(five[0].stems[:, 0, 0] * 32768, [1, 2, 3 + 4 + 5, 6 + 7, 8 + 9])


def test_the_published_stemgmd_needs_gmd_for_gmds_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_original(tmp_path / "StemGMD")
    monkeypatch.delenv("STEMGMD_GMD", raising=False)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="stemgmd gmd fetch"):
        StemGMD(tmp_path / "StemGMD", split="test")
    write_original(tmp_path / "part", PIECES[:4])
    with pytest.raises(UserError, match="lacks low_tom, hihat_closed"):
        StemGMD(tmp_path / "part")
