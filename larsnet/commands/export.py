"""`stemgmd export`."""

from __future__ import annotations

import argparse
from pathlib import Path

_EPILOG = """\
What is written gives the masks of one stem, from magnitudes of the configuration's STFT. It is run
beside torch, and refused where they differ.

examples:
  stemgmd export kick.onnx --stem kick
  stemgmd export kick.pt2 --stem kick --weights runs/small/best.safetensors"""


def main(argv: list[str]) -> int:
    """Export one net; 0 if it computes what torch computes."""
    parser = argparse.ArgumentParser(
        prog="stemgmd export",
        description="Write the net of a stem for ONNX or torch.export.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="what to write, .onnx or .pt2")
    parser.add_argument("--stem", required=True)
    parser.add_argument("--weights", type=Path, metavar="PATH", help="default: the packaged ones")
    options = parser.parse_args(argv)

    from larsnet.network.export import export_stem
    from larsnet.network.weights import load_weights

    difference = export_stem(load_weights(options.weights), options.stem, options.path)
    print(f"{options.path}: differs from torch by {difference:.1e} at most")
    return 0
