# SPDX-License-Identifier: MIT
"""Markdown pages as the site shows them: where their links lead, and which code has no language."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")
# Pages that are written anew for the site.
PAGES = {
    "docs/api.md": "docs/reference/index.rst",
    "examples/README.md": "docs/gallery/index.rst",
}


def rewrite(app: Sphinx, docname: str, content: list[str]) -> None:
    """Point to the pages of the site, by title; a link to a folder becomes its text."""
    if app.env.doc2path(docname, base=False).suffix != ".md":
        return
    here = PurePosixPath(docname).parent

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], os.path.normpath(here / found[2]), found[3] or ""
        place = Path(app.srcdir, target)
        if place.is_dir():
            if not (place / "README.md").is_file():
                return text
            target += "/README.md"
        elif target.startswith("examples/") and place.suffix == ".py":
            PAGES[target] = f"docs/gallery/{place.stem}.rst"
        page = os.path.relpath(PAGES.get(target, target), here)
        named = re.fullmatch(r"[\w./]+\.md", text)  # by its file: an empty text becomes the title
        return f"[{'' if named else text}]({page}{anchor})"

    content[0] = LINK.sub(link, content[0])


class Plain(SphinxTransform):
    """Colours no code without a language: it is a command, an output or a formula, not Python."""

    default_priority = 4  # before sphinx_gallery takes it for Python

    def apply(self, **_: Any) -> None:
        for block in self.document.findall(nodes.literal_block):
            if block.get("language", "default") == "default":
                block["language"] = "none"
