"""Which code made a score: the benchmark's own commit, or its version."""

from __future__ import annotations

import functools
import json
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_TRACKED: Final = "benchmarks/__init__.py"


@functools.cache
def commit() -> str:
    """The commit of a checkout, marked "-dirty" if files differ; of a package, where it tells.

    A repository that the package merely lies in (an environment inside somebody's project) is
    not asked: its top must be ours, and it must track this package.
    """
    return _of_checkout() or _of_package()


def _of_checkout() -> str:
    if not (_ROOT / ".git").exists():
        return ""
    if _git("ls-files", "--error-unmatch", _TRACKED) is None:
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*") or ""


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _of_package() -> str:
    """Installed from a repository, pip noted its commit (PEP 610); else the version."""
    try:
        package = distribution("stemgmd-bench")
    except PackageNotFoundError:
        return ""
    try:
        origin = json.loads(package.read_text("direct_url.json") or "{}")
        return str(origin["vcs_info"]["commit_id"])[:12]
    except (ValueError, KeyError, TypeError):
        return f"v{package.version}"
