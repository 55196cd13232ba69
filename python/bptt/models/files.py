# SPDX-License-Identifier: MIT
"""Estimators in files: one safetensors or npz file, with arguments and vocabulary as JSON.

Every value is written with its kind, as ``{"tuple": [1, 2]}``, so that reading needs no guess. Only
the kinds below are read, and no code of a file is run.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from .. import io
from .._files.access import Path
from .._files.contents import read
from .._files.parse import PARSERS
from .._types import Array
from .._validate import as_path
from .._words import brief, listed, printable, shown
from ..sequential.description import ESTIMATOR_KEY, described
from ..sequential.model import Sequential
from ..sequential.rebuild import fields_of, rebuilt
from ..training.history import Epoch, History

__all__ = ["ESTIMATORS", "load", "record", "save"]

KEY, VERSION = ESTIMATOR_KEY, 1
TIMES = re.compile(r"(datetime64|timedelta64)\[(Y|M|W|D|h|m|s|ms|us|ns)\]")
PLAIN = (bool, int, float, str, type(None))

ESTIMATORS: dict[str, type[Any]] = {}  # by name: `base.Estimator` enters its subclasses
RECORDS: dict[str, type[Any]] = {}

Class = TypeVar("Class", bound=type)


def record(kind: Class) -> Class:
    """Let files hold values of this dataclass; its ``__post_init__`` checks what a file says."""
    RECORDS[kind.__name__] = kind
    return kind


# --- writing --------------------------------------------------------------------------------------


def save(estimator: Any, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a fitted estimator; see `Estimator.save`. `metadata` is stored beside it."""
    arrays: dict[str, Array] = {}
    fitted = {name: getattr(estimator, name) for name in estimator.FITTED}
    content = {
        "version": VERSION,
        "estimator": type(estimator).__name__,
        "arguments": {n: _coded(n, v, arrays) for n, v in estimator.get_params().items()},
        "fitted": {n: _coded(n, v, arrays) for n, v in fitted.items()},
    }
    io.save(path, arrays, {**(metadata or {}), KEY: json.dumps(content)})


def _coded(name: str, value: Any, arrays: dict[str, Array]) -> Any:
    """The value for JSON; arrays go into `arrays`, by `name`."""
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind in "biufU" else np.asarray(value)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_coded(f"{name}.{k}", one, arrays) for k, one in enumerate(value)]}
    if isinstance(value, Mapping):
        pairs = enumerate(value.items())
        return {"dict": [[_coded(f"{name}.{k}.{i}", one, arrays) for i, one in enumerate(pair)]
                         for k, pair in pairs]}  # fmt: skip
    if isinstance(value, np.ndarray):
        return _coded_array(name, value, arrays)
    if isinstance(value, Sequential):
        arrays.update({f"{name}.{key}": array for key, array in value.state_dict().items()})
        return {"model": described(value), "at": name}
    if isinstance(value, History):
        epochs = [list(epoch) for epoch in value.epochs]
        return {"history": epochs, "stopped": value.stopped, "interrupted": value.interrupted}
    if type(value).__name__ in RECORDS and type(value) is RECORDS[type(value).__name__]:
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {
            "record": type(value).__name__,
            "fields": {key: _coded(f"{name}.{key}", v, arrays) for key, v in fields.items()},
        }
    raise TypeError(
        f"save: {name} is {shown(value)}, expected numbers, text, arrays, or lists and dicts of "
        "them: a file holds nothing else"
    )


def _coded_array(name: str, array: Array, arrays: dict[str, Array]) -> Any:
    if array.dtype.kind in "UO":
        return {"objects": _coded(name, array.tolist(), arrays)}
    coded = {"array": name}
    if array.dtype.kind in "mM":
        coded["dtype"], array = str(array.dtype), array.astype(np.int64)
    arrays[name] = array
    return coded


# --- reading --------------------------------------------------------------------------------------


def load(path: Path) -> Any:
    """Read an estimator that its `save` wrote.

    No code of the file is run. Everything in it is checked, so that a damaged or hostile file ends
    in an error of one sentence.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    SequenceClassifier, SequenceRegressor, Forecaster or LanguageModel
        Its predictions have the bits of the original's.

    Raises
    ------
    ValueError
        If the file is damaged, or holds no such estimator.
    ImportError
        If it is a safetensors file, and that package is not installed.
    OSError
        If it cannot be read; FileNotFoundError if it does not exist.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, bptt.models
    >>> x, y = np.random.default_rng(0).standard_normal((20, 5, 2)), np.arange(20) % 2
    >>> model = bptt.models.SequenceClassifier(hidden_size=4, epochs=1).fit(x, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model.npz"))
    ...     again = bptt.models.load(os.path.join(folder, "model.npz"))
    >>> bool((again.predict(x) == model.predict(x)).all())
    True
    """
    caller = "models.load"
    place = f"{caller}: {printable(as_path(caller, path))}"
    arrays, metadata = read(caller, path, PARSERS, "a file of an estimator")
    if KEY not in metadata:
        raise ValueError(f"{place} holds no estimator, expected a file that its save has written")
    try:
        return _estimator(json.loads(metadata[KEY]), arrays)
    except MemoryError:
        raise
    except RecursionError:
        raise ValueError(f"{place} has a list in too many lists, expected an estimator") from None
    except Exception as error:  # what a hostile file says may fail anywhere
        reason = brief(" ".join(str(error).split()), 200)
        raise ValueError(f"{place} is damaged: {reason}") from error


def _estimator(content: Any, arrays: dict[str, Array]) -> Any:
    if not isinstance(content, dict) or content.get("version") != VERSION:
        version = content.get("version") if isinstance(content, dict) else None
        raise ValueError(f"it has format version {shown(version)}, expected {VERSION}")
    fields = fields_of("the file", content, ("version", "estimator", "arguments", "fitted"))
    name = fields["estimator"]
    if not isinstance(name, str) or name not in ESTIMATORS:
        raise ValueError(f"it holds {shown(name)}, expected one of {listed(ESTIMATORS)}")
    kind, values = ESTIMATORS[name], _Values(arrays)
    arguments = fields_of("arguments", fields["arguments"], kind.argument_names())
    fitted = fields_of("fitted", fields["fitted"], kind.FITTED)
    estimator = kind(**{n: values.of(value) for n, value in arguments.items()})
    for n, value in fitted.items():
        decoded = values.of(value)
        if not isinstance(decoded, kind.FITTED[n]):
            raise ValueError(f"{n} is {shown(decoded)}, expected another type")
        setattr(estimator, n, decoded)
    estimator._check_loaded()
    return estimator


class _Values:
    """Values from their JSON and the arrays of the file."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = arrays
        self.kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
            "list": lambda coded: [self.of(one) for one in self._list(coded["list"])],
            "tuple": lambda coded: tuple(self.of(one) for one in self._list(coded["tuple"])),
            "dict": lambda coded: {self.of(k): self.of(v) for k, v in self._list(coded["dict"])},
            "objects": self._objects,
            "array": self._array,
            "model": self._model,
            "history": self._history,
            "record": self._record,
        }

    def of(self, coded: Any) -> Any:
        if isinstance(coded, PLAIN):
            return coded
        kind = next(iter(coded), None) if isinstance(coded, dict) else None
        if kind not in self.kinds:
            raise ValueError(f"it has {shown(coded)}, expected a value and its kind")
        return self.kinds[kind](coded)

    @staticmethod
    def _list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"it has {shown(value)}, expected a list")
        return value

    def _objects(self, coded: dict[str, Any]) -> Array:
        values = self.of(coded["objects"])
        if not isinstance(values, list) or not all(isinstance(v, PLAIN) for v in values):
            raise ValueError(f"it has {shown(values)}, expected a list of text")
        if values and all(isinstance(v, str) for v in values):
            return np.array(values)
        objects = np.empty(len(values), object)
        objects[:] = values
        return objects

    def _array(self, coded: dict[str, Any]) -> Array:
        name, dtype = coded["array"], coded.get("dtype")
        if not isinstance(name, str) or name not in self.arrays:
            raise ValueError(f"it has no array {shown(name)}")
        array = self.arrays[name]
        if dtype is None:
            return array
        if not isinstance(dtype, str) or not TIMES.fullmatch(dtype) or array.dtype != np.int64:
            raise ValueError(f"{name} has dtype {shown(dtype)}, expected a date or a time")
        return array.view(dtype)

    def _model(self, coded: dict[str, Any]) -> Sequential:
        prefix = f"{coded['at']}."
        own = {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }
        return rebuilt("its model", coded["model"], own)

    def _history(self, coded: dict[str, Any]) -> History:
        epochs = [Epoch(*row) for row in self._list(coded["history"])]
        for value in (value for epoch in epochs for value in epoch):
            if not isinstance(value, (int, float, type(None))):
                raise ValueError(f"its history has {shown(value)}, expected numbers")
        stopped, interrupted = coded["stopped"] is True, coded["interrupted"] is True
        return History(epochs, stopped=stopped, interrupted=interrupted)

    def _record(self, coded: dict[str, Any]) -> Any:
        if coded["record"] not in RECORDS:
            raise ValueError(f"it has a {shown(coded['record'])}, expected one of {[*RECORDS]}")
        kind = RECORDS[coded["record"]]
        names = [field.name for field in dataclasses.fields(kind)]
        fields = fields_of(kind.__name__, coded["fields"], names)
        return kind(**{name: self.of(value) for name, value in fields.items()})
