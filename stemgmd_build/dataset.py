"""Reading: segments of tracks, from a dataset on disk or rendered when asked for.

`StemGMD` and `RenderedStemGMD` are map-style datasets with one interface: ``len(data)``,
``data[i] -> Segment``. Both cut a track into segments of ``segment_sec`` every ``hop_sec``; the
last one is padded with zeros, so that every sample of a track is in some segment.

Both choose alike. ``split`` is a name or a list of names: "train", "validation", "test",
"eval_session", "all". ``kits`` is a name or a list of names: ids, paths of own kits, and the
catalogue's sets "train", "test", "default", "all". The defaults differ: a dataset on disk is read
as it was built, whole, and rendering is for training, so it plays the training split on the
training kits.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import manifest
from stemgmd_build.errors import UserError
from stemgmd_build.kits.catalogue import select_kits, with_gain
from stemgmd_build.performances.collection import SPLIT_CHOICES
from stemgmd_build.performances.gmd import GMD_VARIABLE, describe, find_collection
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.rendering.gain import kit_gain
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
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEMS

SEGMENT_SEC: Final = 11.85
"""LarsNet's training segment (arXiv 2312.09663, section 4)."""

_CHUNK: Final = 32768  # samples a channel: a chunk of the sum stays in a core's cache

Stems = Literal["five", "nine"]
Output = Literal["numpy", "torch"]


class Segment(NamedTuple):
    """One segment: arrays (or torch tensors) of float32, full scale 1.0, and where it is from.

    ``mixture``: (2, n_samples); ``stems``: (5 or 9, 2, n_samples) in the taxonomy's order;
    ``kit``: the kit's id, or one for each stem joined by "+"; ``start``: samples into the track.
    """

    mixture: Any
    stems: Any
    performance: str
    kit: str
    start: int


class _Cut:
    """Which segment of which track an index means, for tracks of given lengths."""

    def __init__(self, lengths: Iterable[int], segment_sec: float | None, hop_sec: float) -> None:
        given = (hop_sec,) if segment_sec is None else (segment_sec, hop_sec)
        if not all(0.5 < sec * SAMPLE_RATE < math.inf for sec in given):
            raise UserError("segment_sec and hop_sec must be positive, from one sample on, finite")
        self._lengths = list(lengths)
        self.n_samples = None if segment_sec is None else round(segment_sec * SAMPLE_RATE)
        self._hop = round(hop_sec * SAMPLE_RATE)
        self._ends = list(itertools.accumulate(map(self._count, self._lengths)))

    def _count(self, length: int) -> int:
        if self.n_samples is None:
            return 1
        n_needed = max(0, math.ceil((length - self.n_samples) / self._hop)) + 1
        # Where the hop is longer than a segment, none begins behind the end.
        return max(1, min(n_needed, math.ceil(length / self._hop)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def locate(self, index: int) -> tuple[int, int, int]:
        """(track, start, n_samples) of a segment. Raises IndexError beyond the last."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        index %= len(self)
        track = bisect.bisect_right(self._ends, index)
        before = self._ends[track - 1] if track else 0
        length = self._lengths[track]
        return track, (index - before) * self._hop, self.n_samples or length


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


def _as_output(array: NDArray[np.float32], output: Output) -> Any:
    if output == "numpy":
        return array
    import torch

    return torch.from_numpy(array)


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"no {what} {value!r}: give one of {', '.join(choices)}")


def _check_count(what: str, value: int) -> None:
    if not isinstance(value, Integral) or value < 0:
        raise UserError(f"{what} {value!r}: give a whole number, 0 or more")


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """A name alone is a list of one; its letters are no names."""
    return (names,) if isinstance(names, str) else tuple(names)


def _held_kits(root: Path, kits: str | Sequence[str], held: set[str]) -> set[str]:
    """The ids of these kits and sets that a dataset holds. UserError for a name without any."""
    chosen: set[str] = set()
    for name in _names(kits):
        ids = {name}
        if name not in held:
            with suppress(UserError):  # no kit at all is refused below, with those that there are
                ids = {kit.id for kit in select_kits([name])}
        if not ids & held:
            raise UserError(f"{root} holds no kit {name!r}; its kits are {', '.join(sorted(held))}")
        chosen |= ids & held
    return chosen


class StemGMD:
    """Segments of a dataset that `stemgmd build` wrote.

    Of a set of kits, those that the folder holds are read; without ``kits``, all of them. Five
    stems are summed from nine pieces where the folder holds pieces. Raises UserError where the
    folder is no dataset, lacks the stems or a kit asked for, or an argument is none of its choices.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: str | Sequence[str] = "all",
        kits: str | Sequence[str] | None = None,
        stems: Stems = "five",
        segment_sec: float | None = SEGMENT_SEC,
        hop_sec: float = 2.0,
        output: Output = "numpy",
    ) -> None:
        _check_choice("stems", stems, get_args(Stems))
        _check_choice("output", output, get_args(Output))
        splits = _names(split)
        for name in splits:
            _check_choice("split", name, SPLIT_CHOICES)
        self._root = Path(root)
        render_settings = manifest.read_settings(self._root)["render"]
        self._format, built = render_settings["file_format"], render_settings["stems"]
        if built == "five" and stems == "nine":
            raise UserError(f"{root} holds five stems only; build it with --stems nine or both")
        # What is summed for each row of the result.
        members = PIECES_OF_STEM if built == "nine" else {stem: (stem,) for stem in STEMS}
        self._folders = [(p,) for p in PIECES] if stems == "nine" else [members[s] for s in STEMS]
        rows = manifest.read_metadata(self._root)
        held = {row["kit"] for row in rows}
        chosen = held if kits is None else _held_kits(self._root, kits, held)
        self.rows = [
            row
            for row in rows
            if {"all", row["split"], row["session"]} & {*splits} and row["kit"] in chosen
        ]
        if not self.rows:
            raise UserError(f"{root} holds no track of split {split!r} and kits {kits or 'all'}")
        self._output = output
        self._cut = _Cut((int(row["n_samples"]) for row in self.rows), segment_sec, hop_sec)

    def __len__(self) -> int:
        return len(self._cut)

    def __getitem__(self, index: int) -> Segment:
        track, start, n_samples = self._cut.locate(index)
        row = self.rows[track]
        stems = np.zeros((len(self._folders), 2, n_samples), np.float32)
        for target, folders in zip(stems, self._folders, strict=True):
            for folder in folders:
                self._add(target, row, folder, start)
        # Exact, for integer steps: the mixture's own file, where there is one, holds the same.
        mixture = stems.sum(axis=0)
        arrays = (_as_output(mixture, self._output), _as_output(stems, self._output))
        return Segment(*arrays, row["id"], row["kit"], start)

    def _add(
        self, target: NDArray[np.float32], row: dict[str, str], folder: str, start: int
    ) -> None:
        name = f"{row['name']}.{self._format}"
        path = self._root / manifest.track_folder(row) / folder / name
        pcm = read_pcm(path, start, min(target.shape[1], int(row["n_samples"]) - start))
        target[:, : len(pcm)] += pcm.T / np.float32(FULL_SCALE)


class RenderedStemGMD:
    """The same segments with nothing on disk: rendered from performances and kits when asked for.

    The performances are those of ``gmd``, else of STEMGMD_GMD, else of the cache, else the built-in
    grooves, with a warning; `source` says which they are. With ``kit_mix`` each stem but one is,
    with that probability, played on another random kit. What segment ``i`` holds depends on
    ``seed``, the epoch (`set_epoch`) and ``i`` alone, in any process. Samples differ from a dataset
    on disk by the rounding to 16 bit alone. Pickled, it holds no samples: a DataLoader's workers
    share the banks of the cache. Raises UserError where performances or kits are missing, or an
    argument is none of its choices.
    """

    def __init__(
        self,
        gmd: str | Path | None = None,
        *,
        split: str | Sequence[str] = "train",
        kits: str | Sequence[str] = ("train",),
        stems: Stems = "five",
        segment_sec: float | None = SEGMENT_SEC,
        hop_sec: float = 2.0,
        kit_mix: float = 0.0,
        articulations: Articulations = "nine",
        choke: bool = True,
        limit: int | None = None,
        seed: int = 0,
        output: Output = "numpy",
    ) -> None:
        _check_choice("stems", stems, get_args(Stems))
        _check_choice("output", output, get_args(Output))
        _check_choice("articulations", articulations, get_args(Articulations))
        _check_count("seed", seed)
        if not 0 <= kit_mix <= 1:
            raise UserError(f"kit_mix {kit_mix!r}: give a probability, 0 to 1")
        collection = find_collection(gmd)
        self._source = collection.source
        if self._source == "builtin" and not (gmd or os.environ.get(GMD_VARIABLE)):
            warnings.warn(f"no GMD is named or found; {describe(collection)}", stacklevel=2)
        self.performances = collection.select(split, limit)
        chosen = select_kits(_names(kits))
        self.kits = tuple(with_gain(kit, kit_gain(kit, collection)) for kit in chosen)
        self._banks = [load_bank(kit) for kit in self.kits]
        if not self.performances or not self._banks:
            raise UserError("nothing to render: no performance or no kit is chosen")
        self._strikes = [strikes_of(collection.read_score(p)) for p in self.performances]
        self._rows = FIVE_ROWS if stems == "five" else NINE_ROWS
        self._articulations, self._choke = articulations, choke
        self._kit_mix, self._seed, self._output, self._epoch = kit_mix, seed, output, 0
        lengths = (
            self._schedule(performance, bank).n_samples
            for performance in range(len(self.performances))
            for bank in self._banks
        )
        self._cut = _Cut(lengths, segment_sec, hop_sec)

    def __getstate__(self) -> dict[str, Any]:
        # Kits with their gains stay, as in the builder's jobs: each process maps the banks anew,
        # where copies of them would fill every worker's memory.
        return {name: value for name, value in self.__dict__.items() if name != "_banks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._banks = [load_bank(kit) for kit in self.kits]

    @property
    def source(self) -> str:
        """What the performances are: "gmd", "builtin" (the grooves), or "own" files."""
        return self._source

    def __len__(self) -> int:
        return len(self._cut)

    def set_epoch(self, epoch: int) -> None:
        """Draw other kits for the stems from now on (as DistributedSampler.set_epoch)."""
        _check_count("epoch", epoch)
        self._epoch = epoch

    def __getitem__(self, index: int) -> Segment:
        track, start, n_samples = self._cut.locate(index)
        performance, kit = divmod(track, len(self._banks))
        chosen = self._draw_kits(index % len(self), kit)
        stems = np.zeros((max(self._rows) + 1, 2, n_samples), np.float32)
        heard: set[int] = set()
        for bank_index in sorted(set(chosen)):
            rows = [
                row if chosen[stem] == bank_index else -1
                for row, stem in zip(self._rows, FIVE_ROWS, strict=True)
            ]
            plan = self._schedule(performance, self._banks[bank_index])
            if start < plan.n_samples:
                stop = min(start + n_samples, plan.n_samples)
                render(plan, start=start, stop=stop, rows=rows, out=stems[..., : stop - start])
                heard |= {rows[piece] for piece in sounding_pieces(plan, start, stop)} - {-1}
        names = [self.kits[i].id for i in chosen]
        kit_name = names[0] if len(set(names)) == 1 else "+".join(names)
        mixture = _sum_of(stems, sorted(heard))
        arrays = (_as_output(mixture, self._output), _as_output(stems, self._output))
        return Segment(*arrays, self.performances[performance].id, kit_name, start)

    def _draw_kits(self, index: int, kit: int) -> list[int]:
        """Index of the kit of each of the five stems."""
        chosen = [kit] * len(STEMS)
        if self._kit_mix > 0:
            generator = np.random.default_rng([self._seed, self._epoch, index])
            kept = int(generator.integers(len(STEMS)))
            for stem in range(len(STEMS)):
                if stem != kept and generator.random() < self._kit_mix:
                    chosen[stem] = int(generator.integers(len(self._banks)))
        return chosen

    def _schedule(self, performance: int, bank: Bank) -> Schedule:
        return schedule(
            self._strikes[performance],
            bank,
            articulations=self._articulations,
            choke=self._choke,
        )
