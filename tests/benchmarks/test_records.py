"""Records: what is written is what is read, whatever befell the file in between."""

from __future__ import annotations

import gzip
import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from benchmarks import provenance, results_folder
from benchmarks.records import METRIC_VERSIONS, StemRecord, SystemRecord, to_line, whole_keys
from benchmarks.results_folder import ResultsFolder
from stemgmd_build.errors import UserError

RECORD = StemRecord(
    system="nmfd",
    revision="1",
    track="drummer1/eval_session/1",
    data="d",
    stem="kick",
    present=True,
    duration_sec=2.5,
    metrics={"nsdr": 1},
    n_hits=7,
    kit="colombo",
    nsdr_db=1.0,
)
SYSTEM = SystemRecord("nmfd", "1", "NMFD", ("mixture",), "x", ("bja-pacific",), 5, "MIT", "s")

scores = st.none() | st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    nsdr_db=scores,
    sir_db=scores,
    onset_f=scores,
    track=texts,
    crosstalk_db=st.none() | st.dictionaries(texts, st.floats(allow_nan=False)),
)
def test_a_line_gives_its_record_back_infinity_and_all(
    tmp_path_factory: pytest.TempPathFactory, **values: object
) -> None:
    folder = ResultsFolder(tmp_path_factory.mktemp("records"))
    record = replace(RECORD, **values)
    folder.add_records([record])
    assert folder.records() == [record]


def test_compressed_lines_come_first_and_the_later_of_two_holds(tmp_path: Path) -> None:
    again, other = replace(RECORD, nsdr_db=2.0), replace(RECORD, stem="snare", sir_db=math.nan)
    with gzip.open(tmp_path / "records.jsonl.gz", "wt") as file:
        file.write(to_line(RECORD) + to_line(other))
    folder = ResultsFolder(tmp_path)
    folder.add_records([again])
    folder.add_systems([SYSTEM])
    assert folder.records() == [again, replace(other, sir_db=None)]
    assert folder.systems() == [SYSTEM]
    folder.publish(folder.records(), folder.systems(), {"split": "test"})
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"records.jsonl.gz", "systems.jsonl", "run.json"}
    folder.publish(reversed(folder.records()), folder.systems(), {"split": "test"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_one_system_and_one_metric_are_scored_again_alone() -> None:
    """What is done is asked per estimate: a metric's new version reaches those that have it."""
    scored = [replace(RECORD, n_stems=1), replace(RECORD, n_stems=1, system="zero")]
    assert len(whole_keys(scored)) == 2
    old = replace(scored[0], metrics={"nsdr": METRIC_VERSIONS["nsdr"] - 1})
    assert whole_keys([old, scored[1]]) == {scored[1].key}
    assert whole_keys([replace(RECORD, n_stems=2)]) == set(), "torn: one of two stems"


def line_of(old: str, new: str) -> bytes:
    line = to_line(RECORD)
    assert old in line
    return line.replace(old, new).encode()


@pytest.mark.parametrize(
    "torn",
    [
        line_of('"n_hits":7', '"n_hits":' + "7" * 5000),
        to_line(RECORD)[:60].encode(),
        line_of("drummer1", "\\ud800"),
        line_of("drummer1", "dr\x00mmer"),
        to_line(RECORD).encode().replace(b"drummer1", b"dr\xffmmer1"),
        b"[" * 100_000,
        b"5",
    ],
    ids=["digits", "cut", "surrogate", "zero byte", "not utf-8", "deep", "number"],
)
def test_a_damaged_line_loses_itself_alone(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "records.jsonl").write_bytes(torn + b"\n" + to_line(RECORD).encode() + torn)
    assert ResultsFolder(tmp_path).records() == [RECORD]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b'{"system": 5}', "system"),
        (b'{"system": "a"}', "revision"),
        (line_of("2.5", '"long"'), "duration_sec"),
        (line_of("2.5", "9" * 4000), "duration_sec"),
        (line_of('"present":true', '"present":1'), "present"),
        (line_of('"n_hits":7', '"n_hits":true'), "n_hits"),
    ],
)
def test_json_of_another_shape_is_one_short_line_that_names_the_way_out(
    tmp_path: Path, line: bytes, named: str
) -> None:
    (tmp_path / "records.jsonl").write_bytes(to_line(RECORD).encode() + line)
    with pytest.raises(UserError, match=rf"records\.jsonl, line 2.*{named}.*remove the line") as e:
        ResultsFolder(tmp_path).records()
    assert len(str(e.value)) < 500


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_archive_is_one_line_that_names_the_way_out(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress((to_line(RECORD) * 500).encode()))
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[20:60] = bytes(255 - byte for byte in data[20:60])
    (tmp_path / "records.jsonl.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be read.*restore the file, or remove it"):
        ResultsFolder(tmp_path).records()


def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gzip.open(tmp_path / "records.jsonl.gz", "wb") as file:
        file.write(bytes(8 << 20))  # one line of zeros
    with pytest.raises(UserError, match="a line of over 1 MiB"):
        ResultsFolder(tmp_path).records()
    monkeypatch.setattr(results_folder, "MAX_BYTES", 1 << 20)
    with gzip.open(tmp_path / "records.jsonl.gz", "wb") as file:
        file.write(b"\n" * (8 << 20))
    with pytest.raises(UserError, match="holds more of over 1 MiB"):
        ResultsFolder(tmp_path).records()


def test_damaged_facts_stop_no_work(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    for text in ("", "{", "[]", "[" * 100_000, "\x00", '{"wall_sec": "long"}'):
        (tmp_path / "run.json").write_text(text)
        folder.add_seconds(1.0, 2)
        assert folder.facts() == {"wall_sec": 1.0, "workers": 2}


def test_the_commit_is_never_that_of_a_repository_around_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "benchmarks" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    assert provenance._of_checkout() == "", "somebody else's: it does not track the package"
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    assert len(provenance._of_checkout()) == 12
    package.write_text("# changed")
    assert provenance._of_checkout().endswith("-dirty")
    monkeypatch.setattr(provenance, "_ROOT", package.parent)
    assert provenance._of_checkout() == "", "the repository is further up"
