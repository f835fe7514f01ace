"""Records, texts and the journal: what is written is read back, whatever is torn or hostile."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemgmd_build.building import manifest
from stemgmd_build.building.manifest import FileRecord, TrackRecord
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Performance
from stemgmd_build.taxonomy import PIECES

PERFORMANCE = Performance(
    id="drummer1/session1/1",
    drummer="drummer1",
    session="session1",
    style="rock",
    bpm=120,
    beat_type="beat",
    time_signature="4-4",
    midi_filename="drummer1/session1/1_rock_120_beat_4-4.mid",
    audio_filename="",
    duration_sec=2.5,
    split="train",
)

REUSED_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def row(kit: str = "kit-a", hits: tuple[int, ...] = (1, 2, 0, 0, 3, 4, 0, 0, 0)) -> dict[str, str]:
    return manifest.metadata_row(
        PERFORMANCE,
        kit=kit,
        kit_split="test",
        midi_sha256="0" * 64,
        n_samples=44100,
        gain=0.5,
        peak=12,
        hits=hits,
    )


def record(root: Path, kit: str = "kit-a", data: bytes = b"sound") -> TrackRecord:
    """A track of one file that is there."""
    facts = row(kit)
    path = f"{manifest.track_folder(facts)}/mixture/{facts['name']}.flac"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return TrackRecord(facts, (FileRecord(path, len(data), hashlib.sha256(data).hexdigest()),))


def write_journal(root: Path, *records: TrackRecord) -> bytes:
    with (root / manifest.JOURNAL).open("w") as journal:
        for one in records:
            manifest.append_to_journal(journal, one)
    return (root / manifest.JOURNAL).read_bytes()


# --- rows ---------------------------------------------------------------------------------------


def test_a_row_has_every_column_in_order_and_counts_by_piece_and_stem() -> None:
    facts = row()
    assert tuple(facts) == manifest.COLUMNS
    assert facts["n_hits"] == "10"
    assert [facts[f"hits_{piece}"] for piece in PIECES] == list("120034000")
    has = {name: facts[f"has_{name}"] for name in ("kick", "snare", "toms", "hihat", "cymbals")}
    assert has == {"kick": "1", "snare": "1", "toms": "1", "hihat": "1", "cymbals": "0"}
    assert [facts[f"has_{piece}"] for piece in PIECES] == list("110011000")
    assert (facts["duration"], facts["duration_sec"]) == ("2.5", "1.000000")
    assert manifest.track_folder(facts) == "audio/drummer1/session1/kit-a"


def test_metadata_is_read_back_as_written(tmp_path: Path) -> None:
    records = [record(tmp_path, kit) for kit in ("kit-a", "kit-b")]
    manifest.write_recorded(tmp_path / manifest.METADATA, manifest.metadata_text(records))
    assert manifest.read_metadata(tmp_path) == [one.row for one in records]


def test_the_manifest_is_sorted_and_read_back_as_written(tmp_path: Path) -> None:
    files = [FileRecord(name, 3, "ab") for name in ("z", "a/b", "ä/c", "M")]
    manifest.write_recorded(tmp_path / manifest.MANIFEST, manifest.manifest_text(files))
    assert manifest.read_manifest(tmp_path) == {file.path: file for file in files}
    lines = (tmp_path / manifest.MANIFEST).read_text().splitlines()
    paths = [json.loads(line)["path"] for line in lines]
    assert paths == sorted(paths)


# --- files appear whole -------------------------------------------------------------------------


def test_a_text_is_written_whole_and_its_hash_is_right(tmp_path: Path) -> None:
    written = manifest.write_recorded(tmp_path / "a.txt", "früh\n")
    data = (tmp_path / "a.txt").read_bytes()
    assert written == FileRecord("a.txt", len(data), hashlib.sha256(data).hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_text_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        manifest.write_recorded(tmp_path / "a.txt", "text")
    assert caught.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# --- the journal --------------------------------------------------------------------------------


def test_what_the_journal_holds_is_done(tmp_path: Path) -> None:
    records = [record(tmp_path, kit) for kit in ("kit-a", "kit-b")]
    write_journal(tmp_path, *records)
    assert manifest.finished_tracks(tmp_path) == {one.key: one for one in records}


@REUSED_FOLDER
@given(cut=st.integers(0, 3000))
def test_a_journal_cut_anywhere_holds_its_whole_lines(tmp_path: Path, cut: int) -> None:
    records = [record(tmp_path, kit) for kit in ("kit-a", "kit-b", "kit-c")]
    data = write_journal(tmp_path, *records)
    cut = min(cut, len(data))
    (tmp_path / manifest.JOURNAL).write_bytes(data[:cut])
    # A line that lacks nothing but its line break is whole.
    n_whole = (data[:cut] + b"\n" * data[cut : cut + 1].count(b"\n")).count(b"\n")
    assert list(manifest.read_journal(tmp_path)) == records[:n_whole]


@REUSED_FOLDER
@given(rubbish=st.binary(max_size=200))
def test_rubbish_in_the_journal_hides_no_track(tmp_path: Path, rubbish: bytes) -> None:
    one = record(tmp_path)
    data = write_journal(tmp_path, one)
    (tmp_path / manifest.JOURNAL).write_bytes(data + rubbish + b"\n" + data)
    assert manifest.finished_tracks(tmp_path) == {one.key: one}


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "a\0b"])
def test_a_journal_that_climbs_out_is_not_believed(tmp_path: Path, path: str) -> None:
    write_journal(tmp_path, TrackRecord(row(), (FileRecord(path, 1, "0"),)))
    assert list(manifest.read_journal(tmp_path)) == []


@pytest.mark.parametrize("line", ["[" * 100_000, '{"row": [], "files": 3}', "null", "1e999"])
def test_a_journal_of_other_json_is_empty(tmp_path: Path, line: str) -> None:
    (tmp_path / manifest.JOURNAL).write_text(line + "\n")
    assert list(manifest.read_journal(tmp_path)) == []


def test_a_track_counts_only_with_all_its_files_at_their_size(tmp_path: Path) -> None:
    here, gone, short = (record(tmp_path, kit) for kit in ("kit-a", "kit-b", "kit-c"))
    write_journal(tmp_path, here, gone, short, TrackRecord(row("kit-d"), ()))
    (tmp_path / gone.files[0].path).unlink()
    (tmp_path / short.files[0].path).write_bytes(b"so")
    assert manifest.finished_tracks(tmp_path) == {here.key: here}


def test_finished_and_journaled_tracks_add_up(tmp_path: Path) -> None:
    old, new = record(tmp_path, "kit-a"), record(tmp_path, "kit-b")
    manifest.write_recorded(tmp_path / manifest.METADATA, manifest.metadata_text([old]))
    manifest.write_recorded(tmp_path / manifest.MANIFEST, manifest.manifest_text(old.files))
    write_journal(tmp_path, new)
    assert manifest.finished_tracks(tmp_path) == {old.key: old, new.key: new}


# --- damaged files are one line -----------------------------------------------------------------


def refusal(read: Callable[[Path], object], root: Path) -> str | None:
    """What a reader says against a folder, None if nothing; any other exception is a fault."""
    try:
        read(root)
    except UserError as error:
        return str(error)
    return None


@REUSED_FOLDER
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    readers = {
        manifest.METADATA: manifest.read_metadata,
        manifest.MANIFEST: manifest.read_manifest,
        manifest.SETTINGS: manifest.read_settings,
    }
    for name, read in readers.items():
        (tmp_path / name).write_bytes(data)
        said = refusal(read, tmp_path)
        assert said is None or (str(tmp_path / name) in said and "\n" not in said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["render", "kits", "path", "bytes", "sha256", "file_format", "stems"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@REUSED_FOLDER
@given(value=JSON)
def test_any_json_is_read_or_refused_in_one_line(tmp_path: Path, value: object) -> None:
    for name, read in (
        (manifest.MANIFEST, manifest.read_manifest),
        (manifest.SETTINGS, manifest.read_settings),
    ):
        (tmp_path / name).write_text(json.dumps(value))
        assert "\n" not in (refusal(read, tmp_path) or "")


@REUSED_FOLDER
@given(column=st.sampled_from(manifest.COLUMNS), text=st.text(max_size=20))
def test_no_row_leads_out_of_the_dataset(tmp_path: Path, column: str, text: str) -> None:
    with (tmp_path / manifest.METADATA).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, manifest.COLUMNS)
        writer.writeheader()
        try:
            writer.writerow({**row(), column: text})
        except (csv.Error, UnicodeEncodeError):
            return
    said = refusal(manifest.read_metadata, tmp_path)
    assert "\n" not in (said or "")
    for one in manifest.read_metadata(tmp_path) if said is None else ():
        folder = (tmp_path / manifest.track_folder(one)).resolve()
        assert folder.is_relative_to((tmp_path / "audio").resolve())
        assert int(one["n_samples"]) >= 0
