"""The one command line, ``stemgmd``: a table of sub-commands, each imported only when called.

Nothing heavy is imported here, so that ``stemgmd --help`` answers at once. A sub-command
is a function ``main(argv: list[str]) -> int`` in the package that it belongs to; this table
names it as text, so no import points against the project's direction.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Final

from stemgmd_build.errors import UserError
from stemgmd_build.terminal import Interrupted, end_on_signals, prepare_streams

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    # name: ("module:function", summary of one line)
    "gmd": ("stemgmd_build.commands.gmd:main", "fetch or verify the Groove MIDI Dataset"),
    "kits": ("stemgmd_build.commands.kits:main", "list, fetch, audit or preview drum kits"),
    "build": ("stemgmd_build.commands.build:main", "render performances on kits into a dataset"),
    "verify": (
        "stemgmd_build.commands.verify:main",
        "check a dataset: checksums, exact sum, presence",
    ),
    "info": ("stemgmd_build.commands.info:main", "describe a dataset"),
    "bench": ("benchmarks.commands.bench:main", "score separation systems, publish the tables"),
    "separate": ("larsnet.commands.separate:main", "separate drum recordings into five stems"),
    "train": ("larsnet.commands.train:main", "train a LarsNet on what is rendered on the fly"),
    "pack": ("larsnet.commands.pack:main", "write the weights of a training run to travel"),
    "export": ("larsnet.commands.export:main", "write a net for ONNX or torch.export"),
    "reproduce": (
        "benchmarks.commands.reproduce:main",
        "the whole comparison: dataset, weights, systems, report",
    ),
    "demo": (
        "benchmarks.commands.demo:main",
        "a small dataset, one track drawn, and a leaderboard of it",
    ),
}

FOR_MAINTAINERS: Final[dict[str, tuple[str, str]]] = {
    "calibrate": ("stemgmd_build.auditing.calibrate:main", "measure the gains of catalogue kits"),
    "learn": ("baselines.learn:main", "learn the templates of the factorization baselines"),
    "speed": ("benchmarks.commands.maintain:speed", "measure speed, side by side with others"),
    "study": (
        "benchmarks.commands.maintain:study",
        "choose settings, compare parts",
    ),
}

EXTRAS: Final = {
    "build": "pretty_midi fluidsynth defusedxml threadpoolctl matplotlib",
    "bench": "pandas mir_eval museval PIL pooch requests",
    "train": "tensorboard",
    "cluster": "dask distributed",
    "onnx": "onnx onnxscript onnxruntime",
    "sfz": "pysfizz",
    "dev": "tomlkit",
    "hosting": "webdataset datasets mirdata",
}
"""Extra of the distribution -> the modules that come with it, for the one line that is said where
one of them is missing. tests/test_cli.py compares it with pyproject.toml."""

EXAMPLES: Final = """\
examples:
  stemgmd kits list                                    the drum kits at hand
  stemgmd gmd fetch                                    download and verify the Groove MIDI Dataset
  stemgmd build --out stemgmd --split eval_session     the paper's 40 clips on the ten default kits
  stemgmd verify stemgmd                               check every file of a dataset
  stemgmd bench run --out results                      every system on held-out kits
  stemgmd bench report results                         tables and a page of the results

`stemgmd COMMAND --help` explains a command."""


def usage() -> str:
    """The help text of the bare command."""
    width = max(map(len, COMMANDS))
    rows, maintenance = (
        "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in table.items())
        for table in (COMMANDS, FOR_MAINTAINERS)
    )
    return (
        "usage: stemgmd [--help] [--version] COMMAND ...\n\n"
        "Drum stems from MIDI: build the dataset, run the comparison, publish the tables.\n\n"
        f"commands:\n{rows}\n\nfor maintainers:\n{maintenance}\n\n{EXAMPLES}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; return the exit status (0 done, 1 failed in part, 2 bad input).

    Without ``argv`` this is a process of its own: it takes the arguments of the command line, and
    the Pythons that it starts import nothing from the current folder.
    """
    if argv is not None:
        return _run(argv)
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a notebook's own backend is not there
    prepare_streams()
    end_on_signals()
    status = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:  # /dev/full, a full disk behind the shell's >
        if not isinstance(error, BrokenPipeError):
            print(f"stemgmd: error: standard output: {error.strerror}", file=sys.stderr)
            status = status or 1
        _discard_output()
    return status


def _run(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    table = COMMANDS | FOR_MAINTAINERS
    try:
        if name in ("-h", "--help", "help"):
            print(usage())
            return 0
        if name in ("-V", "--version"):
            from importlib.metadata import version

            print(f"stemgmd {version('stemgmd-bench')}")
            return 0
        if name not in table:
            raise UserError("no such command; `stemgmd --help` lists them")
        module_name, _, function_name = table[name][0].partition(":")
        function = getattr(importlib.import_module(module_name), function_name)
        return int(function(rest))
    except UserError as error:
        print(f"stemgmd {name}: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"stemgmd {name}: error: {_missing(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstemgmd {name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Interrupted as signalled:
        print(f"stemgmd {name}: ended by {signalled}; run it again to go on", file=sys.stderr)
        return 128 + signalled.number
    except BrokenPipeError:
        # `stemgmd kits list | head`: the reader has gone, which is no fault of ours.
        _discard_output()
        return 141
    except OSError as error:  # a folder without permission, a name of 256 bytes, a full disk
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"stemgmd {name}: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"stemgmd {name}: error: out of memory", file=sys.stderr)
        return 2


def _missing(error: ModuleNotFoundError) -> str:
    """What to install for a module that is not there."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules.split():
            return f"this needs {module}: pip install 'stemgmd-bench[{extra}]'"
    if module in ("baselines", "larsnet", "benchmarks"):
        return f"{error.name} is not part of this installation; it is in the repository"
    raise error


def _discard_output() -> None:
    """Whatever is still to be printed goes nowhere, also at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    # `python -m stemgmd_build.cli`, as torchrun starts it: the current folder comes first on the
    # path, unless the project itself lies there. What is imported from here on is not from it.
    project = Path(__file__).resolve().parents[1]
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != project:
        del sys.path[0]
    sys.exit(main())
