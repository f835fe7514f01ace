"""`stemgmd separate`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stemgmd_build.errors import UserError
from stemgmd_build.progress import progress

if TYPE_CHECKING:
    from larsnet.separation.inference import Separator
    from larsnet.separation.stemfiles import Track, Written

_EPILOG = """\
Stems are written to DIR/<track>/<stem>.wav at the rate, length and channels of the input. Other
rates than 44.1 kHz are resampled there and back; channels are taken in pairs, a mono recording
is heard on both sides.

examples:
  stemgmd separate drums.wav -o stems
  stemgmd separate drums.wav -o stems --wiener 1 --refine      slower and better
  stemgmd separate recordings/ -o stems --format flac --sum-to-mixture
  stemgmd separate drums.mp3 -o stems --wiener 1 --device cuda
  stemgmd separate drums.wav -o stems --weights pretrained_larsnet_models/"""


def main(argv: list[str]) -> int:
    """Separate recordings; 0 if all went well, 1 if some failed."""
    parser = argparse.ArgumentParser(
        prog="stemgmd separate",
        description="Separate drum recordings into kick, snare, toms, hihat and cymbals.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, nargs="+", help="audio files, folders of them")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--wiener", type=float, metavar="A", help="alpha-Wiener filter with this exponent"
    )
    parser.add_argument(
        "--sum-to-mixture", action="store_true", help="stems that add up to the recording"
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="NMFD learns from the nets' stems how this very kit sounds and separates anew: better "
        "on drums that the nets have not heard, but slower",
    )
    parser.add_argument("--format", choices=("wav", "flac"), default="wav", help="default: wav")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="a checkpoint, or the folder of the original's five; default: the packaged ones",
    )
    parser.add_argument("--device", default="cpu", help="such as cpu (default) or cuda")
    parser.add_argument("--threads", type=int, metavar="N", help="on a processor")
    options = parser.parse_args(argv)

    from larsnet.network.weights import load_weights
    from larsnet.separation.stemfiles import find_tracks, refuse_to_overwrite
    from larsnet.separation.waveforms import SeparationOptions, make_separator

    tracks = find_tracks(options.input, options.out)
    n_threads = None if options.threads is None else max(1, options.threads)
    chosen = SeparationOptions(
        options.wiener, options.sum_to_mixture, options.device, n_threads, options.refine
    )
    separator = make_separator(load_weights(options.weights), chosen)
    refuse_to_overwrite(tracks, options.out, separator.stems, options.format)
    n_failed = 0
    for track in tracks:
        try:
            written = _separate_with_bar(separator, track, options)
        except KeyboardInterrupt:
            print(
                f"\nstemgmd separate: interrupted; what is finished is in {options.out}, "
                f"{track.name} is not",
                file=sys.stderr,
            )
            return 130
        except (UserError, OSError) as error:
            if len(tracks) == 1:
                raise
            n_failed += 1
            print(f"stemgmd separate: error: {error}", file=sys.stderr)
            continue
        print(written.folder)
        if written.n_clipped:
            print(
                f"stemgmd separate: warning: {written.folder}: {written.n_clipped} samples beyond "
                "full scale were clipped; --format wav keeps them",
                file=sys.stderr,
            )
    return 1 if n_failed else 0


def _separate_with_bar(separator: Separator, track: Track, options: argparse.Namespace) -> Written:
    from larsnet.separation.stemfiles import separate_file

    with progress(desc=str(track.path), unit="seconds", leave=not sys.stderr.isatty()) as bar:

        def show(done_sec: float, all_sec: float | None) -> None:
            bar.total = None if all_sec is None else round(all_sec)
            bar.update(round(done_sec) - bar.n)

        return separate_file(
            separator,
            track,
            options.out,
            options.format,
            progress=show,
        )
