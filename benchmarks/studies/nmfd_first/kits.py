"""Which kits a candidate is trained on and which it is validated on.

Validation families are never trained on. The held-out kits of the catalogue (split "test") are
neither: they are scored once, at the end.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stemgmd_build.kits.catalogue import available, catalogue
from stemgmd_build.kits.own import own_kit
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES, SAMPLE_RATE

VALIDATION: Final = ("tchackpoum", "sams-sonor", "ltibbits-metal", "uzu-drumkit", "sonic-pi")
"""Kits, each a family of its own, that no candidate is trained on."""

KNOWN: Final = ("fluidr3-standard", "avl-red-zeppelin", "salamander", "pearl-master-studio")
"""Training kits that validation looks at too: how much of a score is memory of the kit."""

TEMPLATE_KITS: Final = (
    "fluidr3-standard", "timgm6mb-pretty-midi", "avl-black-pearl", "avl-red-zeppelin",
    "gmrockkit", "bja-pacific",
)  # fmt: skip

_COPIES: Final = ("timgm6mb-standard", "csound-standard", "black-pearl-h2")
"""Kits whose recordings another training kit has too."""


@dataclass(frozen=True)
class TrainingKit:
    """A bank and the loudness of each piece: energy of its first half second at velocity 100."""

    bank: Bank
    loudness_db: NDArray[np.float64]


def find_banks(names: tuple[str, ...], folders: tuple[Path, ...]) -> list[Bank]:
    """Banks of catalogue kits or of folders that hold a kit.toml, in the order of the names."""
    by_id = {kit.id: kit for kit in catalogue()}
    banks = []
    for name in names:
        paths = [folder / name / "kit.toml" for folder in folders]
        path = next((path for path in paths if path.is_file()), None)
        banks.append(load_bank(own_kit(path) if path else by_id[name], gain=1.0))
    return banks


def training_names(folders: tuple[Path, ...]) -> tuple[str, ...]:
    """Every kit at hand that may be trained on."""
    kits = [kit for kit in catalogue() if kit.split == "train" and kit.id not in _COPIES]
    names = [kit.id for kit in available(kits)]
    for folder in folders:
        names += sorted(path.parent.name for path in folder.glob("*/kit.toml"))
    return tuple(dict.fromkeys(name for name in names if name not in VALIDATION))


def single_drums(folder: Path) -> dict[int, list[TrainingKit]]:
    """Piece -> kits of which that piece alone may be used, from folders with a single.toml."""
    found: dict[int, list[TrainingKit]] = {}
    for path in sorted(folder.glob("*/single.toml")):
        table = tomllib.loads(path.read_text("utf-8"))
        ((piece, files),) = list(table["sounds"].items())[:1]
        # a kit needs nine pieces: the others are the same drum, and are never played
        lines = [
            f"path = {json.dumps(str(path.parent.resolve()))}",
            f'id = "{table["id"]}"',
            "[sounds]",
        ]
        lines += [f"{name} = {json.dumps(files)}" for name in PIECES]
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / "kit.toml"
            whole.write_text("\n".join(lines), "utf-8")
            bank = load_bank(own_kit(whole), gain=1.0)
        found.setdefault(PIECES.index(piece), []).append(measured(bank))
    return found


def measured(bank: Bank) -> TrainingKit:
    """A bank with the loudness of its pieces."""
    loudness = np.zeros(len(PIECES))
    for index, piece in enumerate(PIECES):
        row = ARTICULATIONS.index(piece)
        shot = bank.shot(int(bank.shot_of[row, 100]))[:, : SAMPLE_RATE // 2]
        energy = float(np.square(shot * bank.gain_of[row, 100]).sum())
        loudness[index] = 10 * np.log10(energy + 1e-9)
    return TrainingKit(bank, loudness)
