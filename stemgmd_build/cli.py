"""The one command line, ``stemgmd``: a table of sub-commands, each imported only when called.

Nothing heavy is imported here, so that ``stemgmd --help`` answers at once. A sub-command
is a function ``main(argv: list[str]) -> int`` in the package that it belongs to; this table
names it as text, so no import points against the project's direction.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

from stemgmd_build.errors import UserError

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
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return (
        "usage: stemgmd [--help] [--version] COMMAND ...\n\n"
        "Drum stems from MIDI: build the dataset, run the comparison, publish the tables.\n\n"
        f"commands:\n{rows}\n\n{EXAMPLES}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; return the exit status (0 done, 1 failed in part, 2 bad input)."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"stemgmd {version('stemgmd-bench')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"stemgmd: error: no command {name!r}; `stemgmd --help` lists them", file=sys.stderr)
        return 2
    module_name, _, function_name = COMMANDS[name][0].partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        return int(function(rest))
    except UserError as error:
        print(f"stemgmd {name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstemgmd {name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `stemgmd kits list | head`: the reader has gone, which is no fault of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
