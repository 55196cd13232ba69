# SPDX-License-Identifier: MIT
"""The public interface as text: names, signatures, attributes and the command line's options.

python tests/api.py              # writes tests/api.txt
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".txt")
MODULES = (
    "bptt", "bptt.datasets", "bptt.export", "bptt.flow", "bptt.init", "bptt.layers", "bptt.losses",
    "bptt.onnx", "bptt.optim", "bptt.reference", "bptt.regularise", "bptt.schedules", "bptt.tasks",
    "bptt.training",
)  # fmt: skip
EXTRAS = {"bptt.jax": "jax", "bptt.torch": "torch"}  # modules, and the package that each needs
COMMANDS = ("", "demo", "info", "bench", "flow", "export")


def signature(function: Any) -> str:
    """Names, kinds and defaults of the parameters; not the types, which name private modules."""
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters]))


def members(kind: type) -> Iterator[str]:
    """The public attributes of a class, one line each; inherited ones too, but of bptt alone."""
    fields = getattr(kind, "_fields", getattr(kind, "__dataclass_fields__", ()))
    for name in sorted({n for n in dir(kind) if not n.startswith("_")} | set(fields)):
        owner = next((k for k in kind.__mro__ if name in vars(k)), kind)
        if not owner.__module__.startswith("bptt"):
            continue
        value = inspect.getattr_static(kind, name, None)
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if inspect.isfunction(value):
            yield f"  {name}{signature(value)}"
        else:
            yield f"  {name}"


def missing() -> tuple[str, ...]:
    """Modules whose package is not installed."""
    return tuple(m for m, package in EXTRAS.items() if importlib.util.find_spec(package) is None)


def names() -> Iterator[str]:
    for module_name in sorted({*MODULES, *EXTRAS} - {*missing()}):
        module = importlib.import_module(module_name)
        for name in sorted(module.__all__):
            value, path = getattr(module, name), f"{module_name}.{name}"
            if inspect.ismodule(value):
                yield f"{path}: module"
            elif inspect.isclass(value) and issubclass(value, BaseException):
                yield f"{path}: {value.__base__.__name__}"
            elif inspect.isclass(value):
                yield f"{path}{signature(value)}"
                if value.__module__.startswith("bptt"):
                    yield from members(value)
            elif callable(value):
                yield f"{path}{signature(value)}"
            else:
                yield f"{path}: {type(value).__name__}"


def recorded() -> list[str]:
    """The lines of the file, without those of modules whose package is not installed."""
    blocks = re.split(r"\n(?! )", FILE.read_text("utf-8").rstrip("\n"))
    return "\n".join(b for b in blocks if not b.startswith(missing())).splitlines()


def commands() -> Iterator[str]:
    """The options of each command, in the order of its help."""
    from bptt import cli

    for command in COMMANDS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            cli.main([*command.split(), "--help"])
        options = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.getvalue()))
        yield " ".join(["$ bptt", *command.split(), *options])


def interface() -> str:
    return "\n".join([*names(), *commands()]) + "\n"


if __name__ == "__main__":
    FILE.write_text(interface(), "utf-8")
    print(f"{len(interface().splitlines())} lines")
