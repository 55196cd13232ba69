# SPDX-License-Identifier: MIT
"""Clipping of gradients in place, between the backward pass and the optimiser.

(`step_clip` of the backward functions clips inside backpropagation instead, at every time step.)
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from ._patterns import grouped
from ._types import Array
from ._validate import (
    as_array,
    as_between,
    as_bound,
    as_choice,
    as_count,
    as_float,
    as_number,
    check_mapping,
)
from ._words import listed, shown

__all__ = ["AutoClip", "clip_grad_norm", "clip_grad_value"]


class AutoClip:
    """A `max_norm` for `clip_grad_norm`: a running quantile of the norms of gradients.

    Each call of `clip_grad_norm` adds its norm to the history, then clips to the quantile of the
    history. So a fraction of about 1 - `quantile` of the updates is scaled down, to a norm that is
    usual at this stage of training. The first update is not changed.

    Norms that are 0 or not finite do not enter the history, since they say nothing about the size
    of useful gradients.

    Parameters
    ----------
    quantile : float, optional
        The quantile, 0..1. The paper recommends 0.1; 1 never clips.
    window : int, optional
        Number of most recent norms that count; all if omitted, as in the paper.
    history : iterable of float, optional
        Norms to start from, the oldest first, for example of an earlier run.

    Attributes
    ----------
    quantile, window
        The arguments.
    history : list of float
        The norms that count, the oldest first.
    bound : float
        Their quantile, to which the next call clips; inf without norms.

    Raises
    ------
    ValueError
        If a number is out of its range.
    TypeError
        If `quantile` is not a number, or `window` not a whole number.

    References
    ----------
    Seetharaman, Wichern, Pardo & Le Roux (2020), "AutoClip: adaptive gradient clipping for source
    separation networks", arXiv:2007.14469.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.clip import AutoClip, clip_grad_norm
    >>> auto = AutoClip(quantile=0.5)
    >>> for value in [1.0, 3.0, 100.0]:
    ...     grads = {"w": np.array([value])}
    ...     norm = clip_grad_norm(grads, auto)
    ...     print(norm, auto.bound, grads["w"])
    1.0 1.0 [1.]
    3.0 2.0 [2.]
    100.0 3.0 [3.]
    """

    def __init__(
        self, quantile: float = 0.1, window: int | None = None, history: Iterable[float] = ()
    ) -> None:
        self.quantile = as_between("AutoClip", "quantile", quantile, 0, 1)
        self.window = None if window is None else as_count("AutoClip", "window", window, 1)
        self._norms = deque[float]()
        self._sorted: list[float] = []  # kept sorted, which np.quantile would do at every step
        for norm in _norms_of(history):
            self._add(norm)

    @property
    def history(self) -> list[float]:
        """The norms that count, the oldest first."""
        return list(self._norms)

    @property
    def bound(self) -> float:
        """Quantile of the norms, interpolated linearly as in `numpy.quantile`; inf without any."""
        if not self._sorted:
            return math.inf
        below, part = divmod(self.quantile * (len(self._sorted) - 1), 1)
        low, high = self._sorted[int(below)], self._sorted[math.ceil(below + part)]
        return low + part * (high - low)

    def state_dict(self) -> dict[str, Array]:
        """Return the state, for `bptt.save`: ``{"history": array}``.

        The arguments of the constructor are not included.
        """
        return {"history": np.array(self.history, np.float64)}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Restore the state from `state_dict`: later clipping is then exactly the same.

        Parameters
        ----------
        state : dict of str to array_like
            The result of `state_dict`.

        Raises
        ------
        ValueError, TypeError
            If the state has other names than "history", or the history is not a list of at most
            `window` positive finite norms. Nothing has changed then.
        """
        caller = "AutoClip.load_state_dict"
        check_mapping(caller, "state", state)
        if set(state) != {"history"}:
            raise ValueError(f"{caller}: state has names {listed(state)}, expected ['history']")
        norms = as_float(caller, "history", state["history"], np.dtype(np.float64))
        if norms.ndim != 1 or not np.all((norms > 0) & (norms < math.inf)):
            raise ValueError(
                f"{caller}: history is {norms}, expected positive finite norms on one axis"
            )
        if self.window is not None and len(norms) > self.window:
            raise ValueError(
                f"{caller}: history has {len(norms)} norms, expected at most window = {self.window}"
            )
        self._norms, self._sorted = deque(norms.tolist()), sorted(norms.tolist())

    def __repr__(self) -> str:
        window = "" if self.window is None else f", window={self.window}"
        return (
            f"AutoClip(quantile={self.quantile}{window}): bound {self.bound:.3g} from "
            f"{len(self._norms)} norms"
        )

    def _add(self, norm: float) -> None:
        if not 0 < norm < math.inf:
            return
        if len(self._norms) == self.window:
            del self._sorted[bisect_left(self._sorted, self._norms.popleft())]
        self._norms.append(norm)
        insort(self._sorted, norm)


def _norms_of(history: Iterable[float]) -> list[float]:
    if isinstance(history, (str, bytes)) or not isinstance(history, Iterable):
        raise TypeError(f"AutoClip: history is {shown(history)}, expected a list of norms")
    values = history if isinstance(history, np.ndarray) else list(history)
    norms = as_array("AutoClip", "history", values)
    if norms.ndim != 1:
        raise ValueError(f"AutoClip: history has shape {norms.shape}, expected one axis")
    return [as_number("AutoClip", f"history[{k}]", norm) for k, norm in enumerate(norms)]


@overload
def clip_grad_norm(
    grads: Mapping[str, Array], max_norm: float | AutoClip, *, nonfinite: str = "raise"
) -> float: ...


@overload
def clip_grad_norm(
    grads: Mapping[str, Array],
    max_norm: Mapping[str, float | AutoClip],
    *,
    nonfinite: str = "raise",
) -> dict[str, float]: ...


def clip_grad_norm(
    grads: Mapping[str, Array],
    max_norm: float | AutoClip | Mapping[str, float | AutoClip],
    *,
    nonfinite: str = "raise",
) -> float | dict[str, float]:
    """Scale all gradients by one factor so that their global Euclidean norm is at most `max_norm`.

    The direction of the whole gradient does not change, unlike with `clip_grad_value`.

    Parameters
    ----------
    grads : dict of str to ndarray
        The gradients, float32 or float64; changed in place.
    max_norm : float or AutoClip, or dict of them
        The largest norm, more than 0; inf only measures. An `AutoClip` adds the norm to its
        history, and provides a quantile of it. A dict has one for each group, by a pattern of
        names, as ``{"0.*": 0.1, "*": 1.0}``: the first pattern that fits a name counts, and each
        group is scaled by its own factor. Gradients in no group are not scaled.
    nonfinite : {"raise", "skip", "zero"}, optional
        What to do if a value is NaN or infinite:

        - "raise": change nothing and raise an error.
        - "skip": set all gradients to 0, to skip this update, and return the norm, which is not
          finite. (With momentum or weight decay, an optimiser still changes the parameters. To
          leave out its step, test ``math.isfinite(norm)``.)
        - "zero": set these values to 0, then clip the others.

    Returns
    -------
    norm : float
        The global norm before clipping, computed without overflow; for a dict, a dict with the norm
        of each group. With "zero", the norm of the
        finite values; with "skip", NaN if a value is NaN, else inf if a value is infinite.

    Raises
    ------
    FloatingPointError
        With "raise", if values are not finite; the message names the first arrays and counts the
        values. `find_nonfinite` finds where the values come from.
    ValueError
        If `max_norm` is not more than 0, or is "auto" instead of an `AutoClip`; if `nonfinite` is
        none of the above; if an array is read-only.
    TypeError
        If `grads` holds anything but arrays of float32 or float64.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.clip import clip_grad_norm
    >>> grads = {"w": np.array([3.0, 0.0]), "b": np.array([-4.0])}
    >>> clip_grad_norm(grads, 1.0)
    5.0
    >>> grads
    {'w': array([0.6, 0. ]), 'b': array([-0.8])}
    """
    if isinstance(max_norm, str) and max_norm == "auto":
        raise ValueError(
            "clip_grad_norm: max_norm is 'auto', expected a number, or an AutoClip, which remembers"
            " the norms: make auto = bptt.AutoClip() before the loop, and pass max_norm=auto in it"
        )
    if isinstance(max_norm, Mapping):
        return _by_group(grads, max_norm, nonfinite)
    auto = max_norm if isinstance(max_norm, AutoClip) else None
    bound = math.inf if isinstance(max_norm, AutoClip) else max_norm
    largest = _largest("clip_grad_norm", grads, "max_norm", bound, nonfinite)
    if largest == 0 or not math.isfinite(largest):
        return largest
    # Allocate all temporary memory now, so that clipping never fails half-way.
    room = np.empty(max(g.size for g in grads.values()))

    def scaled(g: Array) -> Array:
        return np.divide(g, largest, out=room[: g.size].reshape(g.shape), dtype=np.float64)

    # norm = largest * root: squares of values up to 1 do not overflow, and the largest remains.
    root = math.sqrt(sum(float(np.vdot(s, s)) for s in map(scaled, grads.values())))
    if auto is not None:
        auto._add(largest * root)
        bound = auto.bound
    if largest * root > bound:
        for g in grads.values():
            s = scaled(g)
            g[...] = np.multiply(s, bound / root, out=s)
    return largest * root


def _by_group(
    grads: Mapping[str, Array], bounds: Mapping[str, float | AutoClip], nonfinite: str
) -> dict[str, float]:
    caller = "clip_grad_norm"
    check_mapping(caller, "max_norm", bounds)
    check_writable(caller, "grads", grads)
    as_choice(caller, "nonfinite", nonfinite, ("raise", "skip", "zero"))
    for pattern, bound in bounds.items():
        if not isinstance(bound, AutoClip) and as_bound(caller, "max_norm", bound) is None:
            raise TypeError(f"{caller}: max_norm[{shown(pattern)}] is None, expected a number")
    number_of = grouped(caller, grads, [(pattern,) for pattern in bounds])
    groups = {
        pattern: {name: grads[name] for name, of in number_of.items() if of == number}
        for number, pattern in enumerate(bounds)
    }
    if nonfinite == "skip" and not math.isfinite(_max_abs(grads)):
        norms = {pattern: _max_abs(group) for pattern, group in groups.items()}
        for g in grads.values():
            g[...] = 0
        return norms
    if nonfinite == "raise":  # for a value in any group, before one changes
        _largest(caller, grads, "max_norm", math.inf, nonfinite)
    return {p: clip_grad_norm(groups[p], bounds[p], nonfinite=nonfinite) for p in bounds}


def clip_grad_value(grads: Mapping[str, Array], bound: float, *, nonfinite: str = "raise") -> float:
    """Limit each element of the gradients to -bound..bound.

    This changes the direction of the whole gradient, since only large elements are reduced;
    `clip_grad_norm` preserves it.

    Parameters
    ----------
    grads : dict of str to ndarray
        The gradients, float32 or float64; changed in place.
    bound : float
        The largest absolute value, more than 0.
    nonfinite : {"raise", "skip", "zero"}, optional
        As in `clip_grad_norm`. Infinite values count as not finite; they are not clipped to
        `bound`.

    Returns
    -------
    largest : float
        The largest absolute value before clipping. With "zero", of the finite values; with "skip",
        NaN if a value is NaN, else inf if a value is infinite.

    Raises
    ------
    FloatingPointError, ValueError, TypeError
        As in `clip_grad_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.clip import clip_grad_value
    >>> grads = {"w": np.array([3.0, 0.5])}
    >>> clip_grad_value(grads, 1.0)
    3.0
    >>> grads
    {'w': array([1. , 0.5])}
    """
    largest = _largest("clip_grad_value", grads, "bound", bound, nonfinite)
    if largest > bound and math.isfinite(largest):
        for g in grads.values():
            np.clip(g, -bound, bound, out=g)
    return largest


def check_writable(caller: str, label: str, arrays: Mapping[str, Array]) -> None:
    """Raise unless all arrays are float32 or float64, writable, and distinct."""
    check_mapping(caller, label, arrays)
    names: dict[int, str] = {}
    for name, a in arrays.items():
        other, place = names.setdefault(id(a), name), f"{label}[{shown(name)}]"
        if other != name:
            raise ValueError(f"{caller}: {label} has one array as {shown(other)} and {shown(name)}")
        if isinstance(a, Mapping):
            raise TypeError(
                f"{caller}: {place} is a dict, expected an array: bptt.optim.join makes one dict "
                "of several"
            )
        if isinstance(a, np.ma.MaskedArray):
            as_array(caller, place, a)
        if not isinstance(a, np.ndarray) or a.dtype not in (np.float32, np.float64):
            has = f"dtype {a.dtype}" if isinstance(a, np.ndarray) else f"type {type(a).__name__}"
            raise TypeError(f"{caller}: {place} has {has}, expected an array of float32 or float64")
        if not a.flags.writeable:
            raise ValueError(f"{caller}: {place} is read-only, expected a writable array")


def _largest(
    caller: str, grads: Mapping[str, Array], label: str, bound: float, nonfinite: str
) -> float:
    """Check the arguments, handle values that are not finite, return the largest absolute value."""
    if as_bound(caller, label, bound) is None:
        raise TypeError(f"{caller}: {label} is None, expected a number")
    as_choice(caller, "nonfinite", nonfinite, ("raise", "skip", "zero"))
    check_writable(caller, "grads", grads)
    # If any value is not finite, neither is the maximum: one pass suffices if it is finite.
    largest = _max_abs(grads)
    if math.isfinite(largest):
        return largest
    if nonfinite == "raise":
        raise FloatingPointError(
            f"{caller}: grads has {_nonfinite(grads)}, expected finite values; "
            "bptt.find_nonfinite(tape) finds the first one of the forward pass, "
            "backward(..., trace=True).trace.nonfinite the first one of the backward pass"
        )
    for g in grads.values():
        g[... if nonfinite == "skip" else ~np.isfinite(g)] = 0
    return largest if nonfinite == "skip" else _max_abs(grads)


def _max_abs(grads: Mapping[str, Array]) -> float:
    # As np.min and np.max, which take several times as long for small arrays.
    both = (np.minimum.reduce, np.maximum.reduce)
    extremes = [f(g, axis=None, initial=0) for g in grads.values() for f in both]
    return float(np.max(np.abs(np.array(extremes, np.float64)), initial=0))


def _nonfinite(grads: Mapping[str, Array], most: int = 3) -> str:
    counts = {name: int(np.sum(~np.isfinite(g))) for name, g in grads.items()}
    bad = [f"{n} of {grads[name].size} in {shown(name)}" for name, n in counts.items() if n]
    more = f" and in {len(bad) - most} more arrays" if len(bad) > most else ""
    return f"non-finite values: {', '.join(bad[:most])}{more}"
