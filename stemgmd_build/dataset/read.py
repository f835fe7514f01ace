"""Reading a dataset from disk: what `stemgmd build` wrote, or the published StemGMD's folders.

`StemGMD` and `RenderedStemGMD` are map-style datasets with one interface: ``len(data)``,
``data[i] -> Segment``. Both cut a track into segments of ``segment_sec`` every ``hop_sec``; the
last one is padded with zeros, so that every sample of a track is in some segment. Both choose
kits, splits and limits by :mod:`stemgmd_build.dataset.select`.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import manifest
from stemgmd_build.dataset import original
from stemgmd_build.dataset.segments import (
    SEGMENT_SEC,
    Cut,
    Output,
    Segment,
    Stems,
    as_output,
    check_choice,
)
from stemgmd_build.dataset.select import Names, as_names, choose_rows
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM, STEMS


class StemGMD:
    """Segments of a dataset that `stemgmd build` wrote, or of the published StemGMD.

    Of a set of kits, those that the folder holds are read; without ``kits``, all of them. Five
    stems are summed from nine pieces where the folder holds pieces. ``limit`` keeps the first
    performances. Raises UserError where the folder is no dataset, lacks the stems or a kit asked
    for, or an argument is none of its choices.

    The published StemGMD is read as it lies there, without our manifest. Its high and low tom are
    swapped between its single hits and its stems; see :mod:`stemgmd_build.dataset.original`.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        split: Names = "all",
        kits: Names | None = None,
        stems: Stems = "five",
        segment_sec: float | None = SEGMENT_SEC,
        hop_sec: float = 2.0,
        limit: int | None = None,
        output: Output = "numpy",
    ) -> None:
        check_choice("stems", stems, get_args(Stems))
        check_choice("output", output, get_args(Output))
        self._root = Path(root)
        rows, built = self._read_rows(as_names(split))
        if built == "five" and stems == "nine":
            raise UserError(f"{root} holds five stems only; build it with --stems nine or both")
        # What is summed for each row of the result.
        members = PIECES_OF_STEM if built == "nine" else {stem: (stem,) for stem in STEMS}
        self._folders = [(p,) for p in PIECES] if stems == "nine" else [members[s] for s in STEMS]
        self.rows = choose_rows(self._root, rows, split, kits, limit)
        if not self.rows:
            raise UserError(f"{root} holds no track of split {split!r} and kits {kits or 'all'}")
        self._output = output
        self._cut = Cut((int(row["n_samples"]) for row in self.rows), segment_sec, hop_sec)

    def _read_rows(self, splits: tuple[str, ...]) -> tuple[list[dict[str, str]], str]:
        """Every track, and which stems the folder holds; sets where and how its files lie."""
        tracks = original.find_tracks(self._root)
        ours = (manifest.SETTINGS, manifest.JOURNAL)
        if tracks is not None and not any((self._root / name).exists() for name in ours):
            self._tracks, self._format = tracks, "wav"
            return original.read_rows(tracks, splits)
        render = manifest.read_settings(self._root)["render"]
        self._tracks, self._format = self._root / "audio", render["file_format"]
        return manifest.read_metadata(self._root), render["stems"]

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
        arrays = (as_output(mixture, self._output), as_output(stems, self._output))
        return Segment(*arrays, row["id"], row["kit"], start)

    def _add(
        self, target: NDArray[np.float32], row: dict[str, str], folder: str, start: int
    ) -> None:
        name = f"{row['name']}.{self._format}"
        path = self._tracks / manifest.track_folder(row).removeprefix("audio/") / folder / name
        pcm = read_pcm(path, start, min(target.shape[1], int(row["n_samples"]) - start))
        target[:, : len(pcm)] += pcm.T / np.float32(FULL_SCALE)
