"""`stemgmd kits preview`: the kits to look at and to listen to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from stemgmd_build.errors import UserError
from stemgmd_build.files import whole
from stemgmd_build.kits.kit import Kit
from stemgmd_build.plots import contact_sheet
from stemgmd_build.progress import progress
from stemgmd_build.rendering.bank import Bank, load_bank
from stemgmd_build.taxonomy import ARTICULATIONS, PIECES, SAMPLE_RATE

_VELOCITIES: Final = (40, 80, 120)
_SLOT_SEC: Final = {"crash_left": 2.5, "ride": 2.0, "hihat_open": 1.2}
_STRIKE_SEC: Final = 0.6


def write_preview(kits: Sequence[Kit], folder: Path) -> list[Path]:
    """Write contact_sheet.png and for each kit an audio file of its nine pieces, each struck
    softly, middling and hard.

    Raises UserError if there is no kit or the folder cannot be written.
    """
    if not kits:
        raise UserError(
            "none of these kits is on this machine; `stemgmd kits fetch` downloads them"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        banks = [
            load_bank(kit) for kit in progress(kits, desc="kits read", unit="kits", leave=False)
        ]
        contact_sheet(folder / "contact_sheet.png", banks)
        return [folder / "contact_sheet.png", *(_write_audio(bank, folder) for bank in banks)]
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{folder}: the preview cannot be written ({error}); see --out") from error


def _write_audio(bank: Bank, folder: Path) -> Path:
    path = folder / f"{bank.kit.id}.flac"
    samples = np.concatenate(list(_strikes(bank)), axis=1)
    samples /= max(1.0, float(np.abs(samples).max()))
    with whole(path) as part:
        soundfile.write(part, samples.T, SAMPLE_RATE, format="FLAC")
    return path


def _strikes(bank: Bank) -> Iterator[NDArray[np.float32]]:
    for piece in PIECES:
        row = ARTICULATIONS.index(piece)
        for velocity in _VELOCITIES:
            shot = bank.shot(int(bank.shot_of[row, velocity])) * bank.gain_of[row, velocity]
            slot = np.zeros((2, round(_SLOT_SEC.get(piece, _STRIKE_SEC) * SAMPLE_RATE)), np.float32)
            length = min(slot.shape[1], shot.shape[1])
            slot[:, :length] = shot[:, :length]
            slot[:, -441:] *= np.linspace(1, 0, 441, dtype=np.float32)
            yield slot
