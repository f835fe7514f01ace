"""`stemgmd info`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from stemgmd_build.errors import UserError
from stemgmd_build.taxonomy import PIECES, SAMPLE_RATE, STEM_ABBREVIATIONS, STEMS

_EPILOG = """\
examples:
  stemgmd info stemgmd
  stemgmd info stemgmd --json"""


def main(argv: list[str]) -> int:
    """Describe a dataset."""
    parser = argparse.ArgumentParser(
        prog="stemgmd info",
        description="Describe a dataset: kits, splits, hours, size, presence of every stem.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", type=Path, help="folder of the dataset")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    facts = describe(options.dir)
    print(json.dumps(facts, indent=2) if options.json else _text(facts))
    return 0


def describe(root: Path) -> dict[str, Any]:
    """What a dataset holds. Raises UserError where the folder is no dataset."""
    from stemgmd_build.building import manifest
    from stemgmd_build.performances.losses import lines_of

    rows = manifest.read_metadata(root)
    files = manifest.read_manifest(root)
    settings = manifest.read_settings(root)
    unknown = {row["kit"] for row in rows} - set(settings["kits"])
    if unknown:
        raise UserError(f"{root / manifest.SETTINGS} is damaged: it lacks kit {min(unknown)}")
    n_stems = len(
        {path.split("/")[-2] for path in files if path.startswith("audio/")} - {"mixture"}
    )
    track_hours = sum(int(row["n_samples"]) for row in rows) / SAMPLE_RATE / 3600
    performances = {row["id"]: row for row in rows}
    return {
        "root": str(root),
        "tracks": len(rows),
        "performances": len(performances),
        "source": settings.get("performances"),
        "notes": lines_of(settings),
        "render": settings.get("render"),
        "kits": {
            kit: {
                "tracks": n,
                **{k: settings["kits"][kit].get(k) for k in ("split", "gain", "licence")},
            }
            for kit, n in sorted(Counter(row["kit"] for row in rows).items())
        },
        "splits": dict(sorted(Counter(row["split"] for row in performances.values()).items())),
        "sessions": dict(sorted(Counter(row["session"] for row in performances.values()).items())),
        "track_hours": round(track_hours, 3),
        "stem_hours": round(track_hours * n_stems, 3),
        "files": len(files),
        "bytes": sum(file.n_bytes for file in files.values()),
        "hits": sum(int(row["n_hits"]) for row in performances.values()),
        "presence": {
            STEM_ABBREVIATIONS[stem]: sum(int(row[f"has_{stem}"]) for row in performances.values())
            for stem in STEMS
        },
        "hits_by_piece": {
            piece: sum(int(row[f"hits_{piece}"]) for row in performances.values())
            for piece in PIECES
        },
    }


def _text(facts: dict[str, Any]) -> str:
    from stemgmd_build.performances.collection import SOURCE_NAMES

    kits = [
        f"  {kit:<24} {f['tracks']:>5} tracks  {f['split'] or '-'!s:<6} "
        f"gain {f['gain']!s:<9} {f['licence']}"
        for kit, f in facts["kits"].items()
    ]
    pairs = {name: ", ".join(f"{k} {v}" for k, v in facts[name].items())
             for name in ("splits", "sessions", "presence", "hits_by_piece", "render")}  # fmt: skip
    source = SOURCE_NAMES.get(facts["source"], facts["source"])
    return "\n".join(
        # Names and licences come from strangers' kits: no line breaks, no escape codes.
        "".join(c if c.isprintable() else " " for c in line)
        for line in [
            f"{facts['root']}: {facts['tracks']} tracks, {facts['performances']} performances "
            f"({source}) on {len(kits)} kits",
            f"{facts['track_hours']:.2f} hours of music, {facts['stem_hours']:.2f} stem-hours, "
            f"{facts['files']} files, {facts['bytes'] / 1e9:.3f} GB",
            f"rendered: {pairs['render']}",
            f"splits (performances): {pairs['splits']}",
            f"sessions (performances): {pairs['sessions']}",
            f"presence (performances): {pairs['presence']}",
            f"hits: {facts['hits']} ({pairs['hits_by_piece']})",
            *(f"note: {note}" for note in facts["notes"]),
            "kits:",
            *kits,
        ]
    )
