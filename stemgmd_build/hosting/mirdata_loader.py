"""A dataset's folder as mirdata (https://mirdata.readthedocs.io) has it: `Dataset` and `Track`.

The index with its checksums is the folder's own ``mirdata_index.json``, which `stemgmd build
--mirdata` writes, also for a dataset that is there already, so there is nothing to download:
``Dataset("stemgmd")`` takes the folder, and ``validate()``, ``load_tracks()``, ``track(...)``,
``get_track_splits()`` are mirdata's. Needs the extra ``[hosting]``; nothing else in the project
imports this module. Audio is float32 (2, n_samples), full scale 1.0, 44.1 kHz.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pretty_midi
from mirdata import core, io
from mirdata.annotations import EventData
from numpy.typing import NDArray

from stemgmd_build.audio import FULL_SCALE, read_pcm
from stemgmd_build.building import manifest
from stemgmd_build.building.formats import MIRDATA_INDEX, MIRDATA_VERSION, track_id
from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import SAMPLE_RATE

NAME: Final = "stemgmd"


class Track(core.Track):  # type: ignore[misc]
    """A performance on a kit.

    Args:
        track_id (str): ``<kit>/<performance id>``

    Attributes:
        stem_names (tuple): what there is audio of: "mixture", pieces, stems
        audio_path (str or None): path of the mixture, where the folder holds mixtures
        midi_path (str): path of the MIDI file
        onsets_path (str): path of the onsets' TSV
    """

    def __init__(
        self, track_id: str, data_home: str, dataset_name: str, index: Any, metadata: Any
    ) -> None:
        super().__init__(track_id, data_home, dataset_name, index, metadata)
        self.stem_names = tuple(k for k in self._track_paths if k not in ("midi", "onsets"))
        self.audio_path = self.get_path("mixture") if "mixture" in self.stem_names else None
        self.midi_path = self.get_path("midi")
        self.onsets_path = self.get_path("onsets")

    @property
    def split(self) -> str:
        """GMD's split: train, validation or test."""
        return str(self._track_metadata["split"])

    @property
    def kit(self) -> str:
        """The drum kit's id."""
        return str(self._track_metadata["kit"])

    @property
    def facts(self) -> dict[str, str | int | float]:
        """The row of metadata.csv: drummer, style, bpm, hits of every piece and the rest."""
        return dict(self._track_metadata)

    @property
    def audio(self) -> tuple[NDArray[np.float32], float] | None:
        """The mixture, (2, n_samples), and the sample rate; None where there is no such file."""
        return load_audio(self.audio_path) if self.audio_path else None

    def stem(self, name: str) -> tuple[NDArray[np.float32], float]:
        """One of ``stem_names``: (2, n_samples), and the sample rate."""
        return load_audio(self.get_path(name))

    @core.cached_property  # type: ignore[untyped-decorator]
    def onsets(self) -> EventData:
        """Every hit, named for its piece; a hit is an instant, so intervals have no length."""
        return load_onsets(self.onsets_path)

    @core.cached_property  # type: ignore[untyped-decorator]
    def midi(self) -> pretty_midi.PrettyMIDI:
        """The performance as MIDI."""
        return io.load_midi(self.midi_path)


def load_audio(path: str) -> tuple[NDArray[np.float32], float]:
    """Samples (2, n_samples), full scale 1.0, and the sample rate. Raises UserError."""
    return read_pcm(Path(path)).T.astype(np.float32) / np.float32(FULL_SCALE), float(SAMPLE_RATE)


def load_onsets(path: str) -> EventData:
    """The hits of an onsets TSV, in seconds. Raises UserError where it cannot be read."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        seconds = np.array([float(row["onset_sec"]) for row in rows])
        events = [row["piece"] for row in rows]
        return EventData(np.stack([seconds, seconds], axis=1), "s", events, "open")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error!r}") from error


class _FolderIndex(core.Index):  # type: ignore[misc]
    """The index that lies in the dataset's folder."""

    def __init__(self, data_home: str) -> None:
        super().__init__(MIRDATA_INDEX)
        self.indexes_dir = data_home


class Dataset(core.Dataset):  # type: ignore[misc]
    """The folder ``data_home`` that `stemgmd build` wrote, as a mirdata dataset."""

    def __init__(self, data_home: str | Path | None = None, version: str = "default") -> None:
        home = str(data_home or Path.home() / "mir_datasets" / NAME)
        bibtex, licences = (_text(Path(home) / n) for n in ("CITATIONS.bib", "LICENSES.md"))
        super().__init__(
            home,
            version,
            name=NAME,
            track_class=Track,
            bibtex=bibtex,
            indexes={"default": MIRDATA_VERSION, MIRDATA_VERSION: _FolderIndex(home)},
            license_info=licences,
            download_info=f"`stemgmd build --out {home}` makes the dataset; `stemgmd gmd fetch` "
            "and `stemgmd kits fetch` download what it is made from.",
        )

    @core.cached_property  # type: ignore[untyped-decorator]
    def _index(self) -> dict[str, Any]:
        home = Path(self.data_home)
        if (home / manifest.MANIFEST).exists() and not Path(self.index_path).exists():
            raise UserError(
                f"{home} has no {MIRDATA_INDEX}; the command that built it writes it "
                "if run again with --mirdata"
            )
        return read_index(Path(self.index_path))

    @core.cached_property  # type: ignore[untyped-decorator]
    def _metadata(self) -> dict[str, dict[str, str | int | float]]:
        rows = manifest.read_metadata(Path(self.data_home))
        return {track_id(row): manifest.typed_row(row) for row in rows}


def _text(path: Path) -> str | None:
    return path.read_text("utf-8", errors="replace") if path.is_file() else None


def read_index(path: Path) -> dict[str, Any]:
    """An index whose paths stay inside the folder. Raises UserError for any other."""
    try:
        index = json.loads(path.read_text("utf-8"))
        if index["version"] != MIRDATA_VERSION:
            raise ValueError(f"its version is not {MIRDATA_VERSION}")
        for entries in (index["metadata"], *index["tracks"].values()):
            for name, md5 in entries.values():
                if not isinstance(md5, str) or manifest.climbs_out(name):
                    raise ValueError(f"a path that climbs out, or no checksum: {name!r}")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; is this a dataset?") from error
    except manifest.DAMAGE as error:
        raise UserError(f"{path} is damaged: {error!r}") from error
    return dict(index)
