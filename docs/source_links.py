"""A hook of MkDocs: links from pages to the sources become plain text, since the site holds pages only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent

LINK = re.compile(r"\[([^]]+)\]\(((?:\.\./)+[^)#\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page's text with the links out of `docs/` replaced by what they are called.

    Raises:
        FileNotFoundError: a link to a file that does not exist, which ends the build.
    """
    folder = (DOCS / page.file.src_uri).parent

    def replace(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve(strict=True)
        return link[0] if target.is_relative_to(DOCS) else link[1]

    return LINK.sub(replace, markdown)
