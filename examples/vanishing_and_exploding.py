# SPDX-License-Identifier: MIT
"""Vanishing and exploding gradients: the claims
=============================================

The statements of the usual articles, measured.

Each function in `claims` measures one statement and returns a table. The page
docs/vanishing_and_exploding.md explains them; this writes its tables and pictures::

    python vanishing_and_exploding.py ../docs/vanishing_and_exploding.md
"""

# sphinx_gallery_thumbnail_path = "docs/vanishing.png"
import re
import sys
from pathlib import Path

from claims import CLAIMS


def write(page, measured):
    """Write the tables between their marks on a page, and the pictures next to it."""
    from claims.pictures import draw

    text = page.read_text("utf-8")
    for claim in measured:
        mark = rf"(<!-- claim {claim.name} -->\n).*?(<!-- /claim -->)"
        text, found = re.subn(mark, rf"\g<1>{claim.markdown()}\n\g<2>", text, flags=re.DOTALL)
        if found != 1:
            sys.exit(f"{page} has {found} marks '<!-- claim {claim.name} -->', expected 1")
    page.write_text(text, "utf-8")
    draw({claim.name: claim for claim in measured}, page.parent)


def main():
    measured = []
    for claim in CLAIMS:
        measured.append(claim())
        print(f"{claim.__name__}: {claim.__doc__}\n\n{measured[-1].markdown()}\n")
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]), measured)


if __name__ == "__main__":
    main()
