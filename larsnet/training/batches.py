"""Plans made ahead, played, and mixed anew."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from larsnet.training.device_player import DevicePlayer, PlanTable, tabulate
from larsnet.training.segments import Plan, Player, Segments

_PLANNED_AHEAD: Final = 4

Plans = list[Plan] | PlanTable
"""Of one part of a batch: plans, or what a GPU's player is told of them."""


def planned(
    segments: Segments, parts: Iterable[Sequence[int]], n_workers: int = 0
) -> Iterator[Plans]:
    """The plans of each part, made some parts ahead.

    By a thread; or, for a GPU, which would wait for it, by ``n_workers`` processes, as
    tables.
    """
    if not n_workers:
        return _planned_by_thread(segments, parts)
    return iter(
        DataLoader(
            _Tables(segments, list(parts)),
            batch_size=None,
            num_workers=n_workers,
            prefetch_factor=_PLANNED_AHEAD,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_interrupts_to_the_parent,
        )
    )


class _Tables(Dataset[PlanTable]):
    """A part of a batch at a time."""

    def __init__(self, segments: Segments, parts: Sequence[Sequence[int]]) -> None:
        self._segments, self._parts = segments, parts

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> PlanTable:
        return tabulate([self._segments.plan(index) for index in self._parts[number]])


def _as_it_is(table: Any) -> Any:
    return table


def _leave_interrupts_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _planned_by_thread(segments: Segments, parts: Iterable[Sequence[int]]) -> Iterator[list[Plan]]:
    ready: queue.Queue[list[Plan] | BaseException | None] = queue.Queue(_PLANNED_AHEAD)
    stopped = threading.Event()

    def put(item: list[Plan] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for part in parts:
                if stopped.is_set():
                    return
                put([segments.plan(index) for index in part])
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()


def played(player: Player | DevicePlayer, plans: Plans, n_samples: int) -> Tensor:
    """Stems (batch, stems, 2, n_samples). A table needs a `DevicePlayer`."""
    if isinstance(player, DevicePlayer):
        return player.play(plans, n_samples)
    assert not isinstance(plans, PlanTable)
    return player.play(plans, n_samples)


def mixed_anew(stems: Tensor, seed: int) -> Tensor:
    """Stems (batch, stems, 2, samples), each from another example than before: new mixtures.

    ``seed`` decides which.
    """
    n_batch, n_stems = stems.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n_batch, generator=generator) for _ in range(n_stems)]
    return stems[torch.stack(orders, dim=1).to(stems.device), torch.arange(n_stems)]
