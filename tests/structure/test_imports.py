# SPDX-License-Identifier: MIT
"""Imports of the package run one way: no circle, and nothing imports the package's face."""

from __future__ import annotations

import importlib

import pytest

from support.extras import import_needs
from support.imports import FILES, Import, circles, imports_of

EVERY = [found for name in FILES for found in imports_of(name)]
# Groups whose modules name each other's classes in annotations alone.
CIRCLES_OF_TYPES = [["bptt.reference.loop", "bptt.reference.products", "bptt.reference.trace"]]
# These ask the package itself: sdk for its folder.
FACE = {"bptt.sdk", "bptt.__main__"}


def with_packages(found: Import) -> list[Import]:
    """An import runs the `__init__` of each package around its target, too."""
    parts = found.target.split(".")
    around = [".".join(parts[:n]) for n in range(2, len(parts))]
    entered = [name for name in around if not f"{found.source}.".startswith(f"{name}.")]
    return [found, *(found._replace(target=name) for name in entered)]


def test_no_circle_at_run_time() -> None:
    assert len(FILES) > 100
    run = [more for i in EVERY if i.kind != "types" for more in with_packages(i)]
    assert not circles(run)


def test_circles_of_annotations_are_these() -> None:
    assert sorted(circles(EVERY)) == sorted(CIRCLES_OF_TYPES)


def test_nothing_imports_the_face_of_the_package() -> None:
    assert {i.source for i in EVERY if i.target == "bptt"} <= FACE


@pytest.mark.parametrize("name", [n for n in FILES if "." in n and not n.endswith("__main__")])
def test_no_module_hides_behind_another_name(name: str) -> None:
    import_needs(name)
    module = importlib.import_module(name)
    package, _, leaf = name.rpartition(".")
    assert getattr(importlib.import_module(package), leaf) is module


def test_circles_are_found() -> None:
    """In functions, in packages, and among three; a line of imports is none."""
    sources = {
        "bptt.init": "from .optim import SGD",
        "bptt.optim": "def f():\n    from . import losses",
        "bptt.losses": "if x:\n    import bptt.init",
    }
    found = [i for name, source in sources.items() for i in imports_of(name, source)]
    assert [i.kind for i in found] == ["top", "call", "top"]
    assert circles(found) == [["bptt.init", "bptt.losses", "bptt.optim"]]
    assert not circles(found[:2])
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import flow, NotThere"
    assert [i[1:] for i in imports_of("bptt.layers.base", typed)] == [
        ("bptt.flow", "types"), ("bptt", "types")
    ]  # fmt: skip
    inner = Import("bptt.init", "bptt.layers.base", "top")
    assert [i.target for i in with_packages(inner)] == ["bptt.layers.base", "bptt.layers"]
    assert with_packages(inner._replace(source="bptt.layers.tape")) == [
        inner._replace(source="bptt.layers.tape")
    ]
