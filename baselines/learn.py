"""Templates from the one-shots of training kits, and the file that holds them.

Each piece of each kit is heard at three velocities, so that kits weigh the same however many
layers they have. The file travels with the package, so that the factorization systems run
where the kits are not; ``stemgmd learn`` makes it anew, to the same bytes. It holds
one array a recipe, half precision relative to the loudest cell of each template, and says what
it was made of.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.settings import SETTINGS, Recipe
from baselines.templates import Templates, learn_templates
from stemgmd_build.errors import UserError
from stemgmd_build.files import write_whole
from stemgmd_build.progress import progress
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES, STEM_OF_PIECE, STEMS

if TYPE_CHECKING:  # reading what was learnt needs no kits, nor what they need
    from stemgmd_build.kits.kit import Kit
    from stemgmd_build.rendering.bank import Bank

FORMAT: Final = 1
VELOCITIES: Final = (48, 88, 120)
"""Where each kit is listened to: soft, usual, loud."""

PACKAGED: Final = Path(__file__).with_name("templates.npz")

_LARGEST_BYTES: Final = 64 << 20
_WAY_OUT: Final = "`stemgmd learn` makes it anew"


@dataclass(frozen=True)
class Learnt:
    """Templates of one recipe, the kits that they come from, and a hash of their values."""

    templates: Templates
    kits: tuple[str, ...]
    digest: str


def one_shots_of(bank: Bank, n_samples: int) -> dict[str, list[Tensor]]:
    """Piece -> one shot a velocity of :data:`VELOCITIES`, (2, at most n_samples) each."""
    rows = {piece: bank.shot_of[ARTICULATIONS.index(piece)] for piece in PIECES}
    return {
        piece: [torch.from_numpy(bank.shot(row[v])[:, :n_samples].copy()) for v in VELOCITIES]
        for piece, row in rows.items()
    }


def learn(banks: Sequence[Bank], recipe: Recipe) -> Templates:
    """Templates of all pieces from the one-shots of some kits, as a recipe wants them.

    Raises UserError where there is no kit.
    """
    if not banks:
        raise UserError("no kit to learn templates from")
    config = recipe.config
    n_samples = config.n_frames * config.stft.hop_samples + config.stft.n_fft
    shots = [one_shots_of(bank, n_samples) for bank in banks]
    one_shots = {piece: [hit for kit in shots for hit in kit[piece]] for piece in PIECES}
    templates = learn_templates(one_shots, config)
    if recipe.attack_frames is None:
        return templates
    return templates.segments((recipe.attack_frames,) if recipe.attack_frames else ())


def save(path: Path, banks: Sequence[Bank], recipes: Sequence[Recipe]) -> None:
    """Learn every recipe and write the file, whole or not at all.

    Raises UserError where it cannot be written.
    """
    arrays: dict[str, Any] = {}
    sets: dict[str, Any] = {}
    for recipe in progress(dict.fromkeys(recipes), desc="learned", unit="sets", leave=False):
        templates = learn(banks, recipe)
        arrays[recipe.name] = _packed(templates.values)
        sets[recipe.name] = {"recipe": asdict(recipe), "pieces": templates.piece_of_component}
    facts = {
        "format": FORMAT,
        "kits": [_provenance(bank) for bank in banks],
        "velocities": VELOCITIES,
        "sets": sets,
    }
    data = io.BytesIO()
    np.savez_compressed(data, facts=np.array(json.dumps(facts)), **arrays)
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def load(recipe: Recipe, path: Path = PACKAGED) -> Learnt:
    """The templates of a recipe from the file.

    Raises UserError where the file is missing, damaged, foreign, or lacks the recipe.
    """
    facts, arrays = _read(path, os.stat(path).st_mtime_ns if path.exists() else 0)
    try:
        if facts["format"] != FORMAT:
            raise UserError(f"{path} is of format {facts['format']}, not {FORMAT}; {_WAY_OUT}")
        if recipe.name not in facts["sets"]:
            raise UserError(f"{path} has no templates {recipe.name}; {_WAY_OUT}")
        entry, kits = facts["sets"][recipe.name], tuple(kit["id"] for kit in facts["kits"])
        if Recipe(**entry["recipe"]) != recipe:
            raise ValueError("recipe")
        values = arrays[recipe.name]
        templates = _unpacked(values, tuple(entry["pieces"]), recipe)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path) from error
    return Learnt(templates, kits, hashlib.sha256(values.tobytes()).hexdigest())


def _packed(values: Tensor) -> NDArray[np.float16]:
    return (values / values.amax(dim=(1, 2), keepdim=True)).half().numpy()


def _unpacked(packed: NDArray[Any], pieces: tuple[str, ...], recipe: Recipe) -> Templates:
    """Raises ValueError or KeyError unless the array is what the recipe makes."""
    config = recipe.config
    n_frames = config.n_frames if recipe.attack_frames is None else 1
    if packed.dtype != np.float16 or packed.shape != (len(pieces), config.stft.n_bins, n_frames):
        raise ValueError("shape")
    values = torch.from_numpy(packed.astype(np.float32))
    sums = values.sum(dim=(1, 2), keepdim=True)
    if not (bool(values.isfinite().all()) and bool((values >= 0).all()) and bool((sums > 0).all())):
        raise ValueError("values")
    stems = tuple(STEMS.index(STEM_OF_PIECE[piece]) for piece in pieces)
    return Templates(values / sums, stems, pieces, config)


@functools.lru_cache(maxsize=2)
def _read(path: Path, _changed: int) -> tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]:
    """What the file says of itself, and its arrays; no code of it is ever run."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST_BYTES:
                raise ValueError("size")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
        if not isinstance(facts, dict):
            raise ValueError("facts")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {_WAY_OUT}") from error
    except Exception as error:  # zipfile's, numpy's, tokenize's, ...: damage has a dozen kinds
        raise _damaged(path) from error
    return facts, arrays


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged or no file of templates; {_WAY_OUT}")


def _provenance(bank: Bank) -> dict[str, str]:
    kit = bank.kit
    return {
        "id": kit.id,
        "family": kit.family,
        "licence": kit.licence,
        "sha256": kit.sha256,
        "bank": bank.digest,
        "source": bank.source,
    }


def training_banks(names: Sequence[str] = ("train",)) -> list[Bank]:
    """The banks of training kits. Raises UserError where one is missing or not for training."""
    from stemgmd_build.kits.catalogue import available, select_kits
    from stemgmd_build.rendering.bank import load_bank

    chosen = select_kits(names)
    _refuse([kit for kit in chosen if kit.split == "test"], "held out for testing")
    here = available(chosen)
    _refuse([kit for kit in chosen if kit not in here], "not on this machine: `stemgmd kits fetch`")
    return [load_bank(kit, gain=1.0) for kit in chosen]


def _refuse(kits: Sequence[Kit], reason: str) -> None:
    if kits:
        raise UserError(f"{', '.join(kit.id for kit in kits)}: {reason}")


def main(argv: Sequence[str] | None = None) -> int:
    """Learn the templates of every system anew."""
    parser = argparse.ArgumentParser(
        prog="stemgmd learn",
        description="Learn the templates of the factorization systems from training kits.",
        epilog="examples:\n  stemgmd learn\n"
        "  stemgmd learn --kits fluidr3-standard,avl-black-pearl --out own.npz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kits", default="train", help="ids or sets (default: train)")
    parser.add_argument("--out", type=Path, default=PACKAGED, help="default: the package's own")
    options = parser.parse_args(argv)
    try:
        banks = training_banks(options.kits.split(","))
        save(options.out, banks, [settings.recipe for settings in SETTINGS.values()])
    except UserError as error:
        print(f"stemgmd learn: error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB from {len(banks)} kits")
    return 0
