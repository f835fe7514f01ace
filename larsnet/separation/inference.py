"""Separation with a LarsNet: any number of mixtures, of any length, in bounded memory.

Time is cut into patches of ``n_frames`` frames, the last one zero-padded, as in the published
code. Patches are independent of each other, so a file is worked on some patches at a time
(:mod:`larsnet.separation.streaming`), and silent patches are not worked on at all.

On a processor the work items are (net, patch) pairs, each done by one thread with nets that
are rearranged (:mod:`larsnet.network.fused`): that scales better than threads inside of every
convolution. On an accelerator a net gets all patches of a block as one batch, and the nets take
turns: as one batch over the nets too, convolutions become grouped ones, which take up to three
times as long (docs/how-to/gpu.md).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from larsnet.network.devices import raise_if_out_of_memory, usable_device
from larsnet.network.fused import FusedUNet
from larsnet.network.larsnet import LarsNet
from larsnet.separation.streaming import apply_to_stream
from stemgmd_build.errors import UserError

_WIENER_FLOOR: Final = 1e-7

_MAX_PATCHES: Final = 8
"""Patches in a block at most: their masks, five stereo stems, are 335 MB."""


class Separator:
    """A LarsNet ready to separate; training the model further does not reach it.

    Args:
        model: its weights are copied.
        wiener: alpha of the Wiener filter, None for none.
        sum_to_one: masks are scaled to sum to one over the stems.
        device: where the nets run; default: where the model is.
        n_threads: on a processor; default: torch's number.

    Raises:
        UserError: a device that torch does not have, an alpha that is not above 0.
    """

    def __init__(
        self,
        model: LarsNet,
        *,
        wiener: float | None = None,
        sum_to_one: bool = False,
        device: str | torch.device | None = None,
        n_threads: int | None = None,
    ) -> None:
        if wiener is not None and not 0 < wiener < float("inf"):
            raise UserError(f"the Wiener exponent must be above 0, not {wiener}")
        own_device = next(model.parameters()).device
        self.device = own_device if device is None else usable_device(device)
        try:
            self._model = deepcopy(model).to(self.device).eval()
        except (RuntimeError, MemoryError) as error:
            raise_if_out_of_memory(error, self.device)
            raise
        self.config = model.config
        self._wiener, self._sum_to_one = wiener, sum_to_one
        self._n_threads = n_threads or torch.get_num_threads()
        self._pool, self._local = ThreadPoolExecutor(self._n_threads), threading.local()
        self._fused: list[FusedUNet] = []
        self._n_batch = self._n_patches = _MAX_PATCHES
        if self.device.type == "cpu":
            self._fused = [FusedUNet(self._model.net(name)) for name in self._model.nets]
            self._n_patches = min(_MAX_PATCHES, max(2, self._n_threads))

    def separate(self, mixture: Tensor) -> Tensor:
        """Stems ([batch,] stems, 2, samples) of a mixture ([batch,] 2, samples) at 44.1 kHz."""
        n_batch = math.prod(mixture.shape[:-2])
        batched = mixture.float().reshape(n_batch, *mixture.shape[-2:])
        n_stems = len(self.config.stems)
        parts = [batched.new_zeros(n_batch, n_stems, 2, 0), *self.stream([batched])]
        return torch.cat(parts, dim=-1).reshape(*mixture.shape[:-2], n_stems, *mixture.shape[-2:])

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Separate chunk by chunk, with a few patches in memory.

        Args:
            chunks: float32 (batch, 2, samples) of any lengths, one after the other the file.

        Yields:
            (batch, stems, 2, samples), one after the other as long as the file.

        Raises:
            UserError: memory does not suffice for one patch.
        """
        block_frames = self._n_patches * self.config.unet.n_frames
        runs = apply_to_stream(chunks, self.config.stft, block_frames, self.masks, self.device)
        while True:
            try:
                with torch.no_grad():
                    stems = next(runs, None)
            except (RuntimeError, MemoryError) as error:
                raise_if_out_of_memory(error, self.device)
                raise
            if stems is None:
                return
            yield stems

    @torch.no_grad()
    def masks(self, magnitudes: Tensor) -> Tensor:
        """Masks (batch, stems, 2, bins, frames) of magnitudes (batch, 2, bins, frames)."""
        n_frames, n_patch = magnitudes.shape[-1], self.config.unet.n_frames
        padded = functional.pad(magnitudes, (0, -n_frames % n_patch)).contiguous()
        patches = _patches(padded, n_patch)  # (batch, patch, 2, bins, n_patch)
        shape = (len(magnitudes), len(self.config.stems), *padded.shape[1:])
        masks = magnitudes.new_empty(shape)
        targets = _patches(masks, n_patch)  # (batch, patch, stems, 2, bins, n_patch)
        is_loud = patches.amax(dim=(2, 3, 4)) > 0
        for b, p in (~is_loud).nonzero():
            targets[int(b), int(p)] = 0
        loud = [(int(b), int(p)) for b, p in is_loud.nonzero()]
        if self._fused:
            self._run_on_threads(patches, targets, loud)
        else:
            for start in range(0, len(loud), _MAX_PATCHES):
                self._run_on_device(patches, targets, loud[start : start + _MAX_PATCHES])
        masks = masks[..., :n_frames]
        if self._wiener is not None:
            masks = wiener_masks(masks, magnitudes, self._wiener)
        return sharing_masks(masks) if self._sum_to_one else masks

    def _run_on_threads(
        self, patches: Tensor, targets: Tensor, loud: list[tuple[int, int]]
    ) -> None:
        seen = {where: self._model.net_input(patches[where][None]) for where in loud}

        def run(item: tuple[tuple[int, int], int]) -> None:
            where, index = item
            torch.set_num_threads(1)  # of this thread's own operations
            with torch.no_grad():
                rooms = self._local.__dict__.setdefault("rooms", {})
                found = self._model.stem_masks(self._fused[index](seen[where], rooms))[0]
                rows = slice(None) if self.config.shared else slice(index, index + 1)
                targets[where][rows].copy_(found)

        n_before = torch.get_num_threads()
        items = [(where, index) for where in loud for index in range(len(self._fused))]
        try:
            list(self._pool.map(run, items))
        finally:
            torch.set_num_threads(n_before)

    def _run_on_device(self, patches: Tensor, targets: Tensor, loud: list[tuple[int, int]]) -> None:
        done = 0
        while done < len(loud):
            part = loud[done : done + self._n_batch]
            try:
                masks = self._model(torch.stack([patches[where] for where in part]))
            except torch.OutOfMemoryError:
                if self._n_batch == 1:
                    raise
                self._n_batch //= 2
                continue
            for where, found in zip(part, masks, strict=True):
                targets[where].copy_(found)
            done += len(part)


def wiener_masks(masks: Tensor, magnitudes: Tensor, alpha: float) -> Tensor:
    """The alpha-Wiener filter: stems share the mixture (arXiv 2312.09663, section 4).

    Args:
        masks: (..., stems, channels, bins, frames).
        magnitudes: (..., channels, bins, frames) of the mixture.
        alpha: exponent, above 0.

    Returns:
        Masks of the same shape that sum to at most one over the stems.
    """
    # Divided by the mixture's power throughout: masks are at most one, so no exponent overflows.
    powers = masks.pow(alpha)
    floor = _WIENER_FLOOR / magnitudes.unsqueeze(-4).pow(alpha)
    total = powers.sum(dim=-4, keepdim=True).add_(floor)
    return powers.div_(total.clamp_min_(torch.finfo(masks.dtype).tiny))


def sharing_masks(masks: Tensor) -> Tensor:
    """Masks scaled to sum to one over the stems; equal where none claims anything.

    Args:
        masks: (..., stems, channels, bins, frames), not negative.
    """
    smallest = torch.finfo(masks.dtype).tiny
    total = masks.sum(dim=-4, keepdim=True)
    return torch.where(total > smallest, masks / total.clamp_min(smallest), 1 / masks.shape[-4])


def _patches(cells: Tensor, n_patch: int) -> Tensor:
    """A view of (batch, ..., frames) as (batch, patch, ..., n_patch)."""
    return cells.view(*cells.shape[:-1], -1, n_patch).movedim(-2, 1)
