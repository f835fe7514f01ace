"""Separation with a network: any number of mixtures, of any length, in bounded memory.

A recording is cut into windows that overlap (:mod:`larsnet.separation.windows`), some of which are
worked on at a time (:mod:`larsnet.separation.streaming`). A network that must know a whole block
first, such as one that is led by a factorization, gets the recording in long blocks, which overlap
too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import Tensor

from baselines.blocks import cut_blocks, faded
from baselines.spectral import istft, stft
from larsnet.network.devices import raise_if_out_of_memory, usable_device
from larsnet.network.protocol import MaskNetwork
from larsnet.separation.streaming import RUN_SAMPLES, apply_to_stream
from larsnet.separation.windows import WindowRunner, Windows
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, STEMS

_WIENER_FLOOR: Final = 1e-7

STEM_SETS: Final = {
    "five": PIECES_OF_STEM,
    "six": {
        **{stem: PIECES_OF_STEM[stem] for stem in STEMS if stem != "cymbals"},
        "ride": ("ride",),
        "crash": ("crash_left",),
    },
    "nine": {piece: (piece,) for piece in PIECES},
}
"""Sets of stems that pieces add up to: name -> stem -> its pieces."""


class Separator:
    """A network ready to separate; training the model further does not reach it.

    Args:
        model: its weights are copied.
        wiener: alpha of the Wiener filter, None for none.
        sum_to_mixture: masks are scaled to sum to one over the stems.
        device: where the network runs; default: where the model is.
        n_threads: on a CPU; default: torch's number.
        overlap_frames: that neighbouring windows share, at most half a window; default: what the
            network asks for. Without any, stems jump where windows meet.
        stems: which stems to give: those of the network, or sums of its pieces
            (:func:`stem_groups`); default: the five stems.

    Raises:
        UserError: a device that torch does not have, an alpha that is not above 0.
    """

    def __init__(
        self,
        model: MaskNetwork,
        *,
        wiener: float | None = None,
        sum_to_mixture: bool = False,
        device: str | torch.device | None = None,
        n_threads: int | None = None,
        overlap_frames: int | None = None,
        stems: str | None = None,
    ) -> None:
        if wiener is not None and not 0 < wiener < float("inf"):
            raise UserError(f"the Wiener exponent must be above 0, not {wiener}")
        own_device = next(model.parameters()).device
        self.device = own_device if device is None else usable_device(device)
        self._n_threads = n_threads or torch.get_num_threads()
        try:
            self._runner = WindowRunner(model, self.device, self._n_threads, overlap_frames)
        except (RuntimeError, MemoryError) as error:
            raise_if_out_of_memory(error, self.device)
            raise
        self.config = model.config
        self.stems, self._members = stem_groups(tuple(model.config.stems), stems)
        self._wiener, self.sum_to_mixture = wiener, sum_to_mixture

    def separate(self, mixture: Tensor) -> Tensor:
        """Stems ([batch,] stems, 2, samples) of a mixture ([batch,] 2, samples) at 44.1 kHz."""
        n_batch = math.prod(mixture.shape[:-2])
        batched = mixture.float().reshape(n_batch, *mixture.shape[-2:])
        n_stems = len(self.stems)
        parts = [batched.new_zeros(n_batch, n_stems, 2, 0), *self.stream([batched])]
        return torch.cat(parts, dim=-1).reshape(*mixture.shape[:-2], n_stems, *mixture.shape[-2:])

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Separate chunk by chunk, with a few windows in memory.

        Args:
            chunks: float32 (batch, 2, samples) of any lengths, one after the other the file.

        Yields:
            (batch, stems, 2, samples), one after the other as long as the file.

        Raises:
            UserError: memory does not suffice for one window.
        """
        block = self._runner.model.block
        runs = self._masked(chunks) if block is None else faded(self._by_blocks(chunks), block)
        while True:
            try:
                # The caller's inference mode does not reach the threads that do the work.
                with torch.inference_mode(False), torch.no_grad():
                    stems = next(runs, None)
            except (RuntimeError, MemoryError) as error:
                raise_if_out_of_memory(error, self.device)
                raise
            if stems is None:
                return
            if block is None:
                yield stems
            else:  # of their own, so that the whole block is not held while the next is made
                yield from (part.clone() for part in torch.split(stems, RUN_SAMPLES, dim=-1))

    def _by_blocks(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, bool]]:
        model = self._runner.model
        assert model.block is not None
        for mixture, is_last in cut_blocks(chunks, model.block):
            own = mixture.to(self.device)
            guide = model.prepare(own)
            spectrum = stft(own, self.config.stft)
            found = self._finished(Windows(self._runner, guide).masks(spectrum, True), spectrum)
            stems = [  # one at a time: spectra are large
                istft(spectrum * found[:, row], self.config.stft, own.shape[-1])
                for row in range(found.shape[1])
            ]
            yield torch.stack(stems, dim=1).to(mixture.device), is_last

    def _finished(self, masks: Tensor, spectrum: Tensor) -> Tensor:
        """Masks of the network as they are applied: filtered, shared out, and added up."""
        if self._wiener is not None:
            masks = wiener_masks(masks, spectrum[..., : masks.shape[-1]].abs(), self._wiener)
        if self.sum_to_mixture:
            masks = sharing_masks(masks)
        return self._merged(masks)

    def _merged(self, masks: Tensor) -> Tensor:
        """Masks (batch, stems, ...) of the network's stems, added up to those that are given."""
        if self._members is None:
            return masks
        return torch.stack([masks[:, list(rows)].sum(dim=1) for rows in self._members], dim=1)

    def _masked(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        runner = self._runner
        windows = Windows(runner)

        def masks(spectrum: Tensor, is_last: bool) -> Tensor:
            found = self._finished(windows.masks(spectrum, is_last), spectrum)
            return found.expand(-1, -1, spectrum.shape[1], -1, -1)

        n_frames = runner.n_windows * runner.step
        return apply_to_stream(
            chunks, self.config.stft, n_frames, runner.overlap, masks, self.device
        )


def stem_groups(
    given: tuple[str, ...], wanted: str | None = None
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...] | None]:
    """Names of the stems to give, and the rows of the network's stems that add up to each.

    Args:
        given: the network's stems.
        wanted: "five", "six" (ride and crash apart), "nine" (pieces); None: five where the network
            gives pieces, else what it gives.

    Returns:
        Names, and rows; None for rows where nothing is added up.

    Raises:
        UserError: the network gives no pieces, or there is no such set.
    """
    if wanted not in (None, *STEM_SETS):
        raise UserError(f"stems are {', '.join(STEM_SETS)}, not {wanted!r}")
    if given != PIECES:
        if wanted not in (None, "five") or (wanted == "five" and given != STEMS):
            raise UserError(f"this network gives {', '.join(given)} and no others")
        return given, None
    groups = STEM_SETS[wanted or "five"]
    rows = tuple(tuple(PIECES.index(piece) for piece in pieces) for pieces in groups.values())
    return tuple(groups), None if wanted == "nine" else rows


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
