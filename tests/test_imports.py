"""The architecture, as the imports show it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("stemgmd_build", "baselines", "larsnet", "benchmarks")
MODULES = [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            yield node.module or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    later = {*ORDER[ORDER.index(package) + 1 :], "tests"}
    assert not later & {name.partition(".")[0] for name in imported(path)}


def test_the_builder_needs_no_torch_to_start() -> None:
    lazy = {"dataset.py"}  # turns arrays into tensors when asked to, inside a function
    for path in sorted((ROOT / "stemgmd_build").rglob("*.py")):
        heavy = {"torch", "pandas", "sklearn", "museval"} & {
            name.partition(".")[0] for name in imported(path)
        }
        assert not heavy - ({"torch"} if path.name in lazy else set()), path


@pytest.mark.parametrize("path", ["stemgmd_build/taxonomy.py", "benchmarks/metrics.py"])
def test_names_and_metrics_import_nothing_of_the_project(path: str) -> None:
    assert not {name.partition(".")[0] for name in imported(ROOT / path)} & set(ORDER)
