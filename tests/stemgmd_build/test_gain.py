"""The one gain of a kit: the loudest sample found by bounds is the loudest there is."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from small_builds import shortest, write_collection
from small_kits import HERE, WHEEL_KIT, drum_sounds, score, write_kit

from stemgmd_build.auditing.calibrate import set_gain
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import CATALOGUE, find_kit
from stemgmd_build.kits.kit import Kit
from stemgmd_build.kits.own import own_kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.gain import PEAK_TARGET, kit_gain, loudest_sample, measure_gain
from stemgmd_build.rendering.render import FIVE_ROWS, Strikes, render, schedule, strikes_of
from stemgmd_build.taxonomy import STEMS

N_PERFORMANCES = 16


@pytest.fixture(scope="module")
def raw() -> Bank:
    return load_bank(find_kit(WHEEL_KIT), gain=1.0)


def _some(collection: Collection, n: int) -> tuple[Strikes, ...]:
    """The strikes of n performances, spread over the collection, none longer than 30 s."""
    short = [p for p in collection.performances if p.duration_sec < 30]
    chosen = short[:: max(1, len(short) // n)][:n]
    return tuple(strikes_of(collection.read_score(performance)) for performance in chosen)


def _loudest_of_all(bank: Bank, strikes: tuple[Strikes, ...]) -> float:
    """By rendering every sample of every piece, stem and mixture in every mode."""
    loudest = 0.0
    for one in strikes:
        for articulations in ("nine", "full"):
            for choke in (True, False):
                plan = schedule(one, bank, articulations=articulations, choke=choke)
                nine = render(plan)
                five = np.zeros((len(STEMS), *nine.shape[1:]), np.float32)
                for piece, row in enumerate(FIVE_ROWS):
                    five[row] += nine[piece]
                parts = (nine, five, five.sum(axis=0))
                loudest = max(loudest, *(float(np.abs(part).max()) for part in parts))
    return loudest


def test_the_loudest_sample_is_that_of_rendering_everything_built_in(
    builtin_collection: Collection, raw: Bank
) -> None:
    strikes = _some(builtin_collection, 3)
    assert loudest_sample(raw, strikes) == pytest.approx(_loudest_of_all(raw, strikes), rel=1e-6)


def test_the_loudest_sample_is_that_of_rendering_everything_of_gmd(
    collection: Collection, raw: Bank
) -> None:
    performances = shortest(collection, 40)[::10]
    strikes = tuple(strikes_of(collection.read_score(p)) for p in performances)
    assert loudest_sample(raw, strikes) == pytest.approx(_loudest_of_all(raw, strikes), rel=1e-6)


def test_hits_that_meet_across_a_frames_border_are_bounded(raw: Bank) -> None:
    """16 snares within a frame, for every place of the frame's border among them."""
    for start in range(0, 1024, 128):
        hits = [(start + 10.0 * i, "snare", 127) for i in range(16)]
        strikes = (strikes_of(score(*hits)),)
        assert loudest_sample(raw, strikes) == pytest.approx(
            _loudest_of_all(raw, strikes), rel=1e-6
        )


def test_nothing_played_has_no_loudest_sample(raw: Bank) -> None:
    assert loudest_sample(raw, ()) == 0
    assert loudest_sample(raw, (strikes_of(score()),)) == 0


def test_the_measured_gain_brings_the_loudest_sample_to_minus_1_db(
    builtin_collection: Collection, raw: Bank
) -> None:
    strikes = _some(builtin_collection, 4)
    gain = measure_gain(raw, strikes)
    scaled = load_bank(raw.kit, gain=gain)
    assert loudest_sample(scaled, strikes) == pytest.approx(PEAK_TARGET, rel=1e-4)


@pytest.mark.parametrize("kit", HERE, ids=lambda kit: kit.id)
def test_nothing_clips_with_the_catalogues_gain(
    kit: Kit, builtin_collection: Collection, collection: Collection
) -> None:
    """Built-in grooves and GMD, spread over styles and drummers."""
    assert kit.gain is not None
    strikes = _some(builtin_collection, N_PERFORMANCES // 2) + _some(collection, N_PERFORMANCES)
    assert 0.1 < loudest_sample(load_bank(kit), strikes) <= PEAK_TARGET * 1.0001


def test_a_kit_with_a_gain_keeps_it_and_an_own_kit_is_measured_once(
    tmp_path: Path, builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    catalogued = find_kit(WHEEL_KIT)
    assert kit_gain(catalogued, builtin_collection) == catalogued.gain
    kit = own_kit(write_kit(tmp_path / "mine", drum_sounds()))
    gain = kit_gain(kit, builtin_collection)
    everything = _some(builtin_collection, len(builtin_collection.performances))
    assert loudest_sample(load_bank(kit, gain=gain), everything) <= PEAK_TARGET * 1.0001
    (kept,) = (tmp_path / "cache" / "gains").iterdir()
    kept.write_text(json.dumps({"kit": "mine", "gain": 0.125}))
    assert kit_gain(kit, builtin_collection) == 0.125
    kept.write_text("{")
    with pytest.raises(UserError, match="damaged; delete it"):
        kit_gain(kit, builtin_collection)


def test_an_own_collection_that_changed_under_the_same_ids_is_measured_anew(
    tmp_path: Path, builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    first, second = shortest(builtin_collection, 2)
    own = write_collection(tmp_path / "own", builtin_collection, [first, second])
    kit = own_kit(write_kit(tmp_path / "mine", drum_sounds()))
    before = kit_gain(kit, own)
    own.midi_path(first).write_bytes(own.midi_path(second).read_bytes())
    own.midi_path(second).write_bytes(builtin_collection.midi_path(first).read_bytes())
    kit_gain(kit, own)
    assert len(list((tmp_path / "cache" / "gains").iterdir())) == 2
    assert before > 0


def test_performances_that_cannot_be_read_are_left_out(
    tmp_path: Path, builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build reports them as tracks that failed; the others need the gain all the same."""
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    good, cut, missing = shortest(builtin_collection, 3)
    kit = own_kit(write_kit(tmp_path / "mine", drum_sounds()))
    alone = write_collection(tmp_path / "alone", builtin_collection, [good])
    own = write_collection(tmp_path / "own", builtin_collection, [good, cut, missing])
    own.midi_path(cut).write_bytes(own.midi_path(cut).read_bytes()[:100])
    own.midi_path(missing).unlink()
    assert kit_gain(kit, own) == kit_gain(kit, alone)


def test_a_gain_that_cannot_be_kept_is_one_line(
    tmp_path: Path, builtin_collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMGMD_CACHE", str(tmp_path / "cache"))
    own = write_collection(tmp_path / "own", builtin_collection, shortest(builtin_collection, 1))
    kit = own_kit(write_kit(tmp_path / "mine", drum_sounds()))
    load_bank(kit)
    (tmp_path / "cache" / "gains").write_text("in the way")
    with pytest.raises(UserError, match="gains: the gain of kit mine cannot be written") as caught:
        kit_gain(kit, own)
    assert "\n" not in str(caught.value)


def test_a_gain_is_written_into_its_kit_alone() -> None:
    before = CATALOGUE.read_text("utf-8")
    after = set_gain(before, "colombo", 0.123)
    changed = set(before.splitlines()) ^ set(after.splitlines())
    assert len(changed) <= 2
    assert all(line.startswith("gain = ") for line in changed)
    old, new = (tomllib.loads(text)["kit"] for text in (before, after))
    assert [kit["id"] for kit, was in zip(new, old, strict=True) if kit != was] == ["colombo"]
    assert next(kit for kit in new if kit["id"] == "colombo")["gain"] == 0.123
    with pytest.raises(UserError, match="no kit nobody"):
        set_gain(before, "nobody", 1.0)
