# SPDX-License-Identifier: MIT
"""Every argument of every public function, with values of a dozen wrong kinds.

A refusal is a ValueError or TypeError that names the function or class and the argument; a message
of Python, NumPy or pybind11 has another form, and is a fault.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import arguments_of_models, arguments_of_tools  # noqa: F401  (fill the table)
from support.arguments import CALLS, Call

LONG = "n" * 70_000
WRONG: dict[str, Callable[[Any], Any]] = {
    "none": lambda good: None,
    "true": lambda good: True,
    "text": lambda good: "text",
    "empty": lambda good: "",
    "object": lambda good: object(),
    "minus": lambda good: -1,
    "big": lambda good: 2**63,
    "half": lambda good: 1.5,
    "nan": lambda good: float("nan"),
    "inf": lambda good: float("inf"),
    "complex": lambda good: 1j,
    "list": lambda good: [],
    "ragged": lambda good: [[1.0], [1.0, 2.0]],
    "dict": lambda good: {},
    "masked": lambda good: np.ma.masked_array(good if is_array(good) else [1.0], mask=True),
    "bytes": lambda good: b"text",
    "generator": lambda good: (i for i in range(0)),
    "zero_d": lambda good: np.array(1.5),
    "wide": lambda good: np.zeros((1,) * 5),
    "shape": lambda good: np.concatenate([good, good], -1) if is_array(good) else np.ones((2, 3)),
    "objects": lambda good: np.full(np.shape(good) if is_array(good) else (2,), None),
    "long": lambda good: LONG,
    "strings": lambda good: np.array(["a", "b"]),
}
INSIDE = ("none", "text", "object", "complex", "ragged", "masked", "objects", "shape", "generator")

# What the package makes and its users only read, and command lines, which argparse checks.
RECORDS = {
    "flow.Advice", "flow.Alert", "flow.CellFlow", "CellFlow.parameter", "CellFlow.saturation",
    "CellFlow.tenth", "CellFlow.turns_off", "flow.Curve", "flow.NeededMemory",
    "flow.add_arguments", "flow.run", "export.add_arguments", "export.run", "FlowReport",
    "FlowWarning", "Grads", "LayerTrace", "NonFinite", "Shares", "Trace", "regularise.Penalty",
    "tasks.Task", "datasets.CO2", "datasets.JapaneseVowels", "datasets.Sequences",
    "optim.Optimizer", "schedules.Schedule", "sequential.tbptt.Chunk", "layers.stream.Stream",
    "layers.prepared.Prepared", "History", "Sequential",
    "layers.Recurrent", "layers.RecurrentTape", "layers.base.Layer", "layers.base.LayerGrads",
    "layers.attention.AttentionLayerGrads",
}  # fmt: skip
MODULES = ("optim", "init", "tasks", "datasets", "losses", "schedules", "clip", "flow")
MODULES += ("export", "regularise", "jacobians", "layers", "layers.base", "layers.attention")
MODULES += ("layers.prepared", "layers.stream", "sequential.tbptt")


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0


def public() -> Iterator[tuple[str, Any]]:
    """Functions, classes and methods by name; names of `bptt` itself have no prefix."""
    seen: set[Any] = set()
    for module in ("", *MODULES):
        home = importlib.import_module(f"bptt.{module}".rstrip("."))
        for name in home.__all__:
            value = getattr(home, name)
            if isinstance(value, types.ModuleType) or value in seen or not callable(value):
                continue
            seen.add(value)
            yield f"{module}.{name}".lstrip("."), value
            for method in vars_of(value):
                if method not in seen:
                    seen.add(method)
                    yield method.__qualname__, method


def vars_of(kind: Any) -> Iterator[Any]:
    """The methods that a class of the package defines, and those it inherits."""
    for base in kind.__mro__ if inspect.isclass(kind) else ():
        for name, value in vars(base).items():
            own = inspect.isfunction(value) and value.__module__.startswith("bptt.")
            if own and (name == "__call__" or not name.startswith("_")):
                yield value


def takes_something(value: Any) -> bool:
    try:
        return bool(set(inspect.signature(value).parameters) - {"self"})
    except ValueError:
        return False


def test_every_public_function_is_in_the_table() -> None:
    keys = {name for name, value in public() if takes_something(value)}
    assert keys - RECORDS - set(CALLS) == set()
    assert set(CALLS) - keys == set()


def probes(made: Call) -> Iterator[tuple[str, str, Callable[[Call], Any]]]:
    """Argument, kind of value, and what makes the value from a fresh call."""
    known = inspect.signature(made.function).parameters
    names = [n for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in dict.fromkeys([*names, *made.arguments]):
        for kind, value in WRONG.items():
            yield name, kind, lambda c, v=value, n=name: v(c.arguments.get(n))
        if name in known and isinstance(known[name].default, bool):
            yield name, "one", lambda c: 1
        good = made.arguments.get(name)
        if isinstance(good, (Mapping, tuple)) and len(good) and name != "tape":
            for kind in INSIDE:
                yield name, f"{kind}_inside", lambda c, k=kind, n=name: inside(c.arguments[n], k)
        if isinstance(good, Mapping):
            first = next(iter(good.values()))
            for kind, key in {"number": 5, "long": LONG, "other": "no such name"}.items():
                yield name, f"{kind}_name", lambda c, k=key, v=first: {k: v}


def inside(good: Any, kind: str) -> Any:
    if isinstance(good, Mapping):
        key = [*good][-1]
        return {**good, key: WRONG[kind](good[key])}
    return (WRONG[kind](good[0]), *good[1:])


def run(made: Call, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = made.function(**arguments)
        if isinstance(result, types.GeneratorType):
            next(result)


def starts(key: str, made: Call) -> tuple[str, ...]:
    """How messages may begin: with the function, the class or its method."""
    return (key, key.split(".")[-1], *made.where)


def names_it(text: str, name: str, kind: str) -> bool:
    """Does a message say which argument is wrong?

    A shape that fits alone but not to the others may be put down to one of these, and what is
    inside a container is named by its own name.
    """
    other = kind in ("shape", "list") or "inside" in kind or text.startswith("load: ")
    words = {"tangents": "tangent", "dy_tangent": "tangent of dy"}
    words |= {"dstate_tangent": "tangent of dstate"}
    return other or bool(re.search(rf"\b({re.escape(name)}|{words.get(name, name)})\b", text))


def fault(key: str, made: Call, name: str, kind: str, value: Any) -> str | None:
    """The fault in the answer to a wrong value; None if there is no fault."""
    try:
        run(made, {**made.arguments, name: value})
    except (ValueError, TypeError) as error:
        text = str(error)
        if not text.startswith(tuple(f"{start}: " for start in starts(key, made))):
            return f"foreign message: {text[:150]}"
        if not names_it(text, name, kind):
            return f"does not name the argument: {text[:150]}"
        return f"{len(text)} letters: {text[:100]}" if len(text) > 700 else None
    except OSError as error:
        allowed = name in ("path", "model", "source") and kind in ("text", "empty", "long")
        return None if allowed and len(str(error)) < 700 else repr(error)[:150]
    except AssertionError as error:  # what gradcheck finds
        return None if str(error).startswith("gradcheck: ") else repr(error)[:150]
    except Exception as error:
        return repr(error)[:150]
    return None if kind in made.allowed.get(name, "").split() else "accepted"


@pytest.mark.parametrize("key", sorted(CALLS))
def test_wrong_kinds_of_value(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = CALLS[key](tmp_path)
    run(made, made.arguments)  # the good call
    faults = []
    for name, kind, make in probes(made):
        fresh = CALLS[key](tmp_path)
        found = fault(key, fresh, name, kind, make(fresh))
        faults += [f"{name} = {kind}: {found}"] if found else []
    assert not faults, "\n" + "\n".join(faults)
