# SPDX-License-Identifier: MIT
"""The site builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import api_page
from support.paths import ROOT

NEEDS = ("sphinx", "furo", "myst_parser", "numpydoc", "sphinx_gallery", "matplotlib")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDS)), reason='needs pip install ".[docs]"'
)


class Page(HTMLParser):
    """The ids of a page, the addresses that it names, and those that a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.loads = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.add(value)
            elif name in ("href", "src"):
                self.loads.add(value)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Every page of the site, built without running the examples."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", folder, "-D", "plot_gallery=0"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {path: Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}


def test_each_link_leads_to_a_file_and_an_anchor(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links | page.loads:
            scheme, _, name, _, anchor = urlsplit(link)
            if scheme:
                continue
            target = (path.parent / unquote(name)).resolve() if name else path
            if not target.is_file():
                broken.append((path.name, link))
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                broken.append((path.name, link))
    assert broken == []


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [link for page in pages.values() for link in page.loads if urlsplit(link).scheme] == []


def test_each_public_name_and_each_page_of_markdown_is_there(pages: dict[Path, Page]) -> None:
    names = [name for group in api_page.groups().values() for name in group]
    ids = set().union(*(page.ids for page in pages.values()))
    named = {name.removeprefix("module-") for name in ids}
    assert {f"bptt.{name}" for name in names} <= named
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"api"}
    assert sources <= {path.stem for path in pages if path.parent.name == "docs"}
