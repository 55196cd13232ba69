# SPDX-License-Identifier: MIT
"""Gradient flossing: a penalty that draws Lyapunov exponents towards zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._cells import CELLS
from .._grads import Grads
from .._types import Array, Seed, State
from .._validate import as_count, as_generator
from .._words import shown
from ..derivatives.directional import hvp
from ..functional import FORWARD
from ..jacobians import step_jacobians
from ..jacobians.steps import Steps
from ..layers.cells import LAYERS
from ..layers.sequences import join_state
from ..layers.structure import by_parameter
from ..layers.tape import RecurrentTape
from .omega_term import Penalty

__all__ = ["flossing"]

# The cells whose state is h, or h and c; an sLSTM has parts that only scale others.
KINDS = [kind for kind, cell in CELLS.items() if {*cell.states} <= {"h", "c"}]
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh", "peepholes", "w_hr", "layer_norm")


def flossing(tape: RecurrentTape, n: int, *, rng: Seed = 0) -> Penalty:
    """Penalty on Lyapunov exponents other than 0: the sum of squares of the first n.

    n orthonormal directions Q pass through the Jacobians J_t = ds_t/ds_{t-1} of the whole state (h,
    or (h, c) of an LSTM), and are made orthonormal again at each step: J_t Q_{t-1} = Q_t R_t. With
    lambda_i the mean of log R_t,ii over the T steps of a sequence, in nats per step::

        flossing = mean over sequences of sum_i lambda_i^2

    A gradient along a direction with lambda > 0 explodes, and with lambda < 0 it vanishes, by a
    factor exp(lambda) per step. The paper minimises this penalty before training, and again now and
    then during training.

    Parameters
    ----------
    tape : RecurrentTape
        Third result of the `forward` of an `RNN`, `LSTM`, `GRU` or `MGU` with one layer and one
        direction, without resets, zoneout, dilation and skip. Its parameters must not have changed
        since.
    n : int
        Number of exponents, the largest ones: 1..S with S the size of the state. The time grows
        with it.
    rng : int or numpy.random.Generator, optional
        Draws the initial directions Q_0, which then turn towards the directions that grow most.

    Returns
    -------
    Penalty
        The penalty and its exact gradient, without ``dy`` and ``dstate``: it does not depend on the
        loss. Sequences of length 0 do not count; if there are no others, all is 0.

    Raises
    ------
    ValueError
        If the layer is another, `n` is out of range, or a parameter or `x` has changed since.
    TypeError
        If `tape` is not the tape of a layer, or `n` is not a whole number.
    FloatingPointError
        If a Jacobian loses one of n directions, as with a ReLU whose units are mostly off. Its
        exponent would be -inf.

    Notes
    -----
    If A_t is the gradient with respect to J_t Q_{t-1}, then A_t Q_{t-1}^T is the gradient with
    respect to J_t. It remains to differentiate sum_i a_i^T J_t q_i for constant columns a_i and
    q_i: this is the derivative of a_i^T s_t along the direction q_i of s_{t-1}, so its gradient is
    one `hvp` of all steps at once. The gradient of s_{t-1} then goes back through the steps before.

    The Jacobians of all steps take T B S^2 numbers.

    References
    ----------
    Engelken (2023), "Gradient flossing: improving gradient descent through dynamic control of
    Jacobians", NeurIPS 36, arXiv:2312.17306. Derivative of QR: Walter & Lehmann (2010),
    arXiv:1001.1654.

    Examples
    --------
    >>> import numpy as np, bptt
    >>> rnn = bptt.RNN(2, 16, seed=0)
    >>> optimiser = bptt.Adam(rnn.parameters, lr=3e-3)
    >>> x = np.random.default_rng(0).standard_normal((50, 8, 2))
    >>> values = []
    >>> for step in range(100):
    ...     _, _, tape = rnn.forward(x)
    ...     penalty = bptt.regularise.flossing(tape, 4)
    ...     optimiser.step(penalty.params)
    ...     values.append(penalty.value)
    >>> values[-1] < 0.1 * values[0]
    True
    """
    cell = _single_cell("flossing", tape)
    steps, layer = Steps("flossing", cell), tape.layer
    S = sum(steps.sizes)
    n = as_count("flossing", "n", n, 1, S)
    J = step_jacobians(cell).astype(float)
    generator = as_generator("flossing", "rng", rng)
    start = np.linalg.qr(generator.standard_normal((S, n)))[0]
    Q, R = _through_time(start, J, steps.active)
    stretch = np.diagonal(R, axis1=2, axis2=3)
    if not np.all(stretch > 0):
        t = int(np.argmin(np.all(stretch > 0, axis=(1, 2))))
        raise FloatingPointError(
            f"flossing: ds_t/ds_(t-1) at step {t} keeps less than n = {n} directions, expected "
            "fewer exponents"
        )
    lengths = np.maximum(steps.lengths, 1)[:, None]
    exponents = np.log(stretch).sum(axis=0) / lengths
    sequences = max(int(np.sum(steps.lengths > 0)), 1)
    value = float(np.sum(exponents**2) / sequences)

    A = _products_backward(J, Q, R, 2 * exponents / lengths / sequences, steps.active)
    params = {name: np.zeros(p.shape) for name, p in layer.parameters.items()}

    def add(grads: Grads) -> None:
        for name, part in by_parameter(grads, layer.structure.names(0)).items():
            params[name] += part

    dx, dstate = _steps_backward(steps, Q[:-1].swapaxes(2, 3), A.swapaxes(2, 3), add)
    state = _state(steps, dstate[:, None])
    if not tape.given_state:
        parts = state if isinstance(state, tuple) else (state,)
        for name, part in zip(layer.structure.initial_shapes(0), parts):
            params[name] += part.sum(axis=0)
    learn = [name for name in params if name not in layer.frozen]
    grads = {name: params[name].astype(layer.dtype) for name in learn}
    dx = dx.swapaxes(0, 1) if layer.batch_first else dx
    joined = join_state(
        layer.structure, [_state(steps, dstate[:, None].astype(layer.dtype))], steps.B
    )
    return Penalty(value, grads, dx.astype(layer.dtype), joined)


def _single_cell(caller: str, tape: Any) -> Any:
    if not isinstance(tape, RecurrentTape):
        raise TypeError(f"{caller}: tape is {shown(tape)}, expected that of a layer's forward")
    cell = tape.cells[0]
    others = [name for name in cell.options or {} if name.startswith(("zoneout", "resets"))]
    s = tape.layer.structure
    if len(tape.cells) > 1 or s.kind not in KINDS or s.reverse or others:
        *names, last = (LAYERS[kind].__name__ for kind in KINDS)
        raise ValueError(
            f"{caller}: tape is that of {str(tape.layer).splitlines()[0]}, expected an "
            f"{', '.join(names)} or {last} of one layer and direction without resets, zoneout and "
            "reverse"
        )
    return cell


# --- through QR decompositions


def _through_time(start: Array, J: Array, inside: Array) -> tuple[Array, Array]:
    """Q_0, Q_1, ... and R_1, R_2, ... of directions through all Jacobians; constant in padding."""
    (T, B), n = inside.shape, start.shape[1]
    Q, R = np.empty((T + 1, B, *start.shape)), np.empty((T, B, n, n))
    Q[0] = start
    for t in range(T):
        on, (q, r) = inside[t, :, None, None], _positive_qr(J[t] @ Q[t])
        Q[t + 1], R[t] = np.where(on, q, Q[t]), np.where(on, r, np.eye(n))
    return Q, R


def _positive_qr(a: Array) -> tuple[Array, Array]:
    """The QR decomposition of a stack of matrices, with a positive diagonal of R."""
    q, r = np.linalg.qr(a)
    sign = np.copysign(1, np.diagonal(r, axis1=1, axis2=2))
    return q * sign[:, None, :], r * sign[:, :, None]


def _products_backward(J: Array, Q: Array, R: Array, rate: Array, inside: Array) -> Array:
    """Gradient of every J_t Q_{t-1}, from the gradient `rate` of log R_t,ii; 0 in padding."""
    A = np.zeros(Q[1:].shape)
    to_q = np.zeros(Q[0].shape)
    for t in reversed(range(len(J))):
        on = inside[t, :, None, None]
        A[t] = np.where(on, _qr_backward(Q[t + 1], R[t], to_q, rate), 0)
        to_q = np.where(on, J[t].swapaxes(1, 2) @ A[t], to_q)
    return A


def _qr_backward(q: Array, r: Array, to_q: Array, to_log: Array) -> Array:
    """Gradient of a = q r, from the gradients of q and of the logarithms of r's diagonal."""
    m = np.tril(to_log[:, :, None] * np.eye(r.shape[1]) - to_q.swapaxes(1, 2) @ q)
    to_qr = to_q + q @ (m + np.tril(m, -1).swapaxes(1, 2))
    return np.asarray(np.linalg.solve(r, to_qr.swapaxes(1, 2)).swapaxes(1, 2))


# --- through the Jacobians


def _steps_backward(
    steps: Steps, q: Array, a: Array, add: Callable[[Grads], None]
) -> tuple[Array, Array]:
    """Gradients of x and of the initial state, for the sum of a J_t q over all steps.

    a and q are rows, (T, B, n, S). The gradients of the weights go to ``add``.
    """
    n, S = q.shape[2:]
    dx = np.zeros(steps.arguments["x"].shape)
    direct = np.zeros((steps.T, steps.B, S))  # gradient of the state before each step
    t, b = np.nonzero(steps.active)
    most = steps.rows(n)
    for first in range(0, len(t), most):
        rows = t[first : first + most], b[first : first + most]
        primals, options = _rows(steps, *rows, n)
        along = {"state": _state(steps, q[rows])}
        dstate = _state(steps, a[rows])
        _, grads = hvp(FORWARD[steps.kind], primals, along, None, dstate, **options)
        add(grads)
        dx[rows] = grads.x.reshape(len(rows[0]), n, -1).sum(axis=1)
        direct[rows] = _joined(grads.state).reshape(-1, n, S).sum(axis=1)
    d = np.zeros((steps.B, S))
    for step, sequences in steps.back(steps.last()):
        times = np.full(len(sequences), step)
        grads = steps.backward(times, sequences, d[sequences][:, None])
        add(grads)
        dx[step, sequences] += grads.x[0]
        d[sequences] = direct[step, sequences] + _joined(grads.state)
    return dx, d


def _rows(steps: Steps, t: Array, b: Array, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays with a gradient and options of the steps (t, b), n copies of each."""
    options = {**(steps.arguments["options"] or {}), "threads": steps.arguments["threads"]}
    arguments = {**steps.arguments, **options}
    primals = {name: arguments[name] for name in WEIGHTS if arguments.get(name) is not None}
    primals["x"] = np.repeat(arguments["x"][t, b], n, axis=0)[None]
    before = np.concatenate([s[t, b] for s in steps.before], axis=1)
    primals["state"] = _state(steps, np.repeat(before[:, None], n, axis=1))
    options = {name: value for name, value in options.items() if name not in WEIGHTS}
    if "h_mask" in options:
        options["h_mask"] = np.repeat(options["h_mask"][b], n, axis=0)
    return primals, options


def _state(steps: Steps, rows: Array) -> State:
    """Rows (N, n, S) as the state of a batch of N n sequences."""
    parts = steps.split(rows.reshape(-1, rows.shape[-1]))
    return parts if len(parts) > 1 else parts[0]


def _joined(state: State) -> Array:
    return np.concatenate(state if isinstance(state, tuple) else (state,), axis=-1)
