"""The architecture, as the imports show it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ("stemgmd_build", "baselines", "larsnet", "benchmarks")
MODULES = [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]
BUILDER = [path for path in MODULES if path.is_relative_to(ROOT / "stemgmd_build")]


def imported(path: Path, *, at_start: bool = False) -> Iterator[str]:
    """Every module that a file imports; `at_start`, only what importing the file imports."""
    nodes: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            yield node.module or ""
        elif not (at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    later = {*ORDER[ORDER.index(package) + 1 :], "tests"}
    assert not later & {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", BUILDER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_builder_needs_no_torch_to_start(path: Path) -> None:
    """Only the readers know torch, inside a function: they give tensors to whoever asks."""
    heavy = {"torch", "pandas", "sklearn", "museval"}
    assert not heavy & {name.partition(".")[0] for name in imported(path, at_start=True)}
    if path.parent.name != "dataset":
        assert not heavy & {name.partition(".")[0] for name in imported(path)}


LAYERS = (
    "errors taxonomy paths files",
    "audio download samplers",
    "performances kits",
    "rendering",
    "building plots",
    "auditing hosting dataset",
    "verify",
    "demo",
    "commands cli",
)


@pytest.mark.parametrize("path", BUILDER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_builders_folders_import_one_way(path: Path) -> None:
    """From the top of the list down; folders of one line may know the one before in it."""
    order = [name for line in LAYERS for name in line.split()]
    own = path.relative_to(ROOT / "stemgmd_build").with_suffix("").parts[0]
    if own == "__init__":
        return
    known = order[: order.index(own) + 1]
    for name in imported(path):
        package, _, rest = name.partition(".")
        assert package != "stemgmd_build" or rest.partition(".")[0] in known, name


@pytest.mark.parametrize("path", ["stemgmd_build/taxonomy.py", "benchmarks/scores/metrics.py"])
def test_names_and_metrics_import_nothing_of_the_project(path: str) -> None:
    assert not {name.partition(".")[0] for name in imported(ROOT / path)} & set(ORDER)
