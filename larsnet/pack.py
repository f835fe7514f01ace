"""From a finished run to weights that travel: half precision, checked against single.

    python -m larsnet.pack runs/larsnet-small larsnet/weights/larsnet-small.safetensors

Both are scored on the run's own validation segments; half precision must come within 0.05 dB, or
nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import torch

from larsnet.checkpoint import load_checkpoint, read_info, save_checkpoint
from larsnet.distributed import Team
from larsnet.model import LarsNet
from larsnet.training_config import train_config
from larsnet.validation import hold, load_banks, validate
from stemgmd_build.errors import UserError
from stemgmd_build.files import whole
from stemgmd_build.performances.gmd import find_collection

MAX_LOSS_DB: Final = 0.05


def pack(run: Path, target: Path, *, which: str = "best", gmd: Path | None = None) -> str:
    """Write the run's weights in half precision to ``target``.

    Args:
        run: folder of a run.
        target: the file to write.
        which: "best" or "last".
        gmd: the Groove MIDI Dataset's folder; default: where it is found.

    Returns:
        A line on what was measured.

    Raises:
        UserError: no weights there, or half precision costs more than `MAX_LOSS_DB`.
    """
    source = run / f"{which}.safetensors"
    info, single = read_info(source), load_checkpoint(source)
    config = train_config(info.notes["training"])
    collection = find_collection(gmd)
    team = Team(0, 1, torch.device("cpu"))
    held = hold(config, collection, team.device, load_banks(config.kits, collection))

    def score_db(model: LarsNet) -> float:
        return validate(model, held, team).nsdr_db

    notes = {**info.notes, "nsdr_db": score_db(single)}
    with whole(target) as partial:
        save_checkpoint(single, partial, notes=notes, dtype=torch.float16)
        half_db = score_db(load_checkpoint(partial))
        if abs(half_db - notes["nsdr_db"]) > MAX_LOSS_DB:
            raise UserError(
                f"half precision changes the validation score of {source} from "
                f"{notes['nsdr_db']:.3f} to {half_db:.3f} dB; nothing was written"
            )
    return (
        f"{target}: {target.stat().st_size / 1e6:.2f} MB, step {notes['step']}, validation nSDR "
        f"{notes['nsdr_db']:.3f} dB in single and {half_db:.3f} dB in half precision, "
        f"{len(held.plans)} segments"
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="pack the weights of a run")
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--which", choices=("best", "last"), default="best")
    parser.add_argument("--gmd", type=Path, help="the Groove MIDI Dataset")
    options = parser.parse_args()
    try:
        print(pack(options.run, options.target, which=options.which, gmd=options.gmd))
    except UserError as error:
        print(f"larsnet.pack: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"larsnet.pack: error: {options.target} cannot be written: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
