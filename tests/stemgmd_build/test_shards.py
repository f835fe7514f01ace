"""`stemgmd build --shards`: WebDataset reads it, its bytes are always the same, damage is found."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from small_builds import (
    command,
    error_line,
    hashes,
    shortest,
    stemgmd_here,
    write_collection,
    write_noise_kit,
)
from waiting import wait_until

from stemgmd_build.audio import read_pcm
from stemgmd_build.building import build, manifest
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.errors import UserError
from stemgmd_build.files import locked
from stemgmd_build.hosting import shards
from stemgmd_build.hosting.shard_index import read_index, verify_shards
from stemgmd_build.hosting.shard_plan import parse_size, plan_shards
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE
from stemgmd_build.verify import verify

SIZE = 1_500_000


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Five short performances; one has a dot in its id."""
    folder = tmp_path_factory.mktemp("few") / "groove"
    first, *others = shortest(builtin_collection, 5)
    chosen = [replace(first, id=f"{first.id}.5"), *others]
    return write_collection(folder, builtin_collection, chosen)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kit, ...]:
    """Two small kits."""
    folder = tmp_path_factory.mktemp("kits")
    return select_kits([str(write_noise_kit(folder / n, i)) for i, n in enumerate(("a", "b"))])


def build_into(root: Path, few: Collection, kits: tuple[Kit, ...], **options: object) -> None:
    settings = RenderSettings(**options)  # type: ignore[arg-type]
    with locked(root, "build"):
        plan = build.make_plan(root, few, few.performances, kits, settings)
        assert build.run(plan, few, show_progress=False) == []


@pytest.fixture(scope="module")
def packed(
    few: Collection, kits: tuple[Kit, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Ten tracks in several shards. Tests that write copy it."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    build_into(root, few, kits)
    shards.write_shards(root, SIZE, show_progress=False)
    return root


@pytest.fixture
def dataset(packed: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(packed, tmp_path / "dataset")


def tars(root: Path) -> list[Path]:
    return sorted((root / "shards").glob("*.tar"))


def samples(root: Path) -> dict[str, dict[str, bytes]]:
    """WebDataset's samples by key."""
    urls = [str(path) for path in tars(root)]
    found = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert len({sample["__key__"] for sample in found}) == len(found)
    return {sample["__key__"]: sample for sample in found}


# --- what WebDataset reads ------------------------------------------------------------------------


def test_webdataset_reads_every_track_with_the_samples_and_facts_of_the_folder(
    packed: Path,
) -> None:
    found = samples(packed)
    rows = manifest.read_metadata(packed)
    assert len(rows) == len(found) == 10
    for row in rows:
        sample = found[f"{row['kit']}/{row['id']}".replace(".", "%2E")]
        folder = packed / manifest.track_folder(row)
        for kind in ("mixture", *PIECES):
            data = sample[f"{kind}.flac"]
            assert data == (folder / kind / f"{row['name']}.flac").read_bytes()
        pcm, rate = soundfile.read(io.BytesIO(sample["mixture.flac"]), dtype="int16")
        assert rate == SAMPLE_RATE
        np.testing.assert_array_equal(pcm, read_pcm(folder / "mixture" / f"{row['name']}.flac"))
        facts = json.loads(sample["json"])
        onsets = facts.pop("onsets")
        for column in ("id", "kit", "split", "bpm", "n_samples", "hits_kick", "style"):
            assert str(facts[column]) == row[column]
        assert len(onsets["onset_sample"]) == facts["n_hits"] == int(row["n_hits"])
        assert onsets["piece"].count("kick") == facts["hits_kick"]


def test_webdataset_decodes_json_and_shuffles_in_its_usual_pipeline(packed: Path) -> None:
    urls = [str(path) for path in tars(packed)]
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=1).shuffle(4).decode()
    facts = [sample["json"] for sample in data]
    assert {(f["kit"], f["id"]) for f in facts} == {
        (row["kit"], row["id"]) for row in manifest.read_metadata(packed)
    }


def test_a_shard_is_of_one_split_and_no_larger_than_asked_unless_it_is_one_track(
    packed: Path,
) -> None:
    assert len(tars(packed)) > 3
    for path in tars(packed):
        facts = [
            json.loads(s["json"]) for s in webdataset.WebDataset(str(path), shardshuffle=False)
        ]
        assert {f["split"] for f in facts} == {path.name.split("-")[0]}
        assert path.stat().st_size <= SIZE or len(facts) == 1


def test_without_mixture_and_as_wav_the_shards_hold_what_the_folder_holds(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    build_into(tmp_path / "d", few, kits[1:], stems="five", mixture=False, file_format="wav")
    shards.write_shards(tmp_path / "d", 10**9, show_progress=False)
    parts = {
        name for sample in samples(tmp_path / "d").values() for name in sample if name[0] != "_"
    }
    stems = ("kick", "snare", "toms", "hihat", "cymbals")
    assert parts == {"json", *(f"{stem}.wav" for stem in stems)}


def test_plain_tar_lists_files_of_nobody_and_no_time(packed: Path) -> None:
    for path in tars(packed):
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode, m.type) for m in tar} == {
                (0, 0, 0, "", 0o644, tarfile.REGTYPE)
            }


# --- the same bytes -------------------------------------------------------------------------------


def test_planned_sizes_are_the_files_sizes(packed: Path) -> None:
    planned = {shard.name: shard.n_bytes for shard in plan_shards(packed, SIZE)}
    assert planned == {path.name: path.stat().st_size for path in tars(packed)}


def test_packing_again_writes_no_shard_and_anew_the_same_bytes(dataset: Path) -> None:
    before = hashes(dataset)
    times = {path: path.stat().st_mtime_ns for path in tars(dataset)}
    shards.write_shards(dataset, SIZE, show_progress=False)
    assert {path: path.stat().st_mtime_ns for path in tars(dataset)} == times
    shutil.rmtree(dataset / "shards")
    shards.write_shards(dataset, SIZE, show_progress=False)
    assert hashes(dataset) == before


def test_other_sizes_leave_no_shard_of_the_earlier_ones(dataset: Path, packed: Path) -> None:
    shards.write_shards(dataset, 10**9, show_progress=False)
    assert len(tars(dataset)) < len(tars(packed))
    assert verify_shards(dataset / "shards") == []
    shards.write_shards(dataset, SIZE, show_progress=False)
    assert hashes(dataset) == hashes(packed)


def test_a_lost_or_shortened_shard_is_packed_again(dataset: Path, packed: Path) -> None:
    first, second = tars(dataset)[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-512])
    shards.write_shards(dataset, SIZE, show_progress=False)
    assert hashes(dataset) == hashes(packed)


def test_kill_9_while_packing_and_the_same_command_ends_with_the_same_bytes(
    dataset: Path, packed: Path, few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    shutil.rmtree(dataset / "shards")
    line = ("build", "--gmd", few.root, "--out", dataset, "--workers", 1, "--shards", "1.5MB",
            "--kits", ",".join(str(kit.path) for kit in kits))  # fmt: skip
    folder = dataset / "shards"
    process = subprocess.Popen(command(*line), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(folder.glob("*.tar")), process)
    process.kill()
    process.wait()
    assert stemgmd_here(*line).returncode == 0
    assert hashes(dataset) == hashes(packed)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"version": 1, "files": [{"path": "../x"}]}']
)
def test_a_torn_note_of_what_is_done_packs_again(
    dataset: Path, packed: Path, content: bytes
) -> None:
    (dataset / "shards" / "index.json").unlink()
    (dataset / "shards" / ".index.json").write_bytes(content)
    shards.write_shards(dataset, SIZE, show_progress=False)
    assert hashes(dataset) == hashes(packed)


# --- faults ---------------------------------------------------------------------------------------


def spoil(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def flip(data: bytearray) -> None:
    data[len(data) // 2] ^= 1


def sign(folder: Path, tar: Path) -> None:
    """Make the index agree with what a tar holds now."""
    entry = json.loads((folder / "index.json").read_text())
    for file in entry["files"]:
        if file["path"] == tar.name:
            file |= {"n_bytes": tar.stat().st_size, "sha256": hashes(folder)[tar.name]}
    (folder / "index.json").write_text(json.dumps(entry))


def test_what_was_packed_is_well_beside_the_dataset_and_alone(packed: Path) -> None:
    assert verify(packed, show_progress=False) == []
    assert verify(packed / "shards", show_progress=False) == []
    assert stemgmd_here("verify", packed / "shards").stdout == "10 tracks, all well\n"


def test_verify_finds_every_kind_of_damage(dataset: Path) -> None:
    folder = dataset / "shards"
    first, second, third = (path.name for path in tars(dataset)[:3])
    spoil(folder / first, flip)
    spoil(folder / second, lambda data: data.append(0))
    (folder / third).unlink()
    (folder / "stranger").touch()
    size = (folder / second).stat().st_size
    assert sorted(verify_shards(folder)) == sorted(
        [
            f"{first}: its SHA-256 differs",
            f"{second}: {size} bytes, not {size - 1}",
            f"{third}: No such file or directory",
            "stranger: not in index.json",
        ]
    )
    assert f"shards/{first}: its SHA-256 differs" in verify(dataset, show_progress=False)


def test_shards_of_an_earlier_state_of_the_dataset_are_a_fault(dataset: Path) -> None:
    text = (dataset / "metadata.csv").read_text()
    assert "4-4" in text
    (dataset / "metadata.csv").write_text(text.replace("4-4", "3-4"))
    assert "shards: the dataset has changed since; build it with --shards again" in verify(
        dataset, show_progress=False
    )


def test_a_packing_that_has_not_ended_is_a_fault(dataset: Path) -> None:
    folder = dataset / "shards"
    (folder / "index.json").rename(folder / ".index.json")
    assert "has not ended" in verify_shards(folder)[0]


@pytest.mark.parametrize(
    "name", ["../../x.json", "/etc/x.json", "a/../x.json", "nodot", "a\\b.json"]
)
def test_a_hostile_tar_is_a_fault_and_unpacks_nothing(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    tar = tars(dataset)[0]
    with tarfile.open(tar, "w") as file:
        file.addfile(tarfile.TarInfo(name))
    sign(dataset / "shards", tar)
    before = hashes(tmp_path)
    assert any("is no file of a sample" in line for line in verify_shards(dataset / "shards"))
    assert hashes(tmp_path) == before


def test_a_link_or_a_sample_without_json_is_a_fault(dataset: Path) -> None:
    first, second = tars(dataset)[:2]
    link = tarfile.TarInfo("a.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for tar, member in ((first, link), (second, tarfile.TarInfo("a.kick.flac"))):
        with tarfile.open(tar, "w") as file:
            file.addfile(member)
        sign(dataset / "shards", tar)
    lines = verify_shards(dataset / "shards")
    assert any(
        line.startswith(f"{first.name}: ") and "no file of a sample" in line for line in lines
    )
    assert f"{second.name}: its samples do not hold the same files" in lines


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2, "dataset": "", "files": []}', '{"version": 1, "files": [1]}',
     '{"version": 1, "dataset": "", "files": [{"path": "../x", "n_bytes": 1, "sha256": "", '
     '"n_tracks": 0, "content": ""}]}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_index_is_one_line(dataset: Path, text: str) -> None:
    path = dataset / "shards" / "index.json"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)) as caught:
        read_index(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_what_was_built_is_not_packed(dataset: Path) -> None:
    shutil.rmtree(dataset / "shards")
    track = sorted(dataset.glob("audio/**/*.flac"))[3]
    spoil(track, flip)
    with pytest.raises(UserError, match=r"is not the file that was built") as caught:
        shards.write_shards(dataset, SIZE, show_progress=False)
    assert str(track) in str(caught.value)
    assert not list((dataset / "shards").glob(".*.partial"))


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1GB", 10**9), ("500 MB", 5 * 10**8), ("1.5MB", 1_500_000), ("2000", 2000), ("64kB", 64000),
     ("2G", 2 * 10**9)],
)  # fmt: skip
def test_sizes_have_units(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["0", "x", "-1GB", "1e9", "1TB", "999", "1 G B", "nan", "١GB"])
def test_what_is_no_size_is_one_line(text: str, tmp_path: Path) -> None:
    result = stemgmd_here("build", "--out", tmp_path / "d", f"--shards={text}")
    assert f"--shards {text}: give a size" in error_line(result)
    assert not (tmp_path / "d").exists()


def test_the_plan_says_the_size_of_the_shards_before_it_starts(
    few: Collection, kits: tuple[Kit, ...], tmp_path: Path
) -> None:
    result = stemgmd_here(
        "build", "--gmd", few.root, "--out", tmp_path / "d", "--kits", kits[1].path, "--dry-run",
        "--shards",
    )  # fmt: skip
    assert result.returncode == 0
    assert "then shards of 1GB: about 0.0" in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_disk_that_cannot_hold_the_shards_is_refused_before_the_first(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(dataset / "shards")
    usage = shutil.disk_usage(dataset)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="GB free, and the shards need"):
        shards.write_shards(dataset, SIZE, show_progress=False)
    assert tars(dataset) == []
