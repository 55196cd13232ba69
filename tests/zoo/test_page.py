# SPDX-License-Identifier: MIT
"""The pages about these models."""

from __future__ import annotations

import re

import pytest

from support.paths import ROOT
from support.zoo import PACKAGES, Package

PAGE = (ROOT / "docs" / "zoo.md").read_text("utf-8")
README = (ROOT / "tests" / "zoo" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES)
def test_the_pages_list_every_package(package: Package) -> None:
    assert f"| {package.name} {package.version}".lower() in PAGE.lower()
    head, _, last = package.command.rpartition(" ")
    assert re.search(rf"{re.escape(head)} .*\b{re.escape(last)}\b", README)


def test_the_page_lists_no_other_package() -> None:
    first = PAGE.split("## What loads")[1].split("## ")[0]
    assert len(re.findall(r"^\| ", first, re.M)) == len(PACKAGES) + 1
