# SPDX-License-Identifier: MIT
"""Pages of the public names, by the groups in the docstring of `bptt`, and links to them."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms import SphinxTransform

import api_page

FOLDER = Path(__file__).parents[1] / "reference"
# Modules that need another package: their pages say so where it is missing.
EXTRAS = ("torch", "jax", "onnx")
LINKS = (nodes.reference, addnodes.pending_xref)
MISSING = "These pages were built without {0}, so the names are missing here.\n"


def heading(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def table(names: list[str]) -> str:
    return "\n   ".join((".. autosummary::", ":toctree: .", "", *names)) + "\n"


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page: a group of names, or a module."""
    groups = api_page.groups()
    modules = groups.pop("Modules")
    for title, names in groups.items():
        file = title.lower().replace(" ", "_")
        yield file, "\n".join((heading(title), table([f"bptt.{name}" for name in names])))
    for name in (*modules, *api_page.MORE, *EXTRAS):
        module = f"bptt.{name}"
        if name in EXTRAS and importlib.util.find_spec(name) is None:
            text = MISSING.format(name)
        else:
            members = api_page.names_of(importlib.import_module(module))
            names = [member.removeprefix(f"{module}.") for member in members]
            text = f".. automodule:: {module}\n\n{table(names) if names else ''}"
        yield f"module_{name}", f"{heading(module)}\n.. currentmodule:: {module}\n\n{text}"


def write(app: Sphinx, config: Config) -> None:
    """Write the pages from which autosummary makes one for each name."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    written = dict(pages())
    for file, text in written.items():
        (FOLDER / f"{file}.rst").write_text(text, "utf-8")
    contents = "\n   ".join((".. toctree::", ":maxdepth: 2", "", *written))
    (FOLDER / "index.rst").write_text(f"{heading('Public names')}\n{contents}\n", "utf-8")


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Make each public name that a page has as code a link to its page."""
    for code in list(doctree.findall(nodes.literal)):
        name = code.astext()
        if not name.startswith("bptt.") or isinstance(code.parent, LINKS):
            continue
        attributes: dict[str, Any] = {
            "refdomain": "py",
            "reftype": "obj",
            "reftarget": name,
            "refdoc": app.env.docname,
            "refwarn": False,
        }
        link = addnodes.pending_xref("", **attributes)
        code.replace_self(link)
        link += code


class Bars(SphinxTransform):
    """Leave |x| in a docstring as it is: an absolute value, no substitution of reStructuredText."""

    default_priority = 200  # before the transform that substitutes

    def apply(self, **_: Any) -> None:
        for node in list(self.document.findall(nodes.substitution_reference)):
            node.replace_self(nodes.Text(f"|{node.astext()}|"))
