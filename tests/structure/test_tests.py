# SPDX-License-Identifier: MIT
"""The rules of the tests themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.paths import TESTS

FILES = sorted(TESTS.rglob("*.py"))
TEST_FILES = {path.stem for path in FILES if path.stem.startswith("test_")}


def name_of(path: Path) -> str:
    return str(path.relative_to(TESTS))


def modules(path: Path) -> list[str]:
    """The full names of all imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("ascii"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "tests import by full names"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_imports_a_test_file(path: Path) -> None:
    assert not [name for name in modules(path) if TEST_FILES & set(name.split("."))]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_test_is_in_a_folder_and_every_helper_in_support(path: Path) -> None:
    folder, test = path.parent, path.stem.startswith("test_")
    if folder == TESTS:
        assert path.name in ("api.py", "api_page.py", "conftest.py", "golden.py")
    elif folder.name != "fuzz":
        assert test != (folder.name == "support")


def test_tolerances_have_one_place() -> None:
    stated = [
        name_of(path)
        for path in FILES
        for node in ast.parse(path.read_text("ascii")).body
        if isinstance(node, ast.Assign)
        and any(ast.unparse(name) == "TOLERANCE" for name in node.targets)
    ]
    assert stated == ["support/compare.py"]
