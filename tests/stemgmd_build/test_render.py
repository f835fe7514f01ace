"""render(hits, bank) -> stems: where hits start, how they add up, ring, choke and end."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_kits import WHEEL_KIT, Layered, drum_sounds, noise, score, write_kit

from stemgmd_build.kits.catalogue import find_kit
from stemgmd_build.kits.own import own_kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import (
    FIVE_ROWS,
    LONGEST_TAIL_SAMPLES,
    NINE_ROWS,
    Schedule,
    render,
    schedule,
    sounding_pieces,
    strikes_of,
)
from stemgmd_build.taxonomy import (
    ARTICULATIONS,
    PIECE_OF_ARTICULATION,
    PIECES,
    SAMPLE_RATE,
    STEM_OF_PIECE,
    STEMS,
)

OPEN = PIECES.index("hihat_open")
SECOND = SAMPLE_RATE

Hits = list[tuple[int, str, int]]

HITS = st.lists(
    st.tuples(st.integers(0, 2 * SECOND), st.sampled_from(ARTICULATIONS), st.integers(1, 127)),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """The kit that is always at hand."""
    return load_bank(find_kit(WHEEL_KIT))


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A kit whose open hi-hat is a tone that does not fall for 3 s, and whose crash rings 7 s."""
    folder = tmp_path_factory.mktemp("steady")
    sounds = drum_sounds()
    tone = 0.25 * np.cos(2 * np.pi * 441 * np.arange(3 * SECOND) / SECOND)
    sounds["hihat_open"] = [Layered(np.stack([tone, tone / 2], axis=1))]
    sounds["crash_left"] = [Layered(noise(9, 7 * SECOND, decay=1.0, n_channels=2))]
    kit = own_kit(write_kit(folder / "steady", sounds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEMGMD_CACHE", str(folder / "cache"))
        return load_bank(kit)


def plan_of(bank: Bank, *hits: tuple[float, str, int], **options: object) -> Schedule:
    return schedule(strikes_of(score(*hits)), bank, **options)  # type: ignore[arg-type]


def shot_of(bank: Bank, name: str, velocity: int) -> NDArray[np.float32]:
    """A hit alone, as the bank has it: float32 (2, n_samples)."""
    row = ARTICULATIONS.index(name)
    shot = bank.shot(int(bank.shot_of[row, velocity]))
    return np.asarray(shot * bank.gain_of[row, velocity])


@pytest.mark.parametrize("onset", [0, 1, 12345.49, 12345.51, 44100.5])
def test_a_hit_starts_at_the_sample_nearest_to_its_onset(bank: Bank, onset: float) -> None:
    plan = plan_of(bank, (onset, "snare", 100))
    first = round(onset / SECOND * SECOND)
    out = render(plan)
    expected = shot_of(bank, "snare", 100)[:, : plan.n_samples - first - 441]
    assert not out[:, :, :first].any()
    assert np.array_equal(out[1, :, first : first + expected.shape[1]], expected)
    assert not np.delete(out, 1, axis=0).any()


@pytest.mark.parametrize("articulations", ["nine", "full"])
def test_two_hits_are_exactly_the_sum_of_each_alone(bank: Bank, articulations: str) -> None:
    """So re-striking does not cut what rings, and nothing is normalized."""
    n_samples = 3 * SECOND
    hits = [(1000, "snare", 90), (3000, "snare_rim", 127)]
    both, first, second = (
        render(plan_of(bank, *some, articulations=articulations), stop=n_samples)
        for some in (hits, hits[:1], hits[1:])
    )
    ends = [plan_of(bank, hit, articulations=articulations).n_samples for hit in hits]
    whole = min(ends) - 441  # the fade of the shorter one begins
    assert np.array_equal(both[..., :whole], (first + second)[..., :whole])
    assert np.count_nonzero(second[1, :, :whole]) > 1000


@settings(max_examples=15, deadline=None)
@given(
    of_steady=st.booleans(),
    hits=HITS,
    borders=st.lists(st.floats(0, 1), max_size=6),
    choke=st.booleans(),
    rows=st.sampled_from([NINE_ROWS, FIVE_ROWS]),
)
def test_blocks_equal_one_piece_bit_for_bit(
    bank: Bank,
    steady: Bank,
    of_steady: bool,
    hits: Hits,
    borders: list[float],
    choke: bool,
    rows: tuple[int, ...],
) -> None:
    plan = plan_of(steady if of_steady else bank, *hits, choke=choke, articulations="full")
    cuts = [0, *sorted(int(border * plan.n_samples) for border in borders), plan.n_samples]
    parts = [
        render(plan, start=start, stop=stop, rows=rows) for start, stop in itertools.pairwise(cuts)
    ]
    assert np.array_equal(np.concatenate(parts, axis=2), render(plan, rows=rows))


@settings(max_examples=10, deadline=None)
@given(hits=HITS)
def test_five_rows_are_the_sums_of_the_nine(bank: Bank, hits: Hits) -> None:
    plan = plan_of(bank, *hits)
    nine, five = render(plan), render(plan, rows=FIVE_ROWS)
    for stem, row in zip(STEMS, five, strict=True):
        members = [nine[i] for i, piece in enumerate(PIECES) if STEM_OF_PIECE[piece] == stem]
        assert np.allclose(row, sum(members), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(hits=HITS, choke=st.booleans())
def test_a_piece_that_is_not_struck_is_digital_silence(bank: Bank, hits: Hits, choke: bool) -> None:
    plan = plan_of(bank, *hits, choke=choke)
    out = render(plan)
    struck = {PIECES.index(PIECE_OF_ARTICULATION[name]) for _, name, _ in hits}
    assert {i for i in range(len(PIECES)) if out[i].any()} == struck
    assert set(sounding_pieces(plan, 0, plan.n_samples)) == struck
    half = plan.n_samples // 2
    audible = {i for i in range(len(PIECES)) if out[i, :, half:].any()}
    assert audible <= set(sounding_pieces(plan, half, plan.n_samples))


def test_rows_of_minus_one_are_left_out_and_out_is_added_to(bank: Bank) -> None:
    plan = plan_of(bank, (0, "kick", 100), (500, "ride", 100))
    only_ride = [-1] * 8 + [0]
    alone = render(plan, rows=only_ride)
    assert alone.shape == (1, 2, plan.n_samples)
    assert np.array_equal(alone[0], render(plan)[8])
    twice = render(plan, stop=1000, rows=only_ride, out=alone[..., :1000].copy())
    assert np.array_equal(twice, 2 * alone[..., :1000])


@settings(max_examples=20, deadline=None)
@given(hits=HITS, choke=st.booleans(), of_steady=st.booleans())
def test_nothing_above_60_db_is_cut_unless_5_s_have_passed(
    bank: Bank, steady: Bank, hits: Hits, choke: bool, of_steady: bool
) -> None:
    """What lies beyond the end is at most the sum of the hits' own -60 dB."""
    bank = steady if of_steady else bank
    plan = plan_of(bank, *hits, choke=choke)
    last = max(onset for onset, _, _ in hits)
    assert last < plan.n_samples <= last + LONGEST_TAIL_SAMPLES
    if plan.n_samples < last + LONGEST_TAIL_SAMPLES:
        beyond = render(plan, start=plan.n_samples, stop=plan.n_samples + 2 * SECOND)
        peaks = [
            float(np.abs(shot_of(bank, PIECE_OF_ARTICULATION[n], v)).max()) for _, n, v in hits
        ]
        assert np.abs(beyond).sum(axis=0).max() <= sum(peaks) * 1.001e-3


def test_a_track_fades_out_once_its_only_hit_has_fallen_by_60_db(bank: Bank) -> None:
    index = bank.shot_of[ARTICULATIONS.index("hihat_open"), 100]
    n_tail = bank.shots[index].n_tail60
    assert n_tail + 441 < bank.shots[index].n_samples
    plan = plan_of(bank, (777, "hihat_open", 100))
    assert plan.n_samples == 777 + n_tail + 441
    out = render(plan)[OPEN, :, 777:]
    plain = shot_of(bank, "hihat_open", 100)[:, : n_tail + 441]
    assert np.array_equal(out[:, :n_tail], plain[:, :n_tail]), "nothing above -60 dB is faded"
    fade = np.linspace(1, 0, 442)[1:]
    assert np.allclose(out[:, n_tail:], plain[:, n_tail:] * fade, atol=1e-7)


def test_what_ends_by_itself_within_the_fade_is_not_faded(bank: Bank) -> None:
    index = bank.shot_of[ARTICULATIONS.index("snare"), 100]
    assert bank.shots[index].n_samples < bank.shots[index].n_tail60 + 441
    plan = plan_of(bank, (777, "snare", 100))
    out = render(plan)[PIECES.index("snare"), :, 777:]
    assert np.array_equal(out, shot_of(bank, "snare", 100))


def test_a_long_ring_ends_5_s_after_the_last_hit_in_a_fade(steady: Bank) -> None:
    plan = plan_of(steady, (0, "crash_left", 127), (100, "kick", 1))
    assert plan.n_samples == 100 + LONGEST_TAIL_SAMPLES
    out = render(plan)[PIECES.index("crash_left")]
    plain = shot_of(steady, "crash_left", 127)[:, : plan.n_samples]
    assert np.array_equal(out[:, :-441], plain[:, :-441])
    fade = np.linspace(1, 0, 442)[1:]
    assert np.allclose(out[:, -441:], plain[:, -441:] * fade, atol=1e-7)


def test_no_hits_give_no_samples(bank: Bank) -> None:
    plan = plan_of(bank)
    assert plan.n_samples == 0
    assert render(plan).shape == (9, 2, 0)


def test_an_empty_or_a_silent_window_is_rendered(bank: Bank) -> None:
    plan = plan_of(bank, (2 * SECOND, "kick", 100))
    assert render(plan, start=500, stop=500).shape == (9, 2, 0)
    assert not render(plan, start=0, stop=SECOND).any()
    beyond = render(plan, start=plan.n_samples + 10 * SECOND, stop=plan.n_samples + 11 * SECOND)
    assert beyond.shape == (9, 2, SECOND)
    assert not beyond.any()


def test_the_kits_gain_scales_every_sample(bank: Bank) -> None:
    half = load_bank(find_kit(WHEEL_KIT), gain=0.5)
    quarter = load_bank(find_kit(WHEEL_KIT), gain=0.25)
    hits: Hits = [(0, "kick", 100), (999, "hihat_open", 64), (5000, "hihat_closed", 64)]
    assert np.array_equal(render(plan_of(half, *hits)), 2 * render(plan_of(quarter, *hits)))


@pytest.mark.parametrize("closing", ["hihat_closed", "hihat_closed_edge", "hihat_pedal"])
def test_a_closed_hat_damps_an_open_one_by_60_db_within_200_ms(steady: Bank, closing: str) -> None:
    plain = render(plan_of(steady, (0, "hihat_open", 127)), stop=2 * SECOND)[OPEN]
    plan = plan_of(steady, (0, "hihat_open", 127), (SECOND, closing, 30), articulations="full")
    choked = render(plan, stop=2 * SECOND)[OPEN]
    assert np.array_equal(choked[:, :SECOND], plain[:, :SECOND])
    by_10_ms = np.abs(choked[0, SECOND:]).reshape(-1, 441).max(axis=1) / np.abs(plain[0]).max()
    assert by_10_ms[0] > 0.9  # it falls, it is not cut
    assert (np.diff(by_10_ms[:22]) < 0).all()
    assert by_10_ms[20:].max() <= 1e-3
    assert not choked[:, SECOND + SECOND // 2 :].any()


@pytest.mark.parametrize("other", ["kick", "snare", "ride", "crash_left", "hihat_open"])
def test_nothing_but_a_closing_hat_chokes(steady: Bank, other: str) -> None:
    window = {"stop": 5 * SECOND}
    hits: Hits = [(0, "hihat_open", 127), (SECOND, other, 127)]
    choking = render(plan_of(steady, *hits), **window)
    ringing = render(plan_of(steady, *hits, choke=False), **window)
    assert np.array_equal(choking, ringing)


def test_without_choke_the_open_hat_rings_on(steady: Bank) -> None:
    plan = plan_of(steady, (0, "hihat_open", 127), (SECOND, "hihat_closed", 30), choke=False)
    alone = render(plan_of(steady, (0, "hihat_open", 127)), stop=plan.n_samples)[OPEN]
    assert np.array_equal(render(plan)[OPEN], alone)
    assert np.abs(alone[0, 2 * SECOND : 2 * SECOND + 441]).max() > 0.2


def test_a_closed_hat_chokes_every_open_one_before_it_and_none_after_it(steady: Bank) -> None:
    hits: Hits = [
        (0, "hihat_open", 100),
        (8000, "hihat_open_edge", 80),
        (SECOND, "hihat_closed", 60),
        (SECOND, "hihat_open", 60),
        (SECOND + 8000, "hihat_open", 50),
    ]
    choked = render(plan_of(steady, *hits), stop=3 * SECOND)[OPEN]
    later = render(plan_of(steady, *hits[3:]), stop=3 * SECOND)[OPEN]
    assert np.array_equal(choked[:, 2 * SECOND :], later[:, 2 * SECOND :])
    assert later[:, 2 * SECOND :].any()


def test_nine_plays_one_sound_a_piece_and_full_the_finer_ones(bank: Bank) -> None:
    for name, piece in PIECE_OF_ARTICULATION.items():
        nine = plan_of(bank, (0, name, 100), articulations="nine")
        full = plan_of(bank, (0, name, 100), articulations="full")
        assert np.array_equal(render(nine), render(plan_of(bank, (0, piece, 100))))
        finer = name != piece and name in bank.kit.sounds
        assert np.array_equal(render(nine), render(full)) != finer, name
        assert list(nine.piece) == list(full.piece) == [PIECES.index(piece)]


def test_strikes_keep_the_hits_of_a_real_performance_in_order(
    collection: Collection, bank: Bank
) -> None:
    """And a whole performance renders: finite, below full scale, every struck piece heard."""
    performance = min(collection.performances, key=lambda p: (p.duration_sec, p.id))
    played = collection.read_score(performance)
    strikes = strikes_of(played)
    assert (np.diff(strikes.onset) >= 0).all()
    assert strikes.velocity.tolist() == [hit.velocity for hit in played.hits]
    onsets = np.array([hit.onset_sec for hit in played.hits])
    assert np.abs(strikes.onset / SAMPLE_RATE - onsets).max() <= 0.5 / SAMPLE_RATE + 1e-12
    out = render(schedule(strikes, bank))
    assert np.abs(out.sum(axis=0)).max() < 1
    assert {i for i in range(9) if out[i].any()} == set(strikes.pieces().tolist())


def test_a_bank_is_not_changed_by_rendering(steady: Bank) -> None:
    before = steady.samples.copy()
    render(plan_of(steady, (0, "hihat_open", 127), (SECOND, "hihat_closed", 30)))
    assert np.array_equal(steady.samples, before)
