# SPDX-License-Identifier: MIT
"""Every example in the documentation runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import bptt
from bptt.bench.markdown import update

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [m.name for m in pkgutil.walk_packages(bptt.__path__, "bptt.")]
MODULES = [name for name in NAMES if not name.endswith("__main__")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_on_a_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    exec("\n".join(blocks), {})
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tables_of_results_are_those_of_the_samples(page: Path) -> None:
    text = page.read_text("utf-8")
    assert update(text, page.parent) == text, f"python -m bptt.bench.markdown {page}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_setup_section_holds_exactly_two_commands() -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("## Set up")[1]
    block = section.split("```")[1].strip().splitlines()
    assert len(block) == 2
    assert block[0].endswith("bptt demo")
    assert block[1].endswith("pytest -q")
