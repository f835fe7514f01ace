"""`stemgmd bench run | score | systems | sources | fetch | export | report`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands import report
from benchmarks.sources import CONDITIONS, SOURCES
from stemgmd_build.errors import UserError
from stemgmd_build.processes import usable_cpus
from stemgmd_build.progress import progress

if TYPE_CHECKING:
    from baselines.system import SystemInfo
    from benchmarks.run import Entrant
    from benchmarks.sources import Track

_EPILOG = """\
examples:
  stemgmd bench systems
  stemgmd bench run --out results
      all systems on the paper's 40 clips and the four held-out kits, nothing else on disk
  stemgmd bench run --out results --data stemgmd --systems nmfd,ideal-ratio --split test
  stemgmd bench run --out results --systems nmfd,mine=runs/mine/best.safetensors
  stemgmd bench export --out mixtures
  stemgmd bench score --estimates separated --name demucs-drums --map hihat=hh --out results
  stemgmd bench report results

The same command goes on after Ctrl-C or a crash: what is scored stays."""


def main(argv: list[str]) -> int:
    """Run one of the benchmark's sub-commands; 0 if all went well, 1 if some estimate failed."""
    parser = argparse.ArgumentParser(
        prog="stemgmd bench",
        description="Score separation systems on held-out kits and publish the tables.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="separate and score with systems of the registry", epilog=_RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_tracks(run)
    _add_output(run)
    run.add_argument("--systems", default="all", metavar="IDS", help="with commas; NAME=FILE "
        "enters a checkpoint of `stemgmd train` (default: all of the registry)")  # fmt: skip
    run.add_argument("--device", default="cpu", help="as torch names it (default: cpu)")
    run.add_argument("--no-speed", action="store_true", help="do not measure real-time ratios")
    score = commands.add_parser(
        "score", help="score stems that another program made", epilog=_SCORE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_tracks(score)
    _add_output(score)
    _add_estimates(score)
    listing = commands.add_parser(
        "systems", help="list the systems", epilog="example:\n  stemgmd bench systems --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    listing.add_argument("--json", action="store_true", help="print JSON")
    sources = commands.add_parser(
        "sources", help="list the sources of recordings, their licences and how to get them",
        epilog="example:\n  stemgmd bench sources --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sources.add_argument("--json", action="store_true", help="print JSON")
    fetch = commands.add_parser(
        "fetch", help="download a set of recordings, where its licence allows it",
        epilog="example:\n  stemgmd bench fetch idmt --data idmt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    fetch.add_argument("source", help="one of `stemgmd bench sources`")
    fetch.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder to fill")
    export = commands.add_parser(
        "export", help="write the mixtures, for other programs", epilog=_EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_tracks(export)
    export.add_argument("--out", type=Path, required=True, help="folder for the mixtures")
    tables = commands.add_parser(
        "report", help="tables and one page from results", epilog=report.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    report.add_arguments(tables)
    options = parser.parse_args(argv)
    return {
        "run": _run,
        "score": _score,
        "systems": _systems,
        "sources": _sources,
        "fetch": _fetch,
        "export": _export,
        "report": report.main,
    }[options.command](options)


_RUN_EXAMPLES = """\
examples:
  stemgmd bench run --out results
  stemgmd bench run --out results --split test --kits default --systems nmfd,larsnet-small
  stemgmd bench run --out results --data stemgmd
  stemgmd bench run --out results --systems mine=runs/mine/best.safetensors --no-speed
  stemgmd bench run --out results --source idmt --data idmt --conditions all"""

_EXPORT_EXAMPLES = """\
examples:
  stemgmd bench export --out mixtures
  stemgmd bench export --out mixtures --split test --kits colombo"""

_SCORE_EXAMPLES = """\
examples:
  stemgmd bench score --estimates separated/model --name mine --map hihat=hh --out results
  stemgmd bench score --estimates stems --name mine --licence MIT --out results

  stemgmd bench score --estimates stems --name six --map cymbals=ride+crash --out results

where the stems are looked for, below --estimates, as .wav, .flac, .aiff, .ogg or .mp3, in
capitals or not (<clip> is what `stemgmd bench export` calls the mixture):
  <clip>/<stem>    <stem>/<clip>    <clip>_<stem>    <clip>/<clip>_<stem>    <clip>-<stem>
  <kit>/<drummer>/<session>/<number>/<stem>
  <kit>/<midi file name>/<stem>
  [audio/]<drummer>/<session>/<kit>/<stem>/<midi file name>      StemGMD's own layout"""


def _add_tracks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--source", metavar="NAME", help="where recordings come from: "
        f"{', '.join(SOURCES)} (default: built with --data, else rendered)")  # fmt: skip
    add("--data", type=Path, metavar="DIR", help="folder of the source's data, such as a dataset "
        "of `stemgmd build` (default: render, nothing on disk)")  # fmt: skip
    add("--gmd", type=Path, help="folder of the Groove MIDI Dataset, where it is rendered")
    add("--split", help="eval_session (the paper's 40 clips), test (129), validation, train or "
        "all, with commas (default: eval_session); of recordings, parts like RealDrum")  # fmt: skip
    add("--kits", help="ids or sets (test, train, default, all), with commas "
        "(default: test, the held-out ones)")  # fmt: skip
    add("--limit", type=int, help="only the first N performances or recordings")
    add("--conditions", default="", metavar="NAMES", help="also the same clips changed, each a "
        f"row: {', '.join(CONDITIONS)} or all, with commas")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of results; what it holds is kept")
    add("--known", type=Path, action="append", default=[], metavar="DIR",
        help="further results; what was scored there is not scored again")  # fmt: skip
    add("--workers", type=int, default=usable_cpus(),
        help="processes of one thread each (default: all cores)")  # fmt: skip
    add("--audio", type=int, metavar="N", help="keep excerpts of N clips to listen to "
        "(default: 2; 0 where the licence does not let you share them)")  # fmt: skip
    add("--json", action="store_true", help="print the result as JSON, no progress")


def _check_output(options: argparse.Namespace) -> None:
    if options.workers < 1 or (options.audio or 0) < 0:
        raise UserError("--workers must be at least 1 and --audio at least 0")


def _add_estimates(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--estimates", type=Path, required=True, help="folder of the stems")
    add("--name", required=True, help="what the table calls the system")
    add("--map", default="", help="how the program calls stems: kick=bd,cymbals=ride+crash (a sum)")
    add("--missing", choices=("error", "silence"), default="error",
        help="what a stem without file means (default: error)")  # fmt: skip
    add("--inputs", default="mixture", help="what it saw: mixture[,score][,references]")
    add("--trained-on", default="not stated", help="the data that it learnt from")
    add("--seen", default="", metavar="NAMES", help="kits and sets among that data, with commas: "
        "ids of kits, stemgmd, idmt, mdb, enst; their clips stand apart in tables")  # fmt: skip
    add("--parameters", type=int, default=0, help="how many numbers it has learnt")
    add("--licence", default="not stated", help="of code and weights")
    add("--url", default="", help="where it is to be had")
    add("--summary", default="", help="a sentence on it")
    add("--museval", action="store_true", help="also write museval's own scores, a JSON per clip, "
        "into OUT/museval (slow)")  # fmt: skip
    add("--revision", help="its version (default: a hash of all files)")


def _tracks(options: argparse.Namespace) -> tuple[list[Track], dict[str, Any]]:
    """The tracks asked for, and what run.json says of them."""
    if options.limit is not None and options.limit < 1:
        raise UserError("--limit must be at least 1")
    from benchmarks.sources import Selection, source
    from benchmarks.sources.conditions import under

    conditions = list(filter(None, options.conditions.split(",")))
    if conditions == ["all"]:
        conditions = list(CONDITIONS)
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown:
        raise UserError(f"--conditions: no {unknown[0]!r}; there are {', '.join(CONDITIONS)}, all")

    name = options.source or ("built" if options.data else "rendered")
    if options.data and name == "rendered":
        raise UserError("--source rendered reads no --data; it renders what --gmd holds")
    module = source(name)
    selection = Selection(
        data=options.data,
        gmd=options.gmd,
        split=tuple(options.split.split(",")) if options.split else None,
        kits=tuple(options.kits.split(",")) if options.kits else None,
        limit=options.limit,
    )
    plain = module.tracks(selection)
    tracks = [*plain, *(under(track, name) for name in conditions for track in plain)]
    if getattr(options, "audio", 0) is None:
        options.audio = 2 if module.INFO.may_share else 0
    facts = {
        "source": f"{module.INFO.name} ({name})",
        "split": options.split or "the source's default",
        "conditions": conditions,
        "kits": list(dict.fromkeys(track.kit for track in tracks if track.kit)),
        "performances": len({track.id for track in tracks}),
    }
    return tracks, facts


def _run(options: argparse.Namespace) -> int:
    from benchmarks import systems

    _check_output(options)
    names = list(systems.available()) if options.systems == "all" else options.systems.split(",")
    for name in names:
        systems.check(name)
    tracks, facts = _tracks(options)

    from benchmarks import realtime  # what brings torch, after the arguments were read
    from benchmarks.results_folder import ResultsFolder, faults_told
    from benchmarks.timing import device_name
    from stemgmd_build.files import locked

    given = {name: systems.load(name, options.device).info for name in dict.fromkeys(names)}
    infos = {info.id: info for info in given.values()}
    if len(infos) < len(given):
        raise UserError("--systems: two of one name; call one of them otherwise")
    status, results = 0, ResultsFolder(options.out)
    with locked(options.out, "run"), faults_told(options.out):
        folders = [*map(ResultsFolder, options.known), results]
        described = [system for folder in folders for system in folder.systems()]
        known = {(s.system, s.revision) for s in described}
        new = [i for i in infos.values() if (i.id, i.revision) not in known]
        results.add_systems([realtime.record_of(info) for info in new])
        status = _score_all(options, tracks, facts, list(given), infos, options.device)
        if not options.no_speed:
            have = {
                (s.system, s.revision, s.device_name)
                for s in described
                if s.real_time_ratio is not None
            }
            here = device_name(options.device)
            todo = [name for name, i in given.items() if (i.id, i.revision, here) not in have]
            for record in realtime.timed(todo, tracks, options.device) if todo else ():
                if isinstance(record, str):
                    status = 1
                    print(f"stemgmd bench: not timed: {record}", file=sys.stderr)
                    continue
                results.add_systems([record])
                if not options.json:
                    print(
                        f"{record.system}: {record.real_time_ratio:.1f} x real time on "
                        f"{record.device_name}",
                        file=sys.stderr,
                    )
    return status


def _score(options: argparse.Namespace) -> int:
    from baselines.system import Input, SystemInfo
    from benchmarks.estimates import EstimateFolder, parse_map
    from benchmarks.systems import check_name

    _check_output(options)
    if not options.estimates.is_dir():
        raise UserError(f"{options.estimates} is no folder")
    allowed: dict[str, Input] = {
        "mixture": "mixture",
        "score": "score",
        "references": "references",
    }
    wrong = [name for name in options.inputs.split(",") if name not in allowed]
    if wrong:
        raise UserError(f"--inputs: {wrong[0]!r} is none of {', '.join(allowed)}")
    if "mixture" not in options.inputs.split(","):
        raise UserError("--inputs: every system sees the mixture")
    if options.parameters < 0:
        raise UserError("--parameters must be at least 0")
    check_name(options.name)
    if options.revision and "/" in options.revision:
        raise UserError("--revision: a version has no '/'")
    info = SystemInfo(
        id=options.name,
        name=options.name,
        inputs=tuple(allowed[name] for name in options.inputs.split(",")),
        revision=options.revision or "",
        trained_on=options.trained_on,
        kits_seen=tuple(filter(None, options.seen.split(","))),
        n_parameters=options.parameters,
        licence=options.licence,
        summary=options.summary or "stems made elsewhere",
        url=options.url,
    )
    folder = EstimateFolder(
        options.estimates.absolute(), info, parse_map(options.map), options.missing == "silence"
    )
    tracks, facts = _tracks(options)
    faults = folder.faults(tracks)
    if len(faults) == len(tracks):
        raise UserError(faults[0] + (f" (and so on, {len(faults)} clips)" * (len(faults) > 1)))
    if faults:
        print(
            f"stemgmd bench: {len(faults)} of {len(tracks)} clips cannot be scored: {faults[0]}",
            file=sys.stderr,
        )
    if not options.revision:
        folder = folder.with_revision_of(tracks)

    from benchmarks import realtime
    from benchmarks.results_folder import ResultsFolder, faults_told
    from stemgmd_build.files import locked

    with locked(options.out, "run"), faults_told(options.out):
        results, record = ResultsFolder(options.out), realtime.record_of(folder.info)
        if record not in results.systems():
            results.add_systems([record])
        status = _score_all(options, tracks, facts, [folder], {info.id: folder.info}, "cpu")
        if options.museval:
            from benchmarks.museval_json import write_museval

            name = f"{folder.info.id}-{folder.info.revision}"
            failures = write_museval(folder, tracks, options.out / "museval" / name)
            for line in failures:
                print(f"stemgmd bench: failed: {line}", file=sys.stderr)
            status = 1 if failures else status
        return status


def _score_all(
    options: argparse.Namespace,
    tracks: Sequence[Track],
    facts: dict[str, Any],
    entrants: Sequence[Entrant],
    infos: dict[str, SystemInfo],
    device: str,
) -> int:
    from benchmarks import excerpts
    from benchmarks.results_folder import ResultsFolder
    from benchmarks.run import id_of, make_plan, run

    plan = make_plan(
        tracks,
        entrants,
        infos,
        options.out,
        n_clips=options.audio,
        device=device,
        known=options.known,
    )
    say = _say_nothing if options.json else _say
    if plan.stale:
        say(
            f"{plan.stale} tracks were scored while they sounded otherwise (other kit, gain or "
            "renderer); those records stay, and `stemgmd bench report --latest` leaves them out"
        )
    say(
        f"{len(tracks)} tracks ({facts['source']}; kits: {', '.join(facts['kits']) or 'none'}), "
        f"{len(entrants)} systems: {plan.n_done} estimates are "
        f"scored already, {sum(len(task.score) for task in plan.tasks)} to do, "
        f"{plan.audio_sec / 3600:.2f} hours of audio with {options.workers} workers"
    )
    ResultsFolder(options.out).write_facts(facts | _machine())
    failures = run(plan, infos, n_workers=options.workers, show_progress=not options.json)
    for line in failures:
        print(f"stemgmd bench: failed: {line}", file=sys.stderr)
    excerpts.write_index(options.out, plan.clips)
    if options.json:
        names = [id_of(entrant) for entrant in entrants]
        print(json.dumps({"out": str(options.out), "systems": names, "failed": failures}))
    say(f"records are in {options.out}; `stemgmd bench report {options.out}` makes the tables")
    return 1 if failures else 0


def _machine() -> dict[str, Any]:
    """Versions and the machine; records carry their commits."""
    from importlib.metadata import version

    from benchmarks.timing import cpu_name

    names = ("stemgmd-bench", "torch", "numpy", "scipy", "mir_eval")
    return {
        "versions": {name: version(name) for name in names},
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
    }


def _systems(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from benchmarks.systems import entries

    found = entries()
    if options.json:
        print(json.dumps([{"id": name, **asdict(e)} for name, e in found.items()], indent=2))
        return 0
    width = max(map(len, found))
    for name, entry in found.items():
        print(f"{name:<{width}}  {'+'.join(entry.inputs or ('?',)):<20}  {entry.summary}")
    return 0


def _sources(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from benchmarks.sources import source

    infos = {name: source(name).INFO for name in SOURCES}
    if options.json:
        print(json.dumps([{"id": name, **asdict(info)} for name, info in infos.items()], indent=2))
        return 0
    for name, info in infos.items():
        print(f"{name}: {info.name}")
        print(f"  licence: {info.licence}")
        if info.citation:
            print(f"  cite: {info.citation}")
        print(f"  get it: {info.get}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from benchmarks.sources import source
    from benchmarks.sources.fetching import fetch

    info = source(options.source).INFO
    if info.archive is None:
        raise UserError(f"{options.source} is not downloaded by this command: {info.get}")
    print(f"{info.name}, about {info.archive.megabytes} MB", file=sys.stderr)
    print(f"licence: {info.licence}", file=sys.stderr)
    print(f"cite: {info.citation}", file=sys.stderr)
    folder = fetch(info.archive, options.data)
    print(f"{folder} is complete: stemgmd bench run --source {options.source} --data "
          f"{options.data} --out results")  # fmt: skip
    return 0


def _export(options: argparse.Namespace) -> int:
    from benchmarks.excerpts import write_audio
    from benchmarks.sources import load

    tracks, _ = _tracks(options)
    try:
        for track in progress(tracks, desc="written", unit="clips"):
            path = options.out / f"{track.clip}.wav"
            if not path.exists():
                write_audio(path, load(track).mixture)
    except OSError as error:
        raise UserError(f"{options.out} cannot be written: {error.strerror or error}") from error
    print(f"{len(tracks)} mixtures are in {options.out}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _say_nothing(text: str) -> None:
    """--json leaves the screen to the program that reads it."""
