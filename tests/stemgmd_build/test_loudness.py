"""Loudness after ITU-R BS.1770, and the balance of a kit's pieces."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import freqz
from small_kits import HERE, WHEEL_KIT

from stemgmd_build.auditing.loudness import balance, gmd_velocities, loudness, piece_loudness
from stemgmd_build.kits.catalogue import find_kit
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import load_bank
from stemgmd_build.taxonomy import ARTICULATION_OF_NOTE, PIECE_OF_ARTICULATION, PIECES

SHELF = ([1.53512485958697, -2.69169618940638, 1.19839281085285],
         [1.0, -1.69065929318241, 0.73248077421585])  # fmt: skip
HIGH_PASS = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])
"""The standard's coefficients for 48 kHz (BS.1770-4, tables 1 and 2)."""


def sine(frequency: float, *, channels: int = 1) -> NDArray[np.float32]:
    """0.4 s at full scale in the first channels: float32 (2, n)."""
    out = np.zeros((2, 17640), np.float32)
    out[:channels] = np.sin(2 * np.pi * frequency * np.arange(17640) / 44100)
    return out


def test_a_full_scale_sine_of_997_hz_in_one_channel_reads_minus_3_01_lufs() -> None:
    assert loudness(sine(997)) == pytest.approx(-3.01, abs=0.05)


def test_two_channels_are_3_db_louder_than_one() -> None:
    one, both = loudness(sine(997)), loudness(sine(997, channels=2))
    assert both - one == pytest.approx(10 * math.log10(2))


@pytest.mark.parametrize("frequency", [40, 100, 500, 2000, 10000])
def test_the_weighting_is_that_of_the_published_coefficients(frequency: float) -> None:
    response = [freqz(*section, [frequency, 997], fs=48000)[1] for section in (SHELF, HIGH_PASS)]
    gains = 20 * np.log10(np.abs(np.prod(response, axis=0)))
    measured = loudness(sine(frequency)) - loudness(sine(997))
    assert measured == pytest.approx(gains[0] - gains[1], abs=0.15)


def test_the_weighting_cuts_the_bass_and_lifts_the_treble() -> None:
    middle = loudness(sine(997))
    assert loudness(sine(30)) < middle - 5
    assert middle + 3 < loudness(sine(10000)) < middle + 4


def test_a_short_sound_counts_as_400_ms_and_what_follows_does_not_count() -> None:
    tone = sine(997)
    long = np.concatenate([tone, tone], axis=1)
    assert loudness(long) == loudness(tone)
    assert loudness(tone[:, :8820]) == pytest.approx(loudness(tone) - 10 * math.log10(2), abs=0.05)


def test_silence_is_minus_infinity() -> None:
    assert loudness(np.zeros((2, 100), np.float32)) == -math.inf


def test_velocities_are_counted_for_every_piece() -> None:
    assert set(gmd_velocities()) == set(PIECES)
    for counts in gmd_velocities().values():
        assert len(counts) == 128
        assert counts[0] == 0
        assert sum(counts) > 1000


def test_velocities_are_those_of_gmd(collection: Collection) -> None:
    """On a part of it: no piece is played there more often than in all of GMD."""
    if collection.source != "gmd":
        pytest.skip("the Groove MIDI Dataset is not at hand")
    counts = {piece: np.zeros(128, int) for piece in PIECES}
    for performance in collection.performances[::25]:
        for hit in collection.read_score(performance).hits:
            counts[PIECE_OF_ARTICULATION[ARTICULATION_OF_NOTE[hit.note]]][hit.velocity] += 1
    for piece in PIECES:
        assert (counts[piece] <= gmd_velocities()[piece]).all()
    assert counts["snare"].sum() > 1000


@pytest.mark.parametrize("kit", HERE, ids=lambda kit: kit.id)
def test_the_snare_is_the_reference_and_every_piece_is_heard(kit: Kit) -> None:
    values = balance(load_bank(kit, gain=1.0))
    assert values["snare"] == 0
    assert all(-30 < value < 15 for value in values.values())


def test_a_gain_of_6_db_lifts_its_piece_by_6_db() -> None:
    kit = find_kit(WHEEL_KIT)
    kick = replace(kit.sounds["kick"], gain_db=kit.sounds["kick"].gain_db + 6)
    louder = load_bank(replace(kit, sounds={**kit.sounds, "kick": kick}), gain=1.0)
    plain = load_bank(kit, gain=1.0)
    change = {p: piece_loudness(louder, p) - piece_loudness(plain, p) for p in PIECES}
    assert change["kick"] == pytest.approx(6, abs=1e-3)
    assert all(value == 0 for piece, value in change.items() if piece != "kick")


def test_the_kits_gain_does_not_change_its_balance() -> None:
    kit = find_kit(WHEEL_KIT)
    loud, soft = balance(load_bank(kit, gain=1.0)), balance(load_bank(kit, gain=0.1))
    assert loud == pytest.approx(soft, abs=1e-4)
