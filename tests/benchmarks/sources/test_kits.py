"""Evaluation tracks: a dataset and a rendering on the fly give the very same samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_builds import KIT, shortest, write_collection, write_noise_kit

from benchmarks.sources import Track, load
from benchmarks.sources.built import built_tracks
from benchmarks.sources.performances import clip_name
from benchmarks.sources.rendered import rendered_tracks
from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import build
from stemgmd_build.building.tracks import RenderSettings, StemChoice
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import PIECES_OF_STEM, STEMS


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 3))


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [KIT, str(write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit"))]


def build_into(root: Path, few: Collection, kits: list[str], settings: RenderSettings) -> Path:
    root.mkdir(parents=True)
    plan = build.make_plan(root, few, few.performances, select_kits(kits), settings)
    assert build.run(plan, few, show_progress=False) == []
    return root


@pytest.fixture(scope="module")
def rendered(few: Collection, kits: list[str]) -> list[Track]:
    return rendered_tracks(few, split=["all"], kits=kits)


@pytest.fixture(scope="module")
def nine(few: Collection, kits: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_into(tmp_path_factory.mktemp("built") / "d", few, kits, RenderSettings())


def test_clip_names_fit_into_a_file_name_and_stay_unique() -> None:
    assert clip_name("colombo", "drummer1/session1/2") == "colombo--drummer1_session1_2"
    names = {clip_name("kit", f"{'drümmer' * 60}/{number}") for number in range(9)}
    assert len(names) == 9
    assert max(len(name.encode()) for name in names) <= 200


def by_clip(tracks: list[Track]) -> dict[str, Track]:
    return {track.clip: track for track in tracks}


@pytest.mark.parametrize(
    ("stems", "mixture", "file_format"),
    [("nine", True, "flac"), ("five", False, "wav"), ("both", True, "flac")],
)
def test_a_dataset_gives_the_samples_hashes_and_hits_of_a_rendering(
    rendered: list[Track],
    few: Collection,
    kits: list[str],
    tmp_path: Path,
    stems: StemChoice,
    mixture: bool,
    file_format: str,
) -> None:
    settings = RenderSettings(file_format=file_format, stems=stems, mixture=mixture)  # type: ignore[arg-type]
    root = build_into(tmp_path / "d", few, kits, settings)
    built = by_clip(built_tracks(root, split=["all"], kits=None))
    assert built.keys() == by_clip(rendered).keys()
    assert len(built) == len(rendered) == 6
    for track in rendered:
        twin = built[track.clip]
        assert (twin.data, twin.kit_split) == (track.data, track.kit_split)
        ours, theirs = load(track), load(twin)
        np.testing.assert_array_equal(ours.references, theirs.references)
        np.testing.assert_array_equal(ours.mixture, theirs.mixture)
        assert ours.score == theirs.score


def test_references_are_the_sums_of_the_pieces_on_disk(nine: Path) -> None:
    for track in built_tracks(nine, split=["all"], kits=None):
        loaded = load(track)
        folder = nine / "audio" / track.id.rsplit("/", 1)[0] / track.kit
        for stem, audio in zip(STEMS, loaded.references, strict=True):
            pieces = [read_pcm(folder / p / f"{track.name}.flac") for p in PIECES_OF_STEM[stem]]
            total = np.sum(pieces, axis=0, dtype=int)
            np.testing.assert_array_equal(audio.T * FULL_SCALE, total)
        mixture = read_pcm(folder / "mixture" / f"{track.name}.flac")
        np.testing.assert_array_equal(loaded.mixture.T * FULL_SCALE, mixture)
        assert loaded.references.dtype == loaded.mixture.dtype == np.float32


def test_presence_is_what_is_struck(rendered: list[Track]) -> None:
    for track in rendered:
        loaded = load(track)
        for stem, audio in zip(STEMS, loaded.references, strict=True):
            assert loaded.present(stem) == bool(audio.any())
            assert list(loaded.onsets[stem]) == sorted(loaded.onsets[stem])


def test_another_gain_is_another_track(few: Collection, kits: list[str], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    plan = build.make_plan(
        tmp_path / "d", few, few.performances, select_kits(kits[:1]), RenderSettings(), gain_db=-3
    )
    assert build.run(plan, few, show_progress=False) == []
    quiet = built_tracks(tmp_path / "d", split=["all"], kits=None)
    loud = rendered_tracks(few, split=["all"], kits=kits[:1])
    assert {t.clip for t in quiet} == {t.clip for t in loud}
    assert not {t.data for t in quiet} & {t.data for t in loud}


def test_kits_and_limit_choose(nine: Path, few: Collection, kits: list[str]) -> None:
    one = built_tracks(nine, split=["all"], kits=[KIT], limit=2)
    assert [t.clip for t in one] == [
        t.clip for t in rendered_tracks(few, split=["all"], kits=[KIT], limit=2)
    ]
    with pytest.raises(UserError, match="holds no kit 'colombo'"):
        built_tracks(nine, split=["all"], kits=["colombo"])
    with pytest.raises(UserError, match="holds no track of split eval_session"):
        built_tracks(nine, split=["eval_session"], kits=None)


@pytest.mark.parametrize("victim", ["audio", "midi"])
def test_a_file_that_changed_since_the_build_is_named(
    few: Collection, tmp_path: Path, victim: str
) -> None:
    root = build_into(tmp_path / "d", few, [KIT], RenderSettings())
    tracks = built_tracks(root, split=["all"], kits=None)
    path = next(p for p in sorted((root / victim).rglob("*")) if p.is_file())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    faults = []
    for track in tracks:
        try:
            load(track)
        except UserError as error:
            faults.append(str(error))
    assert len(faults) == 1
    assert str(path) in faults[0]
    assert "has changed since the dataset was built" in faults[0]


def test_a_file_that_is_gone_is_named(few: Collection, tmp_path: Path) -> None:
    root = build_into(tmp_path / "d", few, [KIT], RenderSettings())
    tracks = built_tracks(root, split=["all"], kits=None)
    for path in (root / "audio").rglob("snare/*.flac"):
        path.unlink()
    with pytest.raises(UserError, match=r"snare/.*\.flac is missing"):
        load(tracks[0])
