# SPDX-License-Identifier: MIT
"""Every example in the documentation runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from benchmarks.speed.tables import update

import api
import api_page
import bptt
from bptt import reference
from support.extras import import_needs
from support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [m.name for m in pkgutil.walk_packages(bptt.__path__, "bptt.")]
MODULES = [name for name in NAMES if not name.endswith("__main__")]


# `test_nine_jobs.py` runs the two sides of each job apart, and compares them.
RUN = [page for page in PAGES if page.name != "nine_jobs.md"]


@pytest.mark.parametrize("page", RUN, ids=lambda p: p.name)
def test_code_on_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_needs(page.name)
    monkeypatch.chdir(tmp_path)  # where the code writes its files
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    exec("\n".join(blocks), {})
    capsys.readouterr()


FIRST, SECOND = re.findall(
    r"^```python\n(.*?)^```", PAGES[0].read_text("utf-8"), re.DOTALL | re.MULTILINE
)[:2]


def test_the_first_example_prints_the_number_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """But for rounding, which differs among CPUs, and in five lines."""
    exec(FIRST, {})
    (shown,) = re.findall(r"# test accuracy (\S+),", FIRST)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(float(shown), abs=0.011)
    assert len([line for line in FIRST.splitlines() if line.strip()]) == 5


def test_the_second_example_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it saves and loads ends far below its baseline, which it prints, in twenty lines."""
    monkeypatch.chdir(tmp_path)
    block = SECOND
    names: dict[str, float] = {}
    exec(block, names)
    printed = re.findall(r"\d+\.\d+", capsys.readouterr().out)
    error, baseline = map(float, printed)
    assert error < baseline / 10
    assert baseline == round(names["baseline"], 4)
    assert len([line for line in block.splitlines() if line.strip()]) <= 20


def test_the_page_of_names_is_that_of_the_docstrings() -> None:
    names = [name for group in api_page.groups().values() for name in group]
    assert sorted(names) == sorted(bptt.__all__)
    assert api_page.FILE.read_text("utf-8") == api_page.page(), "python tests/api_page.py"
    assert all(
        line.count("|") - line.count("\\|") == 3
        for line in api_page.page().splitlines()
        if "|" in line
    )
    assert "|  |" not in api_page.page()


@pytest.mark.parametrize("module", api.EXTRAS)
def test_the_page_of_names_has_those_of_extras(module: str) -> None:
    """Also where the package that the module needs is not installed."""
    names = re.findall(rf"^\| `{module}\.(\w+)` \| \S", api_page.recorded(module), re.M)
    assert sorted(names) == sorted(api_page.public(module)) != []


def test_the_layout_names_rooms_which_exist() -> None:
    table = (ROOT / "docs" / "layout.md").read_text("utf-8").split("\n\n")[3]
    rooms = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert len(rooms) == 22
    package, found = ROOT / "python" / "bptt", set()
    for path in (path for room in rooms for path in re.findall(r"`(.*?)`", room)):
        places = [*ROOT.glob(path), *package.glob(path)]
        assert places, path
        found |= {place if place.is_dir() else place.parent for place in places}
    homes = [p for p in (*package.iterdir(), *(ROOT / "cpp" / "src").iterdir()) if p.is_dir()]
    assert {p for p in homes if p.name not in ("data", "__pycache__")} <= found


def test_the_page_of_pages_lists_each_once() -> None:
    text = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [path.name for path in PAGES[1:] if path.name not in ("README.md", "index.md")]
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Use it", "Understand it", "Change it"]
    assert sorted(re.findall(r"^\| \[(\w+\.md)\]", text, re.MULTILINE)) == pages


CODE = [
    *re.findall(
        r"^```python\n(.*?)^```", "".join(p.read_text("utf-8") for p in PAGES), re.S | re.M
    ),
    *(path.read_text("utf-8") for path in (ROOT / "examples").rglob("*.py")),
    *(path.read_text("utf-8") for path in (ROOT / "python" / "bptt" / "demo").rglob("*.py")),
]


@pytest.mark.parametrize("code", CODE)
def test_no_example_reads_padding(code: str) -> None:
    """Of sequences of different lengths, or in two directions, the last answer is in the state."""
    if "lengths" in code or "bidirectional" in code:
        assert not re.search(r"\b(y|out|output|outputs)\[(:, )?-1", code)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_tables_of_results_are_those_of_the_samples(page: Path) -> None:
    text = page.read_text("utf-8")
    assert update(text) == text, "python -m benchmarks.speed --pages"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_extras_that_are_named_exist() -> None:
    """In the documentation, and in the errors of the package."""
    section = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]")
    extras = re.findall(r"^(\w+) = \[", section[1].split("\n[")[0], re.MULTILINE)
    sources = [*PAGES, *(ROOT / "python" / "bptt").rglob("*.py")]
    text = "".join(path.read_text("utf-8") for path in sources)
    named = ",".join(re.findall(r"(?:bptt|\.)\[([a-z,]+)\]\"", text)).split(",")
    assert {"torch", "jax", "onnx", "keras", "plot"} <= set(named) <= set(extras)
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGES[0].read_text("utf-8"), re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(table))) == sorted(extras)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    import_needs(name)
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0


def test_setup_section_holds_exactly_two_commands() -> None:
    section = (ROOT / "README.md").read_text("utf-8").split("## Set up")[1]
    block = section.split("```")[1].strip().splitlines()
    assert len(block) == 2
    assert block[0].endswith("bptt demo")
    assert block[1].endswith("pytest -q")


# --- add_a_cell.md, add_an_option.md: what they quote, and what they count

ADD_A_CELL, ADD_AN_OPTION = (
    (ROOT / "docs" / name).read_text("utf-8") for name in ("add_a_cell.md", "add_an_option.md")
)
QUOTES = re.findall(
    r"<!-- quote (\S+) -->\n```\w+\n(.*?)\n```", ADD_A_CELL + ADD_AN_OPTION, re.DOTALL
)
STRUCTS = re.findall(r"^\|[^|]+\| `(\w+)` \| (\d+) \|", ADD_A_CELL, re.MULTILINE)
REFERENCES = re.findall(r"\| `(\w+)` \| (\d+) \|$", ADD_A_CELL, re.MULTILINE)
# Python files with lists of public names, and no other code.
FACES = {f"{room}__init__.py" for room in ("", "functional/", "layers/", "reference/")}


def code_of(path: Path) -> str:
    """The text of a file without its comments and docstrings."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return re.sub(r"//.*", "", text)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def files_that_name(pattern: str) -> set[str]:
    """Files of the product whose code matches, but the lists of public names."""
    kinds = {".inl", ".inc", ".hpp", ".cpp", ".py"}
    files = [path for room in ("cpp/src", "python") for path in (ROOT / room).rglob("*.*")]
    faces = {ROOT / "python" / "bptt" / name for name in FACES}
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in kinds and path not in faces and re.search(pattern, code_of(path))
    }


@pytest.mark.parametrize(
    ("page", "pattern"),
    [(ADD_A_CELL, r"(?i)mgu"), (ADD_AN_OPTION, r"\bcell_clip\b")],
    ids=["cell", "option"],
)
def test_a_page_lists_the_files_of_its_diff(page: str, pattern: str) -> None:
    """One row in the table of cells, and five files."""
    listed = re.findall(r"^\| `([\w/.]+)` \|", page.split("## ")[0], re.MULTILINE)
    assert listed[0] == "python/bptt/_cells.py"
    assert len(listed) == 1 + 5
    assert {*listed} == files_that_name(pattern)
    assert {*listed} <= {*re.findall(r"<!-- quote (\S+) -->", page)}


def lines_of_struct(name: str) -> int:
    source = "\n".join(p.read_text() for p in (ROOT / "cpp/src/cells").glob("*.inl"))
    found = re.search(rf"^struct {name} (?:: .*?)?{{.*?^}};", source, re.DOTALL | re.MULTILINE)
    assert found, name
    lines = [line.strip() for line in found[0].splitlines()]
    return sum(bool(line) and not line.startswith("//") for line in lines)


def lines_of_reference(cell: str) -> int:
    total = 0
    for function in (reference.CELLS[cell].step, reference.CELLS[cell].grad):
        tree = ast.parse(inspect.getsource(function))
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef)
        if ast.get_docstring(definition) is not None:
            definition.body.pop(0)
        total += 1 + sum(
            bool(line.strip()) and not line.strip().startswith("#")
            for line in inspect.getsource(function).splitlines()[definition.body[0].lineno - 1 :]
        )
    return total


def test_a_page_quotes_and_counts() -> None:
    assert len(QUOTES) > 5
    assert dict(STRUCTS).keys() > {"Rnn", "LstmGeneral", "Mgu"}
    assert dict(REFERENCES).keys() > {"rnn", "mgu"}
    assert (ADD_A_CELL + ADD_AN_OPTION).count("<!-- quote ") == len(QUOTES)


@pytest.mark.parametrize(("path", "code"), QUOTES)
def test_quoted_code_is_that_of_the_file(path: str, code: str) -> None:
    assert f"\n{code}\n" in (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize(("struct", "count"), STRUCTS)
def test_counted_lines_of_a_cell(struct: str, count: str) -> None:
    assert int(count) == lines_of_struct(struct)


@pytest.mark.parametrize(("cell", "count"), REFERENCES)
def test_counted_lines_of_the_reference(cell: str, count: str) -> None:
    assert int(count) == lines_of_reference(cell)
