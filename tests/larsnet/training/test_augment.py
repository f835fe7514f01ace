"""The augmentations as physical facts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from larsnet.training.augment import (
    EQUALIZER_HZ,
    MORE_NAMES,
    NAMES,
    AugmentConfig,
    Draw,
    Reverb,
    damping_envelope,
    draw,
    equalize,
    remix,
    resample,
    reverberate,
    saturate,
    stretched_length,
    swap_channels,
)

N_KITS = 7
N_DRAWS = 4000


def sine(n_cycles: int, n_samples: int) -> torch.Tensor:
    return torch.sin(2 * torch.pi * n_cycles * torch.arange(n_samples).double() / n_samples)


SINE = sine(50, 4410).repeat(2, 1)


def draws(config: AugmentConfig, n: int = N_DRAWS) -> list[Draw]:
    return [draw(config, kit=3, n_kits=N_KITS, seed=1, index=index) for index in range(n)]


def share(happened: list[bool]) -> float:
    return sum(happened) / len(happened)


@pytest.fixture(scope="module")
def papers() -> list[Draw]:
    return draws(AugmentConfig())


def test_each_augmentation_strikes_as_often_as_the_paper_says(papers: list[Draw]) -> None:
    """Half of the examples are augmented; then each has its own probability."""
    found = {
        # one stem keeps its kit, and of the others one in seven is given the same again
        "kit_swap": share([any(kit != 3 for kit in one.kits) for one in papers]),
        "doubling": share([kit >= 0 for one in papers for kit in one.doubles]),
        "pitch_shift": share([s != 0 for one in papers for s in one.semitones]),
        "saturation": share([b != 0 for one in papers for b in one.drives]),
        "channel_swap": share([swap for one in papers for swap in one.swapped]),
        "remix": share([any(one.gains_db) for one in papers]),
    }
    config = AugmentConfig()
    for name in NAMES:
        assert found[name] == pytest.approx(0.5 * getattr(config, name), abs=0.025), name


@pytest.mark.parametrize("n_kits", [1, 2, 3, 6])
def test_a_stem_is_doubled_by_every_kit_but_its_own(n_kits: int) -> None:
    config = AugmentConfig(example=1, doubling=1)
    found = [draw(config, kit=0, n_kits=n_kits, seed=2, index=index) for index in range(300)]
    pairs = {pair for one in found for pair in zip(one.kits, one.doubles, strict=True)}
    others = {(a, b) for a in range(n_kits) for b in range(n_kits) if a != b}
    assert pairs <= (others or {(0, -1)})
    assert {b for _, b in pairs} == ({b for _, b in others if b or n_kits == 2} or {-1})


def test_half_of_the_examples_stay_as_they_are(papers: list[Draw]) -> None:
    plain = Draw((3,) * 5, (-1,) * 5, (0.0,) * 5, (0.0,) * 5, (False,) * 5, (0.0,) * 5)
    untouched = 0.5 + 0.5 * 0.5 * 0.7 * (0.7**3 * 0.5) ** 5
    assert share([one == plain for one in papers]) == pytest.approx(untouched, abs=0.025)
    assert all(one == plain for one in draws(AugmentConfig(example=0), 50))


def test_what_is_drawn_fills_the_papers_ranges(papers: list[Draw]) -> None:
    shifts = [s for one in papers for s in one.semitones if s]
    drives = [b for one in papers for b in one.drives if b]
    gains = [g for one in papers if any(one.gains_db) for g in one.gains_db]
    for values, low, high in ((shifts, -3, 3), (drives, 1, 5), (gains, -12, 0)):
        assert low <= min(values) <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))


def test_what_is_not_the_papers_happens_only_where_it_is_asked_for(papers: list[Draw]) -> None:
    assert not any(
        any(one.equalizers_db) or any(one.dampings_sec) or any(one.reverbs) for one in papers
    )
    asked = replace(AugmentConfig(), **dict.fromkeys(MORE_NAMES, 0.6))
    more = draws(asked)
    for name in ("equalizers_db", "dampings_sec", "reverbs"):
        struck = [bool(value) for one in more for value in getattr(one, name)]
        assert share(struck) == pytest.approx(0.5 * 0.6, abs=0.025)
    fields = ("equalizers_db", "dampings_sec", "reverbs")
    assert [replace(a, **{name: getattr(b, name) for name in fields})
            for a, b in zip(more, papers, strict=True)] == papers  # fmt: skip
    gains = [g for one in more for curve in one.equalizers_db for g in curve]
    assert max(map(abs, gains)) <= asked.equalizer_db < max(map(abs, gains)) + 0.1
    rooms = [room for one in more for room in one.reverbs if room]
    drawn = (
        (np.log([t for one in more for t in one.dampings_sec if t]), np.log(asked.damping_sec)),
        (np.log([room.reverb_sec for room in rooms]), np.log(asked.reverb_sec)),
        (np.array([room.level_db for room in rooms]), asked.reverb_db),
    )
    for values, (low, high) in drawn:
        assert low <= values.min() <= values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert all(len({room.reverb_sec for room in one.reverbs if room}) <= 1 for one in more)
    assert len({room.seed for room in rooms}) == len(rooms), "every stem stands somewhere else"


def test_a_swap_leaves_one_stem_on_its_kit() -> None:
    for one in draws(AugmentConfig(example=1, kit_swap=1), 200):
        assert 3 in one.kits
    assert {kit for one in draws(AugmentConfig(example=1), 400) for kit in one.kits} == set(
        range(N_KITS)
    )


@pytest.mark.parametrize("name", NAMES)
def test_leaving_one_out_changes_nothing_about_the_others(name: str) -> None:
    field = {
        "kit_swap": "kits",
        "doubling": "doubles",
        "pitch_shift": "semitones",
        "saturation": "drives",
        "channel_swap": "swapped",
        "remix": "gains_db",
    }[name]
    with_all = draws(AugmentConfig(), 200)
    without = draws(replace(AugmentConfig(), **{name: 0.0}), 200)
    plain = getattr(draws(AugmentConfig(example=0), 1)[0], field)
    assert all(getattr(one, field) == plain for one in without)
    assert [replace(one, **{field: plain}) for one in with_all] == without


def test_a_draw_depends_on_seed_and_index_alone() -> None:
    config = AugmentConfig(example=1)
    again = draw(config, kit=3, n_kits=N_KITS, seed=1, index=77)
    assert draw(config, kit=3, n_kits=N_KITS, seed=1, index=77) == again
    assert draw(config, kit=3, n_kits=N_KITS, seed=2, index=77) != again
    assert draw(config, kit=3, n_kits=N_KITS, seed=1, index=78) != again


@given(st.floats(-3, 3), st.integers(50_000, 600_000))
def test_a_stretched_axis_has_the_length_that_the_shift_asks_for(
    semitones: float, n_samples: int
) -> None:
    ratio = stretched_length(n_samples, semitones) / n_samples
    assert 12 * np.log2(ratio) == pytest.approx(semitones, abs=0.1)


@pytest.mark.parametrize("n_samples", [3000, 4410, 6000])
def test_resampling_keeps_a_sines_cycles_and_level(n_samples: int) -> None:
    """As many cycles in another number of samples: the pitch is that of the ratio."""
    expected = sine(50, n_samples)
    torch.testing.assert_close(resample(SINE, n_samples)[0], expected, atol=1e-9, rtol=0)


def test_resampling_to_fewer_samples_folds_nothing_back() -> None:
    assert resample(sine(2000, 4410)[None], 3000).abs().max() < 1e-9


@given(st.floats(1, 5))
def test_saturation_bounds_compresses_and_adds_odd_harmonics_only(drive: float) -> None:
    driven = saturate(SINE, drive)
    assert driven.abs().max() <= 1
    torch.testing.assert_close(driven, -saturate(-SINE, drive))
    torch.testing.assert_close(saturate(SINE * 1e-4, drive), SINE * 1e-4 * drive, rtol=1e-5, atol=0)
    harmonics = torch.fft.rfft(driven[0]).abs()
    assert harmonics[150] > 1e-3 * harmonics[50]
    assert harmonics[100] < 1e-9 * harmonics[50]


def test_swapping_channels_mirrors_the_picture() -> None:
    stem = torch.rand(2, 100)
    assert torch.equal(swap_channels(stem)[0], stem[1])
    assert torch.equal(swap_channels(swap_channels(stem)), stem)


@given(st.floats(-12, 0))
def test_remixing_changes_the_level_by_its_decibels(gain_db: float) -> None:
    power = remix(SINE, gain_db).square().mean() / SINE.square().mean()
    assert 10 * torch.log10(power).item() == pytest.approx(gain_db, abs=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        {"remix": 1.5},
        {"example": -0.1},
        {"doubling": float("nan")},
        {"semitones": 13.0},
        {"drive": (5.0, 1.0)},
        {"remix_db": (0.0, -12.0)},
        {"reverb": 2.0},
        {"reverb_sec": (0.0, 1.0)},
        {"reverb_sec": (1.0, 100.0)},
        {"reverb_db": (0.0, -10.0)},
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        AugmentConfig(**values)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(-24, 24), min_size=6, max_size=6))
def test_an_equalizer_has_its_gains_at_its_frequencies_and_moves_nothing(
    gains_db: list[float],
) -> None:
    """A click stays where it is; its spectrum is the curve."""
    n_samples = 44100  # a bin is 1 Hz
    click = torch.zeros(2, n_samples, dtype=torch.float64)
    click[:, 22050] = 1.0
    filtered = equalize(click, torch.tensor(gains_db, dtype=torch.float64))
    spectrum_db = 20 * torch.log10(torch.fft.rfft(filtered[0]).abs())
    for hz, gain_db in zip(EQUALIZER_HZ, gains_db, strict=True):
        assert float(spectrum_db[round(hz)]) == pytest.approx(gain_db, abs=1e-6)
    between = float(spectrum_db[round((EQUALIZER_HZ[1] * EQUALIZER_HZ[2]) ** 0.5)])
    assert between == pytest.approx((gains_db[1] + gains_db[2]) / 2, abs=0.05)
    torch.testing.assert_close(filtered, filtered.roll(-22050, 1).flip(1).roll(22051, 1))


def test_an_equalizer_without_gains_is_none_and_each_stem_has_its_own() -> None:
    stems = torch.stack((SINE, 2 * SINE))
    curves = torch.tensor([[0.0] * 6, [6.0] * 6], dtype=torch.float64)
    expected = torch.stack((SINE, 2 * SINE * 10 ** (6 / 20)))
    torch.testing.assert_close(equalize(stems, curves), expected)


def test_damping_makes_a_hit_fall_off_by_its_time_constant() -> None:
    envelope = damping_envelope(0.1, 44100, torch.zeros(0, dtype=torch.float64))
    assert float(envelope[0]) == 1.0
    assert float(envelope[4410]) == pytest.approx(np.exp(-1))
    assert float(envelope[44100 // 2]) == pytest.approx(np.exp(-5))


def in_room(stem: torch.Tensor, room: Reverb) -> torch.Tensor:
    return reverberate(stem[None], [room])[0]


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 0.8), st.floats(-30, 0), st.integers(0, 1 << 32))
def test_a_room_answers_a_click_with_noise_that_dies_away_in_its_time(
    reverb_sec: float, level_db: float, seed: int
) -> None:
    click = torch.zeros(2, 44100, dtype=torch.float64)
    click[:, 100] = 1.0
    answer = (in_room(click, Reverb(reverb_sec, level_db, seed)) - click).numpy()
    np.testing.assert_allclose(answer[:, :100], 0, atol=1e-12)
    energy = np.square(answer).sum(axis=1)
    np.testing.assert_allclose(10 * np.log10(energy), level_db, atol=1e-6)
    # Schroeder's backward integral
    left = np.square(answer)[:, 100 + round(reverb_sec * 44100 / 3) :].sum(axis=1) / energy
    np.testing.assert_allclose(10 * np.log10(left), -20, atol=1.5)
    # As many independent samples as a decay of 60 dB in that time is worth: (sum w)^2 / sum w^2.
    n_samples = 2 * reverb_sec * 44100 / np.log(1e6)
    assert abs(np.corrcoef(answer)[0, 1]) < 5 / np.sqrt(n_samples), "it comes from all sides"


def test_reverberation_is_linear_and_that_of_its_seed() -> None:
    noise = torch.rand(2, 3000, dtype=torch.float64) - 0.5
    room = Reverb(0.3, -10.0, 5)
    torch.testing.assert_close(in_room(3 * noise, room), 3 * in_room(noise, room))
    assert not torch.equal(in_room(noise, room), in_room(noise, room._replace(seed=6)))


def test_each_stem_of_many_stands_in_its_own_room() -> None:
    stems = torch.rand(2, 2, 3000, dtype=torch.float64) - 0.5
    rooms = [Reverb(0.02, -10.0, 7), Reverb(1.0, -20.0, 8)]
    both = reverberate(stems, rooms)
    for stem, room, together in zip(stems, rooms, both, strict=True):
        torch.testing.assert_close(in_room(stem, room), together)
