"""What a new machine is promised: the dependencies that are locked are there for its Python."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKED = dict(
    re.findall(r"(?m)^([\w.-]+)==([\w.]+) \\$", (ROOT / "requirements.lock").read_text("utf-8"))
)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_locked_package_installs_on_the_oldest_python() -> None:
    """Debian 12 has Python 3.11.2: a package that wants 3.11.5 stops `make setup` there."""
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    wanted = {name: metadata.metadata(name).get("Requires-Python") for name in LOCKED}
    assert len(wanted) > 100
    refused = {n: w for n, w in wanted.items() if w and not SpecifierSet(w).contains(oldest)}
    assert refused == {}


def test_every_dependency_is_locked_within_its_bounds() -> None:
    versions = {canonical(name): version for name, version in LOCKED.items()}
    setup = (ROOT / "scripts" / "setup.sh").read_text("utf-8")
    versions["torch"] = re.findall(r'torch==([\d.]+)"', setup)[0]
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(entry for extra in extras.values() for entry in extra)]
    for entry in wanted:
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?(.*)", entry).groups()  # type: ignore[union-attr]
        if name != PROJECT["name"]:
            assert SpecifierSet(bounds).contains(versions[canonical(name)]), entry
