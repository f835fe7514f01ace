"""Evaluation tracks: performances on kits, read from a dataset or rendered with nothing on disk.

Both ways give the very same samples: what is rendered here is quantized as `stemgmd build` does
it. ``data`` is a hash of all that the samples follow from (renderer, bank, gain, MIDI, choke,
articulations), by one formula for both, so that records made either way belong together and a
track that sounds otherwise is another track.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.audio import FULL_SCALE, ClippingError, read_pcm
from stemgmd_build.building import manifest
from stemgmd_build.building.manifest import FileRecord
from stemgmd_build.building.tracks import RenderSettings, exact_sum, pcm_blocks
from stemgmd_build.dataset.select import choose_kits, choose_performances, choose_rows
from stemgmd_build.download import sha256_of_file
from stemgmd_build.errors import UserError
from stemgmd_build.kits.kit import Kit
from stemgmd_build.performances.collection import Collection, Score, read_score
from stemgmd_build.rendering.bank import Bank, load_bank, require_at_hand
from stemgmd_build.rendering.gain import tuned
from stemgmd_build.rendering.render import RENDERER_VERSION, schedule, strikes_of
from stemgmd_build.taxonomy import PIECE_OF_NOTE, PIECES, PIECES_OF_STEM, SAMPLE_RATE, STEMS

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Built:
    """Where a dataset holds a track: files of stems or pieces by name, and its MIDI."""

    root: Path
    files: tuple[tuple[str, FileRecord], ...]
    midi: FileRecord


@dataclass(frozen=True)
class Rendered:
    """What a track is rendered from; ``kit`` carries its gain."""

    midi: Path
    kit: Kit
    settings: RenderSettings


@dataclass(frozen=True)
class Track:
    """A performance on a kit. ``performance`` is GMD's id, ``data`` the hash of what it is."""

    performance: str
    name: str
    kit: str
    kit_split: str
    duration_sec: float
    data: str
    source: Built | Rendered

    @property
    def clip(self) -> str:
        """A name for files: kit and performance, unique in a run."""
        return f"{self.kit}--{self.performance.replace('/', '_')}"

    @property
    def midi(self) -> Path:
        """The performance's MIDI file."""
        if isinstance(self.source, Rendered):
            return self.source.midi
        return self.source.root / self.source.midi.path


@dataclass(frozen=True)
class LoadedTrack:
    """A track in memory.

    ``references``: float32 (5, 2, n_samples), full scale 1.0; ``mixture``: their exact sum;
    ``score``: piece -> onsets in seconds, ascending.
    """

    references: Audio
    mixture: Audio
    score: dict[str, tuple[float, ...]]

    def onsets_of(self, stem: str) -> list[float]:
        """Onsets in seconds of a stem's hits, ascending."""
        return sorted(t for piece in PIECES_OF_STEM[stem] for t in self.score.get(piece, ()))

    def present(self) -> list[bool]:
        """Whether each of the five stems is struck."""
        return [bool(self.onsets_of(stem)) for stem in STEMS]


def rendered_tracks(
    collection: Collection,
    *,
    split: Sequence[str],
    kits: Sequence[str],
    limit: int | None = None,
) -> list[Track]:
    """Tracks straight from performances and kits, kit by kit.

    Raises UserError where a kit is missing or nothing is chosen.
    """
    chosen = choose_kits(kits)
    require_at_hand(chosen)
    performances = choose_performances(collection, split, limit)
    if not performances or not chosen:
        raise UserError(f"{collection.root} holds no performance of split {', '.join(split)}")
    midi_sha256 = {p.id: _hash_midi(collection.midi_path(p)) for p in performances}
    settings = RenderSettings()
    tracks = []
    for kit in (tuned(kit, collection) for kit in chosen):
        digest = load_bank(kit).digest
        tracks += [
            Track(
                performance=p.id,
                name=p.name,
                kit=kit.id,
                kit_split=kit.split or "",
                duration_sec=p.duration_sec,
                data=_identity(
                    settings.articulations, settings.choke, digest, kit.gain, midi_sha256[p.id]
                ),
                source=Rendered(collection.midi_path(p), kit, settings),
            )
            for p in performances
        ]
    return tracks


def built_tracks(
    root: Path, *, split: Sequence[str], kits: Sequence[str] | None, limit: int | None = None
) -> list[Track]:
    """Tracks of a dataset that `stemgmd build` wrote, kit by kit.

    ``split`` and ``kits`` as in :mod:`stemgmd_build.dataset.select`; ``kits`` None means all.
    Raises UserError where the folder is no dataset or holds none of what is asked for.
    """
    settings, files = manifest.read_settings(root), manifest.read_manifest(root)
    if settings.get("renderer") != RENDERER_VERSION:
        raise UserError(
            f"{root} was built by renderer {settings.get('renderer')}, this is {RENDERER_VERSION}; "
            "build it again"
        )
    rows = manifest.read_metadata(root)
    chosen = choose_rows(root, rows, split, kits, limit)
    if not chosen:
        raise UserError(f"{root} holds no track of split {', '.join(split)} and these kits")
    return [_built_track(root, settings, files, row) for row in chosen]


def load(track: Track) -> LoadedTrack:
    """Read or render a track.

    Raises UserError where a file is missing, damaged or changed since the dataset was built, or
    the performance is broken.
    """
    return _read(track.source) if isinstance(track.source, Built) else _render(track.source)


def _built_track(
    root: Path, settings: dict[str, Any], files: dict[str, FileRecord], row: dict[str, str]
) -> Track:
    render, facts = settings["render"], settings["kits"].get(row["kit"], {})
    members = STEMS if render["stems"] != "nine" else PIECES
    folder, suffix = manifest.track_folder(row), f"{row['name']}.{render['file_format']}"
    paths = {name: f"{folder}/{name}/{suffix}" for name in members}
    midi = f"midi/{row['midi_filename']}"
    missing = [path for path in (*paths.values(), midi) if path not in files]
    if missing:
        raise UserError(f"{root / missing[0]} is not in the manifest: `stemgmd verify {root}`")
    return Track(
        performance=row["id"],
        name=row["name"],
        kit=row["kit"],
        kit_split=row["kit_split"],
        duration_sec=int(row["n_samples"]) / SAMPLE_RATE,
        data=_identity(
            render.get("articulations"),
            render.get("choke"),
            facts.get("bank"),
            float(row["gain"]),
            row["midi_sha256"],
        ),
        source=Built(root, tuple((n, files[p]) for n, p in paths.items()), files[midi]),
    )


def _identity(
    articulations: object, choke: object, bank: object, gain: float | None, midi_sha256: str
) -> str:
    """The hash of what the samples of a track follow from."""
    facts = {
        "renderer": RENDERER_VERSION,
        "articulations": articulations,
        "choke": choke,
        "bank": bank,
        "gain": f"{gain:.6f}",
        "midi_sha256": midi_sha256,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _hash_midi(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _read(source: Built) -> LoadedTrack:
    pcm = {name: _checked_pcm(source.root, file) for name, file in source.files}
    n_samples = max(map(len, pcm.values()))
    for name, samples in pcm.items():
        if len(samples) != n_samples:
            raise UserError(
                f"{source.root}: {name} of {source.midi.path} has {len(samples)} samples, others "
                f"{n_samples}: `stemgmd verify {source.root}`"
            )
    midi = source.root / source.midi.path
    if _hash_midi(midi) != source.midi.sha256:
        raise _changed(midi, source.root)
    whole = set(STEMS) <= set(pcm)
    members = {stem: (stem,) for stem in STEMS} if whole else PIECES_OF_STEM
    references = np.zeros((len(STEMS), 2, n_samples), np.float32)
    for row, stem in zip(references, STEMS, strict=True):
        for name in members[stem]:
            row += pcm[name].T / np.float32(FULL_SCALE)
    return _loaded(references, read_score(midi))


def _checked_pcm(root: Path, file: FileRecord) -> NDArray[np.int16]:
    """The samples of a file whose bytes are those that were built."""
    path = root / file.path
    if not path.exists():
        raise UserError(f"{path} is missing: `stemgmd verify {root}` tells what else is")
    if path.stat().st_size != file.n_bytes or sha256_of_file(path) != file.sha256:
        raise _changed(path, root)
    return read_pcm(path)


def _changed(path: Path, root: Path) -> UserError:
    return UserError(
        f"{path} has changed since the dataset was built: `stemgmd verify {root}` lists every such "
        "file; delete those and build again"
    )


def _render(source: Rendered) -> LoadedTrack:
    score = read_score(source.midi)
    strikes = strikes_of(score)
    if not len(strikes.onset):
        raise UserError(f"{source.midi} has no drum hit: no stem is present, nothing to score")
    plan = schedule(
        strikes,
        _bank(source.kit),
        articulations=source.settings.articulations,
        choke=source.settings.choke,
    )
    references = np.zeros((len(STEMS), 2, plan.n_samples), np.float32)
    start = 0
    try:
        for n_samples, pcm in pcm_blocks(plan):
            for row, stem in zip(references, STEMS, strict=True):
                total = exact_sum(pcm, PIECES_OF_STEM[stem], n_samples)
                row[:, start : start + n_samples] = total.T / np.float32(FULL_SCALE)
            exact_sum(pcm, PIECES, n_samples)  # the mixture must fit as well
            start += n_samples
    except ClippingError:
        raise UserError(
            f"{source.midi} clips on kit {source.kit.id}: it plays harder than all of GMD, for "
            "which the kit's gain is made"
        ) from None
    return _loaded(references, score)


@functools.lru_cache(maxsize=2)
def _bank(kit: Kit) -> Bank:
    return load_bank(kit)


def _loaded(references: Audio, score: Score) -> LoadedTrack:
    onsets: dict[str, list[float]] = {piece: [] for piece in PIECES}
    for hit in score.hits:
        onsets[PIECE_OF_NOTE[hit.note]].append(hit.onset_sec)
    # Sums of integer steps: exact in float32, in any order.
    return LoadedTrack(
        references=references,
        mixture=references.sum(axis=0),
        score={piece: tuple(sorted(found)) for piece, found in onsets.items() if found},
    )
