"""The audit: shared recordings across a split, tom order, outliers, and the ten default kits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_kits import HERE, Layered, drum_sounds, noise, ping, write_kit

from stemgmd_build.auditing.audit import (
    audit,
    audit_kit,
    find_shared,
    late_click,
    onset_sec,
    pitch_hz,
)
from stemgmd_build.errors import UserError
from stemgmd_build.kits.kit import Kit
from stemgmd_build.kits.own import own_kit
from stemgmd_build.paths import CacheError
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE

USUAL_CACHE = os.environ.get("STEMGMD_CACHE")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Every test of this file makes kits of its own, but for those of the catalogue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMGMD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def make(folder: Path, sounds: Mapping[str, Sequence[Layered]], **fields: str) -> Kit:
    """An own kit of this family and split."""
    return replace(own_kit(write_kit(folder, sounds)), **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("kits") / "original"
    return make(folder, drum_sounds(1), family="one", split="train")


def _copy_of(sounds: Mapping[str, Sequence[Layered]], piece: str) -> NDArray[np.float64]:
    """The same recording from another hand: late by 3 ms, half as loud, panned, in stereo."""
    burst = np.asarray(sounds[piece][0].samples)[:, :1]
    late = np.concatenate([np.zeros((132, 1)), 0.5 * burst])
    return np.concatenate([late, 0.3 * late], axis=1)


@pytest.fixture(scope="module")
def with_a_copy(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Kit of other sounds whose kick's second layer is the first kit's."""
    sounds = drum_sounds(2)
    copied = Layered(_copy_of(drum_sounds(1), "kick"), 0.5, 1.0)
    sounds["kick"] = [Layered(noise(77), 0.0, 0.5), copied]
    return make(tmp_path_factory.mktemp("kits") / "copied", sounds, family="two", split="test")


def test_a_recording_on_both_sides_of_the_split_is_a_fault_that_names_both(
    original: Kit, with_a_copy: Kit
) -> None:
    """Though it was panned, turned down and moved, and is one layer of two."""
    _, shared, faults = audit([original, with_a_copy], show_progress=False)
    assert [(pair.first.id, pair.second.id, pair.pieces) for pair in shared] == [
        ("original", "copied", ("kick",))
    ]
    assert shared[0].correlation > 0.99
    assert shared[0].crosses_split()
    (fault,) = faults
    for word in ("original", "copied", "kick", "training", "test"):
        assert word in fault


def test_one_family_may_share_on_one_side(original: Kit, with_a_copy: Kit) -> None:
    sibling = replace(with_a_copy, family="one", split="train")
    _, shared, faults = audit([original, sibling], show_progress=False)
    assert len(shared) == 1
    assert not shared[0].crosses_split()
    assert faults == []


def test_sharing_between_families_of_one_side_is_a_fault(original: Kit, with_a_copy: Kit) -> None:
    _, _, faults = audit([original, replace(with_a_copy, split="train")], show_progress=False)
    assert len(faults) == 1
    assert "families one, two" in faults[0]


def test_kits_of_different_recordings_share_nothing(original: Kit, tmp_path: Path) -> None:
    other = make(tmp_path / "other", drum_sounds(9), family="three", split="test")
    assert find_shared([load_bank(original), load_bank(other)]) == []


@pytest.mark.parametrize(
    ("articulation", "piece"),
    [("hihat_pedal", "hihat_closed"), ("crash_right", "crash_left"), ("ride_bell", "ride")],
)
def test_a_finer_sound_that_is_shared_is_found_and_named_by_its_piece(
    tmp_path: Path, articulation: str, piece: str
) -> None:
    """Whatever the articulation is called: a pedalled hat is a closed one."""
    banks = []
    for seed, name in enumerate(("first", "second"), 11):
        sounds = {**drum_sounds(seed), articulation: [Layered(noise(5))]}
        banks.append(load_bank(make(tmp_path / name, sounds)))
    (pair,) = find_shared(banks)
    assert pair.pieces == (piece,)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("hi_tom", "low_tom"), ("hihat_open", "hihat_closed"), ("crash_left", "ride")],
)
def test_a_recording_that_is_another_piece_of_the_same_stem_is_found(
    original: Kit, tmp_path: Path, ours: str, theirs: str
) -> None:
    sounds = drum_sounds(2)
    sounds[theirs] = drum_sounds(1)[ours]
    other = make(tmp_path / "other", sounds, family="two", split="test")
    _, (pair,), faults = audit([original, other], show_progress=False)
    assert pair.pieces == (f"{ours} as {theirs}",)
    assert pair.crosses_split()
    assert any(f"share {ours} as {theirs} (correlation" in fault for fault in faults)


def test_a_cache_that_cannot_be_written_is_no_fault_of_a_kit(
    original: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="file/banks: the bank of kit original cannot be written"):
        audit([original], show_progress=False)


def test_toms_that_do_not_fall_from_high_to_low_are_a_fault(original: Kit) -> None:
    toms = ("hi_tom", "mid_tom", "low_tom")
    found = audit_kit(load_bank(original))
    assert found.faults == ()
    assert found.tom_hz == pytest.approx(dict(zip(toms, (220, 160, 110), strict=True)), abs=5)
    swapped = {
        **original.sounds,
        "hi_tom": original.sounds["mid_tom"],
        "mid_tom": original.sounds["hi_tom"],
    }
    (fault,) = audit_kit(load_bank(replace(original, sounds=swapped))).faults
    assert "toms' pitch does not fall" in fault
    assert "hi_tom 160 Hz, mid_tom 220 Hz, low_tom 110 Hz" in fault


def test_an_outlier_is_named_but_is_no_fault(original: Kit) -> None:
    loud = {**original.sounds, "ride": replace(original.sounds["ride"], gain_db=30.0)}
    (found,), _, faults = audit([replace(original, sounds=loud)], show_progress=False)
    assert any("ride is +" in outlier for outlier in found.outliers)
    assert faults == []


def test_a_kit_that_cannot_be_sampled_is_a_fault_and_the_others_are_audited(
    original: Kit, tmp_path: Path
) -> None:
    broken = make(tmp_path / "broken", drum_sounds(3), family="b", split="test")
    (tmp_path / "broken" / "drumkit.xml").write_bytes(b"no XML")
    found, _, (fault,) = audit([broken, original], show_progress=False)
    assert [one.kit.id for one in found] == ["original"]
    assert fault.startswith("kit broken (")
    assert "is not readable XML" in fault


def test_every_piece_without_sound_is_a_fault_and_the_rest_of_the_kit_is_audited(
    original: Kit, tmp_path: Path
) -> None:
    """Silent, missing or broken; also what the rest shares across the split, and its toms."""
    sounds = {**drum_sounds(4), "ride_bell": [Layered(noise(1))], "snare_rim": [Layered(noise(2))]}
    sounds |= {"snare": drum_sounds(1)["snare"], "hi_tom": [Layered(ping(90))]}
    sounds["kick"] = sounds["snare_rim"] = [Layered(np.zeros((3000, 1)))]
    sounds["ride"] = [Layered(np.full((3000, 1), 1e-9))]
    holed = make(tmp_path / "holed", sounds, family="two", split="test")
    (tmp_path / "holed" / "crash_left-0.wav").unlink()
    (tmp_path / "holed" / "low_tom-0.wav").write_bytes(b"no audio")
    (found, other), (pair,), faults = audit([holed, original], show_progress=False)
    unheard = ("kick", "snare_rim", "low_tom", "crash_left", "ride")
    assert {fault.split(": ")[1] for fault in faults if fault.startswith("holed: ")} == {
        *unheard,
        "the toms' pitch does not fall from high to low",
    }
    assert any("ride: key 8 of holed is silent" in fault for fault in faults)
    heard = [piece for piece in PIECES if piece not in unheard]
    assert list(found.n_layers) == list(found.balance_db) == heard
    assert list(found.tom_hz) == ["hi_tom", "mid_tom"]
    assert found.finer == ()
    assert pair.pieces == ("snare",)
    assert pair.crosses_split()
    assert other.kit.id == "original"
    with pytest.raises(UserError):
        load_bank(holed)


def test_a_kit_of_nothing_but_silence_has_every_piece_named(tmp_path: Path) -> None:
    silence = {key: [Layered(np.zeros((3000, 1)))] for key in PIECES}
    found, _, faults = audit([make(tmp_path / "hushed", silence)], show_progress=False)
    assert found == []
    assert [fault.split(": ")[1] for fault in faults] == list(PIECES)


def test_without_a_snare_there_is_no_balance(original: Kit) -> None:
    sounds = {name: sound for name, sound in original.sounds.items() if name != "snare"}
    found = audit_kit(replace(load_bank(original), kit=replace(original, sounds=sounds)))
    assert found.balance_db == {}
    assert len(found.n_layers) == 8


def test_what_was_measured_is_what_the_kit_holds(with_a_copy: Kit) -> None:
    found = audit_kit(load_bank(with_a_copy))
    assert found.n_layers == {piece: 2 if piece == "kick" else 1 for piece in PIECES}
    assert found.onset_sec["kick"] == pytest.approx(0.003, abs=0.0002)
    assert found.onset_sec["snare"] < 0.001
    assert found.ring_sec["snare"] == pytest.approx(4000 / SAMPLE_RATE * 60 / 104, rel=0.1)
    assert found.finer == ()
    assert found.balance_db["snare"] == 0


def test_a_late_start_is_an_outlier(original: Kit, tmp_path: Path) -> None:
    sounds = drum_sounds(5)
    late = np.concatenate([np.zeros((882, 1)), np.asarray(sounds["snare"][0].samples)])
    sounds["snare"] = [Layered(late)]
    found = audit_kit(load_bank(make(tmp_path / "late", sounds)))
    assert any(outlier.startswith("snare starts 20.") for outlier in found.outliers)


def test_the_gain_of_a_kit_changes_nothing_in_its_audit(original: Kit) -> None:
    loud, soft = ((audit_kit(load_bank(replace(original, gain=g)))) for g in (1.0, 0.1))
    assert loud.balance_db == pytest.approx(soft.balance_db, abs=1e-4)
    assert loud.tom_hz == soft.tom_hz


@pytest.mark.parametrize("hz", [60.0, 123.4, 300.0, 480.0])
def test_the_pitch_of_a_tone_is_its_frequency(hz: float) -> None:
    tone = ping(hz, 40000).T.astype(np.float32)
    assert pitch_hz(np.concatenate([tone, tone])) == pytest.approx(hz, abs=1.5)


def test_a_sound_too_short_to_have_a_pitch_has_none() -> None:
    assert pitch_hz(np.ones((2, 100), np.float32)) == 0


def test_the_onset_is_where_a_tenth_of_the_peak_is_reached() -> None:
    shot = np.zeros((2, 2000), np.float32)
    shot[1, 441], shot[0, 882], shot[0, 1000] = 0.09, 0.11, 1.0
    assert onset_sec(shot) == pytest.approx(0.02)


def test_a_click_in_a_ring_is_found_where_it_is() -> None:
    shot = noise(1, 44100).T.astype(np.float32)
    assert late_click(shot)[1] < 10
    shot[:, 22050:22060] = 0.1
    second, rise = late_click(shot)
    assert second == pytest.approx(0.5, abs=0.003)
    assert rise > 15


def test_the_default_kits_at_hand_have_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of them stands outside the balance of a mixed kit."""
    monkeypatch.delenv("STEMGMD_CACHE")
    if USUAL_CACHE:
        monkeypatch.setenv("STEMGMD_CACHE", USUAL_CACHE)
    ten = [kit for kit in HERE if kit.default]
    found, _, faults = audit(ten, show_progress=False)
    assert faults == []
    assert [one.kit.id for one in found] == [kit.id for kit in ten]
    outliers = [o for one in found for o in one.outliers if "against the snare" in o]
    assert outliers == []
