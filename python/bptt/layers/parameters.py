# SPDX-License-Identifier: MIT
"""The parameters of layers: dicts that keep their arrays, and how to merge them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from numpy.typing import ArrayLike

from .._types import Array
from .._validate import as_float, as_names, check_mapping, check_shape
from .._words import listed, shown

__all__ = ["Parameters", "join", "split", "warn_of_lost_layers"]

_ALIVE: WeakValueDictionary[int, Parameters] = WeakValueDictionary()


class Parameters(dict[str, Array]):
    """Arrays by name. Assigning to a name copies into the array that is there.

    So an optimiser or a joined dict keeps sharing its arrays with the layer. Names and shapes are
    fixed.

    Attributes
    ----------
    frozen : frozenset of str
        See `Layer`; of a joined dict, what is frozen in its parts.

    Raises
    ------
    ValueError
        If an assigned name is unknown or a shape is wrong; nothing has changed then.
    TypeError
        If a value does not hold real numbers, or a name is to be removed.
    """

    _caller = ""
    _frozen: frozenset[str] = frozenset()

    def __init__(
        self,
        caller: str,
        arrays: Mapping[str, Array],
        parts: Mapping[str, Parameters] | None = None,
    ) -> None:
        super().__init__(arrays)
        self._caller, self._parts = caller, dict(parts or {})
        _ALIVE[id(self)] = self

    @property
    def frozen(self) -> frozenset[str]:
        of_parts = (f"{part}.{n}" for part, arrays in self._parts.items() for n in arrays.frozen)
        return self._frozen.union(of_parts)

    @frozen.setter
    def frozen(self, names: Iterable[str]) -> None:
        given = as_names(self._caller, "frozen", names, self)
        for part, arrays in self._parts.items():
            arrays.frozen = {n for n in arrays if f"{part}.{n}" in given}
        self._frozen = frozenset() if self._parts else given

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        self.update({name: value})

    def update(self, *arrays: Any, **more: ArrayLike) -> None:
        """Copy into several arrays; all are checked before the first changes."""
        try:
            given = dict(*arrays, **more)
        except (TypeError, ValueError):
            has = shown(arrays[0] if len(arrays) == 1 else arrays)
            raise TypeError(f"{self._caller}: parameters has {has}, expected a dict") from None
        unexpected = [name for name in given if name not in self]
        if unexpected:
            raise ValueError(
                f"{self._caller}: parameters has no {listed(unexpected)}, expected names of "
                f"{listed(self)}"
            )
        changed = {name: value for name, value in given.items() if value is not self[name]}
        # A value may share memory with an array that changes before its turn: copy all first.
        new = {k: as_float(self._caller, k, v, self[k].dtype).copy() for k, v in changed.items()}
        for name, array in new.items():
            check_shape(self._caller, name, array, "the parameter's shape", self[name].shape)
        for name, array in new.items():
            self[name][...] = array

    def __ior__(self, arrays: Any) -> Parameters:  # type: ignore[override,misc]
        self.update(arrays)
        return self

    def setdefault(self, name: str, default: Any = None) -> Array:
        """The array called `name`; no name can be added."""
        if name not in self:
            self.update({name: default})
        return self[name]

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"_frozen": self._frozen, "_parts": self._parts}
        return Parameters, (self._caller, dict(self)), state

    def _keep(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{self._caller}: parameters has fixed names: none can be removed")

    __delitem__ = pop = popitem = clear = _keep

    def __missing__(self, name: str) -> NoReturn:
        raise KeyError(
            f"{self._caller}: parameters has no {shown(name)}, expected one of {listed(self)}"
        )

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"{self._caller}: parameters is a dict, expected no call: bptt.Adam(layer.parameters), "
            "and layer.parameters.values() for the arrays alone"
        )

    def __getattr__(self, name: str) -> NoReturn:
        hint = f": layer.parameters[{name!r}]" if name in self else ""
        raise AttributeError(
            f"{self._caller}: parameters has no attribute {shown(name)}, expected those of a "
            f"dict{hint}"
        )


def warn_of_lost_layers(caller: str, label: str, arrays: Mapping[str, Any]) -> None:
    """Warn if a dict seems to be merged from the parameters of layers with equal names.

    ``{**a.parameters, **b.parameters}`` equals ``dict(b.parameters)``. So the sign is a dict that
    has all arrays of one layer, but is not the layer's own, while another layer has one of the
    names.
    """
    if isinstance(arrays, Parameters):
        return
    whole: list[Parameters] = []
    rest: list[Parameters] = []
    for one in filter(None, (ref() for ref in _ALIVE.valuerefs())):
        kept = all(arrays.get(name) is array for name, array in one.items())
        (whole if kept else rest).append(one)
    for found, lost in product(whole, rest):
        if name := next(filter(lost.__contains__, found), None):
            warnings.warn(
                f"{caller}: {label} has {name!r} of one layer, {found._caller}, and not that of "
                f"another, {lost._caller}: if both are to be in it, bptt.optim.join(a=..., b=...) "
                "keeps all, where merged dicts keep only the last of equal names",
                stacklevel=_levels_to_the_caller(),
            )
            return


def _levels_to_the_caller() -> int:
    """The stack level of the first frame outside the package, for `warnings.warn` above."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "bptt":
        frame, level = frame.f_back, level + 1
    return level


def join(**parts: Mapping[str, Any]) -> dict[str, Any]:
    """Merge named dicts into one, with the name of its dict before each key.

    (``{**a.parameters, **b.parameters}`` would keep only one of two arrays of the same name.)

    Parameters
    ----------
    **parts : dict
        Dicts of parameters, of gradients, or of anything else.

    Returns
    -------
    dict
        The entries of all parts, as "part.key". If all parts are parameters of layers, assigning to
        an entry copies into the layer's array, as in ``layer.parameters``.

    Examples
    --------
    >>> from bptt.optim import join, split
    >>> both = join(rnn={"w": 1, "b": 2}, out={"w": 3})
    >>> both
    {'rnn.w': 1, 'rnn.b': 2, 'out.w': 3}
    >>> split(both)["out"]
    {'w': 3}
    """
    for part, arrays in parts.items():
        check_mapping("join", part, arrays)
    joined = {f"{part}.{key}": v for part, arrays in parts.items() for key, v in arrays.items()}
    own = {part: arrays for part, arrays in parts.items() if isinstance(arrays, Parameters)}
    return Parameters("join", joined, own) if own and len(own) == len(parts) else joined


def split(joined: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Undo `join`.

    Parameters
    ----------
    joined : dict
        Entries with names "part.key".

    Returns
    -------
    dict of str to dict
        A dict for each part, the text before the first dot.
    """
    check_mapping("split", "joined", joined)
    parts: dict[str, dict[str, Any]] = {}
    for name, value in joined.items():
        part, _, key = name.partition(".")
        parts.setdefault(part, {})[key] = value
    if not isinstance(joined, Parameters):
        return parts
    return {p: joined._parts.get(p) or Parameters(p, arrays) for p, arrays in parts.items()}
