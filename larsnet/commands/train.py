"""`stemgmd train`."""

from __future__ import annotations

import argparse
import os
from math import isnan
from pathlib import Path
from typing import Any, Final

from stemgmd_build.errors import UserError
from stemgmd_build.processes import SAFE_PATH, python_module

_CONFIGS: Final = Path(__file__).parent.parent / "training" / "configs"

_EPILOG = """\
Segments are rendered while training; nothing but the run is written. The same command resumes a
run that was stopped or killed, through the very same losses. DIR/best.safetensors and
DIR/last.safetensors are weights for `stemgmd separate --weights`.

examples:
  stemgmd train smoke                                 does training work here? under a minute
  stemgmd train larsnet-small --out runs/small        what two cores can train
  stemgmd train my.toml --init runs/small/best.safetensors   go on from there, on other terms
  stemgmd train larsnet --device cuda                 the paper's recipe
  stemgmd train larsnet --device cuda --processes 4   ... on four GPUs
  stemgmd train larsnet-small --processes 2           on two cores, faster than two threads
  tensorboard --logdir runs"""


def main(argv: list[str]) -> int:
    """Train a LarsNet; 0 when all steps are done."""
    parser = argparse.ArgumentParser(
        prog="stemgmd train",
        description="Train a LarsNet on segments rendered from MIDI and drum kits.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        help=f"{', '.join(sorted(path.stem for path in _CONFIGS.glob('*.toml')))}, or a TOML file",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: runs/<name of the configuration>"
    )
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="weights to start from, such as another run's"
    )
    parser.add_argument("--gmd", type=Path, metavar="DIR", help="the Groove MIDI Dataset")
    parser.add_argument("--device", default="cpu", help="such as cpu (default) or cuda")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads per process")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="one run in N processes, by torchrun (default: 1)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the configuration's")
    parser.add_argument("--batch", type=int, metavar="N", help="instead of the configuration's")
    parser.add_argument("--accumulate", type=int, metavar="N", help="parts of a batch")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the configuration's")
    options = parser.parse_args(argv)
    if options.processes is not None:
        if options.processes < 1:
            raise UserError("--processes must be at least 1")
        if options.processes > 1 and "WORLD_SIZE" not in os.environ:
            _start_team(options.processes, argv)
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("steps", "batch", "accumulate", "seed")
        if getattr(options, name) is not None
    }
    import torch

    from larsnet.training.config import load_config
    from larsnet.training.distributed import join_team
    from larsnet.training.loop import train

    config = load_config(options.config, changes)
    if options.threads:
        torch.set_num_threads(max(1, options.threads))
    folder = options.out or Path("runs") / Path(options.config).stem
    with join_team(options.device) as team:
        result = train(config, folder, team, options.gmd, options.init)
        if team.leads:
            hours, share = result.progress.seconds / 3600, result.data_share
            waited = "" if isnan(share) else f"; waited for data {share:.0%} of the time"
            print(
                f"{folder}: {result.progress.step} steps in {hours:.2f} h, best validation nSDR "
                f"{result.progress.best:.2f} dB{waited}\n"
                f"{folder / 'best.safetensors'}\n{folder / 'curves.png'}"
            )
    return 0


def _start_team(n_processes: int, argv: list[str]) -> None:
    """Become torchrun, which starts this command ``n_processes`` times. Does not return."""
    launch = ["--standalone", "--nproc-per-node", str(n_processes), "-m", "stemgmd_build.cli"]
    command = python_module("torch.distributed.run", *launch, "train", *argv)
    os.execve(command[0], command, {**os.environ, SAFE_PATH: "1"})  # noqa: S606
