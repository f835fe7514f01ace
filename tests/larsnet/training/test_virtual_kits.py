"""Kits that nobody recorded: whatever they are, a kick is a kick and a cymbal is a cymbal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from larsnet.training.virtual_kits import virtual_bank, with_virtual_kits
from stemgmd_build.rendering.bank import Bank
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES, SAMPLE_RATE

SEEDS = range(4)
Signal = NDArray[np.float32]


@pytest.fixture(scope="module")
def kits() -> list[Bank]:
    return [virtual_bank(seed) for seed in SEEDS]


def stroke(bank: Bank, piece: str, velocity: int = 127) -> Signal:
    row = ARTICULATIONS.index(piece)
    struck: Signal = bank.shot(bank.shot_of[row, velocity]) * bank.gain_of[row, velocity]
    return struck


def loudest_hz(signal: Signal) -> float:
    spectrum = np.abs(np.fft.rfft(signal.mean(axis=0), 1 << 18))
    return float(spectrum.argmax() * SAMPLE_RATE / (1 << 18))


def centroid_hz(signal: Signal) -> float:
    power = np.square(np.abs(np.fft.rfft(signal.mean(axis=0))))
    return float(power @ np.fft.rfftfreq(signal.shape[1], 1 / SAMPLE_RATE) / power.sum())


def length_sec(signal: Signal) -> float:
    """Until nine tenths of the energy are heard."""
    energy = np.cumsum(np.square(signal).sum(axis=0))
    return float(np.searchsorted(energy, 0.9 * energy[-1]) / SAMPLE_RATE)


def test_a_seed_is_a_kit(kits: list[Bank]) -> None:
    again = virtual_bank(SEEDS[1])
    assert np.array_equal(again.samples, kits[1].samples)
    assert not np.array_equal(again.samples[:, :1000], kits[2].samples[:, :1000])
    assert len({kit.kit.id for kit in kits}) == len(kits)


def test_every_piece_sounds_at_every_velocity_and_louder_when_struck_harder(
    kits: list[Bank],
) -> None:
    for kit in kits:
        assert np.isfinite(kit.samples).all()
        for piece in PIECES:
            levels = [np.square(stroke(kit, piece, v)).sum() for v in (1, 30, 60, 100, 127)]
            assert levels[0] > 0
            assert levels == sorted(levels), (kit.kit.id, piece)


def test_pieces_are_what_they_are_called(kits: list[Bank]) -> None:
    for kit in kits:
        toms = [loudest_hz(stroke(kit, f"{which}_tom")) for which in ("low", "mid", "hi")]
        assert 40 < toms[0] < toms[1] < toms[2] < 400
        assert 25 < loudest_hz(stroke(kit, "kick")) < 200
        assert centroid_hz(stroke(kit, "kick")) < centroid_hz(stroke(kit, "hihat_closed"))
        closed, opened = (length_sec(stroke(kit, f"hihat_{how}")) for how in ("closed", "open"))
        assert closed < opened


def test_virtual_kits_play_their_share(kits: list[Bank]) -> None:
    voices = with_virtual_kits(kits[:2], 6, 0.25, seed=3)
    virtual = [bank for bank in voices if all(bank is not kit for kit in kits[:2])]
    assert len(virtual) == 6
    assert len(virtual) / len(voices) == pytest.approx(0.25, abs=0.03)
    assert with_virtual_kits(kits, 0, 0.5, seed=3) == kits
