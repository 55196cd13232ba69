# SPDX-License-Identifier: MIT
"""Links of Markdown pages to files that the site has as pages of another name, or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")
# Pages that are written anew for the site.
PAGES = {
    "docs/api.md": "docs/reference/index.rst",
    "examples/README.md": "docs/gallery/index.rst",
}


def rewrite(app: Sphinx, docname: str, content: list[str]) -> None:
    """Point to the pages of the site; a link to a folder becomes its text."""
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
        if target not in PAGES:
            return found[0]
        return f"[{text}]({os.path.relpath(PAGES[target], here)}{anchor})"

    content[0] = LINK.sub(link, content[0])
