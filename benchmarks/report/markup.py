"""Tables as Markdown to read and as LaTeX (booktabs) to publish.

Names come from users, so every cell is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from benchmarks.report.tables import Table


def to_markdown(tables: Sequence[Table], title: str) -> str:
    """One document."""
    parts = [f"# {markdown(title)}"]
    for table in tables:
        lines = [
            _markdown_row(table.header),
            _markdown_row(["---"] * table.n_text + ["---:"] * (len(table.header) - table.n_text),
                          escape=False),
            *(_markdown_row(row) for row in table.rows),
        ]  # fmt: skip
        parts += [f"## {markdown(table.title)}", "\n".join(lines), markdown(table.caption)]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(markdown(c) if escape else c for c in cells)} |"


def markdown(text: str) -> str:
    """Text that shows as it is: no markup, no line ends, no HTML."""
    text = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX: Final = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$", "∞": r"$\infty$", "Δ": r"$\Delta$", "†": r"$^\dagger$",
    "\N{EN DASH}": "--", "<": "$<$", ">": "$>$",
}  # fmt: skip


def to_latex(tables: Sequence[Table]) -> str:
    """Floating tables for a document that loads booktabs and graphicx."""
    head = "% \\usepackage{booktabs,graphicx} goes into the preamble of the document.\n"
    return head + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    columns = "l" * table.n_text + "r" * (len(table.header) - table.n_text)
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{\textbf{{{latex(table.title)}.}} {latex(table.caption)}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(table.header),
            r"\midrule",
            *map(_latex_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    # Braces: a cell that begins with a bracket would be taken for an option of the line before.
    return " & ".join(f"{{{latex(cell)}}}" for cell in cells) + r" \\"


def latex(text: str) -> str:
    """Text as LaTeX source."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
