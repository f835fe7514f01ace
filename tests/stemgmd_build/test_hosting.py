"""What `stemgmd build` writes, loaded by Hugging Face `datasets` and by mirdata, offline."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from small_builds import hashes, shortest, write_collection, write_noise_kit

from stemgmd_build.audio import read_pcm
from stemgmd_build.building import build, formats, manifest
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.hosting.mirdata_loader import Dataset, load_onsets, read_index
from stemgmd_build.hosting.shards import write_shards
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE
from stemgmd_build.verify import verify


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kit, ...]:
    folder = tmp_path_factory.mktemp("kits")
    return select_kits([str(write_noise_kit(folder / n, i)) for i, n in enumerate(("a", "b"))])


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Three short performances of all three splits; one session is the paper's."""
    folder = tmp_path_factory.mktemp("few") / "groove"
    chosen = [
        replace(p, split=split, session=session)
        for p, split, session in zip(
            shortest(builtin_collection, 3),
            ("train", "validation", "test"),
            ("session1", "session1", "eval_session"),
            strict=True,
        )
    ]
    return write_collection(folder, builtin_collection, chosen)


@pytest.fixture(scope="module")
def built(few: Collection, kits: tuple[Kit, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tracks with their shards. Tests that write copy it."""
    root = tmp_path_factory.mktemp("built") / "dataset"
    build_into(root, few, kits)
    write_shards(root, 10**9, show_progress=False)
    return root


def build_into(
    root: Path, few: Collection, kits: tuple[Kit, ...], *, mirdata: bool = True, **options: Any
) -> None:
    with locked(root, "build"):
        settings = RenderSettings(**options)
        plan = build.make_plan(root, few, few.performances, kits, settings, mirdata=mirdata)
        assert build.run(plan, few, show_progress=False) == []


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(built, tmp_path / "dataset")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the network, and nothing left in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def pcm_of(root: Path, row: dict[str, str], kind: str) -> np.ndarray:
    return read_pcm(root / manifest.track_folder(row) / kind / f"{row['name']}.flac")


def rows_of(root: Path, split: str) -> list[dict[str, str]]:
    return [row for row in manifest.read_metadata(root) if row["split"] == split]


def undecoded(part: datasets.Dataset) -> datasets.Dataset:
    """Files as they are: to decode them `datasets` wants torchcodec and FFmpeg's libraries."""
    for name, kind in part.features.items():
        if isinstance(kind, datasets.Audio):
            part = part.cast_column(name, datasets.Audio(decode=False))
    return part


def samples_of(value: dict[str, Any]) -> np.ndarray:
    source = value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])
    samples, rate = soundfile.read(source, dtype="int16")
    assert rate == SAMPLE_RATE
    return samples


# --- Hugging Face datasets ------------------------------------------------------------------------


def needs_torchcodec() -> None:
    """Where datasets builds audio columns it wants torchcodec, which is not among our extras."""
    if importlib.util.find_spec("torchcodec") is None:
        pytest.skip("needs torchcodec")


@pytest.fixture
def loaded(built: Path, tmp_path: Path) -> datasets.DatasetDict:
    needs_torchcodec()
    return datasets.load_dataset(str(built), cache_dir=str(tmp_path / "cache"))


def test_the_folder_loads_as_audiofolder_with_its_splits(
    built: Path, loaded: datasets.DatasetDict
) -> None:
    assert {split: len(part) for split, part in loaded.items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip
    for split, part in loaded.items():
        assert part.builder_name == "audiofolder" or "audiofolder" in str(
            part.info.download_checksums
        )
        rows = {f"{row['kit']}/{row['id']}": row for row in rows_of(built, split)}
        audio = [name for name, kind in part.features.items() if isinstance(kind, datasets.Audio)]
        assert audio == ["mixture", *PIECES]
        for example in undecoded(part):
            row = rows.pop(example["track"])
            assert (example["bpm"], example["style"]) == (int(row["bpm"]), row["style"])
            assert example["n_samples"] == int(row["n_samples"])
            assert (built / example["onsets"]).is_file()
            assert (built / example["midi"]).is_file()
            # Not copied: the column names the dataset's own file.
            assert example["kick"]["bytes"] is None
            assert Path(example["kick"]["path"]).samefile(
                built / manifest.track_folder(row) / "kick" / f"{row['name']}.flac"
            )
        assert rows == {}


def test_decoded_audio_is_the_folders_to_the_sample(
    built: Path, loaded: datasets.DatasetDict
) -> None:
    (row, *_) = rows_of(built, "test")
    part = undecoded(loaded["test"])
    example = next(e for e in part if e["track"] == f"{row['kit']}/{row['id']}")
    for kind in ("mixture", "snare"):
        np.testing.assert_array_equal(samples_of(example[kind]), pcm_of(built, row, kind))


def test_audiofolder_named_outright_takes_one_split_of_a_folder_without_its_card(
    dataset: Path, tmp_path: Path
) -> None:
    needs_torchcodec()
    (dataset / "README.md").unlink()
    table = formats.table_name("validation")
    part = datasets.load_dataset(
        "audiofolder",
        data_dir=str(dataset),
        data_files={"validation": table},
        metadata_filenames=[table],
        split="validation",
        cache_dir=str(tmp_path / "cache"),
    )
    assert set(part["id"]) == {row["id"] for row in rows_of(dataset, "validation")}
    assert isinstance(part.features["mixture"], datasets.Audio)


def test_the_shards_load_as_webdataset_with_their_splits(built: Path, tmp_path: Path) -> None:
    needs_torchcodec()
    data = datasets.load_dataset(str(built / "shards"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in data.items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip
    (row, *_) = rows_of(built, "train")
    part = undecoded(data["train"])
    example = next(e for e in part if e["__key__"] == f"{row['kit']}/{row['id']}")
    samples = samples_of(example["mixture.flac"])
    np.testing.assert_array_equal(samples, pcm_of(built, row, "mixture"))
    assert example["json"]["n_hits"] == len(example["json"]["onsets"]["piece"])


def test_the_tables_load_as_json_and_soundfile_reads_the_paths(built: Path, tmp_path: Path) -> None:
    tables = {s: str(built / formats.table_name(s)) for s in ("train", "validation", "test")}
    data = datasets.load_dataset("json", data_files=tables, cache_dir=str(tmp_path / "cache"))
    (row, *_) = rows_of(built, "test")
    example = next(e for e in data["test"] if e["track"] == f"{row['kit']}/{row['id']}")
    samples, rate = soundfile.read(built / example["ride_file_name"], dtype="int16")
    assert rate == SAMPLE_RATE
    np.testing.assert_array_equal(samples, pcm_of(built, row, "ride"))


def test_tables_name_the_stems_that_there_are_and_no_split_that_there_is_not(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    with locked(root, "build"):
        chosen = few.select("test")
        plan = build.make_plan(
            root, few, chosen, kits[:1], RenderSettings(stems="five", mixture=False)
        )
        build.run(plan, few, show_progress=False)
    assert [path.name for path in root.glob("tracks-*")] == ["tracks-test.jsonl"]
    (line,) = (root / "tracks-test.jsonl").read_text().splitlines()
    columns = [name for name in json.loads(line) if name.endswith("_file_name")]
    assert columns == [f"{s}_file_name" for s in ("kick", "snare", "toms", "hihat", "cymbals")]
    assert "split: train" not in (root / "README.md").read_text()
    assert verify(root, show_progress=False) == []


# --- mirdata --------------------------------------------------------------------------------------


def test_mirdata_validates_the_folder(built: Path) -> None:
    assert Dataset(built).validate(verbose=False) == (
        {"metadata": {}, "tracks": {}},
        {"metadata": {}, "tracks": {}},
    )


def test_mirdata_finds_a_missing_and_a_changed_file(dataset: Path) -> None:
    (first, second, *_) = sorted(dataset.glob("audio/**/*.flac"))
    first.unlink()
    second.write_bytes(second.read_bytes() + b"\0")
    missing, invalid = Dataset(dataset).validate(verbose=False)
    assert [path for paths in missing["tracks"].values() for path in paths] == [str(first)]
    assert [path for paths in invalid["tracks"].values() for path in paths] == [str(second)]


def test_mirdata_loads_every_track_with_audio_midi_and_onsets(built: Path, few: Collection) -> None:
    data = Dataset(built)
    tracks = data.load_tracks()
    rows = {f"{row['kit']}/{row['id']}": row for row in manifest.read_metadata(built)}
    assert set(tracks) == set(rows) == set(data.track_ids)
    scores = {p.id: few.read_score(p) for p in few.performances}
    for name, track in tracks.items():
        row = rows[name]
        assert (track.split, track.kit, track.facts["bpm"]) == (
            row["split"], row["kit"], int(row["bpm"]),
        )  # fmt: skip
        samples, rate = track.audio
        assert (samples.dtype, rate) == (np.float32, SAMPLE_RATE)
        np.testing.assert_array_equal(samples.T * 32768, pcm_of(built, row, "mixture"))
        assert track.stem_names == ("mixture", *PIECES)
        np.testing.assert_array_equal(
            sum(track.stem(piece)[0] for piece in PIECES) * 32768, samples * 32768
        )
        hits = scores[row["id"]].hits
        np.testing.assert_allclose(
            track.onsets.intervals, [[h.onset_sec] * 2 for h in hits], atol=1e-6
        )
        assert len(track.midi.instruments[0].notes) >= len(hits) == len(track.onsets.events)
        assert name in repr(track)


def test_mirdata_knows_the_splits_terms_and_citation(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Dataset(built)
    assert {split: len(ids) for split, ids in data.get_track_splits().items()} == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip
    data.cite()
    data.license()
    assert "stemgmd2024" in (text := capsys.readouterr().out)
    assert "## Kits" in text


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"version": "0", "metadata": {}, "tracks": {}}',
        '{"version": "1.0", "metadata": {}, "tracks": {"a": {"kick": ["../../x", ""]}}}',
        '{"version": "1.0", "metadata": {}, "tracks": {"a": {"kick": ["/etc/passwd", ""]}}}',
        '{"version": "1.0", "metadata": {"m": ["x"]}, "tracks": {}}',
        '{"version": "1.0", "metadata": {}, "tracks": {"a": {"kick": [null, ""]}}}',
    ],
)  # fmt: skip
def test_a_hostile_or_damaged_index_is_one_line(dataset: Path, text: str) -> None:
    path = dataset / formats.MIRDATA_INDEX
    path.write_text(text)
    for reader in (lambda: read_index(path), lambda: Dataset(dataset).load_tracks()):
        with pytest.raises(UserError, match=str(path)) as caught:
            reader()
        assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_dataset_and_damaged_onsets_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is this a dataset"):
        Dataset(tmp_path).load_tracks()
    for text in ("", "onset_sec\npiece\n", "onset_sec\tpiece\n-1\tkick\n", "onset_sec\tpiece\n1\n"):
        (tmp_path / "x.tsv").write_text(text)
        with pytest.raises(UserError, match=r"x\.tsv cannot be read"):
            load_onsets(str(tmp_path / "x.tsv"))


# --- the folder -----------------------------------------------------------------------------------


def test_a_dataset_gets_its_mirdata_index_later_without_being_rendered_again(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    build_into(root, few, kits, mirdata=False)
    assert "md5" not in (root / "manifest.jsonl").read_text()
    with pytest.raises(UserError, match="run again with --mirdata"):
        Dataset(root).load_tracks()
    without = hashes(root)
    times = {path: path.stat().st_mtime_ns for path in root.glob("audio/**/*.flac")}
    build_into(root, few, kits)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write_shards(root, 10**9, show_progress=False)
    assert hashes(root) == hashes(built)
    shutil.rmtree(root / "shards")
    build_into(root, few, kits, mirdata=False)
    assert hashes(root) == without


def test_the_files_do_not_depend_on_how_far_an_earlier_build_came(
    built: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    root = tmp_path / "d"
    build_into(root, few, kits[1:])
    build_into(root, few, kits)
    write_shards(root, 10**9, show_progress=False)
    assert hashes(root) == hashes(built)


def table_paths(root: Path) -> Iterator[str]:
    for split in ("train", "validation", "test"):
        for line in (root / formats.table_name(split)).read_text().splitlines():
            yield from (v for k, v in json.loads(line).items() if k.endswith("_file_name"))


def test_tables_and_index_list_every_audio_file_once(built: Path) -> None:
    audio = sorted(path.relative_to(built).as_posix() for path in built.glob("audio/**/*.flac"))
    assert sorted(table_paths(built)) == audio
    index = json.loads((built / formats.MIRDATA_INDEX).read_text())
    listed = [path for files in index["tracks"].values() for path, _ in files.values()]
    assert sorted(path for path in listed if path.startswith("audio/")) == audio
    with (built / "metadata.csv").open(newline="") as file:
        assert len(index["tracks"]) == len(list(csv.DictReader(file)))
