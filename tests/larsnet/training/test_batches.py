"""What the loss compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_larsnets import BANDED, TINY

from baselines.spectral import stft
from larsnet.network.larsnet import LarsNet, LarsnetConfig
from larsnet.network.protocol import Batch
from larsnet.training.augment import AugmentConfig
from larsnet.training.batches import Plans, mixed_anew, planned
from larsnet.training.device_player import PlanTable, tabulate
from larsnet.training.segments import Segments
from larsnet.training.virtual_kits import virtual_bank
from stemgmd_build.performances.collection import Collection
from stemgmd_build.rendering.render import strikes_of


@pytest.mark.parametrize("config", [TINY, BANDED])
def test_the_mixture_is_the_plain_sum_of_the_stems(config: LarsnetConfig) -> None:
    model = LarsNet(config)
    stems = torch.rand(3, 5, 2, 15 * 1024) - 0.5
    stems[1, 2:] = 0
    stems[2] = 0
    batch = model.examples(stems)
    expected = stft(stems.sum(dim=1), config.stft).abs()
    if model.bands is not None:
        expected = model.bands.pool(expected)
    torch.testing.assert_close(batch.mixture, expected, atol=1e-3, rtol=1e-4)
    assert batch.stems.shape == (3, 5, 2, config.unet.n_bins, 16)
    assert torch.equal(batch.stems.flatten(2).any(dim=2), stems.flatten(2).any(dim=2))


def test_the_loss_is_the_mean_distance_over_bins() -> None:
    model = LarsNet(TINY)
    mixture, stems = torch.rand(2, 2, 2048, 16), torch.rand(2, 5, 2, 2048, 16)
    masks = torch.rand(2, 5, 2, 2048, 16)
    expected = torch.stack([(masks[:, i] * mixture - stems[:, i]).abs().mean() for i in range(5)])
    torch.testing.assert_close(model.distances(masks, Batch(mixture, stems)), expected)


def test_on_bands_the_loss_counts_every_bin_alike() -> None:
    """Where nothing differs within a band, it is the loss on bins."""
    model = LarsNet(BANDED)
    assert model.bands is not None
    errors = torch.rand(1, 5, 1, 1, 1).expand(1, 5, 2, 32, 16)
    batch = Batch(torch.ones(1, 2, 32, 16), torch.zeros(1, 5, 2, 32, 16))
    torch.testing.assert_close(model.distances(errors, batch), errors[0, :, 0, 0, 0])
    assert float(model.bands.widths.sum()) == pytest.approx(2048)


class _Numbers:
    """Plans that are their own indices; one of them cannot be made."""

    def plan(self, index: int) -> int:
        if index == 13:
            raise RuntimeError("no such plan")
        return index


def _numbers() -> Segments:
    return cast(Segments, _Numbers())


def test_parts_come_planned_in_their_order() -> None:
    parts = [range(i, i + 3) for i in range(0, 12, 3)]
    found: list[Any] = list(planned(_numbers(), parts))
    assert found == [list(part) for part in parts]


def test_a_plan_that_fails_fails_the_run() -> None:
    ready: Iterator[Plans] = planned(_numbers(), [range(2), range(12, 14)])
    next(ready)
    with pytest.raises(RuntimeError, match="no such plan"):
        next(ready)


def test_stems_are_mixed_anew_with_those_of_other_examples() -> None:
    stems = torch.arange(6 * 5).reshape(6, 5, 1, 1).expand(-1, -1, 2, 3).float()
    mixed = mixed_anew(stems, seed=3)
    assert torch.equal(mixed.sort(dim=0).values, stems)
    assert (
        len({tuple(row) for row in mixed[..., 0, 0].div(5, rounding_mode="floor").T.tolist()}) > 1
    )
    assert torch.equal(mixed, mixed_anew(stems, seed=3))
    assert not torch.equal(mixed, mixed_anew(stems, seed=4))


def test_processes_plan_the_same_parts_as_tables(builtin_collection: Collection) -> None:
    strikes = [strikes_of(builtin_collection.read_score(builtin_collection.performances[0]))]
    data = Segments(strikes, [virtual_bank(0)], 20_000, augment=AugmentConfig(), seed=1)
    parts = [range(2), range(2, 5), range(5, 6)]
    for part, table in zip(parts, planned(data, parts, n_workers=2), strict=True):
        assert isinstance(table, PlanTable)
        expected = tabulate([data.plan(index) for index in part])
        np.testing.assert_equal(table._asdict(), expected._asdict())
