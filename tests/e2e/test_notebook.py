"""The notebook runs top to bottom without a network, and holds no outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = REPOSITORY / "docs" / "walk.ipynb"


def cells() -> list[str]:
    found = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in found)
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def test_every_cell_is_python() -> None:
    for number, cell in enumerate(cells()):
        compile(cell, f"cell {number}", "exec")


@pytest.mark.long
def test_the_notebook_runs_offline(tmp_path: Path) -> None:
    # A command that fails returns its status and raises nothing: the first cell is told to.
    first, *rest = cells()
    checked = first.replace("as stemgmd\n", "as command\n", 1).replace(
        "KIT =", "def stemgmd(words):\n    assert command(words) == 0, words\n\nKIT =", 1
    )
    assert checked != first
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("STEMGMD_GMD", None)
    environment["http_proxy"] = environment["https_proxy"] = "http://127.0.0.1:9"
    result = subprocess.run(
        [sys.executable, "-c", "\n".join([checked, *rest])],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "kick" in result.stdout
