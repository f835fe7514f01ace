"""stemgmd_build.performances.grooves and drummer: the built-in performances."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import SPLIT_CHOICES, Collection, Score
from stemgmd_build.performances.drummer import play
from stemgmd_build.performances.grooves import _takes, cached_grooves, groove_files, write_grooves
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, ARTICULATIONS, PIECE_OF_NOTE, PIECES

_PRINT_DIGEST = """
import hashlib
from stemgmd_build.performances.grooves import groove_files
print(hashlib.sha256(repr(sorted(groove_files().items())).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def scores(builtin_collection: Collection) -> dict[str, Score]:
    return {p.id: builtin_collection.read_score(p) for p in builtin_collection.performances}


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_generations_give_the_same_bytes() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_DIGEST],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_there_are_24_performances_and_six_styles_of_beats_and_fills(
    builtin_collection: Collection,
) -> None:
    performances = builtin_collection.performances
    assert len(performances) >= 24
    of_style = {(p.style.split("/")[0], p.beat_type) for p in performances}
    assert len({style for style, _ in of_style}) >= 6
    assert {kind for _, kind in of_style} == {"beat", "fill"}
    assert len(of_style) == 2 * len({style for style, _ in of_style})
    assert {p.time_signature for p in performances} == {"4-4", "6-8"}
    assert len({p.drummer for p in performances}) == 3
    assert builtin_collection.source == "builtin"


def test_durations_suit_a_quick_demo(
    builtin_collection: Collection, scores: dict[str, Score]
) -> None:
    for p in builtin_collection.performances:
        shortest, longest = (8, 35) if p.beat_type == "beat" else (1.5, 4)
        assert shortest < p.duration_sec < longest, p.id
        assert scores[p.id].duration_sec == pytest.approx(p.duration_sec, abs=1e-6)
        assert scores[p.id].n_ignored == 0


@pytest.mark.parametrize("split", SPLIT_CHOICES)
def test_every_split_has_all_nine_pieces(
    builtin_collection: Collection, scores: dict[str, Score], split: str
) -> None:
    played = {
        PIECE_OF_NOTE[hit.note]
        for p in builtin_collection.select(split)
        for hit in scores[p.id].hits
    }
    assert played == set(PIECES)


def test_no_drummer_of_the_test_split_is_in_another(builtin_collection: Collection) -> None:
    drummers = {
        split: {p.drummer for p in builtin_collection.select(split)} for split in ("train", "test")
    }
    assert not drummers["train"] & drummers["test"]


def test_every_articulation_is_played(scores: dict[str, Score]) -> None:
    played = {ARTICULATION_OF_NOTE[hit.note] for score in scores.values() for hit in score.hits}
    assert played == set(ARTICULATIONS)


def test_velocities_spread_as_a_persons_do(scores: dict[str, Score]) -> None:
    hits = [hit for score in scores.values() for hit in score.hits]
    for articulation, least in (("snare", 25), ("kick", 15), ("ride", 12), ("hihat_closed", 10)):
        velocities = [h.velocity for h in hits if ARTICULATION_OF_NOTE[h.note] == articulation]
        assert statistics.stdev(velocities) > least, articulation
    snare = Counter(h.velocity // 32 for h in hits if h.note == 38)
    assert snare[0] > 100 < snare[2] + snare[3]  # ghost notes and backbeats, many of each
    assert len({h.velocity for h in hits}) > 90


def test_time_is_human_but_near_the_click(
    builtin_collection: Collection, scores: dict[str, Score]
) -> None:
    off_ms = []
    for p in builtin_collection.performances:
        if p.style == "rock" and p.beat_type == "beat":
            step_sec = 15 / p.bpm
            for hit in scores[p.id].hits:
                off_ms.append(
                    1000 * ((hit.onset_sec - 0.02 + step_sec / 2) % step_sec - step_sec / 2)
                )
    assert 4 < statistics.pstdev(off_ms) < 20
    assert abs(statistics.fmean(off_ms)) < 10
    assert len({round(ms, 1) for ms in off_ms}) > 100


def test_swing_delays_every_second_sixteenth(
    builtin_collection: Collection, scores: dict[str, Score]
) -> None:
    place = []  # within an eighth, 0 to 1
    for p in builtin_collection.performances:
        if p.style == "hiphop" and p.beat_type == "beat":
            eighth_sec = 30 / p.bpm
            for hit in scores[p.id].hits:
                place.append((hit.onset_sec - 0.02) % eighth_sec / eighth_sec)
    late = [x for x in place if 0.3 < x < 0.8]
    assert len(late) > 50
    assert 0.56 < statistics.fmean(late) < 0.66


def test_the_pedal_follows_the_hihat(scores: dict[str, Score]) -> None:
    positions: dict[str, list[int]] = {"hihat_open": [], "hihat_closed": []}
    for score in scores.values():
        at = {event.time_sec: event.position for event in score.pedal}
        for hit in score.hits:
            if PIECE_OF_NOTE[hit.note] in positions:
                positions[PIECE_OF_NOTE[hit.note]].append(at[hit.onset_sec])
    assert max(positions["hihat_open"]) < 100 < min(positions["hihat_closed"])


def test_flams_and_drags_are_strokes_of_their_own() -> None:
    takes = [take for take in _takes() if take.style == "rock" and take.form[0] == "G<"]
    snare = [s.onset_sec for s in play(takes[0]) if s.articulation == "snare"]
    gaps = [b - a for a, b in pairwise(snare)]
    assert 0.015 < min(gaps) < 0.05


def test_write_grooves_mends_what_was_damaged_and_leaves_the_rest(tmp_path: Path) -> None:
    collection = write_grooves(tmp_path)
    before = _contents(tmp_path)
    assert before == groove_files()
    victim, untouched = (collection.midi_path(p) for p in collection.performances[:2])
    victim.write_bytes(b"MThd")
    stamp = untouched.stat().st_mtime_ns
    assert write_grooves(tmp_path).performances == collection.performances
    assert _contents(tmp_path) == before
    assert untouched.stat().st_mtime_ns == stamp


def test_the_cache_folder_is_named_for_the_content(tmp_path: Path) -> None:
    first, second = cached_grooves(tmp_path), cached_grooves(tmp_path)
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [first.root.name]
    assert first.root.name.startswith("grooves-")


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="STEMGMD_CACHE"):
        write_grooves(tmp_path / "file" / "grooves")
