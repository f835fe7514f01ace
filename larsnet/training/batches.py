"""From plans to what the loss compares: magnitudes of the mixture and of its stems.

Axes are (batch, [stems,] channels, cells, frames); cells are bins, or bands where the nets see
bands. The loss is L1 between a stem's magnitudes and the masked ones of the mixture (arXiv
2312.09663, section 4). On bands it counts each band by the bins that it stands for: what is
compared are the means over a band's bins.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from baselines.spectral import stft
from larsnet.network.larsnet import LarsNet
from larsnet.training.device_player import DevicePlayer, PlanTable, tabulate
from larsnet.training.segments import Plan, Player, Segments

_PLANNED_AHEAD: Final = 4

Plans = list[Plan] | PlanTable
"""Of one part of a batch: plans, or what an accelerator's player is told of them."""


class Batch(NamedTuple):
    """``mixture``: (batch, 2, cells, frames), ``stems``: (batch, stems, 2, cells, frames)."""

    mixture: Tensor
    stems: Tensor


def analyse(stems: Tensor, model: LarsNet) -> Batch:
    """Magnitudes of stems (batch, stems, 2, samples) and of their sum, on the nets' cells."""
    if stems.device.type != "cpu":
        parts = stft(stems, model.config.stft)
        magnitudes = _magnitudes(torch.cat((parts, parts.sum(dim=1, keepdim=True)), dim=1))
        if model.bands is not None:
            magnitudes = model.bands.pool(magnitudes)
        return Batch(magnitudes[:, -1], magnitudes[:, :-1])
    n_frames = stems.shape[-1] // model.config.hop_samples + 1
    shape = (*stems.shape[:-1], model.config.unet.n_bins, n_frames)
    targets = stems.new_zeros(shape)
    mixtures = []
    for example, target in zip(stems, targets, strict=True):  # what one needs fits into a cache
        sounding = example.flatten(1).any(dim=1)
        sounding[0] |= ~sounding.any()  # silence is analysed too
        parts = stft(example[sounding], model.config.stft)
        magnitudes = _magnitudes(torch.cat((parts, parts.sum(dim=0, keepdim=True))))
        if model.bands is not None:
            magnitudes = model.bands.pool(magnitudes)
        target[sounding] = magnitudes[:-1]
        mixtures.append(magnitudes[-1])
    return Batch(torch.stack(mixtures), targets)


def _magnitudes(cells: Tensor) -> Tensor:
    # abs() guards against overflow, which takes longer than the FFT
    return torch.addcmul(cells.real.square(), cells.imag, cells.imag).sqrt_()


def losses(masks: Tensor, batch: Batch, model: LarsNet) -> Tensor:
    """L1 of each stem, (stems,), as a mean over the analysis's bins.

    Args:
        masks: (batch, stems, 2, cells, frames).
        batch: what was mixed.
        model: whose cells these are.
    """
    errors = (masks * batch.mixture.unsqueeze(1) - batch.stems).abs().mean(dim=(0, 2, 4))
    if model.bands is None:
        return errors.mean(dim=-1)
    return errors @ model.bands.widths / model.config.n_bins


def planned(
    segments: Segments, parts: Iterable[Sequence[int]], n_workers: int = 0
) -> Iterator[Plans]:
    """The plans of each part, made some parts ahead.

    By a thread; or, for an accelerator, which would wait for it, by ``n_workers`` processes, as
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
