"""stemgmd_build.performances.collection and midi: what is read, and what is refused."""

from __future__ import annotations

import csv
import io
import os
import struct
import time
from collections import Counter
from pathlib import Path

import mido
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import (
    COLUMNS,
    SPLIT_CHOICES,
    Collection,
    Hit,
    PedalEvent,
    Score,
    official_checksums,
    read_collection,
    read_score,
)
from stemgmd_build.performances.midi import LARGEST_MIDI_BYTES, LONGEST_SEC
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, STEM_OF_NOTE, STEMS

# reference.md, section 1: hits in GMD by note.
HITS_OF_NOTE = {
    36: 88127, 38: 103295, 40: 22277, 37: 9697, 48: 13167, 50: 1566, 45: 3951, 47: 1327,
    43: 11276, 58: 1003, 42: 31724, 22: 34857, 44: 52345, 46: 3906, 26: 10246, 49: 720,
    57: 1832, 55: 2279, 52: 1046, 51: 43884, 59: 2220, 53: 5567,
}  # fmt: skip

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROW = {
    "drummer": "drummer1",
    "session": "drummer1/session1",
    "id": "drummer1/session1/1",
    "style": "funk/groove1",
    "bpm": "138",
    "beat_type": "beat",
    "time_signature": "4-4",
    "midi_filename": "drummer1/session1/1_funk_138_beat_4-4.mid",
    "audio_filename": "drummer1/session1/1_funk_138_beat_4-4.wav",
    "duration": "27.872308",
    "split": "train",
}


def _index(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _read_index(folder: Path, data: bytes) -> Collection:
    (folder / "info.csv").write_bytes(data)
    return read_collection(folder)


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">L", len(data)) + data


def _midi(*tracks: bytes, kind: int = 0, division: int = 480) -> bytes:
    header = struct.pack(">hhh", kind, len(tracks), division)
    return _chunk(b"MThd", header) + b"".join(_chunk(b"MTrk", track) for track in tracks)


def _score(folder: Path, data: bytes) -> Score:
    path = folder / "a.mid"
    path.write_bytes(data)
    return read_score(path)


END = b"\x00\xff\x2f\x00"
KICK = b"\x00\x99\x24\x50"  # at once, channel 10, note 36, velocity 80


# ---------------------------------------------------------------- the real dataset


@pytest.fixture(scope="module")
def gmd(gmd_root: Path | None) -> Collection:
    if gmd_root is None:
        pytest.skip("the real Groove MIDI Dataset is not at hand (STEMGMD_GMD)")
    return read_collection(gmd_root)


@pytest.fixture(scope="module")
def gmd_scores(gmd: Collection) -> dict[str, Score]:
    return {p.id: gmd.read_score(p) for p in gmd.performances}


def test_gmd_has_the_published_rows_and_splits(gmd: Collection) -> None:
    assert gmd.source == "gmd"
    assert "CC BY 4.0" in gmd.licence
    splits = Counter(p.split for p in gmd.performances)
    assert splits == {"train": 897, "validation": 124, "test": 129}
    assert len(gmd.select("eval_session")) == 40
    assert set(gmd.select("eval_session")) <= set(gmd.select("test"))
    assert {p.midi_filename for p in gmd.performances} == set(official_checksums())


def test_gmd_has_the_published_hits_of_every_note(gmd_scores: dict[str, Score]) -> None:
    hits = Counter(hit.note for score in gmd_scores.values() for hit in score.hits)
    assert hits == HITS_OF_NOTE
    assert hits.total() == 446_312
    assert sum(len(score.pedal) for score in gmd_scores.values()) == 508_117
    assert sum(score.n_ignored for score in gmd_scores.values()) == 0


def test_stems_are_present_in_the_eval_session_as_in_the_paper(
    gmd: Collection, gmd_scores: dict[str, Score]
) -> None:
    present = Counter(
        stem
        for p in gmd.select("eval_session")
        for stem in {STEM_OF_NOTE[hit.note] for hit in gmd_scores[p.id].hits}
    )
    assert [present[stem] for stem in STEMS] == [40, 40, 4, 39, 5]


def _has_two_tempos(path: Path) -> bool:
    return path.read_bytes().count(b"\xff\x51\x03") == 2


def test_the_two_gmd_files_with_two_tempos_agree_with_pretty_midi(gmd: Collection) -> None:
    found = [p for p in gmd.performances if _has_two_tempos(gmd.midi_path(p))]
    assert len(found) == 2
    for performance in found:
        _assert_as_pretty_midi(gmd.midi_path(performance))


# ---------------------------------------------------------------- MIDI


def _assert_as_pretty_midi(path: Path) -> None:
    """The same hits and pedal, but for the notes of no length, which pretty_midi drops."""
    (drums,) = pretty_midi.PrettyMIDI(str(path)).instruments
    assert drums.is_drum
    score = read_score(path)
    notes = sorted((n.pitch, n.velocity, n.start) for n in drums.notes)
    ours = sorted((h.note, h.velocity, h.onset_sec) for h in score.hits)
    n_dropped = 0
    for hit in ours:
        theirs = notes[0] if notes else (0, 0, 0.0)
        if theirs[:2] == hit[:2] and theirs[2] == pytest.approx(hit[2], abs=1e-9):
            notes.pop(0)
        else:
            n_dropped += 1
    assert not notes
    assert n_dropped == _n_notes_of_no_length(path)
    pedal = [(c.time, c.value) for c in drums.control_changes if c.number == 4]
    assert [value for _, value in pedal] == [event.position for event in score.pedal]
    assert [t for t, _ in pedal] == pytest.approx([e.time_sec for e in score.pedal], abs=1e-9)


def _n_notes_of_no_length(path: Path) -> int:
    """Notes whose only note-off comes at the very tick of their note-on."""
    struck: dict[int, list[int]] = {}  # note -> ticks of its open note-ons
    tick = count = 0
    for message in mido.merge_tracks(mido.MidiFile(path).tracks):
        tick += message.time
        if message.type == "note_on" and message.velocity:
            struck.setdefault(message.note, []).append(tick)
        elif message.type in ("note_on", "note_off"):
            open_ticks = struck.pop(message.note, [])
            fresh = [t for t in open_ticks if t == tick]
            if len(fresh) < len(open_ticks):
                struck[message.note] = fresh  # the note-off belongs to an earlier note-on
            else:
                count += len(fresh)
    return count + sum(map(len, struck.values()))


def test_hits_and_pedal_agree_with_pretty_midi(collection: Collection) -> None:
    for performance in collection.select("eval_session", 6) + collection.select("train", 20):
        _assert_as_pretty_midi(collection.midi_path(performance))


@settings(parent=FUZZ, max_examples=40)
@given(
    tempos=st.lists(st.tuples(st.integers(1, 900), st.integers(100_000, 2_000_000)), max_size=6),
    gaps=st.lists(st.integers(0, 700), min_size=1, max_size=20),
    ticks_per_beat=st.sampled_from([96, 480, 960]),
)
def test_any_tempo_map_agrees_with_pretty_midi(
    tmp_path: Path, tempos: list[tuple[int, int]], gaps: list[int], ticks_per_beat: int
) -> None:
    conductor = mido.MidiTrack(
        mido.MetaMessage("set_tempo", tempo=tempo, time=gap) for gap, tempo in tempos
    )
    drums = mido.MidiTrack()
    for i, gap in enumerate(gaps):
        note = mido.Message("note_on", channel=9, note=36 + 2 * (i % 2), velocity=1 + i, time=gap)
        drums += [note, note.copy(velocity=0, time=1)]
    path = tmp_path / "a.mid"
    mido.MidiFile(type=1, ticks_per_beat=ticks_per_beat, tracks=[conductor, drums]).save(path)
    _assert_as_pretty_midi(path)


def test_a_tempo_change_moves_what_follows(tmp_path: Path) -> None:
    tempo = b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big")
    beat = b"\x83\x60"  # 480 ticks
    score = _score(tmp_path, _midi(KICK + beat + tempo + beat + KICK[1:] + END))
    assert [hit.onset_sec for hit in score.hits] == [0.0, 1.5]


@pytest.mark.parametrize("tempos", [[2.0, 1.0], [1.0, 2.0], [1.7] * 9 + [0.25]])
def test_of_several_tempos_at_one_tick_the_last_counts(tmp_path: Path, tempos: list[float]) -> None:
    text = b"".join(b"\x00\xff\x51\x03" + round(t * 1e6).to_bytes(3, "big") for t in tempos)
    beat = b"\x83\x60"  # 480 ticks
    score = _score(tmp_path, _midi(text + KICK + beat + KICK[1:] + END))
    assert score.hits[1].onset_sec == tempos[-1]


DAMAGED = {
    "key of 99 sharps": b"\x00\xff\x59\x02\x63\x00",
    "tempo of two bytes": b"\x00\xff\x51\x02\x01\x00",
    "time signature of nothing": b"\x00\xff\x58\x00",
    "sysex with bytes above 127": b"\x00\xf0\x03\x7e\xff\xf7",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_outside_of_the_notes_is_told_and_left_out(tmp_path: Path, case: str) -> None:
    beat = b"\x83\x60"
    for track in (DAMAGED[case] + KICK, KICK + DAMAGED[case]):
        score = _score(tmp_path, _midi(track + beat + KICK[1:] + END))
        assert [hit.onset_sec for hit in score.hits] == [0.0, 0.5]
        assert "damaged outside of its notes" in score.damage
    assert not _score(tmp_path, _midi(KICK + END)).damage


def test_a_map_names_other_notes_and_channels(tmp_path: Path) -> None:
    (tmp_path / "info.csv").touch()
    track = KICK + b"\x00\x23\x40" + b"\x00\x90\x29\x41" + b"\x00\x99\x38\x42" + END
    text = 'channels = [1, 10]\n[notes]\n35 = "kick"\n41 = "low_tom"\n56 = "none"\n'
    (tmp_path / "notes.toml").write_text(text)
    score = _score(tmp_path, _midi(track))
    assert [(hit.note, hit.velocity) for hit in score.hits] == [(36, 80), (36, 64), (43, 65)]
    assert score.ignored == ()
    (tmp_path / "d1" / "s1").mkdir(parents=True)
    assert _score(tmp_path / "d1" / "s1", _midi(track)) == score  # in folders below it too


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[notes]\n35 = "cowbell"', "no articulation 'cowbell'; there are kick"),
        ('[notes]\n128 = "kick"', "'128' is no MIDI note"),
        ("[notes]\n35 = 36", r"notes.*: Expected str, got int"),
        ("channels = [0]", r"channels\[.*\]: Expected int >= 1"),
        ("channels = " + "9" * 4000, "channels: Expected array"),
        ("drums = 3", "unknown field drums"),
        ("notes = ", "not valid TOML"),
    ],
)
def test_a_faulty_map_of_notes_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "notes.toml").write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        _score(tmp_path, _midi(KICK + END))
    assert f"{tmp_path / 'notes.toml'}" in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_running_status_and_velocity_nought_are_understood(tmp_path: Path) -> None:
    score = _score(tmp_path, _midi(KICK + b"\x78\x24\x00" + b"\x78\x26\x7f" + END))
    assert score.hits == (Hit(0.0, 36, 80), Hit(0.25, 38, 127))
    assert score.n_ignored == 0


def test_hits_are_sorted_by_onset_and_note(tmp_path: Path) -> None:
    second = b"\x00\x99\x35\x10\x00\x16\x11" + END
    score = _score(tmp_path, _midi(b"\x00\x99\x26\x50\x00\x24\x51" + END, second, kind=1))
    assert [hit.note for hit in score.hits] == [22, 36, 38, 53]


def test_unknown_notes_and_other_channels_are_counted_not_played(tmp_path: Path) -> None:
    score = _score(tmp_path, _midi(KICK + b"\x00\x23\x40" + b"\x00\x90\x24\x40" + END))
    assert score.hits == (Hit(0.0, 36, 80),)
    assert score.ignored == ((1, 36, 1), (10, 35, 1))
    assert score.n_ignored == 2


def test_only_controller_4_of_the_drum_channel_is_the_pedal(tmp_path: Path) -> None:
    events = b"\x00\xb9\x04\x5a" + b"\x00\x10\x20" + b"\x00\xb0\x04\x11" + b"\x78\xb9\x04\x00"
    score = _score(tmp_path, _midi(events + END))
    assert score.pedal == (PedalEvent(0.0, 90), PedalEvent(0.125, 0))


def test_a_file_without_hits_is_an_empty_score(tmp_path: Path) -> None:
    assert _score(tmp_path, _midi(b"\x83\x60\xff\x2f\x00")) == Score((), (), 0.5)


HOSTILE = {
    "empty": b"",
    "no MIDI": b"RIFF" + bytes(100),
    "header only": _midi(),
    "header cut": _midi(KICK + END)[:9],
    "track cut": _midi(KICK * 10 + END)[:40],
    "announces tracks that do not come": _midi(KICK + END).replace(
        b"\x00\x00\x00\x01", b"\x00\x00\x7f\xff", 1
    ),
    "negative number of tracks": _chunk(b"MThd", struct.pack(">hhh", 0, -1, 480)),
    "header of 4 GB": b"MThd\xff\xff\xff\xff" + bytes(20),
    "track of 4 GB": _midi(KICK + END).replace(b"MTrk\x00\x00\x00", b"MTrk\xff\xff\xff"),
    "text of 256 MB": _midi(b"\x00\xff\x01\xff\xff\xff\x7f" + END),
    "sysex of 256 MB": _midi(b"\x00\xf0\xff\xff\xff\x7f" + END),
    "number without end": _midi(b"\xff" * 900_000),
    "numbers nearly without end": _midi((b"\xff" * 1000 + b"\x7f\x99\x24\x50") * 900 + END),
    "type 2": _midi(KICK + END, kind=2),
    "type 7": _midi(KICK + END, kind=7),
    "SMPTE frames": _midi(KICK + END, division=-0x1928),
    "no ticks": _midi(KICK + END, division=0),
    "tempo 0": _midi(b"\x00\xff\x51\x03\x00\x00\x00" + KICK + END),
    "data byte above 127": _midi(b"\x00\x99\x24\xff" + END),
    "running status of nothing": _midi(b"\x00\x24\x50" + END),
    "undefined status": _midi(b"\x00\xf4\x24" + END),
    "lasts longer than ten hours": _midi(b"\xff\xff\xff\x7f" + KICK[1:] + END, division=1),
    "too large": _midi(KICK * (LARGEST_MIDI_BYTES // 4)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_midi_is_one_clear_line_that_names_the_file(case: str, tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"a\.mid: ") as caught:
        _score(tmp_path, HOSTILE[case])
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300 + len(str(tmp_path))
    assert time.perf_counter() - start < 20


def test_a_missing_file_a_folder_and_a_pipe_are_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mid")
    (tmp_path / "folder.mid").mkdir()
    for name in ("none.mid", "folder.mid", "pipe.mid"):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read_score(tmp_path / name)


def _assert_valid(score: Score) -> None:
    onsets = [(hit.onset_sec, hit.note) for hit in score.hits]
    assert onsets == sorted(onsets)
    assert all(0 <= onset <= score.duration_sec <= LONGEST_SEC for onset, _ in onsets)
    assert all(hit.note in ARTICULATION_OF_NOTE for hit in score.hits)
    assert all(1 <= hit.velocity <= 127 for hit in score.hits)
    assert all(0 <= event.time_sec <= score.duration_sec for event in score.pedal)
    assert all(0 <= event.position <= 127 for event in score.pedal)


_MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "cut"]),
        st.integers(0, 1 << 16),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from([b"\xff\x51\x03", b"\xff\xff\xff\x7f", b"\xf0", b"\xff\x59\x02"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


def _mutated(data: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, new in mutations:
        i = where % (len(data) + 1)
        end = {"set": i + len(new), "insert": i, "delete": i + len(new), "cut": len(data)}[kind]
        data = data[:i] + (new if kind in ("set", "insert") else b"") + data[end:]
    return data


@settings(parent=FUZZ, max_examples=400)
@given(which=st.integers(0, 11), mutations=_MUTATIONS)
def test_mutated_midi_gives_a_valid_score_or_a_user_error(
    collection: Collection, tmp_path: Path, which: int, mutations: list[tuple[str, int, bytes]]
) -> None:
    performances = [p for p in collection.performances if p.beat_type == "fill"]
    data = collection.midi_path(performances[which % len(performances)]).read_bytes()
    try:
        score = _score(tmp_path, _mutated(data, mutations))
    except UserError as error:
        message = str(error)
    else:
        _assert_valid(score)
        return
    assert "a.mid" in message
    assert message.isprintable()


# ---------------------------------------------------------------- info.csv


def test_a_row_is_read_as_it_stands(tmp_path: Path) -> None:
    collection = _read_index(tmp_path, _index(ROW))
    (performance,) = collection.performances
    assert performance.drummer == "drummer1"
    assert performance.session == "session1"
    assert performance.id == "drummer1/session1/1"
    assert performance.name == "1_funk_138_beat_4-4"
    assert (performance.bpm, performance.duration_sec) == (138, 27.872308)
    assert collection.midi_path(performance) == tmp_path / ROW["midi_filename"]
    assert collection.source == "own"


def _with_backslashes(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    names = ("session", "id", "midi_filename", "audio_filename")
    return [row | {name: row[name].replace("/", "\\") for name in names} for row in rows]


def _with_slashed_signature(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row | {"time_signature": row["time_signature"].replace("-", "/")} for row in rows]


@pytest.mark.parametrize("respell", [_with_backslashes, _with_slashed_signature])
def test_every_spelling_of_an_index_reads_the_same(
    collection: Collection, tmp_path: Path, respell: object
) -> None:
    assert callable(respell)
    with (collection.root / "info.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    respelt = respell(rows)
    assert respelt != rows
    copy = _read_index(tmp_path, _index(*respelt))
    assert copy.performances == collection.performances
    assert copy.source == collection.source


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data + b"\n\n",
        lambda data: data.rstrip(b"\n"),
        lambda data: data.replace(b"split", b"split,kit_name").replace(b"train", b"train,Acoustic"),
        lambda data: data.replace(b"drummer1/session1,", b"session1,", 1),
    ],
    ids=["BOM", "CRLF", "blank lines", "no last newline", "more columns", "bare session"],
)
def test_harmless_differences_of_an_index_are_let_pass(tmp_path: Path, change: object) -> None:
    assert callable(change)
    plain = _read_index(tmp_path, _index(ROW)).performances
    assert _read_index(tmp_path, change(_index(ROW))).performances == plain


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    plain = _read_index(tmp_path, _index(ROW)).performances
    assert _read_index(tmp_path, _index(ROW, columns=COLUMNS[::-1])).performances == plain


BAD_FIELDS = [
    ("bpm", "fast"), ("bpm", "0"), ("bpm", "-3"), ("bpm", "1e9"), ("bpm", "٣"), ("bpm", ""),
    ("duration", "nan"), ("duration", "inf"), ("duration", "-1"), ("duration", "0"),
    ("duration", "36001"), ("duration", ""), ("duration", "long"),
    ("split", "Train"), ("split", ""), ("split", "eval_session"),
    ("time_signature", "4"), ("time_signature", "4-4-4"), ("time_signature", "four"),
    ("style", ""), ("style", "a\x1b[31mb"), ("style", "x" * 201), ("beat_type", ""),
    ("drummer", ""), ("drummer", ".."), ("drummer", "a/b"), ("drummer", ".hidden"),
    ("drummer", "d r"), ("drummer", "x" * 121),
    ("session", "drummer1/.."), ("session", "drummer2/session1"), ("session", ""),
    ("id", ""), ("id", "../1"), ("id", "a//b"), ("id", "/a"),
    ("midi_filename", ""), ("midi_filename", "/etc/passwd.mid"), ("midi_filename", "../a.mid"),
    ("midi_filename", "a/../../b.mid"), ("midi_filename", "..\\..\\a.mid"),
    ("midi_filename", "C:\\a.mid"), ("midi_filename", "C:a.mid"), ("midi_filename", "\\\\h\\a.mid"),
    ("midi_filename", "a/.mid"), ("midi_filename", "./a.mid"), ("midi_filename", "a/b.wav"),
    ("midi_filename", "~/a.mid"), ("midi_filename", "a\nb.mid"), ("midi_filename", "é.mid"),
    ("midi_filename", "a.mid"), ("midi_filename", "a.midi"),
    ("audio_filename", "/a.wav"), ("audio_filename", "../a.wav"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), BAD_FIELDS)
def test_a_bad_field_is_named_with_file_and_line(column: str, value: str, tmp_path: Path) -> None:
    fine = ROW | {"id": "x", "midi_filename": "x/x.mid"}
    with pytest.raises(UserError, match=rf"info\.csv:\d+: {column} ") as caught:
        _read_index(tmp_path, _index(fine, ROW | {column: value}))
    line = 4 if "\n" in value else 3
    assert f"info.csv:{line}: " in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "lists no performance"),
        (_index(), "lists no performance"),
        (b"\n\n", "lists no performance"),
        (_index(ROW).replace(b"bpm", b"tempo"), r":1: needs one column each of bpm"),
        (b"PK\x03\x04 not a table", r":1: needs one column each of drummer"),
        (_index(ROW).replace(b"style", b"bpm"), r":1: needs one column each of style, bpm"),
        (_index(ROW) + b"drummer1,short\n", r":3: has 2 fields, the header has 11"),
        (_index(ROW) + b"\0\n", r":3: holds a NUL byte"),
        (_index(ROW) + b"\xff\xfe\n", r":3: is not UTF-8"),
        (_index(ROW).decode().encode("utf-16"), r":1: (is not UTF-8|holds a NUL)"),
        (_index(ROW) + b'"open quote\n', r":3: is not CSV"),
        (_index(ROW) + b"x" * 200_000, r":3: is not CSV"),
        (_index(ROW, ROW), r":3: id drummer1/session1/1 stands in line 2 already"),
        (_index(ROW, ROW | {"id": "DRUMMER1/session1/1"}), r":3: id .* stands in line 2"),
        (_index(ROW, ROW | {"id": "x"}), r":3: track .* stands in line 2"),
        (
            _index(ROW, ROW | {"id": "x", "midi_filename": "y/1_FUNK_138_beat_4-4.mid"}),
            r":3: track .* stands in line 2",
        ),
        (
            _index(
                ROW | {"midi_filename": "x/a.mid"},
                ROW
                | {"id": "x", "drummer": "drummer2", "session": "session1"}
                | {"midi_filename": "X/a.midi"},
            ),
            r":3: midi_filename X/a stands in line 2 already",
        ),
        (_index(ROW) + b"\n" * (1 << 24), "is larger than"),
    ],
)
def test_a_bad_index_is_named_with_file_and_line(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"info\.csv.*{message}") as caught:
        _read_index(tmp_path, data)
    assert str(caught.value).isprintable()


def test_a_folder_without_an_index_and_no_folder_are_named(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"info\.csv: cannot be read"):
            read_collection(root)


def test_a_listed_file_that_is_missing_is_named_when_it_is_read(tmp_path: Path) -> None:
    collection = _read_index(tmp_path, _index(ROW))
    with pytest.raises(UserError, match=r"1_funk_138_beat_4-4\.mid: cannot be read"):
        collection.read_score(collection.performances[0])


@settings(parent=FUZZ, max_examples=300)
@given(
    mutations=_MUTATIONS,
    texts=st.lists(st.tuples(st.sampled_from(COLUMNS), st.text(max_size=12)), max_size=3),
)
def test_a_mutated_index_gives_safe_names_or_a_user_error(
    tmp_path: Path, mutations: list[tuple[str, int, bytes]], texts: list[tuple[str, str]]
) -> None:
    row = ROW | {k: v.encode("utf-8", "replace").decode() for k, v in texts}
    try:
        collection = _read_index(tmp_path, _mutated(_index(ROW | {"id": "x"}, row), mutations))
    except UserError as error:
        message = str(error)
        collection = None
    if collection is None:
        assert "info.csv" in message
        assert message.isprintable()
        return
    for p in collection.performances:
        assert collection.midi_path(p).resolve().is_relative_to(tmp_path.resolve())
        for name in (p.drummer, p.session, p.name, *p.id.split("/")):
            assert name.isascii()
            assert not set(name) & set("/\\: ")
            assert not name.startswith(".")


# ---------------------------------------------------------------- choosing


def _many(folder: Path) -> Collection:
    rows = []
    for i in (10, 9, 2, 1):
        for session, split in (("eval_session", "test"), ("session2", "train")):
            name = f"drummer1/{session}/{i}"
            rows.append(
                ROW
                | {"id": name, "session": f"drummer1/{session}", "split": split}
                | {"midi_filename": f"{name}_x.mid"}
            )
    return _read_index(folder, _index(*rows))


def test_performances_stand_in_natural_order(tmp_path: Path) -> None:
    names = [p.id for p in _many(tmp_path).performances]
    assert names[:4] == [f"drummer1/eval_session/{i}" for i in (1, 2, 9, 10)]
    assert names[4:] == [f"drummer1/session2/{i}" for i in (1, 2, 9, 10)]


def test_select_takes_splits_sessions_lists_and_limits(tmp_path: Path) -> None:
    many = _many(tmp_path)
    assert many.select("all") == many.performances == many.select(["train", "test"])
    assert many.select("eval_session") == many.select("test") == many.performances[:4]
    assert many.select("train", 2) == many.performances[4:6]
    assert many.select("train", 0) == () == many.select("validation")
    assert many.select(["eval_session", "test"], 99) == many.performances[:4]


def test_select_refuses_what_is_no_split(tmp_path: Path) -> None:
    many = _many(tmp_path)
    for split in ("session2", "", "ALL", ["train", "dev"]):
        with pytest.raises(UserError, match="no split .*" + ", ".join(SPLIT_CHOICES)):
            many.select(split)
    with pytest.raises(UserError, match="-1"):
        many.select("all", -1)
