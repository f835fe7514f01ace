"""Records: what is written is what is read, whatever befell the file in between."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.records import StemRecord, SystemRecord, latest, read_records, to_line
from stemgmd_build.errors import UserError

RECORD = StemRecord(
    "nmfd", "1", "drummer1/eval_session/1", "colombo", "test", "d", "1", "kick", True, 2.5, 7
)
SYSTEM = SystemRecord("nmfd", "1", "NMFD", ("mixture",), "x", ("bja-pacific",), 5, "MIT", "s")

scores = st.none() | st.floats(allow_nan=False)


@given(nsdr_db=scores, sdr_db=scores, sir_db=scores, onset_f=scores, track=st.text())
def test_a_line_gives_its_record_back_infinity_and_all(
    tmp_path_factory: pytest.TempPathFactory, **values: object
) -> None:
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    record = replace(RECORD, **values)  # type: ignore[arg-type]
    path.write_text(to_line(record), "utf-8")
    assert read_records(path, StemRecord) == [record]


def test_nan_is_written_as_not_defined(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(to_line(replace(RECORD, sir_db=math.nan)))
    assert read_records(tmp_path / "r", StemRecord) == [RECORD]


def test_systems_and_compressed_files_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "s.jsonl.gz", "wt") as file:
        file.write(to_line(SYSTEM))
    assert read_records(tmp_path / "s.jsonl.gz", SystemRecord) == [SYSTEM]
    assert read_records(tmp_path / "no-such-file", SystemRecord) == []


def test_a_torn_line_loses_itself_alone(tmp_path: Path) -> None:
    whole = to_line(RECORD)
    (tmp_path / "r").write_text(whole[: len(whole) // 2] + "\n" + whole + whole[:30])
    assert read_records(tmp_path / "r", StemRecord) == [RECORD]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"system": 5}', "system"),
        ('{"system": "a"}', "no StemRecord"),
        (to_line(RECORD).replace("2.5", '"long"'), "duration_sec"),
        (to_line(RECORD).replace("true", "1"), "present"),
        (to_line(RECORD).replace('"n_hits": 7', '"n_hits": true'), "n_hits"),
    ],
)
def test_json_of_another_shape_is_one_line_that_names_the_place(
    tmp_path: Path, line: str, named: str
) -> None:
    (tmp_path / "r.jsonl").write_text(to_line(RECORD) + line)
    with pytest.raises(UserError, match=rf"r\.jsonl, line 2.*{named}"):
        read_records(tmp_path / "r.jsonl", StemRecord)


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    data = gzip.compress(to_line(RECORD).encode() * 50)
    (tmp_path / "r.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read_records(tmp_path / "r.gz", StemRecord)


def test_an_archive_with_damaged_bytes_inside_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    data = bytearray(gzip.compress((to_line(RECORD) * 500).encode()))
    data[20:60] = bytes(255 - byte for byte in data[20:60])
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot be read"):
        read_records(path, StemRecord)


def test_of_two_records_with_one_key_the_later_holds() -> None:
    again, other = replace(RECORD, nsdr_db=2.0), replace(RECORD, stem="snare")
    assert latest([RECORD, other, again]) == [again, other]
