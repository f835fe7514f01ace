"""The published StemGMD's folders, which have no manifest: drummer/session/kit/piece/name.wav.

Its high and low tom are swapped between its single hits and its stems: what its folder ``hi_tom``
holds is not what its single hit of that name sounds like. Pieces are read here by the name of
their folder, as they lie there; the five stems, which add all toms up, are not affected.

Which performance is in which of GMD's splits stands in GMD alone, so "train", "validation" and
"test" need it at hand; "all" and "eval_session" do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import soundfile

from stemgmd_build.errors import UserError
from stemgmd_build.performances.collection import SPLITS, Performance
from stemgmd_build.performances.gmd import find_collection
from stemgmd_build.progress import progress
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE, STEMS


def find_tracks(root: Path) -> Path | None:
    """The folder with the drummers, where ``root`` or its "audio" looks like the original."""
    for folder in (root, root / "audio"):
        if any(folder.glob("drummer*/*/*/kick")):
            return folder
    return None


def read_rows(folder: Path, splits: Sequence[str]) -> tuple[list[dict[str, str]], str]:
    """(rows like those of metadata.csv, "nine" or "five") of every track below a folder.

    Raises UserError where a track lacks a piece, a file cannot be read, or the splits need GMD.
    """
    performances = _performances(needed=bool({*splits} & {*SPLITS}))
    rows: list[dict[str, str]] = []
    kinds: set[str] = set()
    kits = sorted(kick.parent for kick in folder.glob("drummer*/*/*/kick"))
    for kit in progress(kits, desc="read", unit="folders", leave=False):
        drummer, session, name = kit.relative_to(folder).parts
        kinds.add(_kind(kit))
        for file in sorted((kit / "kick").glob("*.wav")):
            midi = f"{drummer}/{session}/{file.stem}.mid"
            known = performances.get(f"{drummer}/{session}/{file.stem}")
            rows.append(
                {
                    "id": known.id if known else _id(drummer, session, file.stem),
                    "drummer": drummer,
                    "session": session,
                    "split": known.split if known else "",
                    "midi_filename": midi,
                    "name": file.stem,
                    "kit": name,
                    "kit_split": "",
                    "n_samples": str(_length(file)),
                }
            )
    if len(kinds) != 1:
        raise UserError(f"{folder}: some tracks have nine pieces and others five stems; move one")
    return rows, kinds.pop()


def _performances(*, needed: bool) -> dict[str, Performance]:
    """drummer/session/name -> performance of GMD, empty where it is neither at hand nor needed."""
    try:
        collection = find_collection(None, allow_builtin=False)
    except UserError:
        if needed:
            raise
        return {}
    return {f"{p.drummer}/{p.session}/{p.name}": p for p in collection.performances}


def _kind(kit: Path) -> str:
    held = {path.name for path in kit.iterdir() if path.is_dir()}
    if held >= {*PIECES}:
        return "nine"
    if held >= {*STEMS}:
        return "five"
    missing = ", ".join(piece for piece in PIECES if piece not in held)
    raise UserError(f"{kit} lacks {missing}; unpack StemGMD again, or give the folder above it")


def _id(drummer: str, session: str, name: str) -> str:
    """GMD's id: a file's name begins with its number in the session."""
    number = re.match("[0-9]+", name)
    return f"{drummer}/{session}/{number.group() if number else name}"


def _length(file: Path) -> int:
    try:
        info = soundfile.info(file)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if info.samplerate != SAMPLE_RATE or info.channels != 2:
        raise UserError(f"{file} has {info.samplerate} Hz and {info.channels} channels, not stereo "
                        f"at {SAMPLE_RATE} Hz")  # fmt: skip
    return int(info.frames)
