"""From a finished run to weights that travel, as `stemgmd pack` does it: half precision, checked.

Both are scored on the run's own validation segments; half precision must come within 0.05 dB, or
nothing is written.

A run that began at other weights (`stemgmd train --init`) may be packed part of the way from them:
``--start FILE --share 0.3`` writes 0.7 times those and 0.3 times the run's. What such a run has
learnt of drums that are new to it, it keeps most of, while it forgets less of what it knew
(Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from larsnet.network.checkpoint import load_checkpoint, read_info, save_checkpoint
from larsnet.network.protocol import MaskNetwork, create
from larsnet.network.tensors import load_exactly
from larsnet.training.config import train_config
from larsnet.training.distributed import Team
from larsnet.training.validation import hold, validate
from stemgmd_build.dataset.select import load_banks
from stemgmd_build.errors import UserError
from stemgmd_build.files import whole
from stemgmd_build.performances.gmd import find_collection

MAX_LOSS_DB: Final = 0.05


def pack(
    run: Path,
    target: Path,
    *,
    which: str = "best",
    gmd: Path | None = None,
    start: Path | None = None,
    share: float = 1.0,
) -> str:
    """Write the run's weights in half precision to ``target``.

    Args:
        run: folder of a run.
        target: the file to write.
        which: "best" or "last".
        gmd: the Groove MIDI Dataset's folder; default: where it is found.
        start: weights that the run began at, to stay near them.
        share: of the way from ``start`` to the run's weights, above 0 and at most 1.

    Returns:
        A line on what was measured.

    Raises:
        UserError: no weights there, those at the start are of other nets, a share that is none, or
            half precision costs more than `MAX_LOSS_DB`.
    """
    source = run / f"{which}.safetensors"
    info, single = read_info(source), load_checkpoint(source)
    if start is not None:
        _move_back(single, start, share)
    config = train_config(info.notes["training"])
    collection = find_collection(gmd)
    team = Team(0, 1, torch.device("cpu"))
    held = hold(config, collection, team.device, load_banks(config.kits, collection))

    def score_db(model: MaskNetwork) -> float:
        return validate(model, held, team).nsdr_db

    notes = {**info.notes, "nsdr_db": score_db(single)}
    if start is not None:
        notes["share"] = share
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


def _move_back(model: MaskNetwork, start: Path, share: float) -> None:
    """Leave the model ``share`` of the way from the weights in ``start`` to its own."""
    if not 0 < share <= 1:
        raise UserError(f"the share must be above 0 and at most 1, not {share:g}")
    begun = create(model.config)
    load_exactly(begun, load_checkpoint(start).state_dict(), str(start))
    from_where = begun.state_dict()
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            values.mul_(share).add_(from_where[name], alpha=1 - share)
