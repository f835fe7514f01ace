"""Several processes, one run: what `torchrun` starts, each with a part of every batch.

Without `torchrun` there is one process, and all of this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn

from larsnet.network.devices import usable_device


@dataclass(frozen=True)
class Team:
    """This process (``rank``) of ``size``, and the device it works on."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """The one process that writes and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


@contextmanager
def join_team(device: str) -> Iterator[Team]:
    """The team that `torchrun` has set up, or a team of one.

    ``device`` is a kind such as "cuda" where there are several processes: each takes its own.
    Raises UserError for a device that cannot be used.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1, usable_device(device))
        return
    rank = int(os.environ["RANK"])
    on_gpu = torch.device(device).type == "cuda"
    own = usable_device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device)
    if on_gpu:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Team(rank, size, own)
    finally:
        dist.destroy_process_group()


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the batches of all processes.

    As `torch.nn.SyncBatchNorm`, which works on accelerators alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features, ...) normalized per feature."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        cells = x.float()
        others = (0, *range(2, cells.dim()))
        n = cells.numel() // cells.shape[1]
        sums = torch.stack((cells.sum(others), cells.square().sum(others)))
        sums = torch.cat((sums.flatten(), sums.new_tensor([n])))
        sums = dist_functional.all_reduce(sums)  # type: ignore[no-untyped-call]
        total = sums[-1].detach()
        mean, square = (sums[:-1] / total).view(2, -1)
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        shape = (1, -1, *[1] * (cells.dim() - 2))
        scale = (self.weight * (variance + self.eps).rsqrt()).view(shape)
        normalized: Tensor = (cells - mean.view(shape)) * scale + self.bias.view(shape)
        return normalized


def synchronize_batch_norm(module: nn.Module) -> None:
    """Make every batch normalization of a module one over all processes."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = SyncedBatchNorm2d
