"""The accelerator's player against the processor's, on whatever device there is."""

from __future__ import annotations

import pytest
import torch
from small_kits import WHEEL_KIT

from larsnet.training import device_player
from larsnet.training.augment import AugmentConfig
from larsnet.training.device_player import DevicePlayer, player_on, tabulate
from larsnet.training.segments import Plan, Player, Segments
from larsnet.training.virtual_kits import virtual_bank
from stemgmd_build.kits.catalogue import find_kit
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import strikes_of
from stemgmd_build.taxonomy import STEMS

N_SAMPLES = 50_000
CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
EVERYTHING = AugmentConfig(
    example=1, kit_swap=1, doubling=0.5, pitch_shift=0.7, saturation=0.5, channel_swap=0.5,
    remix=0.7, equalizer=0.6, damping=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def banks() -> list[Bank]:
    return [load_bank(find_kit(WHEEL_KIT)), virtual_bank(1)]


@pytest.fixture(scope="module")
def plans(builtin_collection: Collection, banks: list[Bank]) -> list[Plan]:
    chosen = builtin_collection.performances[::6]
    strikes = [strikes_of(builtin_collection.read_score(one)) for one in chosen]
    data = Segments(strikes, banks, N_SAMPLES, augment=EVERYTHING, seed=4)
    return [data.plan(index) for index in range(8)]


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_sounds_as_it_does_on_a_processor(
    plans: list[Plan], banks: list[Bank], device: str
) -> None:
    """All augmentations struck somewhere, chokes and damping included."""
    struck = [plan.draw for plan in plans]
    assert any(any(draw.semitones) for draw in struck)
    assert any(any(draw.dampings_sec) for draw in struck)
    expected = Player(banks, CPU).play(plans, N_SAMPLES)
    found = DevicePlayer(banks, torch.device(device)).play(plans, N_SAMPLES).cpu()
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_hits_are_placed_some_at_a_time(
    plans: list[Plan], banks: list[Bank], monkeypatch: pytest.MonkeyPatch
) -> None:
    player = DevicePlayer(banks, CPU)
    whole = player.play(plans, N_SAMPLES)
    monkeypatch.setattr(device_player, "_CHUNK_SAMPLES", 70_000)
    torch.testing.assert_close(player.play(plans, N_SAMPLES), whole, atol=1e-6, rtol=0)


def test_a_table_is_its_plans(plans: list[Plan], banks: list[Bank]) -> None:
    player = DevicePlayer(banks, CPU)
    assert torch.equal(player.play(tabulate(plans), N_SAMPLES), player.play(plans, N_SAMPLES))


def test_silence_is_played_too(plans: list[Plan], banks: list[Bank]) -> None:
    from dataclasses import replace

    silent = replace(plans[0], hits=((),) * len(STEMS))
    assert not DevicePlayer(banks, CPU).play([silent], N_SAMPLES).any()


def test_each_device_has_its_player(banks: list[Bank]) -> None:
    assert isinstance(player_on(banks, CPU), Player)
    assert isinstance(player_on([], torch.device("meta")), DevicePlayer)
