"""Clips made softer, mono and MP3: what changes, what stays, and their rows in tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed
from small_builds import error_line, stemgmd_here
from small_recordings import make_idmt, make_mdb, put

from benchmarks.report.board import make_boards
from benchmarks.report.results import read_results
from benchmarks.results_folder import ResultsFolder
from benchmarks.run import Task, run_task
from benchmarks.sources import CONDITIONS, KITS, Selection, folder, idmt, load, mdb
from benchmarks.sources.conditions import coded, split_board, under
from stemgmd_build.taxonomy import SAMPLE_RATE


def test_level_and_channels_change_mixture_and_stems_alike_and_a_coder_the_mixture(
    tmp_path: Path,
) -> None:
    put(tmp_path / "a" / "mixture.wav", channels=2)
    put(tmp_path / "a" / "kick.wav", channels=2)
    (track,) = folder.tracks(Selection(data=tmp_path))
    plain = load(track)
    changed = {name: load(under(track, name)) for name in CONDITIONS}
    np.testing.assert_allclose(changed["quiet"].mixture, plain.mixture / 10, rtol=1e-5)
    np.testing.assert_allclose(changed["quiet"].references, plain.references / 10, rtol=1e-5)
    assert changed["mono"].mixture.shape == (1, plain.mixture.shape[1])
    np.testing.assert_allclose(changed["mono"].references[0, 0], plain.references[0].mean(axis=0))
    np.testing.assert_array_equal(changed["mp3"].references, plain.references)
    assert changed["mp3"].mixture.shape == plain.mixture.shape
    assert not np.allclose(changed["mp3"].mixture, plain.mixture, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_coded_signal_stays_in_time(channels: int) -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 220 * time) * np.exp(-20 * ((time * 4) % 1))
    audio = np.tile(0.4 * tone, (channels, 1)).astype(np.float32)
    out = coded(audio)
    error = np.sum((out - audio) ** 2)
    assert 0 < error < 0.05 * np.sum(out**2)
    assert np.sum((np.roll(out, 20, axis=1) - audio) ** 2) > 2 * error


def test_a_changed_track_is_another_on_a_board_of_its_own(tmp_path: Path) -> None:
    tracks = mdb.tracks(Selection(data=make_mdb(tmp_path)))
    everything = [*tracks, *(under(t, name) for name in CONDITIONS for t in tracks)]
    for names in ({t.data for t in everything}, {t.clip for t in everything}):
        assert len(names) == len(everything)
    assert {t.board for t in everything} == {"mdb", "mdb, quiet", "mdb, mono", "mdb, mp3"}
    assert {split_board(t.board)[0] for t in everything} == {"mdb"}
    assert split_board("mdb, mp3") == ("mdb", "mp3")
    assert split_board(KITS) == (KITS, "")
    assert replace(under(tracks[0], "mp3"), clip="", data="", board="", condition="") == replace(
        tracks[0], clip="", data="", board=""
    )


def test_sets_are_scored_and_tabled_from_the_command_line(tmp_path: Path) -> None:
    """Onsets alone (MDB) and stems for some (IDMT), each under a condition too."""
    out = tmp_path / "r"
    make_mdb(tmp_path / "mdb")
    make_idmt(tmp_path / "idmt")
    run = stemgmd_here(
        *("bench", "run", "--source", "mdb", "--data", tmp_path / "mdb", "--out", out),
        *("--systems", "mixture,zero,ideal-ratio", "--conditions", "quiet"),
        *("--workers", 1, "--no-speed", "--audio", 0),
    )
    assert run.returncode == 0, run.stderr
    for track in idmt.tracks(Selection(data=tmp_path / "idmt")):
        systems = ("mixture", "zero", *(["ideal-ratio"] if "references" in track.gives else []))
        for one in (track, under(track, "mp3")):
            outcome = run_task(Task(one, systems, (), out, "cpu"))
            assert not outcome.failures
            ResultsFolder(out).add_records(outcome.records)
    records = ResultsFolder(out).records()
    assert {r.board for r in records} == {"mdb", "mdb, quiet", "idmt", "idmt, mp3"}
    by = {(r.system, r.board, r.track, r.stem): r for r in records}
    for system, share in (("mixture", 1.0), ("zero", 0.0)):
        absent = by[system, "mdb", "MusicDelta_B", "kick"]
        assert not absent.present
        assert absent.n_false_mixture
        assert absent.false_share == share
    toms = by["mixture", "mdb", "MusicDelta_B", "toms"]
    assert toms.onset_f == toms.onset_f_mixture
    assert toms.n_false is None
    assert by["mixture", "idmt", "WaveDrum02_01", "kick"].nsdr_db is not None
    assert by["mixture", "idmt", "RealDrum01_00", "kick"].nsdr_db is None
    assert ("mixture", "idmt", "RealDrum02_01", "snare") not in by, "nothing is known of it"
    report = stemgmd_here("bench", "report", out, "--no-audio")
    assert report.returncode == 0, report.stderr
    text = (out / "report" / "leaderboard.md").read_text("utf-8")
    for words in (
        "onset F on recordings of mdb",
        "the mixture: the line to beat",
        "False onsets by stem on recordings of mdb",
        "Leakage by stem on recordings of idmt",
        "Onset F by stem on recordings of idmt",
        "onset F on recordings of mdb, as they are and changed",
        "at -20 dB",
        "as MP3 of 128 kbit/s",
        "ideal-ratio cannot be run on 2 of the 3 clips",
    ):
        assert words in text, words
    results = read_results([out])
    told = [changed(s, kits_seen=("mdb",) if s.system == "zero" else ()) for s in results.systems]
    views = [board.view for board in make_boards(replace(results, systems=tuple(told)))]
    assert views == ["idmt", "idmt, mp3", "mdb", "mdb, seen", "mdb, quiet", "mdb, quiet, seen"]
    assert "undefined" not in text.partition("## Further")[0], "a loop without stems is no pair"
    assert "no 'loud'" in error_line(
        stemgmd_here("bench", "run", "--source", "mdb", "--data", tmp_path / "mdb",
                     "--conditions", "loud", "--systems", "zero", "--out", out)
    )  # fmt: skip


def test_the_listing_names_licence_and_way_of_every_source() -> None:
    listed = stemgmd_here("bench", "sources")
    assert listed.returncode == 0, listed.stderr
    for word in ("CC BY-NC-ND 4.0", "CC BY-NC-SA 4.0", "bench fetch idmt", "get it: `git clone"):
        assert word in listed.stdout
