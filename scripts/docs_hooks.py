"""What the pages need beyond Markdown, called by MkDocs (mkdocs.yml names this file)."""

from __future__ import annotations

import re
from typing import Any

# Docstrings name things by Sphinx's roles, which Markdown shows as they stand: :class:`x.Y`.
_ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Drop the roles before the names that they mark."""
    return _ROLE.sub("", html)
