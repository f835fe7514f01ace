"""Training examples against the renderer of the dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_kits import WHEEL_KIT, drum_sounds, write_kit

from larsnet.training.augment import AugmentConfig, equalize, reverberate
from larsnet.training.segments import Hit, Plan, Player, Segments
from stemgmd_build.kits.catalogue import find_kit
from stemgmd_build.kits.own import own_kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import (
    CHOKE_DECAY,
    FIVE_ROWS,
    Strikes,
    render,
    schedule,
    strikes_of,
)
from stemgmd_build.taxonomy import ARTICULATIONS, STEMS

N_SAMPLES = 60_000
PLAIN = AugmentConfig(
    example=1, kit_swap=0, doubling=0, pitch_shift=0, saturation=0, channel_swap=0, remix=0
)
TOMS = STEMS.index("toms")


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> list[Bank]:
    folder = tmp_path_factory.mktemp("kits")
    kits = [
        find_kit(WHEEL_KIT),
        *(own_kit(write_kit(folder / f"k{i}", drum_sounds(i))) for i in (1, 2)),
    ]
    return [load_bank(kit) for kit in kits]


@pytest.fixture(scope="module")
def strikes(builtin_collection: Collection) -> list[Strikes]:
    chosen = builtin_collection.performances[::6]
    return [strikes_of(builtin_collection.read_score(one)) for one in chosen]


def segments(
    strikes: list[Strikes], banks: list[Bank], augment: AugmentConfig | None = None, seed: int = 0
) -> Segments:
    return Segments(strikes, banks, N_SAMPLES, augment=augment, seed=seed)


def played(plan: Plan, banks: list[Bank], n_samples: int = N_SAMPLES) -> torch.Tensor:
    return Player(banks, torch.device("cpu")).play([plan], n_samples)[0]


def as_dataset(plan: Plan, strikes: list[Strikes], banks: list[Bank]) -> torch.Tensor:
    """The same window through the dataset's renderer, on the kit of each stem."""
    stems = np.zeros((len(STEMS), 2, N_SAMPLES), np.float32)
    for stem, kit in enumerate(plan.draw.kits):
        track = schedule(strikes[plan.performance], banks[kit])
        begin, end = max(plan.start, 0), min(plan.start + N_SAMPLES, track.n_samples)
        rows = [0 if row == stem else -1 for row in FIVE_ROWS]
        window = stems[stem : stem + 1, :, begin - plan.start : end - plan.start]
        render(track, start=begin, stop=end, rows=rows, out=window)
    return torch.from_numpy(stems)


@pytest.mark.parametrize("augment", [None, AugmentConfig(example=1, kit_swap=1, doubling=0,
    pitch_shift=0, saturation=0, channel_swap=0, remix=0)])  # fmt: skip
def test_an_example_is_what_the_dataset_holds(
    strikes: list[Strikes], banks: list[Bank], augment: AugmentConfig | None
) -> None:
    """Chokes and kit swaps included, but for the end of a track, where examples ring out."""
    data = segments(strikes, banks, augment)
    compared = 0
    for index in range(24):
        plan = data.plan(index)
        ends = min(schedule(strikes[plan.performance], b).n_samples for b in banks)
        inside = max(0, min(N_SAMPLES, ends - 500 - plan.start))
        ours, theirs = played(plan, banks), as_dataset(plan, strikes, banks)
        torch.testing.assert_close(ours[..., :inside], theirs[..., :inside], atol=1e-6, rtol=0)
        compared += int(ours[..., :inside].abs().amax() > 0.01)
    assert compared > 12


def test_an_example_is_the_same_in_any_order(strikes: list[Strikes], banks: list[Bank]) -> None:
    config = AugmentConfig(example=1)
    forwards = [segments(strikes, banks, config).plan(i) for i in range(6)]
    data = segments(strikes, banks, config)
    assert [data.plan(i) for i in reversed(range(6))] == forwards[::-1]
    assert segments(strikes, banks, config, seed=1).plan(0) != forwards[0]


def test_examples_come_from_every_performance_and_kit(
    strikes: list[Strikes], banks: list[Bank]
) -> None:
    data = segments(strikes, banks)
    plans = [data.plan(index) for index in range(300)]
    assert {plan.performance for plan in plans} == set(range(len(strikes)))
    counts = np.bincount([plan.draw.kits[0] for plan in plans])
    assert (np.abs(counts - 100) < 35).all()
    spans = [(plan.start, int(strikes[plan.performance].onset[-1])) for plan in plans]
    assert all(-N_SAMPLES // 4 <= start <= last for start, last in spans)


def with_augment(strikes: list[Strikes], banks: list[Bank], **changes: float) -> tuple[Plan, Plan]:
    """The first example in which every stem sounds in both, plain and changed."""
    from dataclasses import replace

    plain = segments(strikes, banks, PLAIN)
    changed = segments(strikes, banks, replace(PLAIN, **changes))  # type: ignore[arg-type]
    index = max(range(40), key=lambda i: min(len(hits) for hits in plain.plan(i).hits[:2]))
    return plain.plan(index), changed.plan(index)


def test_doubling_is_the_mean_of_two_kits(strikes: list[Strikes], banks: list[Bank]) -> None:
    plain, doubled = with_augment(strikes, banks, doubling=1.0)
    for stem, (first, second) in enumerate(
        zip(doubled.draw.kits, doubled.draw.doubles, strict=True)
    ):
        kits = []
        for kit in (first, second):
            alone = Segments(strikes, [banks[kit]], N_SAMPLES, augment=None, seed=0)
            hits = alone._hits(plain.performance, stem, 0, plain.start, N_SAMPLES, 1.0, 1.0)
            out = torch.zeros(2, N_SAMPLES)
            Player([banks[kit]], torch.device("cpu"))._place(hits, out, 0.0)
            kits.append(out)
        torch.testing.assert_close(played(doubled, banks)[stem], (kits[0] + kits[1]) / 2)


def test_a_pitch_shift_moves_the_spectrum_and_no_onset(
    banks: list[Bank],
) -> None:
    """Tom pings of 220 Hz, struck at known samples."""
    onset = np.array([9_000, 30_000], np.int64)
    row = np.full(2, ARTICULATIONS.index("hi_tom"))
    struck = [Strikes(onset, row, row, np.full(2, 100))]
    plain, shifted = (
        Segments(struck, banks[1:2], N_SAMPLES, augment=augment, seed=3)
        for augment in (PLAIN, AugmentConfig(**{**vars(PLAIN), "pitch_shift": 1.0}))
    )
    seen = set()
    for index in range(12):
        before, after = plain.plan(index), shifted.plan(index)
        semitones = after.draw.semitones[TOMS]
        if before.start > 5_000:
            continue
        old, new = (played(plan, banks[1:2])[TOMS, 0].double() for plan in (before, after))
        loudest = [int((one.abs() > 0.02 * one.abs().max()).nonzero()[0]) for one in (old, new)]
        assert abs(loudest[0] - loudest[1]) < 40
        ratio = _pitch(new) / _pitch(old)
        assert 12 * np.log2(ratio) == pytest.approx(semitones, abs=0.2)
        seen.add(round(semitones))
    assert len(seen) >= 3


def _pitch(signal: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(signal * torch.hann_window(len(signal)), 1 << 19).abs()
    low, high = (int(hz * (1 << 19) / 44_100) for hz in (100, 500))
    return low + int(spectrum[low:high].argmax())


def test_level_saturation_and_channels_act_on_each_stem(
    strikes: list[Strikes], banks: list[Bank]
) -> None:
    plain, changed = with_augment(strikes, banks, saturation=1.0, channel_swap=1.0, remix=1.0)
    before, after = played(plain, banks), played(changed, banks)
    for stem in range(len(STEMS)):
        drive, gain_db = changed.draw.drives[stem], changed.draw.gains_db[stem]
        expected = torch.tanh(before[stem] * drive).flip(0) * 10 ** (gain_db / 20)
        torch.testing.assert_close(after[stem], expected)


def test_damping_falls_off_from_each_stroke_wherever_the_example_begins() -> None:
    """A bank that rings at one level: what is heard of a hit is the envelope, late or choked."""
    bank, choke = torch.ones(2, 60_000), len(CHOKE_DECAY)
    player = Player([], torch.device("cpu"))
    player._samples.append(bank)
    late = Hit(0, 20_000, 100, 5_000, 0.5, 10_000, 20_000)
    choked = Hit(0, 0, 10_000, 1_000 + choke, 1.0, 1_000, 0)
    out = torch.zeros(2, N_SAMPLES)
    player._place((late, choked), out, 0.2)
    expected = torch.zeros(N_SAMPLES)
    expected[100:5_100] = 0.5 * torch.exp(-(20_000 + torch.arange(5_000)) / 8_820)
    decay = torch.cat((torch.ones(1_000), torch.from_numpy(CHOKE_DECAY)))
    expected[10_000 : 11_000 + choke] = decay * torch.exp(-torch.arange(len(decay)) / 8_820)
    torch.testing.assert_close(out, expected.expand(2, -1))


def test_equalizer_damping_and_reverb_act_on_each_stem(
    strikes: list[Strikes], banks: list[Bank]
) -> None:
    plain, changed = with_augment(strikes, banks, equalizer=1.0)
    before, after = played(plain, banks), played(changed, banks)
    for stem, gains_db in enumerate(changed.draw.equalizers_db):
        torch.testing.assert_close(after[stem], equalize(before[stem], torch.tensor(gains_db)))
    plain, changed = with_augment(strikes, banks, reverb=1.0)
    before, after = played(plain, banks), played(changed, banks)
    for stem, reverb in enumerate(changed.draw.reverbs):
        assert reverb
        torch.testing.assert_close(after[stem], reverberate(before[stem][None], [reverb])[0])
    plain, changed = with_augment(strikes, banks, damping=1.0)
    before, after = played(plain, banks), played(changed, banks)
    sounding = before.square().sum(dim=(1, 2)) > 0
    assert sounding.any()
    assert bool((after.square().sum(dim=(1, 2)) < before.square().sum(dim=(1, 2)))[sounding].all())


def test_a_batch_is_its_examples(strikes: list[Strikes], banks: list[Bank]) -> None:
    data = segments(strikes, banks, AugmentConfig(example=1))
    plans = [data.plan(index) for index in range(3)]
    together = Player(banks, torch.device("cpu")).play(plans, N_SAMPLES)
    assert together.shape == (3, len(STEMS), 2, N_SAMPLES)
    assert torch.equal(together, torch.stack([played(plan, banks) for plan in plans]))


def test_the_banks_are_not_written_to(
    strikes: list[Strikes], banks: list[Bank], tmp_path: Path
) -> None:
    before = banks[1].samples.copy()
    data = segments(strikes, banks, AugmentConfig(example=1))
    Player(banks, torch.device("cpu")).play([data.plan(i) for i in range(4)], N_SAMPLES)
    assert np.array_equal(banks[1].samples, before)
