"""Any folder as a source: both layouts, whatever is there, and what is said of damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_builds import error_line, stemgmd_here

from benchmarks.results_folder import ResultsFolder
from benchmarks.sources import Selection, Track, folder
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE, STEMS

HITS = {"kick": (0.5, 1.5), "snare": (1.0,), "hihat": (0.75, 1.25, 5.5), "toms": (), "cymbals": ()}


def drums(seconds: float = 6.0) -> dict[str, np.ndarray]:
    """Decaying tones at HITS: stem -> (samples, 2), toms and cymbals silent."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = {"kick": 60.0, "snare": 400.0, "hihat": 6000.0}
    stems = {stem: np.zeros((len(time), 2)) for stem in STEMS}
    for stem, hz in tones.items():
        for onset in HITS[stem]:
            later = time - onset
            tone = np.sin(2 * np.pi * hz * later) * np.exp(-30 * later) * (later >= 0)
            stems[stem] += 0.3 * tone[:, None]
    return stems


def put(path: Path, audio: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, "PCM_24")


def annotate(path: Path, separator: str = ",", heading: str = "") -> None:
    rows = sorted((t, stem) for stem, times in HITS.items() for t in times)
    text = heading + "".join(f"{t}{separator}{stem}\n" for t, stem in rows)
    path.write_text(text, "utf-8")


def tracks(root: Path, limit: int | None = None) -> list[Track]:
    return folder.tracks(Selection(data=root, limit=limit))


def test_both_layouts_are_found_with_whatever_lies_beside_the_mixture(tmp_path: Path) -> None:
    stems = drums()
    mixture = sum(stems.values())
    put(tmp_path / "whole" / "Mix.wav", mixture)
    for name in ("KD", "snare", "toms", "hh"):
        put(tmp_path / "whole" / f"{name}.wav", stems["kick" if name == "KD" else "snare"])
    put(tmp_path / "whole" / "ride.wav", stems["hihat"])
    put(tmp_path / "whole" / "crash.flac", stems["hihat"])
    put(tmp_path / "flat.wav", mixture)
    put(tmp_path / "flat_kick.wav", stems["kick"])
    put(tmp_path / "rock_beat.wav", mixture)  # an underscore alone makes no stem
    annotate(tmp_path / "rock_beat.tsv", "\t", "onset\tlabel\n")
    put(tmp_path / "nothing_known.wav", mixture)
    (tmp_path / "readme.txt").write_text("not an annotation")
    found = {track.id: track for track in tracks(tmp_path)}
    assert list(found) == ["flat", "rock_beat", "whole"]
    assert "references" in found["whole"].gives
    assert "references" not in found["flat"].gives
    whole = folder.load(found["whole"])
    np.testing.assert_allclose(whole.references[4], 2 * stems["hihat"].T, atol=1e-6)
    assert whole.held == set(STEMS)
    flat = folder.load(found["flat"])
    assert flat.held == {"kick"}
    assert [flat.present(stem) for stem in STEMS] == [True, None, None, None, None]
    annotated = folder.load(found["rock_beat"])
    assert annotated.onsets == HITS
    assert [annotated.present(stem) for stem in STEMS] == [True, True, False, True, False]
    assert [track.id for track in tracks(tmp_path, limit=1)] == ["flat"]


def test_other_rates_and_mono_are_brought_to_the_mixture(tmp_path: Path) -> None:
    stems = drums()
    mono = sum(stems.values()).mean(axis=1)
    put(tmp_path / "a" / "mixture.wav", mono, 48000)
    put(tmp_path / "a" / "kick.wav", np.stack([mono, mono], axis=1), 48000)
    loaded = folder.load(tracks(tmp_path)[0])
    assert loaded.mixture.shape == (1, round(len(mono) * SAMPLE_RATE / 48000))
    np.testing.assert_allclose(loaded.references[0], loaded.mixture, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"0.5,kick\n1.0,theremin\n", "line 2: no drum is called 'theremin'"),
        (b"0.5,kick\nsoon,snare\n", "line 2: needs a time"),
        (b"0.5,kick\n1e300,snare\n", "line 2: .* no time"),
        (b"0.5,kick\n99,snare\n", "a hit at 99.000 s"),
        (b"0.5,k\xffck\n", "is not UTF-8"),
    ],
)
def test_a_damaged_annotation_is_one_short_line(tmp_path: Path, text: bytes, says: str) -> None:
    put(tmp_path / "a.wav", sum(drums().values()))
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(UserError, match=says) as caught:
        folder.load(tracks(tmp_path)[0])
    assert "a.csv" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_annotated_folder_is_scored_by_its_onsets_from_the_command_line(tmp_path: Path) -> None:
    """Two recordings: of one the kick's stem is there, of the other onsets alone."""
    stems = drums()
    for name in ("one", "two"):
        put(tmp_path / "d" / f"{name}.wav", sum(stems.values()))
        annotate(tmp_path / "d" / f"{name}.csv")
    put(tmp_path / "d" / "one_kick.wav", stems["kick"])
    for stem, audio in stems.items():  # perfect estimates
        for name in ("one", "two"):
            put(tmp_path / "e" / stem / f"{name}.wav", audio)
    where = ["--source", "folder", "--data", tmp_path / "d", "--workers", 1, "--audio", 0]
    out = tmp_path / "r"
    perfect = stemgmd_here(
        *("bench", "score", *where, "--estimates", tmp_path / "e", "--name", "perfect"),
        *("--out", out),
    )
    assert perfect.returncode == 0, perfect.stderr
    run = stemgmd_here(
        *("bench", "run", *where, "--systems", "mixture,ideal-ratio", "--no-speed", "--out", out)
    )
    assert run.returncode == 0, run.stderr
    records = {(r.system, r.track, r.stem): r for r in ResultsFolder(out).records()}
    assert {key[0] for key in records} == {"perfect", "mixture"}, "no bound without true stems"
    kick, alone = records["perfect", "one", "kick"], records["perfect", "two", "kick"]
    assert kick.nsdr_db is not None
    assert kick.nsdr_db > 30
    assert alone.nsdr_db is alone.sdr_db is alone.onset_f_true is None
    assert kick.onset_f == alone.onset_f == 1.0
    assert alone.onset_f_mixture == pytest.approx(1 / 2)  # two of six detections, both found
    assert records["perfect", "two", "toms"].leakage_db == -np.inf
    assert records["mixture", "two", "toms"].leakage_db == pytest.approx(0)
    assert records["mixture", "two", "kick"].idle_db == pytest.approx(0)
    report = stemgmd_here("bench", "report", out, "--no-audio")
    assert report.returncode == 0, report.stderr
    assert "pooled nSDR on recordings of folder (2 clips)" in report.stdout
    (tmp_path / "empty").mkdir()
    assert "holds no recording" in error_line(
        stemgmd_here("bench", "run", "--source", "folder", "--data", tmp_path / "empty",
                     "--systems", "zero", "--out", out)
    )  # fmt: skip
