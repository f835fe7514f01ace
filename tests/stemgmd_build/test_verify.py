"""`stemgmd verify` finds every kind of damage, and `stemgmd info` describes what is there."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray
from small_builds import KIT, command, error_line, hashes, shortest, stemgmd, write_collection
from waiting import wait_until

from stemgmd_build.audio import read_pcm
from stemgmd_build.building import build, manifest
from stemgmd_build.building.manifest import FileRecord
from stemgmd_build.building.tracks import RenderSettings
from stemgmd_build.commands.info import describe
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits
from stemgmd_build.performances.collection import Collection, read_collection
from stemgmd_build.rendering.render import strikes_of
from stemgmd_build.taxonomy import PIECES, STEM_ABBREVIATIONS, STEMS
from stemgmd_build.verify import verify


@pytest.fixture(scope="module")
def few(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("few") / "groove"
    return write_collection(folder, builtin_collection, shortest(builtin_collection, 2))


@pytest.fixture(scope="module")
def built(few: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks with nine pieces and five stems. Tests that write copy it."""
    root = tmp_path_factory.mktemp("built") / "dataset"
    plan = build.make_plan(
        root, few, few.performances, select_kits([KIT]), RenderSettings(stems="both")
    )
    root.mkdir()
    assert build.run(plan, few, show_progress=False) == []
    return root


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(built, tmp_path / "dataset")


def faults(root: Path) -> list[str]:
    return verify(root, show_progress=False)


def first_track(root: Path) -> tuple[dict[str, str], Path]:
    row = manifest.read_metadata(root)[0]
    return row, root / manifest.track_folder(row)


def file_of(root: Path, folder: str) -> Path:
    row, track = first_track(root)
    return track / folder / f"{row['name']}.flac"


def sign(root: Path, *paths: Path) -> None:
    """Make the manifest agree with what these files hold now."""
    files = manifest.read_manifest(root)
    for path in paths:
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        files[name] = FileRecord(name, len(data), hashlib.sha256(data).hexdigest())
    manifest.write_recorded(root / "manifest.jsonl", manifest.manifest_text(files.values()))


def rewrite(path: Path, change: Callable[[NDArray[np.int16]], NDArray[np.int16]]) -> None:
    """Encode the file again with other samples."""
    soundfile.write(path, change(read_pcm(path)), 44100, subtype="PCM_16", format="FLAC")


def change_metadata(root: Path, **fields: str) -> None:
    """Change fields of the first row, and sign the file."""
    rows = manifest.read_metadata(root)
    rows[0].update(fields)
    text = io.StringIO()
    writer = csv.DictWriter(text, manifest.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (root / "metadata.csv").write_text(text.getvalue())
    sign(root, root / "metadata.csv")


def one_step(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    pcm[len(pcm) // 2, 1] += 1
    return pcm


# --- files --------------------------------------------------------------------------------------


def test_what_was_built_is_well(built: Path) -> None:
    assert faults(built) == verify(built, n_workers=2, show_progress=False) == []
    result = stemgmd("verify", built, "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"tracks": 2, "faults": [], "notes": []}


@pytest.mark.parametrize("position", [100, -100])
@pytest.mark.parametrize("folder", ["snare", "mixture"])
def test_a_flipped_bit_is_found(dataset: Path, folder: str, position: int) -> None:
    path = file_of(dataset, folder)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert faults(dataset) == [f"{path.relative_to(dataset)}: its SHA-256 differs"]


@pytest.mark.parametrize("name", ["LICENSES.md", "metadata.csv", "dataset.json", "midi", "onsets"])
def test_a_changed_text_is_found(dataset: Path, name: str) -> None:
    path = next((p for p in sorted((dataset / name).rglob("*")) if p.is_file()), dataset / name)
    path.write_bytes(path.read_bytes() + b"\n")
    (line,) = faults(dataset)
    assert line.startswith(f"{path.relative_to(dataset)}: ")


def test_a_truncated_file_is_found(dataset: Path) -> None:
    path = file_of(dataset, "ride")
    n_bytes = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    assert faults(dataset) == [f"{path.relative_to(dataset)}: {n_bytes - 10} bytes, not {n_bytes}"]


def test_a_truncated_file_is_found_even_where_the_manifest_agrees(dataset: Path) -> None:
    path = file_of(dataset, "snare")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sign(dataset, path)
    assert len(faults(dataset)) == 1


def test_a_missing_file_is_found_and_the_command_says_so(dataset: Path) -> None:
    path = file_of(dataset, "kick")
    path.unlink()
    result = stemgmd("verify", dataset)
    assert result.returncode == 1
    name = path.relative_to(dataset).as_posix()
    assert result.stdout.splitlines() == [
        f"{name}: cannot be read: No such file or directory",
        "2 tracks, 1 faults",
    ]


def test_an_extra_file_is_found(dataset: Path) -> None:
    (dataset / "audio" / "thesis.txt").write_text("mine")
    (dataset / ".journal.jsonl").write_text("\n")
    expected = [".journal.jsonl: not in the manifest", "audio/thesis.txt: not in the manifest"]
    assert faults(dataset) == expected


@pytest.mark.parametrize("folder", ["mixture", "hi_tom", "kick", "cymbals"])
def test_a_file_that_the_manifest_lacks_is_found(dataset: Path, folder: str) -> None:
    path = file_of(dataset, folder)
    files = manifest.read_manifest(dataset)
    del files[path.relative_to(dataset).as_posix()]
    manifest.write_recorded(dataset / "manifest.jsonl", manifest.manifest_text(files.values()))
    assert set(faults(dataset)) == {f"{path.relative_to(dataset)}: not in the manifest"}


def test_audio_that_metadata_does_not_know_is_found(dataset: Path) -> None:
    lines = (dataset / "metadata.csv").read_text().splitlines(keepends=True)
    (dataset / "metadata.csv").write_text("".join(lines[:-1]))
    sign(dataset, dataset / "metadata.csv")
    found = faults(dataset)
    assert len(found) == len({*PIECES, *STEMS}) + 1
    assert all(line.endswith("not in metadata.csv") for line in found)


# --- audio, with a manifest that agrees ---------------------------------------------------------


def test_a_sum_that_is_off_by_one_step_is_found(dataset: Path) -> None:
    path = file_of(dataset, "hihat_closed")
    rewrite(path, one_step)
    sign(dataset, path)
    found = faults(dataset)
    assert any("mixture is not the exact sum of its 9 stems" in line for line in found)
    assert any("hihat is not the exact sum of hihat_closed, hihat_open" in line for line in found)


def test_stems_whose_sum_clips_are_found_where_no_mixture_is_written(dataset: Path) -> None:
    files = manifest.read_manifest(dataset)
    for row in manifest.read_metadata(dataset):
        path = dataset / manifest.track_folder(row) / "mixture" / f"{row['name']}.flac"
        path.unlink()
        del files[path.relative_to(dataset).as_posix()]
    settings = manifest.read_settings(dataset)
    settings["render"]["mixture"] = False
    (dataset / "dataset.json").write_text(json.dumps(settings))
    manifest.write_recorded(dataset / "manifest.jsonl", manifest.manifest_text(files.values()))
    sign(dataset, dataset / "dataset.json")
    assert faults(dataset) == []
    path = file_of(dataset, "hihat_closed")
    rewrite(path, lambda pcm: np.clip(pcm.astype(int) + 32767, -32768, 32767).astype(np.int16))
    sign(dataset, path)
    assert any("the sum of its 9 stems clips" in line for line in faults(dataset))


def test_a_five_stem_that_is_not_its_pieces_is_found(dataset: Path) -> None:
    path = file_of(dataset, "toms")
    rewrite(path, one_step)
    sign(dataset, path)
    (line,) = [line for line in faults(dataset) if "sum" in line]
    assert "toms is not the exact sum of hi_tom, mid_tom, low_tom" in line


def test_a_wrong_length_is_found(dataset: Path) -> None:
    path = file_of(dataset, "snare")
    rewrite(path, lambda pcm: pcm[:-1])
    sign(dataset, path)
    n_samples = int(first_track(dataset)[0]["n_samples"])
    (line,) = faults(dataset)
    assert f"snare has {n_samples - 1} samples" in line
    assert f"expected {n_samples} at 44100 Hz" in line


@pytest.mark.parametrize(
    ("sample_rate", "subtype", "said"),
    [(48000, "PCM_16", "at 48000 Hz"), (44100, "PCM_24", "PCM_24")],
)
def test_another_kind_of_audio_is_found(
    dataset: Path, sample_rate: int, subtype: str, said: str
) -> None:
    path = file_of(dataset, "snare")
    soundfile.write(path, read_pcm(path), sample_rate, subtype=subtype, format="FLAC")
    sign(dataset, path)
    (line,) = faults(dataset)
    assert said in line


def test_clipping_is_found(dataset: Path) -> None:
    def clip(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        pcm[1000:1003, 0] = 32767
        return pcm

    path = file_of(dataset, "snare")
    rewrite(path, clip)
    sign(dataset, path)
    assert any(line.endswith("snare clips") for line in faults(dataset))


def test_a_single_sample_at_full_scale_is_not_clipping(dataset: Path) -> None:
    def touch(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        pcm[1000:1002, 0] = 32767
        return pcm

    path = file_of(dataset, "snare")
    rewrite(path, touch)
    sign(dataset, path)
    assert not any("clips" in line for line in faults(dataset))


def test_presence_that_contradicts_the_audio_is_found_both_ways(dataset: Path) -> None:
    row, _ = first_track(dataset)
    played = next(p for p in ("ride", "hihat_closed") if int(row[f"hits_{p}"]))
    silent = next(p for p in PIECES if not int(row[f"hits_{p}"]))
    change_metadata(dataset, **{f"hits_{played}": "0", f"hits_{silent}": "3"})
    found = faults(dataset)
    assert any(line.endswith(f"{played} is not played but sounds") for line in found)
    assert any(line.endswith(f"{silent} is silent but played") for line in found)


# --- a folder that is no dataset, or a hostile one ----------------------------------------------


def spoil_settings(root: Path, value: object) -> None:
    (root / "dataset.json").write_text(json.dumps(value))


def spoil_manifest(root: Path, path: object, n_bytes: object = 1) -> None:
    with (root / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"path": path, "bytes": n_bytes, "sha256": "0"}) + "\n")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no metadata": lambda root: (root / "metadata.csv").unlink(),
    "no manifest": lambda root: (root / "manifest.jsonl").unlink(),
    "no settings": lambda root: (root / "dataset.json").unlink(),
    "metadata without columns": lambda root: (root / "metadata.csv").write_text("a,b\n1,2\n"),
    "metadata of bytes": lambda root: (root / "metadata.csv").write_bytes(b"\xff\x00" * 99),
    "length no number": lambda root: change_metadata(root, n_samples="many"),
    "length below zero": lambda root: change_metadata(root, n_samples="-1"),
    "hits no number": lambda root: change_metadata(root, hits_kick="?"),
    "presence no number": lambda root: change_metadata(root, has_toms="yes"),
    "kit climbs": lambda root: change_metadata(root, kit="../../.."),
    "kit climbs within": lambda root: change_metadata(root, kit="a/../../../../b"),
    "name climbs": lambda root: change_metadata(root, name="../../../x"),
    "midi climbs": lambda root: change_metadata(root, midi_filename="../../x.mid"),
    "midi absolute": lambda root: change_metadata(root, midi_filename="/etc/x.mid"),
    "midi with NUL": lambda root: change_metadata(root, midi_filename="a/\0.mid"),
    "manifest no JSON": lambda root: (root / "manifest.jsonl").write_text("{"),
    "manifest of lists": lambda root: (root / "manifest.jsonl").write_text("[1]\n"),
    "manifest nested": lambda root: (root / "manifest.jsonl").write_text("[" * 100_000),
    "manifest infinite": lambda root: spoil_manifest(root, "a", float("inf")),
    "manifest climbs": lambda root: spoil_manifest(root, "../../x"),
    "manifest climbs within": lambda root: spoil_manifest(root, "audio/../../x"),
    "manifest absolute": lambda root: spoil_manifest(root, "/etc/passwd"),
    "manifest backslash": lambda root: spoil_manifest(root, "..\\x"),
    "manifest with NUL": lambda root: spoil_manifest(root, "a\0b"),
    "settings no JSON": lambda root: (root / "dataset.json").write_text("{"),
    "settings of a list": lambda root: spoil_settings(root, [1]),
    "settings empty": lambda root: spoil_settings(root, {}),
    "no stems": lambda root: spoil_settings(root, {"render": {"file_format": "flac"}, "kits": {}}),
    "unknown stems": lambda root: spoil_settings(
        root, {"render": {"file_format": "flac", "stems": "six"}, "kits": {}}
    ),
    "format climbs": lambda root: spoil_settings(
        root, {"render": {"file_format": "/../x", "stems": "nine"}, "kits": {}}
    ),
    "kits of a list": lambda root: spoil_settings(
        root, {"render": {"file_format": "flac", "stems": "nine"}, "kits": [1]}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dataset_is_one_line(dataset: Path, damage: str) -> None:
    DAMAGES[damage](dataset)
    before = hashes(dataset)
    for reader in (faults, describe):
        with pytest.raises(UserError, match=str(dataset)) as caught:
            reader(dataset)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    assert hashes(dataset) == before


@pytest.mark.parametrize("name", ["verify", "info"])
def test_a_folder_that_is_no_dataset_is_one_line(name: str, tmp_path: Path) -> None:
    assert "is this a dataset?" in error_line(stemgmd(name, tmp_path))


@pytest.mark.parametrize("n_workers", [0, -4])
def test_fewer_than_one_worker_is_refused_as_the_build_refuses_it(
    built: Path, n_workers: int
) -> None:
    line = error_line(stemgmd("verify", built, "--workers", n_workers))
    assert "--workers must be at least 1" in line


def test_a_kit_that_the_settings_lack_is_one_line(dataset: Path) -> None:
    change_metadata(dataset, kit="nobody")
    with pytest.raises(UserError, match=r"dataset\.json is damaged: it lacks kit nobody"):
        describe(dataset)


def test_ctrl_c_ends_it_at_once_and_promises_nothing(dataset: Path) -> None:
    """The terminal sends Ctrl-C to the workers too, one of which is at a file of 60 GB."""
    path = file_of(dataset, "kick")
    os.truncate(path, 60 << 30)  # a hole: it takes no room on the disk, and a minute to hash
    process = subprocess.Popen(
        command("verify", dataset, "--workers", 2),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: is_read_by_a_child_of(process.pid, path), process)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.endswith("stemgmd verify: interrupted; nothing was changed\n")


def is_read_by_a_child_of(process: int, path: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process).children(recursive=True)
        return any(str(path) == file.path for child in children for file in child.open_files())
    return False


# --- info ---------------------------------------------------------------------------------------


def test_info_describes_what_is_there(built: Path, few: Collection) -> None:
    result = stemgmd("info", built, "--json")
    facts = json.loads(result.stdout)
    scores = [few.read_score(p) for p in few.performances]
    assert (facts["tracks"], facts["performances"]) == (2, 2)
    assert facts["hits"] == sum(len(score.hits) for score in scores)
    assert facts["presence"] == presence(few, "all")
    assert facts["bytes"] == sum(
        p.stat().st_size for p in built.rglob("*") if p.is_file() and p.name != "manifest.jsonl"
    )
    assert facts["kits"][KIT]["tracks"] == 2
    assert facts["stem_hours"] == pytest.approx(facts["track_hours"] * 12, abs=0.01)
    text = stemgmd("info", built).stdout
    assert "presence (performances): KD 2" in text
    assert KIT in text


def presence(collection: Collection, split: str) -> dict[str, int]:
    """In how many performances each stem is played, by abbreviation."""
    counts = dict.fromkeys(STEM_ABBREVIATIONS.values(), 0)
    for performance in collection.select(split):
        pieces = strikes_of(collection.read_score(performance)).pieces()
        row = manifest.metadata_row(
            performance,
            kit="k",
            midi_sha256="0" * 64,
            kit_split=None,
            n_samples=1,
            gain=1.0,
            peak=0,
            hits=np.bincount(pieces, minlength=len(PIECES)).tolist(),
        )
        for stem, short in STEM_ABBREVIATIONS.items():
            counts[short] += int(row[f"has_{stem}"])
    return counts


def test_presence_over_the_papers_clips_is_the_papers(gmd_root: Path | None) -> None:
    if gmd_root is None:
        pytest.skip("the paper's counts are those of the real Groove MIDI Dataset")
    expected = {"KD": 40, "SD": 40, "TT": 4, "HH": 39, "CY": 5}
    assert presence(read_collection(gmd_root), "eval_session") == expected
