"""Published sets of recordings, made small in just their layouts, with what is odd about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import shortest, write_index
from small_recordings import make_enst, make_idmt, make_mdb, put, svl, write, xml

from benchmarks.sources import Selection, Track, enst, idmt, load, mdb, onsets, source, stemgmd
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection, read_score
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE, STEMS


def tracks(name: str, root: Path, *split: str, limit: int | None = None) -> dict[str, Track]:
    chosen = Selection(data=root, split=split or None, limit=limit)
    return {track.id: track for track in source(name).tracks(chosen)}


def test_idmt_has_stems_onsets_or_both_and_never_toms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tracks("idmt", make_idmt(tmp_path))
    assert list(found) == ["RealDrum01_00", "RealDrum02_01", "WaveDrum02_01"]
    assert "TechnoDrum01_00" in capsys.readouterr().err, "what is left out is told"
    whole = load(found["WaveDrum02_01"])
    assert whole.whole
    assert whole.mixture.shape == (1, round(1.5 * SAMPLE_RATE))
    assert [whole.present(stem) for stem in STEMS] == [True, True, False, False, False]
    assert whole.onsets["kick"] == (0.0, 1.0), "an annotation before the beginning is at it"
    assert found["WaveDrum02_01"].gives == {"mixture", "references"}
    merely = load(found["RealDrum01_00"])
    assert not merely.held
    assert found["RealDrum01_00"].gives == {"mixture"}
    layers = onsets(found["RealDrum02_01"])
    assert layers == {"kick": (0.0, 0.1), "hihat": (0.05,), "toms": (), "cymbals": ()}
    assert load(found["RealDrum02_01"]).present("snare") is None, "no file, nothing known"
    assert list(tracks("idmt", tmp_path, "WaveDrum")) == ["WaveDrum02_01"]
    assert list(tracks("idmt", tmp_path / "IDMT-SMT-DRUMS-V2", limit=1)) == ["RealDrum01_00"]


def test_mdb_reads_subclasses_before_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tracks("mdb", make_mdb(tmp_path))
    assert list(found) == ["MusicDelta_A", "MusicDelta_B"]
    assert "MusicDelta_C" in capsys.readouterr().err
    fine = load(found["MusicDelta_A"])
    assert fine.onsets == {
        "kick": (0.1,), "snare": (0.3, 0.5), "toms": (0.6,), "hihat": (0.9,), "cymbals": (0.7,),
        "other": (0.8,),
    }  # fmt: skip
    coarse = load(found["MusicDelta_B"])
    assert coarse.mixture.shape == (2, round(1.5 * SAMPLE_RATE))
    assert coarse.onsets["toms"] == (0.1,)
    assert [coarse.present(stem) for stem in STEMS] == [False, False, True, False, False]


def test_enst_reads_wet_mixes_first_and_no_microphones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tracks("enst", make_enst(tmp_path))
    phrase = "drummer_1/036_phrase_disco_simple_slow_sticks"
    dry = "drummer_2/162_MIDI-minus-one_fusion-125_sticks"
    assert list(found) == [phrase, dry]
    assert "107_minus-one" in capsys.readouterr().err
    assert found[phrase].clip == phrase.replace("/", "_")
    loaded = load(found[phrase])
    assert len(loaded.mixture) == 2, "the wet mix"
    assert not loaded.held
    assert loaded.onsets == {
        "kick": (0.1,), "snare": (0.2,), "toms": (0.3,), "hihat": (0.8,), "cymbals": (0.4, 0.5),
        "other": (0.6, 0.7),
    }  # fmt: skip
    assert len(load(found[dry]).mixture) == 1
    assert list(tracks("enst", tmp_path, "hits")) == ["drummer_1/001_hits_snare-drum_sticks_x6"]


def test_stemgmd_sums_its_pieces_and_takes_onsets_from_gmd(
    tmp_path: Path, builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEMGMD_GMD", raising=False)
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "empty"))
    (short,) = shortest(builtin_collection, 1)
    midi = builtin_collection.midi_path(short)
    played = replace(
        short,
        id="drummer1/eval_session/1",
        drummer="drummer1",
        session="eval_session",
        midi_filename="drummer1/eval_session/1_funk.mid",
    )
    gmd = tmp_path / "gmd"
    write_index(gmd, [played])
    (gmd / played.midi_filename).parent.mkdir(parents=True)
    (gmd / played.midi_filename).write_bytes(midi.read_bytes())
    for kit in ("brooklyn", "heavy"):
        for piece in PIECES:
            folder = tmp_path / "audio" / "drummer1" / "eval_session" / kit / piece
            put(folder / "1_funk.wav", seconds=played.duration_sec + 1, channels=2)
    found = stemgmd.tracks(Selection(data=tmp_path))
    assert [(t.id, t.kit) for t in found] == [(played.id, "brooklyn"), (played.id, "heavy")]
    loaded = load(found[0])
    assert loaded.whole
    assert all(loaded.present(stem) for stem in STEMS)
    np.testing.assert_allclose(loaded.mixture, loaded.references.sum(axis=0), atol=1e-6)
    assert loaded.onsets == {}
    assert "score" not in found[0].gives
    annotated = stemgmd.tracks(Selection(data=tmp_path, gmd=gmd, kits=("heavy",)))
    assert [t.kit for t in annotated] == ["heavy"]
    assert annotated[0].gives == {"mixture", "references", "score"}
    hits = [hit.onset_sec for hit in read_score(midi).hits]
    assert sorted(t for times in onsets(annotated[0]).values() for t in times) == sorted(hits)
    (tmp_path / "audio/drummer1/eval_session/heavy/ride/1_funk.wav").unlink()
    with pytest.raises(UserError, match=r"ride.* is missing"):
        stemgmd.tracks(Selection(data=tmp_path))


@pytest.mark.parametrize(
    ("make", "name", "spoil", "says"),
    [
        (make_idmt, "idmt", lambda p: write(p / "IDMT-SMT-DRUMS-V2/annotation_xml/"
         "RealDrum01_00#MIX.xml", xml({"TT": (0.1,)})), "event 1: 'TT' is none of KD, SD, HH"),
        (make_idmt, "idmt", lambda p: write(p / "IDMT-SMT-DRUMS-V2/annotation_xml/"
         "RealDrum01_00#MIX.xml", xml({"KD": (float("nan"),)})), "event 1 has no time"),
        (make_idmt, "idmt", lambda p: write(p / "IDMT-SMT-DRUMS-V2/annotation_svl/"
         "RealDrum02_01#KD.svl", "<sv><data/>"), "is no XML"),
        (make_idmt, "idmt", lambda p: write(p / "IDMT-SMT-DRUMS-V2/annotation_svl/"
         "RealDrum02_01#KD.svl", svl((1,), rate=0)), "states no sample rate"),
        (make_idmt, "idmt", lambda p: put(p / "IDMT-SMT-DRUMS-V2/audio/"
         "WaveDrum02_01#KD.wav", seconds=1.0), "has 44100 samples, its mixture 66150"),
        (make_mdb, "mdb", lambda p: write(p / "MDB Drums/annotations/class/"
         "MusicDelta_B_class.txt", "0.1\tXX\n"), "line 1: no drum is called 'XX'"),
        (make_mdb, "mdb", lambda p: write(p / "MDB Drums/annotations/class/"
         "MusicDelta_B_class.txt", "7.5\tKD\n"), "a hit at 7.500 s"),
        (make_enst, "enst", lambda p: write(p / "ENST-drums-public/drummer_2/annotation/"
         "162_MIDI-minus-one_fusion-125_sticks.txt", "bd 0.1\n"), "line 1: needs a time"),
    ],
)  # fmt: skip
def test_damage_is_one_line_that_names_the_file(
    tmp_path: Path,
    make: Callable[[Path], Path],
    name: str,
    spoil: Callable[[Path], object],
    says: str,
) -> None:
    spoil(make(tmp_path))
    with pytest.raises(UserError, match=says) as caught:
        _ = [load(track) for track in tracks(name, tmp_path).values()]
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("module", [idmt, mdb, enst, stemgmd])
def test_another_folder_is_refused_and_the_way_to_the_set_is_named(
    tmp_path: Path, module: object
) -> None:
    for data, says in ((None, "needs --data"), (tmp_path, "bench sources")):
        with pytest.raises(UserError, match=says):
            module.tracks(Selection(data=data))  # type: ignore[attr-defined]
    info = module.INFO  # type: ignore[attr-defined]
    assert info.licence
    assert info.citation
    assert info.get
    assert "\n" not in info.get
