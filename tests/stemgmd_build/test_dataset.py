"""Reading: segments from disk and rendered ones are the same, and drawn the same everywhere."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_builds import KIT, shortest, write_collection, write_noise_kit
from torch.utils.data import DataLoader

from stemgmd_build.audio import read_pcm
from stemgmd_build.building import build, manifest
from stemgmd_build.building.tracks import RenderSettings, StemChoice
from stemgmd_build.dataset import RenderedStemGMD, StemGMD
from stemgmd_build.dataset.segments import Cut
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.paths import cache_folder
from stemgmd_build.performances.collection import Collection
from stemgmd_build.performances.gmd import GMD_VARIABLE
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, STEMS

SEGMENT_SEC = 1.3
HOP_SEC = 0.7
STEP = 1 / 32768


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 2))


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [KIT, str(write_noise_kit(tmp_path_factory.mktemp("kits") / "noise-kit"))]


def build_into(root: Path, few: Collection, kits: list[str], stems: StemChoice) -> Path:
    settings = RenderSettings(stems=stems)
    root.mkdir()
    plan = build.make_plan(root, few, few.performances, select_kits(kits), settings)
    assert build.run(plan, few, show_progress=False) == []
    return root


@pytest.fixture(scope="module")
def nine(few: Collection, kits: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_into(tmp_path_factory.mktemp("built") / "nine", few, kits, "nine")


@pytest.fixture(scope="module")
def five(few: Collection, kits: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_into(tmp_path_factory.mktemp("built") / "five", few, kits, "five")


def rendered(few: Collection, kits: list[str], **options: Any) -> RenderedStemGMD:
    options = {"segment_sec": SEGMENT_SEC, "hop_sec": HOP_SEC, "split": "all", **options}
    return RenderedStemGMD(few.root, kits=kits, **options)


def from_disk(root: Path, **options: Any) -> StemGMD:
    return StemGMD(root, **{"segment_sec": SEGMENT_SEC, "hop_sec": HOP_SEC, **options})


Key = tuple[str, str, int]


def by_place(data: StemGMD | RenderedStemGMD) -> dict[Key, tuple[NDArray[Any], NDArray[Any]]]:
    """(performance, kit, start) -> (mixture, stems) of every segment."""
    segments = [data[i] for i in range(len(data))]
    places = {(s.performance, s.kit, s.start): (s.mixture, s.stems) for s in segments}
    assert len(places) == len(data)
    return places


# --- the same from disk and rendered ------------------------------------------------------------


@pytest.mark.parametrize("stems", ["five", "nine"])
@pytest.mark.parametrize("segment_sec", [SEGMENT_SEC, None])
def test_rendered_segments_are_those_on_disk_but_for_rounding(
    nine: Path,
    few: Collection,
    kits: list[str],
    stems: Literal["five", "nine"],
    segment_sec: float | None,
) -> None:
    disk = by_place(from_disk(nine, stems=stems, segment_sec=segment_sec))
    ours = by_place(rendered(few, kits, stems=stems, segment_sec=segment_sec))
    assert disk.keys() == ours.keys()
    n_pieces = 3 if stems == "five" else 1  # half a step for each piece of a stem
    for place, (mixture, parts) in disk.items():
        assert mixture.shape == ours[place][0].shape
        assert parts.shape == ours[place][1].shape == (5 if stems == "five" else 9, *mixture.shape)
        assert parts.dtype == ours[place][1].dtype == mixture.dtype == np.float32
        np.testing.assert_allclose(parts, ours[place][1], rtol=0, atol=n_pieces * 0.5 * STEP + 1e-6)
        np.testing.assert_allclose(mixture, ours[place][0], rtol=0, atol=4.5 * STEP + 1e-6)


def test_five_stems_are_the_same_from_pieces_and_from_stems(nine: Path, five: Path) -> None:
    assert len(from_disk(nine)) == len(from_disk(five)) > 10
    for a, b in zip(from_disk(nine), from_disk(five), strict=False):  # type: ignore[call-overload]
        assert (a.performance, a.kit, a.start) == (b.performance, b.kit, b.start)
        np.testing.assert_array_equal(a.stems, b.stems)
        np.testing.assert_array_equal(a.mixture, b.mixture)


def test_mixture_is_the_sum_of_its_stems(nine: Path, few: Collection, kits: list[str]) -> None:
    for stems in ("five", "nine"):
        for mixture, parts in by_place(from_disk(nine, stems=stems)).values():
            np.testing.assert_array_equal(mixture, parts.sum(axis=0))
        for mixture, parts in by_place(rendered(few, kits, stems=stems, kit_mix=0.5)).values():
            np.testing.assert_allclose(mixture, parts.sum(axis=0), rtol=0, atol=1e-6)


def test_segments_tile_the_files_and_the_last_is_padded_with_zeros(nine: Path) -> None:
    n_segment, n_hop = round(SEGMENT_SEC * 44100), round(HOP_SEC * 44100)
    places = by_place(from_disk(nine, stems="nine"))
    for row in manifest.read_metadata(nine):
        n_samples = int(row["n_samples"])
        file = nine / manifest.track_folder(row) / "mixture" / f"{row['name']}.flac"
        whole = read_pcm(file).T * np.float32(STEP)
        starts = sorted(start for i, kit, start in places if (i, kit) == (row["id"], row["kit"]))
        assert starts == list(range(0, starts[-1] + 1, n_hop))
        assert starts[-1] < n_samples <= starts[-1] + n_segment
        for start in starts:
            mixture, _ = places[row["id"], row["kit"], start]
            padded = np.zeros((2, n_segment), np.float32)
            part = whole[:, start : start + n_segment]
            padded[:, : part.shape[1]] = part
            np.testing.assert_array_equal(mixture, padded)


def test_whole_tracks_have_the_length_of_their_files(nine: Path) -> None:
    data = from_disk(nine, segment_sec=None)
    assert len(data) == 4
    for row, segment in zip(data.rows, (data[i] for i in range(4)), strict=True):
        assert segment.mixture.shape == (2, int(row["n_samples"]))
        assert segment.stems.shape == (len(STEMS), 2, int(row["n_samples"]))


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    n_segment=st.integers(1, 100),
    n_hop=st.integers(1, 150),
)
def test_every_sample_is_in_a_segment_and_none_begins_behind_the_end(
    lengths: list[int], n_segment: int, n_hop: int
) -> None:
    cut = Cut(lengths, n_segment / 44100, n_hop / 44100)
    heard = [np.zeros(length, bool) for length in lengths]
    for index in range(len(cut)):
        track, start, n_samples = cut.locate(index)
        assert (n_samples, start % n_hop) == (n_segment, 0)
        assert start < lengths[track]
        heard[track][start : start + n_samples] = True
    for samples in heard:
        expected = np.ones(len(samples), bool)
        if n_hop > n_segment:
            expected = np.arange(len(samples)) % n_hop < n_segment
        np.testing.assert_array_equal(samples, expected)


# --- chosen, indexed, drawn ---------------------------------------------------------------------


def test_splits_and_kits_are_chosen(nine: Path, few: Collection) -> None:
    for p in few.performances:
        rows = from_disk(nine, split=p.split, kits=["noise-kit"]).rows
        assert [(r["id"], r["kit"]) for r in rows] == [(p.id, "noise-kit")]


def test_both_readers_take_a_name_or_a_list_of_splits_and_kits(
    nine: Path, few: Collection, kits: list[str]
) -> None:
    """Ids, paths and sets; of a set, the folder's kits are read. A set renders what is here."""
    names: list[Any] = [KIT, [KIT], kits[1], kits, "train", ["train", kits[1]]]
    held: list[set[str]] = [{KIT}, {KIT}, {"noise-kit"}, {KIT, "noise-kit"}]
    held += [{KIT}, {KIT, "noise-kit"}]
    for name, expected in zip(names, held, strict=True):
        assert {row["kit"] for row in from_disk(nine, kits=name).rows} == expected
        if "train" not in name:  # its other kits may be missing on this machine
            assert {kit.id for kit in rendered(few, name).kits} == expected
    every = {p.id for p in few.performances}
    split = few.performances[0].split
    ours = {p.id for p in few.performances if p.split == split}
    for choice, chosen in ((split, ours), ([split, "eval_session"], ours), (["all"], every)):
        assert {row["id"] for row in from_disk(nine, split=choice).rows} == chosen
        assert {p.id for p in rendered(few, kits, split=choice).performances} == chosen


def test_indices_count_from_both_ends_and_no_further(
    nine: Path, few: Collection, kits: list[str]
) -> None:
    for data in (from_disk(nine), rendered(few, kits, kit_mix=1.0)):
        n = len(data)
        np.testing.assert_array_equal(data[-1].stems, data[n - 1].stems)
        np.testing.assert_array_equal(data[-n].stems, data[0].stems)
        for index in (n, -n - 1):
            with pytest.raises(IndexError, match=f"segment {index} of {n}"):
                data[index]


def test_what_an_index_holds_does_not_depend_on_the_order(few: Collection, kits: list[str]) -> None:
    forwards = rendered(few, kits, kit_mix=0.7, seed=3)
    backwards = rendered(few, kits, kit_mix=0.7, seed=3)
    expected = [forwards[i] for i in range(len(forwards))]
    for index in reversed(range(len(backwards))):
        segment = backwards[index]
        np.testing.assert_array_equal(segment.stems, expected[index].stems)
        assert segment[2:] == expected[index][2:]


_IN_ANOTHER_PROCESS = """
import hashlib, sys
from stemgmd_build.dataset import RenderedStemGMD
if __name__ == "__main__":
    data = RenderedStemGMD(
        sys.argv[1], kits=sys.argv[2:], split="all",
        segment_sec=1.3, hop_sec=0.7, kit_mix=0.7, seed=3,
    )
    digest = hashlib.sha256()
    for i in range(len(data)):
        digest.update(data[i].stems.tobytes() + data[i].kit.encode())
    print(digest.hexdigest())
"""


def test_what_an_index_holds_does_not_depend_on_the_process(
    few: Collection, kits: list[str]
) -> None:
    digest = hashlib.sha256()
    data = rendered(few, kits, kit_mix=0.7, seed=3)
    for index in range(len(data)):
        digest.update(data[index].stems.tobytes() + data[index].kit.encode())
    command = [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(few.root), *kits]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == digest.hexdigest()


def kits_drawn(data: RenderedStemGMD) -> list[str]:
    return [data[i].kit for i in range(len(data))]


def test_kit_mix_plays_stems_on_other_kits_by_seed_and_epoch(
    few: Collection, kits: list[str]
) -> None:
    assert set(kits_drawn(rendered(few, kits))) == {KIT, "noise-kit"}
    data = rendered(few, kits, kit_mix=1.0, seed=1)
    drawn = kits_drawn(data)
    assert any(len(set(name.split("+"))) == 2 for name in drawn)
    assert drawn != kits_drawn(rendered(few, kits, kit_mix=1.0, seed=2))
    data.set_epoch(1)
    assert kits_drawn(data) != drawn
    data.set_epoch(0)
    assert kits_drawn(data) == drawn


def test_a_stem_on_another_kit_is_that_kits_stem(few: Collection, kits: list[str]) -> None:
    plain = by_place(rendered(few, kits, segment_sec=1.0, hop_sec=1.0))
    data = rendered(few, kits, segment_sec=1.0, hop_sec=1.0, kit_mix=1.0)
    compared = 0
    for segment in (data[i] for i in range(len(data))):
        names = segment.kit.split("+") if "+" in segment.kit else [segment.kit] * len(STEMS)
        for stem, kit in enumerate(names):
            expected = plain.get((segment.performance, kit, segment.start))
            if expected is not None:  # the other kit may have died away before this segment
                np.testing.assert_array_equal(segment.stems[stem], expected[1][stem])
                compared += 1
    assert compared > len(data)


def test_nine_pieces_follow_their_stems_kit(few: Collection, kits: list[str]) -> None:
    five = rendered(few, kits, kit_mix=1.0, stems="five")
    nine = rendered(few, kits, kit_mix=1.0, stems="nine")
    for index in range(len(five)):
        for stem, name in enumerate(STEMS):
            members = [PIECES.index(piece) for piece in PIECES_OF_STEM[name]]
            total = nine[index].stems[members].sum(axis=0)
            np.testing.assert_allclose(five[index].stems[stem], total, rtol=0, atol=1e-6)


def swap(stems: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    stems *= generator.uniform(0.1, 1.0, (len(stems), 1, 1)).astype(np.float32)
    return stems[:, ::-1].copy()


def test_kits_are_drawn_for_the_stems_named_and_an_augmentation_has_the_last_word(
    few: Collection, kits: list[str]
) -> None:
    plain = rendered(few, kits)
    data = rendered(few, kits, kit_mix={"snare": 1.0}, augment=swap, seed=4)
    drawn = set()
    for index in range(len(data)):
        kick, snare, *others = data.plan(index).kits
        assert {kick, *others} == {plain.plan(index).kits[0]}
        drawn.add(snare == kick)
        segment = data[index]
        np.testing.assert_allclose(segment.mixture, segment.stems.sum(axis=0), atol=1e-6)
        np.testing.assert_array_equal(segment.stems, data[index].stems)
        for ours, theirs in zip(segment.stems[[0, 3]], plain[index].stems[[0, 3]], strict=True):
            assert np.abs(ours).max() <= np.abs(theirs).max()
    assert drawn == {True, False}


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_an_epoch_reaches_workers_that_are_kept(
    few: Collection, kits: list[str], start: str
) -> None:
    data = rendered(few, kits, kit_mix=1.0, seed=1, output="torch", segment_sec=0.1)
    loader = DataLoader(
        data, num_workers=2, multiprocessing_context=start, persistent_workers=True, batch_size=8
    )
    seen = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        seen.append([kit for batch in loader for kit in batch.kit])
        assert seen[-1] == kits_drawn(data)
    assert seen[0] == seen[2] != seen[1]


# --- which performances -------------------------------------------------------------------------


def test_built_in_grooves_that_nobody_named_are_told(
    few: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # named, they are what was asked for
        assert rendered(few, [KIT]).source == "builtin"
        monkeypatch.setenv(GMD_VARIABLE, str(few.root))
        assert RenderedStemGMD(kits=KIT, split="all").source == "builtin"
    monkeypatch.delenv(GMD_VARIABLE)
    # A cache without GMD, but with the banks, for sampling takes seconds.
    (tmp_path / "banks").symlink_to(cache_folder() / "banks")
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="no GMD is named or found; .*stemgmd gmd fetch") as told:
        data = RenderedStemGMD(kits=KIT, limit=1)
    assert data.source == "builtin"
    assert [warning.filename for warning in told] == [__file__]  # the line that asked for it


def test_gmd_is_told_from_the_grooves(collection: Collection) -> None:
    data = RenderedStemGMD(collection.root, kits=KIT, limit=1)
    assert data.source == collection.source


# --- pickled ------------------------------------------------------------------------------------


def test_a_pickle_holds_no_samples_and_gives_the_same_segments(
    builtin_collection: Collection,
) -> None:
    data = RenderedStemGMD(builtin_collection.root, kits=KIT, kit_mix=0.5, seed=3)
    data.set_epoch(2)
    pickled = pickle.dumps(data)
    assert len(pickled) < 1e6 < data._banks[0].samples.nbytes
    again = pickle.loads(pickled)
    assert isinstance(again._banks[0].samples.base, np.memmap)  # one copy for all processes
    assert len(again) == len(data)
    for index in (0, len(data) // 2, len(data) - 1):
        np.testing.assert_array_equal(again[index].stems, data[index].stems)
        assert again[index][2:] == data[index][2:]


def test_a_pickle_outlives_the_cache_but_not_its_kits(
    few: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the gain that was measured for an own kit."""
    kit = write_noise_kit(tmp_path / "own", seed=5)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    data = rendered(few, [str(kit)])
    pickled, stems = pickle.dumps(data), data[0].stems
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(pickle.loads(pickled)[0].stems, stems)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(kit)
    with pytest.raises(UserError, match=r"kit own .*cannot be read"):
        pickle.loads(pickled)


# --- torch --------------------------------------------------------------------------------------


def test_torch_gives_the_same_numbers(nine: Path, few: Collection, kits: list[str]) -> None:
    pairs = (
        (from_disk(nine), from_disk(nine, output="torch")),
        (rendered(few, kits), rendered(few, kits, output="torch")),
    )
    for plain, tensors in pairs:
        assert isinstance(tensors[3].stems, torch.Tensor)
        assert isinstance(tensors[3].mixture, torch.Tensor)
        np.testing.assert_array_equal(plain[3].stems, tensors[3].stems.numpy())


@pytest.mark.parametrize("source", ["disk", "rendered"])
def test_a_data_loader_with_two_workers_gives_the_same_batches(
    nine: Path, few: Collection, kits: list[str], source: str
) -> None:
    data: Any = (
        from_disk(nine, output="torch")
        if source == "disk"
        else rendered(few, kits, output="torch", kit_mix=0.5)
    )
    start = "fork" if source == "disk" else "spawn"  # spawned ones must import torch first
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=start)
    at = 0
    for batch in loader:
        for i in range(len(batch.stems)):
            assert torch.equal(batch.stems[i], data[at].stems)
            assert batch.kit[i] == data[at].kit
            assert int(batch.start[i]) == data[at].start
            at += 1
    assert at == len(data)


# --- refusals -----------------------------------------------------------------------------------


def test_nine_pieces_of_a_five_stem_dataset_are_refused(five: Path) -> None:
    with pytest.raises(UserError, match="five stems only; build it with --stems nine or both"):
        from_disk(five, stems="nine")


def test_a_choice_that_finds_nothing_is_refused(
    nine: Path, few: Collection, kits: list[str]
) -> None:
    with pytest.raises(UserError, match="holds no track of split 'eval_session'"):
        from_disk(nine, split="eval_session")
    with pytest.raises(UserError, match="nothing to render"):
        rendered(few, kits, split="eval_session")
    for split in ("tset", ["train", "tset"]):
        for read in (lambda s: from_disk(nine, split=s), lambda s: rendered(few, kits, split=s)):
            with pytest.raises(UserError, match="no split 'tset': give one of all, train"):
                read(split)


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (["nobody"], "nobody"),
        ([KIT, "nobody"], "nobody"),
        (f"{KIT}-other,foo", f"{KIT}-other,foo"),  # no part of a string is a name
        (KIT[:5], KIT[:5]),
        ([KIT, "test"], "test"),  # a set of which the folder holds nothing
    ],
)
def test_a_kit_that_the_dataset_lacks_is_refused(nine: Path, choice: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"holds no kit '{name}'; its kits are noise-kit, {KIT}"):
        from_disk(nine, kits=choice)


def test_a_string_of_kits_is_one_name_for_the_renderer_too(few: Collection) -> None:
    with pytest.raises(UserError, match="no kit 'a,b'"):
        RenderedStemGMD(few.root, kits="a,b")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"stems": "seven"}, "no stems 'seven': give one of five, nine"),
        ({"output": "tensor"}, "no output 'tensor': give one of numpy, torch"),
    ],
)
def test_words_that_mean_nothing_are_refused_by_both(
    nine: Path, few: Collection, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        from_disk(nine, **options)
    with pytest.raises(UserError, match=problem):
        rendered(few, [KIT], **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"articulations": "ful"}, "no articulations 'ful': give one of nine, full"),
        ({"kit_mix": 5}, "kit_mix 5: give a probability"),
        ({"kit_mix": -1}, "kit_mix -1"),
        ({"kit_mix": float("nan")}, "kit_mix nan"),
        ({"kit_mix": {"drum": 0.5}}, "no stem 'drum'"),
        ({"kit_mix": {"kick": 2}}, "kit_mix 2"),
        ({"kit_mix": 0.5, "seed": -1}, "seed -1: give a whole number"),
        ({"seed": 1.5}, "seed 1.5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    few: Collection, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        rendered(few, [KIT], **options)


def test_an_epoch_below_zero_is_refused(few: Collection) -> None:
    with pytest.raises(UserError, match="epoch -1: give a whole number"):
        rendered(few, [KIT]).set_epoch(-1)


@pytest.mark.parametrize(
    ("segment_sec", "hop_sec"),
    [
        (0.0, 1.0),
        (-1.0, 1.0),
        (1e-6, 1.0),
        (float("inf"), 1.0),
        (float("nan"), 1.0),
        (1.0, 0.0),
        (1.0, float("inf")),
        (None, float("inf")),
        (1.0, 1e306),
    ],
)
def test_lengths_that_are_none_are_refused(
    nine: Path, segment_sec: float | None, hop_sec: float
) -> None:
    with pytest.raises(UserError, match=r"must be positive, .* finite"):
        from_disk(nine, segment_sec=segment_sec, hop_sec=hop_sec)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is this a dataset"):
        StemGMD(tmp_path)


def test_a_missing_file_is_named(five: Path, tmp_path: Path) -> None:
    root = shutil.copytree(five, tmp_path / "d")
    next(iter(root.glob("audio/**/snare/*.flac"))).unlink()
    data = from_disk(root, segment_sec=None)
    broken = next(
        i
        for i, row in enumerate(data.rows)
        if not (root / manifest.track_folder(row) / "snare" / f"{row['name']}.flac").exists()
    )
    with pytest.raises(UserError, match=r"snare.*cannot be read"):
        data[broken]
