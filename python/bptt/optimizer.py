# SPDX-License-Identifier: MIT
"""What all optimisers share: checks, groups of parameters, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._guesses import OF_OPTIMISERS, unknown_attribute
from ._patterns import as_patterns, grouped
from ._types import Array
from ._validate import as_array, as_count, as_number, check_mapping
from ._words import listed, shown
from .clip import check_writable
from .layers.parameters import join, warn_of_lost_layers

__all__ = ["Groups", "Optimizer"]

Groups = Sequence[Mapping[str, Any]]


class Group(NamedTuple):
    """Parameters with a rate and decay of their own."""

    params: tuple[str, ...]  # patterns of their names
    lr: float  # while the optimiser has the rate that it was made with
    weight_decay: float


class Optimizer(ABC):
    """Base class of `SGD`, `Adam`, `AdamW` and `RMSprop`.

    Attributes
    ----------
    groups : list of Group
        The groups, each with ``params``, ``lr`` and ``weight_decay``. When ``lr`` is set, as
        schedules do, the rates of all groups change by the same factor.

    Raises
    ------
    TypeError
        If a parameter is not a float32 or float64 array.
    ValueError
        If a parameter is read-only, or a number is out of its range.

    Warns
    -----
    UserWarning
        If `params` has all arrays of one layer, but only some of another with the same names: their
        dicts were probably merged without `join`.
    """

    _kinds: ClassVar[tuple[str, ...]]
    _squares: ClassVar[tuple[str, ...]] = (
        "square_avg",
        "exp_avg_sq",
    )  # kinds whose values are never negative

    def __init__(
        self, params: Mapping[str, Array], lr: float, weight_decay: float, groups: Groups = ()
    ) -> None:
        check_writable(type(self).__name__, "params", params)
        warn_of_lost_layers(type(self).__name__, "params", params)
        self.params = params
        self._arrays = dict(params)
        self.lr = lr
        self.weight_decay = self._in_range("weight_decay", weight_decay)
        self.groups = self._as_groups(groups)
        self._group_of = grouped(type(self).__name__, params, [g.params for g in self.groups])
        self._first_lr = self.lr
        self.steps = 0
        self.state = {
            kind: {name: np.zeros_like(p) for name, p in params.items()} for kind in self._kinds
        }
        # Allocate the temporary memory of all steps now, so that none fails half-way: three arrays
        # of the largest parameter's size, which all parameters share.
        most = max((p.nbytes for p in params.values()), default=0)
        rows = np.empty((3, -(-most // 64) * 64), np.uint8)
        self._room = {
            name: [row[: p.nbytes].view(p.dtype).reshape(p.shape) for row in rows]
            for name, p in params.items()
        }

    if not TYPE_CHECKING:  # to a type checker, an unknown attribute stays an error

        def __getattr__(self, name: str) -> Any:
            """Say what to write instead; called only for an attribute that does not exist."""
            unknown_attribute(self, name, OF_OPTIMISERS)

    def __repr__(self) -> str:
        count = sum(p.size for p in self.params.values())
        arrays = f"{len(self.params)} arrays of {count:,} parameters"
        return f"{type(self).__name__}(lr={self.lr:g}): {arrays}, {self.steps} steps"

    @property
    def lr(self) -> float:
        """Learning rate; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._in_range("lr", value)

    def _as_groups(self, groups: Groups) -> list[Group]:
        caller, made = type(self).__name__, list[Group]()
        if not isinstance(groups, (list, tuple)):
            raise TypeError(f"{caller}: groups is {shown(groups)}, expected a list of dicts")
        for k, group in enumerate(groups):
            known, place = {"params", "lr", "weight_decay"}, f"groups[{k}]"
            if not isinstance(group, Mapping) or "params" not in group or set(group) - known:
                raise TypeError(
                    f"{caller}: {place} is {shown(group)}, expected a dict with 'params' and 'lr' "
                    "or 'weight_decay'"
                )
            patterns = as_patterns(caller, f"{place}['params']", group["params"])
            lr = self._in_range("lr", group.get("lr", self.lr))
            if lr and not self.lr:
                raise ValueError(f"{caller}: {place} has lr {lr:g}, expected 0 as lr is 0")
            decay = self._in_range("weight_decay", group.get("weight_decay", self.weight_decay))
            made.append(Group(patterns, lr, decay))
        return made

    def _rates(self, name: str) -> tuple[float, float]:
        """The learning rate and the decay of one parameter."""
        number = self._group_of.get(name)
        if number is None:
            return self.lr, self.weight_decay
        group = self.groups[number]
        return group.lr * (self.lr / self._first_lr if self._first_lr else 1), group.weight_decay

    def _in_range(self, name: str, value: float, below: float = np.inf) -> float:
        if isinstance(value, Mapping):
            raise TypeError(
                f"{type(self).__name__}: {name} is a dict, expected a number: bptt.optim.join "
                "makes one dict of several"
            )
        number = as_number(type(self).__name__, name, value)
        if not 0 <= number < below:
            raise ValueError(
                f"{type(self).__name__}: {name} is {shown(value)}, expected 0 <= {name} < {below}"
            )
        return number  # no NumPy scalar, which would turn float32 updates into float64

    def step(self, grads: Mapping[str, ArrayLike]) -> None:
        """Update every parameter in place.

        Parameters
        ----------
        grads : dict of str to array_like
            The gradients, with the names and shapes of the parameters; converted to their dtypes.
            A parameter that its layer has frozen needs none and stays as it is.

        Raises
        ------
        ValueError
            If names are missing or unexpected, a shape is wrong, or a parameter was replaced by
            another array. Nothing has changed then.
        TypeError
            If a gradient does not hold real numbers.
        """
        caller = f"{type(self).__name__}.step"
        check_mapping(caller, "grads", grads)
        if self._arrays.keys() != self.params.keys():
            raise ValueError(
                f"{caller}: params has other names than at the start, "
                "expected the same: make a new optimiser"
            )
        for name, array in self._arrays.items():
            if self.params[name] is not array:
                raise ValueError(
                    f"{caller}: params[{name!r}] is another array than at the start, expected the "
                    f"same: change it in place, params[{name!r}][...] = value"
                )
        frozen: frozenset[str] = getattr(self.params, "frozen", frozenset())
        given = {name: g for name, g in grads.items() if name not in frozen} if frozen else grads
        learn = {name: p for name, p in self.params.items() if name not in frozen}
        checked = self._match("step", "grads", given, learn)
        self.steps += 1
        for name, p in learn.items():
            state = (self.state[kind][name] for kind in self._kinds)
            self._update(p, checked[name], self._room[name], *self._rates(name), *state)

    @abstractmethod
    def _update(
        self, p: Array, g: Array, room: list[Array], lr: float, decay: float, *state: Array
    ) -> None:
        """Update one parameter and its state in place, with three temporary arrays."""

    @staticmethod
    def _decayed(p: Array, g: Array, decay: float, out: Array) -> Array:
        """g + decay p, in `out`; g itself without decay."""
        if not decay:
            return g
        np.multiply(p, decay, out=out)
        out += g
        return out

    def _match(
        self, method: str, label: str, arrays: Mapping[str, Any], expected: Mapping[str, Array]
    ) -> dict[str, Array]:
        caller = f"{type(self).__name__}.{method}"
        check_mapping(caller, label, arrays)
        missing = [name for name in expected if name not in arrays]
        unexpected = [name for name in arrays if name not in expected]
        if missing or unexpected:
            raise ValueError(
                f"{caller}: {label} has missing names {listed(missing)} and unexpected names "
                f"{listed(unexpected)}, expected {listed(expected)}"
            )
        matched = {}
        for name, like in expected.items():
            place = f"{label}[{shown(name)}]"
            array = as_array(caller, place, arrays[name])
            if array.shape != like.shape:
                raise ValueError(
                    f"{caller}: {place} has shape {array.shape}, expected {like.shape}"
                )
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{caller}: {place} has dtype {array.dtype}, expected real numbers")
            matched[name] = np.asarray(array, like.dtype)
        return matched

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of the optimiser's state, for `bptt.save`.

        Returns
        -------
        dict of str to ndarray
            "lr", "steps", and "<kind>.<parameter name>" for each array in ``state``; with groups
            also "first_lr", "group_lr" and "group_weight_decay". The other arguments of the
            constructor are not included.
        """
        flat = {name: array.copy() for name, array in join(**self.state).items()}
        return {"lr": np.array(self.lr), "steps": np.array(self.steps)} | self._of_groups() | flat

    def _of_groups(self) -> dict[str, Array]:
        """The state of the groups; nothing without any."""
        if not self.groups:
            return {}
        return {
            "first_lr": np.array(self._first_lr),
            "group_lr": np.array([group.lr for group in self.groups]),
            "group_weight_decay": np.array([group.weight_decay for group in self.groups]),
        }

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Restore the state from `state_dict`: later steps are then exactly the same.

        Parameters
        ----------
        state : dict of str to array_like
            The result of `state_dict`, of an optimiser of the same class and parameters.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or dtypes do not fit, "steps" is not a whole number, or "lr" is not a
            valid rate. Nothing has changed then.
        """
        caller = f"{type(self).__name__}.load_state_dict"
        check_mapping(caller, "state", state)
        arrays = join(**self.state)
        scalars = {"lr": np.zeros(()), "steps": np.zeros(())} | self._of_groups()
        checked = self._match("load_state_dict", "state", state, scalars | arrays)
        steps = as_count(caller, "steps", np.asarray(state["steps"])[()], 0)
        for name, array in checked.items():
            if name.split(".")[0] in self._squares and np.any(array < 0):
                raise ValueError(f"{caller}: state[{name!r}] has values below 0, expected squares")
        for name in self._of_groups():
            for value in checked[name].reshape(-1).tolist():
                self._in_range(name, value)
        self.lr = float(checked["lr"])  # checked last, and before anything changes
        if self.groups:
            self._first_lr = float(checked["first_lr"])
            rates = zip(checked["group_lr"].tolist(), checked["group_weight_decay"].tolist())
            self.groups = [Group(g.params, *both) for g, both in zip(self.groups, rates)]
        self.steps = steps
        for name, array in arrays.items():
            array[...] = checked[name]
