"""What the pages need beyond Markdown, called by MkDocs (mkdocs.yml names this file)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Docstrings name things by Sphinx's roles, which Markdown shows as they stand: :class:`x.Y`.
_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):(?=<code>)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pictures of the model cards, which lie beside the weights."""
    weights = Path(config.config_file_path or "").parent / "larsnet" / "weights"
    for picture in sorted(weights.glob("*.png")):
        files.append(File.generated(config, picture.name, abs_src_path=str(picture)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Drop the roles before the names that they mark."""
    return _ROLE.sub("", html)
