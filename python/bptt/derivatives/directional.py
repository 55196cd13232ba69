# SPDX-License-Identifier: MIT
"""Exact derivatives along a direction: of the outputs, and of the gradients.

The core computes them with dual numbers, in the same loops; see docs/derivatives.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .._dual import parts
from .._grads import Grads
from .._types import Array, State, StepClip, Wanted
from .._words import shown
from ..functional import BACKWARD, FORWARD
from ..layers.base import LayerGrads
from ..layers.recurrent import Recurrent, with_arrays
from .tangents import checked, cotangent, joined, joined_all, joined_state

__all__ = ["hvp", "jvp", "layer_hvp", "vjp"]

Forward = Callable[..., tuple[Array, State, Any]]
Primals = Mapping[str, Any] | Sequence[Any]

# The arguments that have a gradient, in the order of the signatures.
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "state", "peepholes", "w_hr", "layer_norm")
LAYER_STATE = 4  # dimensions of a layer's state: with a dilation it has an axis for that


def jvp(
    forward: Forward, primals: Primals, tangents: Primals, **options: Any
) -> tuple[Array, State, Array, State]:
    """Derivative of a recurrence's outputs along a direction: the Jacobian times a vector.

    Returns y and the final state at the primals p, and for tangents v the derivatives of both at
    p + e v with respect to e, at e = 0.

    Parameters
    ----------
    forward : function
        `rnn_forward`, `lstm_forward`, `gru_forward`, `mgu_forward`, `slstm_forward` or
        `lstm1997_forward`.
    primals : dict or tuple
        The arguments of `forward` that have a gradient, by name or in this order: x, w_ih, w_hh,
        b_ih, b_hh, state, peepholes, w_hr, layer_norm.
    tangents : dict or tuple
        The direction: arrays shaped as the primals of the same names. Omitted ones, and None, are
        zero. The state may have a tangent even if it is omitted in the primals.
    **options
        All other arguments of `forward`: lengths, reverse, activation, ...

    Returns
    -------
    y : ndarray, shape (T, B, H)
        The outputs.
    state : ndarray, or tuple of ndarray
        The final state, as `forward` returns it.
    y_tangent, state_tangent
        The derivatives of `y` and `state`, in the same shapes.

    Raises
    ------
    TypeError
        If `forward` is another function, or an argument has a wrong type.
    ValueError
        If a name is unknown, or the shape of a tangent differs from its primal.

    Notes
    -----
    Computed and returned in float64, whatever the precision of the arrays. At a kink of an
    activation or clip, the derivative is taken from the same side as in `backward`. For a product
    with the transpose, see `vjp`.

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
    grads: Wanted = None,
    **options: Any,
) -> tuple[Grads, Grads]:
    """Gradients of a loss, and their derivative along a direction: the Hessian times a vector.

    Returns g(p) = dL/dp for all arguments, by backpropagation through time, and d/de g(p + e v) at
    e = 0, which is H v with the Hessian H of L.

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
        The derivatives of `dy` and `dstate` along the tangents, if these are arrays; zero if
        omitted.
    step_clip, cut
        As in ``*_backward``. The result is then the derivative of the clipped or cut gradients,
        which are not the gradients of any loss, so that their Jacobian is not symmetric.
    grads : collection of str, optional
        The gradients to compute, as in ``*_backward``.
    **options
        All other arguments of `forward`; threads applies to both passes.

    Returns
    -------
    grads : Grads
        The gradients at the primals.
    grads_tangent : Grads
        Their derivative along the tangents.

    Raises
    ------
    TypeError, ValueError
        As in `jvp`; or if `dy` or `dstate` is a function that returns no pair, or has a tangent
        too.

    Notes
    -----
    Precision: as in `jvp`. The gradient of `lstm1997_backward` is truncated; its derivative is the
    derivative of the truncated gradient.

    References
    ----------
    Pearlmutter (1994), "Fast exact multiplication by the Hessian", Neural Computation 6(1).

    Examples
    --------
    For the mean squared error to a target:

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
    kind = _kind("hvp", forward)
    arguments = _arguments("hvp", forward, primals, tangents)
    y, state, tape = forward(**arguments, **options)
    dys = cotangent("hvp", "dy", dy, dy_tangent, y, None)
    dstates = cotangent("hvp", "dstate", dstate, dstate_tangent, state, kind)
    changes = {
        "step_clip": step_clip,
        "cut": cut,
        "threads": options.get("threads"),
        "grads": grads,
    }
    values, along = parts(tuple(BACKWARD[kind](tape, dys, dstates, **changes)))
    return Grads(*values), Grads(*along)


def layer_hvp(
    layer: Recurrent,
    x: Any,
    tangents: Mapping[str, Any],
    dy: Any = None,
    dstate: Any = None,
    *,
    state: State = None,
    dy_tangent: Any = None,
    dstate_tangent: Any = None,
    step_clip: StepClip | None = None,
    cut: int | None = None,
    grads: Wanted = None,
    **options: Any,
) -> tuple[LayerGrads, LayerGrads]:
    """`hvp` for a recurrent layer: its gradients, and their derivative along a direction.

    Parameters
    ----------
    layer : Recurrent
        The layer; it is not changed. Random masks are drawn as in its next call of `forward`.
    x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`
        The input.
    tangents : dict of str to array_like
        The direction: arrays by the names of ``layer.parameters``, and by "x" and "state".
    dy, dstate, dy_tangent, dstate_tangent, step_clip, cut
        As in `hvp`, in the shapes of the layer's results.
    grads : collection of str, optional
        The gradients to compute, as in ``layer.backward``.
    state : array_like, or tuple of them, optional
        The initial state; zeros if omitted.
    **options
        Other arguments of ``layer.forward``: lengths, resets, checkpoint.

    Returns
    -------
    grads, grads_tangent : LayerGrads
        The gradients, as ``layer.backward`` returns them, and their derivative along the tangents.

    Raises
    ------
    TypeError, ValueError
        As in `hvp` and ``layer.forward``.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> lstm = bptt.LSTM(3, 4, num_layers=2, bidirectional=True, seed=0)
    >>> v = {name: np.ones_like(a) for name, a in lstm.parameters.items()}
    >>> x = np.random.default_rng(0).normal(size=(5, 2, 3))
    >>> grads, Hv = bptt.layer_hvp(lstm, x, v, dy=np.ones((5, 2, 8)))
    >>> Hv.params["weight_hh_l1_reverse"].shape
    (16, 4)
    """
    caller = "layer_hvp"
    if not isinstance(layer, Recurrent):
        raise TypeError(f"{caller}: layer is {type(layer).__name__}, expected a recurrent layer")
    cell, allowed = layer.structure.kind, ("x", "state", *layer.parameters)
    along = checked(caller, "tangents", tangents, allowed)
    arrays = {
        name: joined(caller, name, value, along.get(name))
        for name, value in layer.parameters.items()
    }
    twin = with_arrays(layer, arrays)
    y, final, tape = twin.forward(
        joined(caller, "x", x, along.get("x")),
        joined_state(caller, "state", state, along.get("state"), cell, LAYER_STATE),
        **options,
    )
    dys = cotangent(caller, "dy", dy, dy_tangent, y, None)
    dstates = cotangent(caller, "dstate", dstate, dstate_tangent, final, cell, LAYER_STATE)
    wanted = layer._wanted(grads, ("x", "state"))
    found = twin.backward(tape, dys, dstates, step_clip=step_clip, cut=cut, grads=wanted)
    values, tangent = parts(tuple(found))
    return LayerGrads(*values), LayerGrads(*tangent)


def vjp(
    forward: Forward, primals: Primals, **options: Any
) -> tuple[tuple[Array, State], Callable[..., Grads]]:
    """Outputs of a recurrence, and a function that multiplies by its transposed Jacobian.

    It calls `forward`, and then its backward pass, in the form of ``torch.func.vjp``.

    Parameters
    ----------
    forward, primals, **options
        As in `jvp`, but computed in the precision of the arrays.

    Returns
    -------
    outputs : tuple (y, state)
    pullback : callable
        ``pullback(dy, dstate=None, *, step_clip=None, cut=None, threads=None, grads=None)``
        returns the `Grads` of ``*_backward``. It may be called many times.

    Raises
    ------
    TypeError, ValueError
        As in `jvp`.

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
    kind = _kind("vjp", forward)
    y, state, tape = forward(**_named("vjp", forward, "primals", primals), **options)
    return (y, state), partial(BACKWARD[kind], tape)


# --- arguments


def _kind(caller: str, forward: Forward) -> str:
    """The kind of cell that a function computes."""
    for kind, function in FORWARD.items():
        if forward is function:
            return kind
    names = ", ".join(sorted(function.__name__ for function in FORWARD.values()))
    raise TypeError(f"{caller}: forward is {shown(forward)}, expected one of {names}")


def _named(caller: str, forward: Forward, label: str, arrays: Primals) -> dict[str, Any]:
    """The arguments that are not None, by name."""
    allowed = [name for name in NAMES if name in inspect.signature(forward).parameters]
    if isinstance(arrays, (tuple, list)):
        if len(arrays) > len(allowed):
            raise ValueError(
                f"{caller}: {label} has {len(arrays)} items, expected at most {len(allowed)}: "
                f"{', '.join(allowed)}"
            )
        arrays = dict(zip(allowed, arrays))
    values = checked(caller, label, arrays, allowed)
    missing = [name for name in NAMES[:3] if label == "primals" and name not in values]
    if missing:
        raise ValueError(f"{caller}: primals has no {missing[0]}, expected x, w_ih and w_hh")
    return values


def _arguments(
    caller: str, forward: Forward, primals: Primals, tangents: Primals
) -> dict[str, Any]:
    """The values and tangents of all arguments as dual numbers."""
    kind = _kind(caller, forward)
    values = _named(caller, forward, "primals", primals)
    along = _named(caller, forward, "tangents", tangents)
    for name in along:
        if name not in values and name != "state":
            raise ValueError(
                f"{caller}: tangents has {shown(name)}, expected a primal of that name"
            )
    arguments = {
        name: joined_all(caller, name, value, along.get(name))
        for name, value in values.items()
        if name != "state"
    }
    pair = values.get("state"), along.get("state")
    state = joined_state(caller, "state", *pair, kind)
    return {**arguments, "state": state}
