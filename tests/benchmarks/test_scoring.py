"""Scores of one estimate are those of the metrics, and broken estimates are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import KIT, shortest, write_collection

from baselines.system import SystemInfo
from benchmarks.scores.bsseval import bss_eval
from benchmarks.scores.metrics import leakage_db, nsdr_db, nsdr_mdx_db, si_sdr_db
from benchmarks.scores.onsets import score_onsets
from benchmarks.scoring import ReadyTrack, inputs_for, score_estimate
from benchmarks.sources import load
from benchmarks.sources.rendered import rendered_tracks
from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import Collection
from stemgmd_build.taxonomy import STEMS


@pytest.fixture(scope="module")
def ready(builtin_collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> ReadyTrack:
    folder = tmp_path_factory.mktemp("few") / "groove"
    few = write_collection(folder, builtin_collection, shortest(builtin_collection, 8))
    tracks = rendered_tracks(few, split=["all"], kits=[KIT])
    chosen = next(t for t in tracks if not all(load(t).references.any(axis=(1, 2))))
    return ReadyTrack.of(chosen, load(chosen))


@pytest.fixture(scope="module")
def estimate(ready: ReadyTrack) -> np.ndarray:
    bleed = 0.2 * ready.loaded.mixture
    return (0.8 * ready.loaded.references + bleed).astype(np.float32)


def test_scores_are_those_of_the_metrics(ready: ReadyTrack, estimate: np.ndarray) -> None:
    records = score_estimate(ready, estimate, system="x", revision="2")
    reference, present = ready.loaded.references, [ready.loaded.present(s) for s in STEMS]
    bss = bss_eval(reference=reference, estimate=estimate)
    assert [r.stem for r in records] == list(STEMS)
    assert [r.present for r in records] == present
    assert {r.key for r in records} == {
        ("kits", "x", "2", ready.track.id, ready.track.kit, ready.track.data)
    }
    for i, record in enumerate(records):
        assert record.n_hits == len(ready.loaded.onsets[record.stem])
        if not present[i]:
            leak = leakage_db(estimate=estimate[i], mixture=ready.loaded.mixture)
            assert record.leakage_db == pytest.approx(float(leak))
            assert record.nsdr_db is record.sdr_db is record.onset_f is None
            continue
        pair = {"reference": reference[i], "estimate": estimate[i]}
        assert record.nsdr_db == pytest.approx(float(nsdr_db(**pair)))
        assert record.nsdr_mdx_db == pytest.approx(float(nsdr_mdx_db(**pair)))
        assert record.si_sdr_db == pytest.approx(float(si_sdr_db(**pair)))
        assert record.sdr_db == pytest.approx(bss[i].sdr_db)
        assert record.n_frames == bss[i].n_frames
        heard = score_onsets(**pair, onsets_sec=ready.loaded.onsets[record.stem])
        assert record.onset_f == heard.estimate.f_measure
        assert record.onset_f_true == heard.true_stem.f_measure
        assert record.leakage_db is None


def test_the_true_stems_score_without_limit_and_silence_scores_zero(ready: ReadyTrack) -> None:
    present = [ready.loaded.present(stem) for stem in STEMS]
    perfect = score_estimate(ready, ready.loaded.references, system="x", revision="1")
    silent = score_estimate(ready, np.zeros_like(ready.loaded.references), system="x", revision="1")
    for i, is_present in enumerate(present):
        if is_present:
            assert perfect[i].si_sdr_db == perfect[i].sdr_db == np.inf
            assert perfect[i].onset_f == perfect[i].onset_f_true
            assert silent[i].nsdr_db == 0
            assert silent[i].onset_f == 0
        else:
            assert perfect[i].leakage_db == silent[i].leakage_db == -np.inf


def test_scoring_twice_gives_the_same_records(ready: ReadyTrack, estimate: np.ndarray) -> None:
    first = score_estimate(ready, estimate, system="x", revision="1")
    fresh = ReadyTrack.of(ready.track, ready.loaded)
    assert score_estimate(fresh, estimate, system="x", revision="1") == first


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e[:4], "shape"),
        (lambda e: e[..., :-1], "shape"),
        (lambda e: e.astype(np.int16), "int16"),
        (lambda e: e.tolist(), "list"),
        (lambda e: None, "NoneType"),
        (lambda e: np.where(np.arange(e.shape[-1]) == 7, np.nan, e), "kick holds NaN"),
        (lambda e: np.full_like(e, np.inf), "NaN or infinity"),
    ],
)
def test_a_broken_estimate_is_one_line_that_names_system_and_clip(
    ready: ReadyTrack, estimate: np.ndarray, change: object, says: str
) -> None:
    broken = change(estimate)  # type: ignore[operator]
    with pytest.raises(UserError, match=says) as caught:
        score_estimate(ready, broken, system="mine", revision="1")
    assert f"mine on {ready.track.clip}" in str(caught.value)


@pytest.mark.parametrize("inputs", [("mixture",), ("mixture", "score"), ("mixture", "references")])
def test_a_system_sees_what_it_declares_and_cannot_change_the_track(
    ready: ReadyTrack, inputs: tuple[str, ...]
) -> None:
    info = SystemInfo("x", "x", inputs, "1", "", 0, "", "")  # type: ignore[arg-type]
    before = ready.loaded.mixture.copy(), ready.loaded.references.copy()
    given = inputs_for(info, ready.loaded)
    assert (given.score is not None) == ("score" in inputs)
    assert (given.references is not None) == ("references" in inputs)
    given.mixture[:] = 9
    if given.references is not None:
        given.references[:] = 9
    np.testing.assert_array_equal(ready.loaded.mixture, before[0])
    np.testing.assert_array_equal(ready.loaded.references, before[1])


def test_a_track_without_a_hit_is_refused(ready: ReadyTrack) -> None:
    silent = np.zeros((5, 2, 100), np.float32)
    nothing = replace(ready.loaded, onsets={}, references=silent, mixture=silent[0])
    with pytest.raises(UserError, match="the mixture is silent"):
        ReadyTrack.of(ready.track, nothing)


def test_a_performance_without_a_hit_cannot_be_loaded(ready: ReadyTrack, tmp_path: Path) -> None:
    import mido

    path = tmp_path / "silent.mid"
    mido.MidiFile(type=0, tracks=[mido.MidiTrack([mido.MetaMessage("end_of_track")])]).save(path)
    place = replace(ready.track.place, midi=path)  # type: ignore[type-var]
    with pytest.raises(UserError, match=r"silent\.mid"):
        load(replace(ready.track, place=place))


def test_a_stem_that_was_rounded_to_silence_counts_as_absent(
    ready: ReadyTrack, estimate: np.ndarray
) -> None:
    """Hits of the lowest velocity on a quiet kit: there is nothing to compare an estimate with."""
    index = next(i for i, stem in enumerate(STEMS) if ready.loaded.present(stem))
    references = ready.loaded.references.copy()
    references[index] = 0
    quiet = replace(ready.loaded, references=references, mixture=references.sum(axis=0))
    assert quiet.onsets[STEMS[index]], "it is struck"
    records = score_estimate(ReadyTrack.of(ready.track, quiet), estimate, system="x", revision="1")
    assert [r.present for r in records] == [bool(audio.any()) for audio in references]
    assert records[index].nsdr_db is None
    assert records[index].leakage_db is not None
