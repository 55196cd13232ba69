# SPDX-License-Identifier: MIT
"""Derivatives along a direction, forward in time and exact: of the outputs, and of the gradients.

The core computes them with dual numbers in place of numbers, in the same loops; see
docs/derivatives.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from . import functional
from ._call import StepClip, as_real, as_states, state_names
from ._dual import Dual, dual, parts
from .grads import Array, Grads, State

__all__ = ["hvp", "jvp", "vjp"]

Forward = Callable[..., tuple[Array, State, Any]]
Primals = Mapping[str, Any] | Sequence[Any]

# The arguments that have a gradient, in their order.
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "state", "peepholes", "w_hr")
FORWARD = {name: getattr(functional, name) for name in functional.__all__ if "attention" not in name}


def jvp(
    forward: Forward, primals: Primals, tangents: Primals, **options: Any
) -> tuple[Array, State, Array, State]:
    """Derivative of a recurrence's outputs along a direction: its Jacobian times a vector.

    y and the final state at the primals p, and d/de of both at p + e v, e = 0, for tangents v.

    Parameters
    ----------
    forward : function
        `rnn_forward`, `lstm_forward`, `gru_forward`, `mgu_forward`, `slstm_forward` or
        `lstm1997_forward`.
    primals : dict or tuple
        Its arguments that have a gradient, by name or in this order: x, w_ih, w_hh, b_ih, b_hh,
        state, peepholes, w_hr.
    tangents : dict or tuple
        The direction: arrays shaped as the primals of the same names. What is left out, or None,
        is zero. A state may have a tangent though it is left out of the primals.
    **options
        All other arguments of `forward`: lengths, reverse, activation, ...

    Returns
    -------
    y : ndarray, shape (T, B, H)
    state : ndarray, or tuple of them
        The final state, as `forward` returns it.
    y_tangent, state_tangent
        Their derivatives, shaped as they are.

    Raises
    ------
    TypeError
        If `forward` is another function, or an argument has a wrong type.
    ValueError
        If a name is unknown, or a shape is not that of the primal.

    Notes
    -----
    Computed in float64, and returned so, whatever the arrays' precision. Where an activation or a
    clip has a kink, the derivative is that of the side that `backward` takes. For a product with
    the transpose, see `vjp`.

    References
    ----------
    Griewank & Walther (2008), "Evaluating derivatives", 2nd edition, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> one = np.ones((1, 1))
    >>> y, h, dy, dh = bptt.jvp(
    ...     bptt.rnn_forward,
    ...     {"x": np.full((2, 1, 1), 3.0), "w_ih": one, "w_hh": one},
    ...     {"w_ih": one},
    ...     activation="identity",
    ... )
    >>> y.ravel(), dy.ravel()  # 3 w, and 3 w + 3 w
    (array([3., 6.]), array([3., 6.]))
    """
    arguments = _arguments("jvp", forward, primals, tangents)
    y, state, _ = forward(**arguments, keep_tape=False, **options)
    (y, y_tangent), (state, state_tangent) = parts(y), parts(state)
    return y, state, y_tangent, state_tangent


def hvp(
    forward: Forward,
    primals: Primals,
    tangents: Primals,
    dy: Any = None,
    dstate: Any = None,
    *,
    dy_tangent: Any = None,
    dstate_tangent: Any = None,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    **options: Any,
) -> tuple[Grads, Grads]:
    """The gradients of a loss and their derivative along a direction: its Hessian times a vector.

    g(p) = dL/dp of all arguments by backpropagation through time, and d/de g(p + e v) at e = 0,
    which is H v with the Hessian H of L.

    Parameters
    ----------
    forward, primals, tangents
        As in `jvp`.
    dy : array_like, shape (T, B, H), or callable, optional
        dL/dy, as in ``*_backward``. A function ``dy(y, y_tangent)`` returns dL/dy and its
        derivative along the tangents, d2L/dy2 y_tangent: for losses that are not linear in y.
    dstate : array_like, tuple of them, or callable, optional
        dL/d(final state), or a function of the state and its tangent as for `dy`.
    dy_tangent, dstate_tangent : array_like, optional
        The derivatives of `dy` and `dstate` along the tangents, where these are arrays; zero if
        omitted.
    step_clip, cut
        As in ``*_backward``: the derivative is then that of the gradients as they are clipped and
        cut, which no loss has, and no symmetric matrix gives.
    **options
        All other arguments of `forward`; threads holds for both passes.

    Returns
    -------
    grads : Grads
        The gradients at the primals.
    grads_tangent : Grads
        Their derivative along the tangents.

    Raises
    ------
    TypeError, ValueError
        As `jvp`, and if `dy` or `dstate` returns no pair, or is a function and has a tangent.

    Notes
    -----
    Precision: as in `jvp`. `lstm1997_backward` is truncated, and so is what is derived of it.

    References
    ----------
    Pearlmutter (1994), "Fast exact multiplication by the Hessian", Neural Computation 6(1).

    Examples
    --------
    Of the mean squared error to a target:

    >>> import numpy as np
    >>> import bptt
    >>> rng = np.random.default_rng(0)
    >>> x, target = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 4))
    >>> w_ih, w_hh = rng.normal(size=(12, 3)), rng.normal(size=(12, 4))
    >>> def dmse(y, y_tangent):
    ...     return 2 * (y - target) / y.size, 2 * y_tangent / y.size
    >>> v = rng.normal(size=w_hh.shape)
    >>> grads, Hv = bptt.hvp(bptt.gru_forward, (x, w_ih, w_hh), {"w_hh": v}, dmse)

    The same by central differences of the gradient:

    >>> def gradient(w_hh):
    ...     y, _, tape = bptt.gru_forward(x, w_ih, w_hh)
    ...     return bptt.gru_backward(tape, 2 * (y - target) / y.size).w_hh
    >>> differences = (gradient(w_hh + 1e-5 * v) - gradient(w_hh - 1e-5 * v)) / 2e-5
    >>> bool(np.allclose(Hv.w_hh, differences, rtol=1e-6, atol=1e-9))
    True
    """
    arguments = _arguments("hvp", forward, primals, tangents)
    y, state, tape = forward(**arguments, **options)
    dy, dy_tangent = _cotangent("dy", dy, dy_tangent, y)
    dstate, dstate_tangent = _cotangent("dstate", dstate, dstate_tangent, state)
    grads = _backward(forward)(
        tape,
        _joined("hvp", "dy", dy, dy_tangent),
        _joined_state("hvp", "dstate", dstate, dstate_tangent, _cell(forward)),
        step_clip=step_clip,
        cut=cut,
        threads=options.get("threads"),
    )
    values, along = parts(tuple(grads))
    return Grads(*values), Grads(*along)


def vjp(
    forward: Forward, primals: Primals, **options: Any
) -> tuple[tuple[Array, State], Callable[..., Grads]]:
    """A recurrence's outputs, and the function that multiplies its transposed Jacobian.

    A call of `forward` and one of its backward pass, in the form of ``torch.func.vjp``.

    Parameters
    ----------
    forward, primals, **options
        As in `jvp`; computed in the arrays' own precision.

    Returns
    -------
    outputs : tuple (y, state)
    pullback : callable
        ``pullback(dy, dstate=None, *, step_clip=None, cut=None, threads=None)`` returns the `Grads`
        of ``*_backward``. It may be called many times.

    Raises
    ------
    TypeError, ValueError
        As `jvp`.

    Examples
    --------
    The Gauss-Newton matrix of the squared error, sum((y - target)^2) / 2, times a vector:

    >>> import numpy as np
    >>> import bptt
    >>> rng = np.random.default_rng(0)
    >>> p = {"x": rng.normal(size=(5, 2, 3)), "w_ih": rng.normal(size=(4, 3)),
    ...      "w_hh": rng.normal(size=(4, 4))}
    >>> v = {"w_hh": rng.normal(size=(4, 4))}
    >>> (y, h), pullback = bptt.vjp(bptt.rnn_forward, p)
    >>> _, _, y_tangent, _ = bptt.jvp(bptt.rnn_forward, p, v)
    >>> Gv = pullback(y_tangent)
    >>> float(np.sum(Gv.w_hh * v["w_hh"])) >= 0
    True
    """
    y, state, tape = forward(**_named("vjp", forward, "primals", primals), **options)
    return (y, state), partial(_backward(forward), tape)


# --- arguments


def _cell(forward: Forward) -> str:
    return forward.__name__.removesuffix("_forward")


def _backward(forward: Forward) -> Callable[..., Grads]:
    function: Callable[..., Grads] = FORWARD[f"{_cell(forward)}_backward"]
    return function


def _named(caller: str, forward: Forward, label: str, given: Primals) -> dict[str, Any]:
    """The arguments that are not None, by name."""
    if not any(forward is f for name, f in FORWARD.items() if name.endswith("_forward")):
        names = ", ".join(name for name in FORWARD if name.endswith("_forward"))
        raise TypeError(f"{caller}: forward is {forward!r}, expected one of {names}")
    known = [name for name in NAMES if name in inspect.signature(forward).parameters]
    if isinstance(given, (tuple, list)):
        if len(given) > len(known):
            raise ValueError(
                f"{caller}: {label} has {len(given)} items, expected at most {len(known)}: "
                f"{', '.join(known)}"
            )
        given = dict(zip(known, given))
    if not isinstance(given, Mapping):
        raise TypeError(f"{caller}: {label} is {type(given).__name__}, expected a dict or tuple")
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"{caller}: {label} has {unknown[0]!r}, expected names among {', '.join(known)}"
        )
    return {name: value for name, value in given.items() if value is not None}


def _arguments(caller: str, forward: Forward, primals: Primals, tangents: Primals) -> dict[str, Any]:
    """Values and tangents as dual numbers."""
    values = _named(caller, forward, "primals", primals)
    along = _named(caller, forward, "tangents", tangents)
    for name in along.keys() - values.keys() - {"state"}:
        raise ValueError(f"{caller}: tangents has {name!r}, expected a primal of that name")
    arguments = {
        name: _joined(caller, name, value, along.get(name))
        for name, value in values.items()
        if name != "state"
    }
    pair = values.get("state"), along.get("state")
    state = _joined_state(caller, "state", *pair, _cell(forward))
    return {**arguments, "state": state}


def _joined(caller: str, name: str, value: Any, tangent: Any) -> Dual | None:
    """One array of dual numbers; of value and tangent, what is None is zero."""
    v = None if value is None else as_real(caller, name, value)
    t = None if tangent is None else as_real(caller, f"the tangent of {name}", tangent)
    if v is None:
        return None if t is None else dual(np.zeros(t.shape), t)
    if t is not None and t.shape != v.shape:
        raise ValueError(
            f"{caller}: the tangent of {name} has shape {t.shape}, expected that of {name} = "
            f"{v.shape}"
        )
    return dual(v, t)


def _joined_state(caller: str, name: str, value: State, tangent: State, cell: str) -> State:
    """The same for a state of one array or a tuple of several."""
    v = as_states(caller, name, value, cell, np.float64)
    t = as_states(caller, f"the tangent of {name}", tangent, cell, np.float64)
    states = len(state_names(cell))
    labels = [name] if states == 1 else [f"{name}[{q}]" for q in range(states)]
    joined = tuple(_joined(caller, *each) for each in zip(labels, v, t))
    if states == 1:
        return joined[0]
    return None if all(part is None for part in joined) else joined


def _cotangent(name: str, given: Any, tangent: Any, output: Any) -> tuple[Any, Any]:
    if not callable(given):
        return given, tangent
    if tangent is not None:
        raise ValueError(f"hvp: {name} is a function and {name}_tangent is given, expected one")
    pair = given(*parts(output))
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"hvp: {name} returns {type(pair).__name__}, expected a pair")
    return pair[0], pair[1]
