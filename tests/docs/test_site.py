# SPDX-License-Identifier: MIT
"""The site builds without a warning, its links lead somewhere, and its pages fit a phone."""

from __future__ import annotations

import importlib
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
VOID = ("br", "col", "hr", "img", "input", "link", "meta", "path", "use")  # tags without an end


class Page(HTMLParser):
    """A page: its ids, the addresses that it names, those that a browser loads with it, faults.

    A fault is a table that does not scroll in a narrow window, or a link named by a file.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.loads, self.faults = set(), set(), set(), list[str]()
        self._inside = list[str]()  # the tags around the text, each with its classes
        self.feed(text)

    def handle_data(self, data: str) -> None:
        around = {tag.split()[0] for tag in self._inside}
        if data.endswith(".md") and "a" in around and "code" not in around:
            self.faults.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop().split()[0] != tag:
            pass

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        classes = dict(attributes).get("class") or ""
        scrolls = any("table-wrapper" in around for around in self._inside)
        if tag == "table" and "index" not in classes and not scrolls:
            self.faults.append(self.get_starttag_text() or tag)
        if tag not in VOID:
            self._inside.append(f"{tag} {classes}")
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


def test_tables_scroll_and_links_have_titles(pages: dict[Path, Page]) -> None:
    assert {path.name: page.faults for path, page in pages.items() if page.faults} == {}


def test_code_without_a_language_is_not_coloured_as_python(pages: dict[Path, Page]) -> None:
    texts = (path.read_text("utf-8") for path in pages)
    assert not any('class="highlight-default' in text for text in texts)


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [link for page in pages.values() for link in page.loads if urlsplit(link).scheme] == []


def test_each_public_name_and_each_page_of_markdown_is_there(pages: dict[Path, Page]) -> None:
    names = [name for group in api_page.groups().values() for name in group]
    ids = set().union(*(page.ids for page in pages.values()))
    named = {name.removeprefix("module-") for name in ids}
    assert {f"bptt.{name}" for name in names} <= named
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"api"}
    assert sources <= {path.stem for path in pages if path.parent.name == "docs"}


def test_each_example_that_runs_on_the_site_has_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    gallery, pictures = map(importlib.import_module, ("gallery", "pictures"))
    texts = {path.stem: path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")}
    run = {name for name in texts if not name.startswith(gallery.MINUTES)}
    drawn = {name for name in run if "--plot" in texts[name] or "thumbnail_path" in texts[name]}
    assert drawn | set(pictures.DRAWN) == run
    assert all("--quick" in texts[name] for name in gallery.LONG)
    assert set(gallery.NEEDS) <= run
