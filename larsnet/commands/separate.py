"""`stemgmd separate`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from larsnet.separation.models import DEFAULT_MODEL, MODELS, find_model
from stemgmd_build.errors import UserError
from stemgmd_build.progress import progress

if TYPE_CHECKING:
    from larsnet.separation.front import Separator
    from larsnet.separation.stemfiles import Output, StemFormat, Track, Written
    from larsnet.separation.waveforms import Engine

_PROG: Final = "stemgmd separate"
_EPILOG = """\
Stems have the rate, length and channels of the input. Other rates than 44.1 kHz are resampled
there and back. Channels are taken in pairs; a mono recording is heard on both sides.

examples:
  stemgmd separate drums.wav                            separated/drums/kick.wav and four more
  stemgmd separate recordings/ --flac --skip-existing   a folder; run again, it goes on
  stemgmd separate drums.wav --two-stems kick           kick.wav and no_kick.wav
  stemgmd separate drums.wav -n nmfd --mp3              another model; --list-models has all
  ffmpeg -i film.mkv -f wav - | stemgmd separate -      from a pipe
  stemgmd separate drums.wav --weights runs/tiny/best.safetensors"""


def main(argv: list[str]) -> int:
    """Separate recordings; 0 if all went well, 1 if some failed."""
    options = _parser().parse_args(argv)
    if options.list_models:
        _list_models()
        return 0
    if not options.input:
        raise UserError("name recordings to separate, or - for standard input")
    if options.model is not None:
        find_model(options.model)

    from larsnet.separation.front import Separator
    from larsnet.separation.stemfiles import Output, find_tracks, refuse_to_overwrite

    output = Output(options.out, _format(options), options.filename, options.midi, options.player)
    with ExitStack() as stack:
        inputs = [
            stack.enter_context(_standard_input()) if str(path) == "-" else path
            for path in options.input
        ]
        tracks = find_tracks(inputs, options.out)
        separator = Separator(
            options.model,
            weights=options.weights,
            stems=options.stems,
            two_stems=options.two_stems,
            sum_to_mixture=options.sum_to_mixture,
            device=options.device,
            n_threads=None if options.jobs is None else max(1, options.jobs),
            wiener=options.wiener,
            refine=options.refine,
        )
        refuse_to_overwrite(tracks, output, separator.stems)
        wanted = tracks
        if options.skip_existing:
            wanted = [track for track in tracks if not output.is_there(track, separator.stems)]
            if len(wanted) < len(tracks):
                print(f"skipped, since their stems are there: {len(tracks) - len(wanted)}")
        return _separate_all(separator, wanted, output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="Separate drum recordings into kick, snare, toms, hihat and cymbals.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("input", type=Path, nargs="*", help="audio files, folders of them, or - (standard input)")
    add("-n", "--model", "--name", metavar="ID", help=f"default: {DEFAULT_MODEL}")
    add("--list-models", action="store_true", help="list the models and exit")
    add("-o", "--out", type=Path, default=Path("separated"), metavar="DIR",
        help="default: separated")  # fmt: skip
    add("--filename", default="{track}/{stem}.{ext}", metavar="PATTERN",
        help="below DIR; default: {track}/{stem}.{ext}; {trackext}: the input's")  # fmt: skip
    add("--stems", choices=("five", "six", "nine"),
        help="six: ride and crash apart; nine: each piece; not every model has them")  # fmt: skip
    add("--two-stems", metavar="STEM", help="one stem, and the sum of the others as no_STEM")
    add("--sum-to-mixture", action="store_true", help="stems that add up to the recording")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--mp3", action="store_true", help="MP3 of 320 kbit/s instead of WAV")
    kind.add_argument("--flac", action="store_true", help="FLAC instead of WAV")
    samples = parser.add_mutually_exclusive_group()
    samples.add_argument("--int16", action="store_true", help="16-bit samples")
    samples.add_argument("--int24", action="store_true", help="24-bit samples; FLAC's default")
    samples.add_argument("--float32", action="store_true", help="float samples; WAV's default")
    add("--midi", action="store_true", help="hits of the stems as General MIDI: onsets.mid")
    add("--player", action="store_true", help="a page that plays the stems: player.html")
    add("--skip-existing", action="store_true", help="leave out tracks whose stems are there")
    add("-d", "--device", default="cpu", help="such as cpu (default) or cuda")
    add("-j", "--jobs", type=int, metavar="N", help="CPU threads; default: one per CPU")
    own = parser.add_argument_group("your own weights")
    own.add_argument("--weights", type=Path, metavar="PATH",
        help="a checkpoint, or the folder of the original's five, in place of a model")  # fmt: skip
    own.add_argument("--wiener", type=float, metavar="A", help="alpha-Wiener filter")
    own.add_argument("--refine", action="store_true", help="fit NMFD to the recording on top")
    return parser


def _list_models() -> None:
    width = max(map(len, MODELS))
    for model_id, model in MODELS.items():
        default = " (default)" if model_id == DEFAULT_MODEL else ""
        print(f"{model_id:<{width}}  {model.name}: {model.summary}{default}")


def _format(options: argparse.Namespace) -> StemFormat:
    from larsnet.separation.stemfiles import FORMATS

    container = "mp3" if options.mp3 else "flac" if options.flac else "wav"
    samples = [kind for kind in ("int16", "int24", "float32") if getattr(options, kind)]
    known = {kind: found for (ext, kind), found in FORMATS.items() if ext == container}
    if samples and samples[0] not in known:
        raise UserError(f"{container.upper()} has no --{samples[0]}")
    return known[samples[0]] if samples else next(iter(known.values()))


@contextmanager
def _standard_input() -> Iterator[Path]:
    """Standard input as a file, for as long as it is needed: audio is read by seeking."""
    with tempfile.TemporaryDirectory(prefix="stemgmd-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


def _separate_all(separator: Separator, tracks: list[Track], output: Output) -> int:
    began = time.monotonic()
    n_failed, audio_sec = 0, 0.0
    for track in tracks:
        try:
            written = _separate_with_bar(separator.engine, track, output)
        except KeyboardInterrupt:
            print(
                f"\n{_PROG}: interrupted; what is finished is in {output.folder}, {track.name} is "
                "not",
                file=sys.stderr,
            )
            return 130
        except (UserError, OSError) as error:
            if len(tracks) == 1:
                raise
            n_failed += 1
            print(f"{_PROG}: error: {error}", file=sys.stderr)
            continue
        audio_sec += written.n_samples / written.sample_rate
        names = ", ".join(path.name for path in written.paths)
        print(f"{written.paths[0].parent}: {names}")
        if written.n_clipped:
            print(
                f"{_PROG}: warning: {track.path}: {written.n_clipped} samples beyond full scale "
                "were clipped; WAV of --float32 keeps them",
                file=sys.stderr,
            )
    took_sec = time.monotonic() - began
    if audio_sec:
        print(
            f"{separator.model} on {separator.device}, {output.file_format.words}: "
            f"{audio_sec:.1f} s of audio in {took_sec:.1f} s, "
            f"{audio_sec / took_sec:.3g} times real time"
        )
    return 1 if n_failed else 0


def _separate_with_bar(engine: Engine, track: Track, output: Output) -> Written:
    from larsnet.separation.stemfiles import separate_file

    with progress(desc=str(track.path), unit="seconds", leave=not sys.stderr.isatty()) as bar:

        def show(done_sec: float, all_sec: float | None) -> None:
            bar.total = None if all_sec is None else round(all_sec)
            bar.update(round(done_sec) - bar.n)

        return separate_file(engine, track, output, progress=show)
