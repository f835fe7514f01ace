"""Licences and citations of just what a dataset was made from."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemgmd_build.building.manifest import FileRecord, write_recorded
from stemgmd_build.config import one_line
from stemgmd_build.performances.collection import Collection

_CITATIONS = """\
@article{stemgmd2024,
  title = {Toward Deep Drum Source Separation},
  author = {Mezza, Alessandro Ilic and Giampiccolo, Riccardo and Bernardini, Alberto and
            Sarti, Augusto},
  journal = {Pattern Recognition Letters},
  volume = {183},
  pages = {86--91},
  year = {2024},
  note = {The layout and the protocol of this dataset},
  eprint = {2312.09663},
  archivePrefix = {arXiv}
}
"""


def write_licences(
    root: Path, collection: Collection, kits: Mapping[str, Mapping[str, Any]]
) -> list[FileRecord]:
    """Write LICENSES.md and CITATIONS.bib; ``kits`` are the kits of dataset.json."""
    citations = "\n".join(filter(None, (collection.citation, _CITATIONS)))
    return [
        write_recorded(root / "LICENSES.md", licences_text(collection, kits)),
        write_recorded(root / "CITATIONS.bib", citations),
    ]


def _cell(text: object) -> str:
    """Text from a kit as a cell of a Markdown table: one line, no HTML, no further cells."""
    return html.escape(one_line(str(text)), quote=False).replace("|", "/").replace("`", "'")


def licences_text(collection: Collection, kits: Mapping[str, Mapping[str, Any]]) -> str:
    """LICENSES.md: the performances, then every kit with its author, licence and source."""
    lines = [
        "# Licences",
        "",
        "This dataset is a rendering of the performances below on the drum kits below; audio made "
        "with a kit is under the terms of that kit and of the performances.",
        "",
        "## Performances",
        "",
        collection.licence,
        "",
        "## Kits",
        "",
        "| kit | name | author | licence | from | source |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kit_id, facts in sorted(kits.items()):
        cells = (kit_id, *(facts.get(k) or "not stated" for k in ("name", "author", "licence")))
        cells += (facts.get("package", ""), facts.get("url", ""))
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
