"""The nets and their optimizer, as a step of training sees them, on one device or on several."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from larsnet.network.protocol import Batch, MaskNetwork, create
from larsnet.training.config import TrainConfig
from larsnet.training.distributed import Team, synchronize_batch_norm
from larsnet.training.run_folder import trainable


class _Losses(nn.Module):
    """The losses as one forward pass, for DistributedDataParallel."""

    def __init__(self, model: MaskNetwork) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.losses(batch)


class Learner:
    """``model`` is what is trained, from ``config.seed``; ``optimizer`` holds its weights."""

    def __init__(self, config: TrainConfig, team: Team) -> None:
        on_gpu = team.device.type == "cuda"
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = on_gpu  # shapes stay the same: cuDNN finds the fastest
        self._device = team.device
        self._precision = config.precision
        self.model = create(config.model).to(team.device).train()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.sync_batch_norm and team.size > 1:
            synchronize_batch_norm(self.model)
        self.optimizer = torch.optim.Adam(
            trainable(self.model).values(), lr=config.learning_rate, fused=on_gpu or None
        )
        self._network: nn.Module = _Losses(self.model)
        if config.compile and on_gpu:
            for module in self.model.compiled():
                module.compile()
        if team.size > 1:
            devices = [team.device] if on_gpu else None
            self._network = DistributedDataParallel(self._network, device_ids=devices)

    def losses(self, batch: Batch) -> Tensor:
        """Each stem's loss on a batch, (stems,)."""
        bf16 = self._precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
            losses: Tensor = self._network(batch)
        return losses

    def gradients_stay_here(self, more_to_come: bool) -> AbstractContextManager[None]:
        """While parts of a batch are still to come, processes need not exchange gradients."""
        if more_to_come and isinstance(self._network, DistributedDataParallel):
            return self._network.no_sync()
        return nullcontext()
