"""`stemgmd pack`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stemgmd_build.errors import UserError

_EPILOG = """\
The weights are scored on the run's own validation segments in single and in half precision. Nothing
is written where half precision costs more than 0.05 dB.

examples:
  stemgmd pack runs/small small.safetensors
  stemgmd pack runs/tuned tuned.safetensors --start runs/small/best.safetensors --share 0.3"""


def main(argv: list[str]) -> int:
    """Pack the weights of a run; 0 if they are as good."""
    parser = argparse.ArgumentParser(
        prog="stemgmd pack",
        description="Write the weights of a training run in half precision.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--which", choices=("best", "last"), default="best")
    parser.add_argument("--gmd", type=Path, metavar="DIR", help="the Groove MIDI Dataset")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights the run began at")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the way from them (default: 1)"
    )
    options = parser.parse_args(argv)

    from larsnet.training.pack import pack

    try:
        line = pack(
            options.run,
            options.target,
            which=options.which,
            gmd=options.gmd,
            start=options.start,
            share=options.share,
        )
    except OSError as error:
        raise UserError(f"{options.target} cannot be written: {error}") from error
    print(line)
    return 0
