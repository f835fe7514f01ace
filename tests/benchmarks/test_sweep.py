"""The choice of hyperparameters: its clips, its search, its table, and what it froze."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_kits import WHEEL_KIT, score
from tqdm import tqdm

from baselines.settings import SETTINGS, Recipe, Settings
from benchmarks.studies import sweep
from benchmarks.studies.sweep import AXES, STARTS, TABLE, Sweep, flat
from benchmarks.studies.sweep_clips import (
    CLIP_SEC,
    N_CLIPS,
    Clip,
    choose_excerpts,
    clip_hash,
    cut,
    make_clips,
    render_clip,
    turn,
)
from benchmarks.studies.sweep_table import KNEE_DB, SLOWEST, Row, read_table, winner, write_table
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import available, find_kit, select_kits
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.taxonomy import SAMPLE_RATE, STEM_OF_PIECE, STEMS


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(find_kit(WHEEL_KIT), gain=0.5)


@pytest.fixture(scope="module")
def clips(builtin_collection: Collection, bank: Bank) -> list[Clip]:
    return make_clips(builtin_collection, [bank], n_clips=2)


def row(**changes: object) -> Row:
    values = {"system": "nmfd", **flat(STARTS["nmfd"]), **dict.fromkeys(STEMS, 1.0)}
    scores = {"pooled_nsdr_db": 5.0, "macro_nsdr_db": 4.0, "seconds": 10.0}
    values.update(scores, real_time_ratio=10.0, clips="abc")
    return Row(**{**values, **changes})


def test_excerpts_come_from_validation_alone_and_hold_every_stem(collection: Collection) -> None:
    if collection.source != "gmd":
        with pytest.raises(UserError, match="too few validation performances"):
            choose_excerpts(collection)
        return
    excerpts = choose_excerpts(collection)
    validation = {p.id: p for p in collection.select("validation")}
    assert len({e.performance for e in excerpts}) == len(excerpts) == N_CLIPS
    assert all(e.performance in validation for e in excerpts)
    assert not {e.performance for e in excerpts} & {p.id for p in collection.select("test")}
    for e in excerpts:
        onsets = [hit.onset_sec for hit in e.score.hits]
        assert onsets
        assert min(onsets) >= 0
        assert max(onsets) < CLIP_SEC
    assert choose_excerpts(collection) == excerpts


def test_a_cut_keeps_the_hits_that_begin_in_it() -> None:
    whole = score((0, "kick", 100), (44100, "snare", 90), (88200, "ride", 80))
    part = cut(whole, 0.5, 1.5)
    assert [(hit.note, hit.onset_sec) for hit in part.hits] == [(38, 0.5)]


def test_a_clip_is_what_its_hits_sound_like(clips: list[Clip]) -> None:
    for clip in clips:
        np.testing.assert_array_equal(clip.references.sum(axis=0), clip.mixture)
        assert clip.mixture.shape == (2, round(CLIP_SEC * SAMPLE_RATE))
        audible = {i for i in range(len(STEMS)) if clip.references[i].any()}
        assert (
            set(clip.present)
            == audible
            == {STEMS.index(STEM_OF_PIECE[piece]) for piece in clip.score}
        )
    assert clip_hash(clips) != clip_hash(clips[:1])


def test_kits_take_turns_so_that_each_meets_each_kind_of_clip() -> None:
    turns = [(i % 3, turn(i, 6)) for i in range(N_CLIPS)]
    assert {kit for _, kit in turns} == set(range(6))
    assert all(len({kind for kind, k in turns if k == kit}) == 3 for kit in range(6))


def test_the_best_wins_unless_another_is_nearly_as_good_and_much_cheaper() -> None:
    best, worse = row(pooled_nsdr_db=6.0), row(pooled_nsdr_db=5.0, seconds=1.0)
    near = row(pooled_nsdr_db=6.0 - KNEE_DB / 2, seconds=5.0)
    no_cheaper = row(pooled_nsdr_db=6.0 - KNEE_DB / 2, seconds=9.0)
    slow = row(pooled_nsdr_db=9.0, real_time_ratio=SLOWEST / 2)
    assert winner([worse, best]) == 1
    assert winner([worse, best, near]) == 2
    assert winner([worse, best, no_cheaper]) == 1
    assert winner([slow, best]) == 1
    assert winner([slow, replace(slow, real_time_ratio=SLOWEST / 1.5)]) == 1


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [row(), row(system="nmf-sab", attack_frames=4, toms=float("inf"), elsewhere=1e-3)]
    write_table(tmp_path / "sweep.csv", rows)
    assert read_table(tmp_path / "sweep.csv") == rows
    assert read_table(tmp_path / "none.csv") == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "\0", "system\nnmfd\n"])
def test_a_table_of_something_else_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sweep.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"sweep\.csv is no table of a sweep"):
        read_table(path)


def small(settings: Settings) -> Settings:
    return replace(settings, recipe=replace(settings.recipe, template_sec=0.05), n_iterations=2)


def test_a_search_tries_every_value_once_and_resumes(
    clips: list[Clip], bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "STARTS", {"nmfd": small(STARTS["nmfd"])})
    axes = (("mask_exponent", (1.0, 2.0)), ("n_iterations", (2, 3)), ("mask_exponent", (1.0, 2.0)))
    monkeypatch.setattr(sweep, "AXES", {"nmfd": axes})
    # the clips' family is left out, so the kit that teaches must be of another
    other = replace(bank, kit=replace(bank.kit, family="another"))
    first = Sweep([other], clips, tmp_path / "sweep.csv")
    with tqdm(disable=True) as progress:
        won = first.search("nmfd", progress)
    assert 3 <= len(first.rows) <= 4
    pooled = {key: r.pooled_nsdr_db for key, r in first.rows.items()}
    assert first.row("nmfd", won).pooled_nsdr_db >= max(pooled.values()) - 2 * KNEE_DB
    before = (tmp_path / "sweep.csv").read_text()
    again = Sweep([other], clips, tmp_path / "sweep.csv")
    monkeypatch.setattr(again, "_measure", None)  # nothing is left to measure
    with tqdm(disable=True) as progress:
        assert again.search("nmfd", progress) == won
    assert (tmp_path / "sweep.csv").read_text() == before


def test_templates_never_come_from_the_family_of_the_clip(clips: list[Clip], bank: Bank) -> None:
    lonely = Sweep([bank], clips, Path("unused.csv"))
    with pytest.raises(UserError, match="no kit to learn"):
        lonely.templates_without(bank.kit.family, Recipe())
    assert lonely.templates_without("another", Recipe(template_sec=0.05)).values.shape[0] == 9


def test_other_clips_are_measured_anew(clips: list[Clip], bank: Bank, tmp_path: Path) -> None:
    other = replace(bank, kit=replace(bank.kit, family="another"))
    settings = small(STARTS["nmf-fixed"])
    for chosen in (clips, clips[:1]):
        Sweep([other], chosen, tmp_path / "sweep.csv").row("nmf-fixed", settings)
    assert len(read_table(tmp_path / "sweep.csv")) == 2


def test_a_stem_that_no_clip_hits_has_no_score(
    clips: list[Clip], bank: Bank, tmp_path: Path
) -> None:
    played = score((0, "kick", 100), (22050, "snare", 90))
    clip = render_clip(replace(clips[0].excerpt, score=played), bank)
    other = replace(bank, kit=replace(bank.kit, family="another"))
    tried = Sweep([other], [clip], tmp_path / "sweep.csv")
    measured = tried.row("nmf-fixed", small(STARTS["nmf-fixed"]))
    assert np.isnan(measured.toms)
    assert np.isfinite(measured.kick)


class Recorded(Sweep):
    """The committed table, with nothing to measure what it lacks."""

    def __init__(self) -> None:
        super().__init__([], [], TABLE)
        (self._hash,) = {row.clips for row in self.rows.values()}

    def _measure(self, system: str, settings: Settings) -> Row:
        raise AssertionError(f"{TABLE.name} lacks {system} {settings}")


@pytest.mark.parametrize("system", AXES)
def test_the_frozen_settings_are_those_that_the_committed_table_says(system: str) -> None:
    recorded = Recorded()
    with tqdm(disable=True) as progress:
        assert recorded.search(system, progress) == SETTINGS[system]
    assert recorded.row(system, SETTINGS[system]).real_time_ratio >= SLOWEST


def test_clips_hold_every_stem_often_enough(collection: Collection) -> None:
    """On the training kits that are here; the choice of hits does not depend on them."""
    if collection.source != "gmd":
        return
    banks = [load_bank(kit, gain=1.0) for kit in available(select_kits(["train"]))]
    clips = make_clips(collection, banks)
    assert {clip.kit for clip in clips} == {bank.kit.id for bank in banks}
    for stem in range(len(STEMS)):
        assert sum(stem in clip.present for clip in clips) >= 12


def test_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["--systems", "demucs"]) == 2
    assert capsys.readouterr().err.startswith("stemgmd study sweep: error: no search for")
    with pytest.raises(SystemExit) as caught:
        sweep.main(["--help"])
    assert caught.value.code == 0
    assert "examples:" in capsys.readouterr().out
