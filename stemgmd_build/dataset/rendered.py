"""Segments rendered from performances and kits when they are asked for, with nothing on disk.

A segment is planned first (`RenderedStemGMD.plan`: which performance, from where, which kit plays
each stem) and played then. What a plan holds follows from the seed, the epoch and the index alone.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import context, sharedctypes
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.dataset.segments import (
    SEGMENT_SEC,
    Cut,
    Output,
    Segment,
    Stems,
    as_output,
    check_choice,
    check_count,
)
from stemgmd_build.dataset.select import Names, choose_performances, load_banks
from stemgmd_build.errors import UserError
from stemgmd_build.performances.gmd import GMD_VARIABLE, describe, find_collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.render import (
    FIVE_ROWS,
    NINE_ROWS,
    Articulations,
    Schedule,
    render,
    schedule,
    sounding_pieces,
    strikes_of,
)
from stemgmd_build.taxonomy import STEMS

Augment = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]
"""(stems float32 (5 or 9, 2, n_samples), generator) -> stems of the same shape.

It may change the stems in place. The generator follows from seed, epoch and index."""

_CHUNK: Final = 32768  # samples a channel: a chunk of the sum stays in a core's cache
_KITS, _AUGMENT = 0, 1  # what a generator is for: kits drawn do not depend on the augmentation


@dataclass(frozen=True, slots=True)
class Example:
    """The plan of a segment.

    ``performance``: index in ``performances``; ``start``, ``n_samples``: samples of the track;
    ``kits``: index in ``kits`` of the kit of each of the five stems.
    """

    index: int
    performance: int
    start: int
    n_samples: int
    kits: tuple[int, ...]


class RenderedStemGMD:
    """The same segments with nothing on disk: rendered from performances and kits when asked for.

    The performances are those of ``gmd``, else of STEMGMD_GMD, else of the cache, else the built-in
    grooves, with a warning; `source` says which they are. With ``kit_mix`` each stem but one is,
    with that probability, played on another random kit; given by stem (``{"snare": 0.5}``), each
    stem named is, and the others never. ``augment`` then changes the stems, and the mixture is the
    sum of what it gives.

    What segment ``i`` holds depends on ``seed``, the epoch (`set_epoch`) and ``i`` alone, in any
    process. Samples differ from a dataset on disk by the rounding to 16 bit alone. Pickled, it
    holds no samples: a DataLoader's workers share the banks of the cache. Raises UserError where
    performances or kits are missing, or an argument is none of its choices.
    """

    def __init__(
        self,
        gmd: str | Path | None = None,
        *,
        split: Names = "train",
        kits: Names = ("train",),
        stems: Stems = "five",
        segment_sec: float | None = SEGMENT_SEC,
        hop_sec: float = 2.0,
        kit_mix: float | Mapping[str, float] = 0.0,
        augment: Augment | None = None,
        articulations: Articulations = "nine",
        choke: bool = True,
        limit: int | None = None,
        seed: int = 0,
        output: Output = "numpy",
    ) -> None:
        check_choice("stems", stems, get_args(Stems))
        check_choice("output", output, get_args(Output))
        check_choice("articulations", articulations, get_args(Articulations))
        check_count("seed", seed)
        self._mix, self._keeps_one = _probabilities(kit_mix)
        collection = find_collection(gmd)
        self._source = collection.source
        if self._source == "builtin" and not (gmd or os.environ.get(GMD_VARIABLE)):
            warnings.warn(f"no GMD is named or found; {describe(collection)}", stacklevel=2)
        self.performances = choose_performances(collection, split, limit)
        self._banks = load_banks(kits, collection)
        self.kits = tuple(bank.kit for bank in self._banks)
        if not self.performances or not self._banks:
            raise UserError("nothing to render: no performance or no kit is chosen")
        self._strikes = [strikes_of(collection.read_score(p)) for p in self.performances]
        self._rows = FIVE_ROWS if stems == "five" else NINE_ROWS
        self._articulations, self._choke = articulations, choke
        self._augment, self._seed, self._output = augment, seed, output
        self._epoch = sharedctypes.RawValue("q", 0)
        lengths = (
            self._schedule(performance, bank).n_samples
            for performance in range(len(self.performances))
            for bank in self._banks
        )
        self._cut = Cut(lengths, segment_sec, hop_sec)

    def __getstate__(self) -> dict[str, Any]:
        # Kits with their gains stay, as in the builder's jobs: each process maps the banks anew,
        # where copies of them would fill every worker's memory.
        state = {name: value for name, value in self.__dict__.items() if name != "_banks"}
        if context.get_spawning_popen() is None:  # no child of ours: a copy with its own epoch
            state["_epoch"] = self._epoch.value
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._epoch, int):
            self._epoch = sharedctypes.RawValue("q", self._epoch)
        self._banks = [load_bank(kit) for kit in self.kits]

    @property
    def source(self) -> str:
        """What the performances are: "gmd", "builtin" (the grooves), or "own" files."""
        return self._source

    def __len__(self) -> int:
        return len(self._cut)

    def set_epoch(self, epoch: int) -> None:
        """Draw other kits for the stems from now on (as DistributedSampler.set_epoch).

        The epoch lies in memory that is shared with a DataLoader's workers, so those that are
        kept from epoch to epoch (``persistent_workers``) draw anew too. Call it between epochs.
        """
        check_count("epoch", epoch)
        self._epoch.value = epoch

    def plan(self, index: int) -> Example:
        """What segment ``index`` will be. Raises IndexError beyond the last."""
        track, start, n_samples = self._cut.locate(index)
        index %= len(self)
        performance, kit = divmod(track, len(self._banks))
        return Example(index, performance, start, n_samples, self._draw_kits(index, kit))

    def __getitem__(self, index: int) -> Segment:
        example = self.plan(index)
        stems, heard = self._play(example)
        if self._augment is not None:
            stems = self._augment(stems, self._generator(example.index, _AUGMENT))
            heard = set(range(len(stems)))
        names = [self.kits[i].id for i in example.kits]
        kit_name = names[0] if len(set(names)) == 1 else "+".join(names)
        mixture = _sum_of(stems, sorted(heard))
        arrays = (as_output(mixture, self._output), as_output(stems, self._output))
        name = self.performances[example.performance].id
        return Segment(*arrays, name, kit_name, example.start)

    def _play(self, example: Example) -> tuple[NDArray[np.float32], set[int]]:
        """The stems of a plan, (5 or 9, 2, n_samples), and the rows that are not silent."""
        start, n_samples = example.start, example.n_samples
        stems = np.zeros((max(self._rows) + 1, 2, n_samples), np.float32)
        heard: set[int] = set()
        for bank_index in sorted(set(example.kits)):
            rows = [
                row if example.kits[stem] == bank_index else -1
                for row, stem in zip(self._rows, FIVE_ROWS, strict=True)
            ]
            plan = self._schedule(example.performance, self._banks[bank_index])
            if start < plan.n_samples:
                stop = min(start + n_samples, plan.n_samples)
                render(plan, start=start, stop=stop, rows=rows, out=stems[..., : stop - start])
                heard |= {rows[piece] for piece in sounding_pieces(plan, start, stop)} - {-1}
        return stems, heard

    def _generator(self, index: int, purpose: int) -> np.random.Generator:
        # Without a purpose of its own the kits are drawn as they always were.
        key = [self._seed, self._epoch.value, index]
        return np.random.default_rng(key if purpose == _KITS else [*key, purpose])

    def _draw_kits(self, index: int, kit: int) -> tuple[int, ...]:
        """Index of the kit of each of the five stems."""
        chosen = [kit] * len(STEMS)
        if any(self._mix):
            generator = self._generator(index, _KITS)
            kept = int(generator.integers(len(STEMS))) if self._keeps_one else -1
            for stem, probability in enumerate(self._mix):
                if stem != kept and generator.random() < probability:
                    chosen[stem] = int(generator.integers(len(self._banks)))
        return tuple(chosen)

    def _schedule(self, performance: int, bank: Bank) -> Schedule:
        return schedule(
            self._strikes[performance],
            bank,
            articulations=self._articulations,
            choke=self._choke,
        )


def _probabilities(kit_mix: float | Mapping[str, float]) -> tuple[tuple[float, ...], bool]:
    """(probability for each of the five stems, whether one of them is always kept)."""
    by_stem = isinstance(kit_mix, Mapping)
    given = dict(kit_mix) if isinstance(kit_mix, Mapping) else dict.fromkeys(STEMS, kit_mix)
    for stem in given:
        check_choice("stem", stem, STEMS)
    for value in given.values():
        good = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
        if not good:
            raise UserError(f"kit_mix {value!r}: give a probability, 0 to 1")
    return tuple(float(given.get(stem, 0.0)) for stem in STEMS), not by_stem


def _sum_of(stems: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.float32]:
    """The sum of some stems (n_stems, 2, n_samples) in the order of ``rows``: (2, n_samples).

    In chunks that stay in the cache and without the silent stems, which takes less time than
    numpy's sum over all; the samples are the same.
    """
    if len(rows) < 2:
        return stems[rows[0]].copy() if rows else np.zeros_like(stems[0])
    total: NDArray[np.float32] = np.empty_like(stems[0])
    for i in range(0, total.shape[1], _CHUNK):
        chunk, parts = total[:, i : i + _CHUNK], stems[:, :, i : i + _CHUNK]
        np.add(parts[rows[0]], parts[rows[1]], out=chunk)
        for row in rows[2:]:
            chunk += parts[row]
    return total
