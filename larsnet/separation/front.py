"""The separator as users meet it: any model, any rate, any number of channels."""

from __future__ import annotations

import importlib
import math
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from larsnet.network.weights import default_weights, load_weights
from larsnet.separation.models import DEFAULT_MODEL, find_model
from larsnet.separation.waveforms import (
    Engine,
    SeparationOptions,
    SystemEngine,
    TwoStems,
    make_separator,
    separate_blocks,
)
from stemgmd_build.errors import UserError
from stemgmd_build.recordings import MAX_CHANNELS, RATES_HZ, open_source

Audio = NDArray[np.float32]


class Separator:
    """A model, ready to separate any number of recordings.

    Args:
        model: an id of :data:`larsnet.separation.models.MODELS`; default: the best.
        weights: a checkpoint, or a folder of the original's five files, in place of a model.
        stems: "five", "six" (ride and crash apart) or "nine" (pieces), where the model has them.
        two_stems: give only this stem and the sum of the others, as ``no_<stem>``.
        sum_to_mixture: the stems add up to the recording.
        device: where it runs, such as "cpu" or "cuda".
        n_threads: on the CPU; default: torch's number.
        wiener: with ``weights``: exponent alpha of the Wiener filter, None for none.
        refine: with ``weights``: fit NMFD to the recording, beginning with the network's stems.

    Raises:
        UserError: one line on what is wrong with the arguments.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        weights: str | PathLike[str] | None = None,
        stems: str | None = None,
        two_stems: str | None = None,
        sum_to_mixture: bool = False,
        device: str = "cpu",
        n_threads: int | None = None,
        wiener: float | None = None,
        refine: bool = False,
    ) -> None:
        if weights is not None and model is not None:
            raise UserError("give a model or weights, not both")
        if weights is None and (wiener is not None or refine):
            raise UserError("a Wiener exponent and refinement go with weights; a model has its own")
        self.model = model or (DEFAULT_MODEL if weights is None else str(weights))
        self.device = device
        path = None if weights is None else Path(weights)
        how = SeparationOptions(wiener, sum_to_mixture, device, n_threads, refine, stems)
        engine = _engine(self.model, path, how)
        self.engine: Engine = TwoStems(engine, two_stems) if two_stems else engine

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in order."""
        return self.engine.stems

    def separate(self, waveform: ArrayLike | Tensor, sample_rate: int) -> dict[str, Any]:
        """Stems of a waveform, by name.

        Args:
            waveform: ([[batch,] channels,] samples), floating point, full scale 1.0.
            sample_rate: in Hz, 1 to 768 kHz.

        Returns:
            float32 ([batch,] channels, samples) for each stem, as long as ``waveform``. Tensors on
            the device of a ``waveform`` that is one, else arrays.

        Raises:
            UserError: a shape that is no recording, samples that are whole numbers or not finite.
        """
        samples = _checked(waveform, sample_rate)
        batch = samples.reshape(math.prod(samples.shape[:-2]), *samples.shape[-2:])
        stems = np.zeros((len(self.stems), *batch.shape), np.float32)
        for index, row in enumerate(batch):
            stems[:, index] = self._separate(row, sample_rate)
        stems = stems.reshape(len(self.stems), *samples.shape)
        found = dict(zip(self.stems, stems, strict=True))
        if isinstance(waveform, Tensor):
            return {n: torch.from_numpy(stem).to(waveform.device) for n, stem in found.items()}
        return found

    def separate_file(self, path: str | PathLike[str]) -> tuple[dict[str, Audio], int]:
        """Stems of a whole file by name, each float32 (channels, samples), and its rate in Hz.

        Raises:
            UserError: a file that cannot be read.
        """
        with open_source(Path(path)) as source:
            nothing = np.zeros((len(self.stems), source.n_channels, 0), np.float32)
            runs = separate_blocks(self.engine, source.blocks(), source.sample_rate)
            stems = np.concatenate([nothing, *runs], axis=-1)
            return dict(zip(self.stems, stems, strict=True)), source.sample_rate

    def _separate(self, samples: Audio, sample_rate: int) -> Audio:
        nothing = np.zeros((len(self.stems), len(samples), 0), np.float32)
        runs = separate_blocks(self.engine, [samples], sample_rate)
        return np.concatenate([nothing, *runs], axis=-1)


def separate(
    waveform: ArrayLike | Tensor,
    sample_rate: int,
    *,
    weights: str | PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """:meth:`Separator.separate` with a :class:`Separator` that is kept for the next call."""
    path = None if weights is None else Path(weights)
    written = 0
    if path is not None:
        files = path.iterdir() if path.is_dir() else [path]
        written = max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)
    return _kept(path, written, **options).separate(waveform, sample_rate)


@lru_cache(maxsize=1)
def _kept(weights: Path | None, written: int, **options: Any) -> Separator:
    """``written`` is the time of the file, so that weights trained on are read again."""
    return Separator(weights=weights, **options)


def _engine(model_id: str, weights: Path | None, how: SeparationOptions) -> Engine:
    if weights is not None:
        return make_separator(load_weights(weights), how)
    model = find_model(model_id)
    if model.weights:
        how = SeparationOptions(
            model.wiener, how.sum_to_mixture, how.device, how.n_threads, model.refine, how.stems
        )
        return make_separator(load_weights(default_weights(model.weights)), how)
    if how.stems not in (None, "five"):
        raise UserError(f"{model_id} gives the five stems and no others")
    if how.n_threads is not None:
        torch.set_num_threads(how.n_threads)
    module, _, name = model.factory.partition(":")
    system = getattr(importlib.import_module(module), name)(how.device)
    return SystemEngine(system, how.sum_to_mixture)


def _checked(waveform: ArrayLike | Tensor, sample_rate: int) -> Audio:
    """([batch,] channels, samples) as float32. Raises UserError for what is no recording."""
    if isinstance(waveform, Tensor):
        waveform = waveform.detach().cpu()
    try:
        given = np.asarray(waveform)
        if given.dtype.kind in "iub":
            raise UserError(
                f"a waveform is floating point with full scale 1.0, not {given.dtype}; divide it "
                "by its full scale (int16: by 32768)"
            )
        if given.dtype.kind == "c":
            raise UserError("a waveform is real, not complex")
        samples = np.atleast_2d(given.astype(np.float32))
    except (ValueError, TypeError) as error:
        raise UserError(f"a waveform is an array of numbers ({error})") from error
    low, high = RATES_HZ
    if not isinstance(sample_rate, int | float | np.number):
        raise UserError(f"the rate must be a number of Hz, not {sample_rate!r}")
    if samples.ndim > 3 or not 1 <= samples.shape[-2] <= MAX_CHANNELS:
        raise UserError(f"a waveform is ([batch,] channels, samples), not {np.shape(samples)}")
    if not low <= sample_rate <= high:
        raise UserError(f"the rate must be {low} to {high} Hz, not {sample_rate}")
    return samples
