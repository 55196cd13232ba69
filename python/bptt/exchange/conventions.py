# SPDX-License-Identifier: MIT
"""Recurrent weights in any convention: gate order, axes, the sense of the update gate, and others.

`layer_from_arrays` is the public form. Loaders of files use `Weights` and `converted`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._cells import CELLS, NAMES
from .._types import Array
from .._validate import as_array, as_choice, as_finite, as_flag, check_shape, to_numpy
from .._words import shown
from ..layers.cells import LAYERS
from ..layers.recurrent import Recurrent

__all__ = ["Convention", "Weights", "check_options", "filled", "layer_from_arrays", "reorder"]

KINDS = tuple(name for name, cell in CELLS.items() if cell.wide_as_h)
# Other libraries' letters for our gates.
LETTERS = {"g": "cj", "z": "u", "n": "hc", "h": "n"}


class Weights(NamedTuple):
    """The arrays of one direction, in the convention of their source."""

    kernel: Any
    recurrent: Any
    bias: Any = None
    recurrent_bias: Any = None
    peepholes: Any = None


# How messages name the arrays of each direction.
LABELS = (Weights._fields, tuple(f"reverse[{k}]" for k in range(len(Weights._fields))))


class Convention(NamedTuple):
    """The properties of `Weights` that their shapes do not show.

    Attributes
    ----------
    gates : sequence of str
        The order of the gates in the arrays, by their names in bptt.
    wanted : sequence of str
        The order in bptt.
    transposed : bool
        Are the kernels (I, G*H) and (H, G*H)?
    inverted : bool
        Does an update gate of 1 take the candidate?
    forget_bias : float
        Added to the forget gate at run time.
    """

    gates: Sequence[str]
    wanted: Sequence[str]
    transposed: bool = False
    inverted: bool = False
    forget_bias: float = 0.0


def layer_from_arrays(
    kind: str,
    kernel: ArrayLike,
    recurrent: ArrayLike,
    bias: ArrayLike | None = None,
    recurrent_bias: ArrayLike | None = None,
    *,
    gates: str | None = None,
    transposed: bool = False,
    update: str = "keep",
    forget_bias: float = 0.0,
    peepholes: ArrayLike | None = None,
    reverse: Any = False,
    **options: Any,
) -> Recurrent:
    """Make a layer from weights in the convention of any library.

    The arguments describe everything that the shapes of the arrays do not show; the tables in
    ``docs/coming_from.md`` list them for several libraries. The defaults are PyTorch's convention.

    Parameters
    ----------
    kind : {"rnn", "lstm", "gru", "mgu"}
        The cell.
    kernel : array_like, shape (G*H, I)
        The input weights. The gates may have an axis of their own, (G, H, I), as in a list with one
        matrix for each gate.
    recurrent : array_like, shape (G*H, H)
        The recurrent weights, or (G, H, H).
    bias, recurrent_bias : array_like, shape (G*H,), optional
        One bias or two, or (G, H). If only one is given, the other is 0; without both, the layer
        has none.
    gates : str, optional
        The order of the gates in the arrays: a permutation of "ifgo" (the default) for an LSTM, of
        "rzn" for a GRU, of "fn" for an MGU. An LSTM's candidate g may also be called c or j; a
        GRU's update gate z also u, and its candidate n also h or c. With ``forget_gate="coupled"``
        or "none" an LSTM has no f.
    transposed : bool, optional
        True: the kernels are (I, G*H) and (H, G*H), or (G, I, H) and (G, H, H), as in Keras: they
        multiply from the right.
    update : {"keep", "inverted"}, optional
        "keep": an update gate of 1 keeps the old state, h' = z h + (1 - z) n; "inverted": it takes
        the candidate, h' = (1 - z) h + z n. The rows of z are then negated, since
        1 - sigmoid(a) = sigmoid(-a). For a GRU.
    forget_bias : float, optional
        A number that the library adds to the forget gate's bias at run time. For an LSTM.
    peepholes : array_like, shape (3, H), optional
        The peepholes of an LSTM, in the order of `gates` without the candidate.
    reverse : sequence of array_like, or bool, optional
        The arrays of the reverse direction, in the order kernel, recurrent, bias, recurrent_bias,
        peepholes; the layer is then bidirectional. A boolean is an option of the layer.
    **options
        Other arguments of the layer's constructor: ``reset_after=False``, ``batch_first=True``,
        ``activation="relu"``, ``gate_activation=("hard_sigmoid", 0.2)``, ``dtype="float64"``, ...
        Without `dtype`, the layer is in float64 if all arrays are, else in float32.

    Returns
    -------
    RNN, LSTM, GRU or MGU

    Raises
    ------
    ValueError
        If a shape does not fit, `gates` is no permutation, or an argument does not belong to the
        cell.
    TypeError
        If an array does not hold real numbers, or the layer has no such option.

    Examples
    --------
    An LSTM of DyNet: gates i f o g, and 1 is added to the forget gate at run time:

    >>> import numpy as np
    >>> import bptt
    >>> w_x, w_h, b = np.ones((16, 3)), np.ones((16, 4)), np.zeros(16)
    >>> lstm = bptt.layer_from_arrays("lstm", w_x, w_h, b, gates="ifog", forget_bias=1)
    >>> lstm.parameters["bias_ih_l0"]
    array([0., 0., 0., 0., 1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0.])
    """
    caller = "layer_from_arrays"
    as_choice(caller, "kind", kind, KINDS)
    own = CELLS[kind].activations(**options)
    if as_choice(caller, "update", update, ("keep", "inverted")) == "inverted" and kind != "gru":
        raise ValueError(f"{caller}: update is {update!r}, expected 'keep' for {kind!r}")
    added = as_finite(caller, "forget_bias", forget_bias)
    if added and (kind != "lstm" or "f" not in own):
        raise ValueError(f"{caller}: forget_bias is {added}, expected 0 without a forget gate")
    if peepholes is not None and kind != "lstm":
        raise ValueError(f"{caller}: peepholes is given, expected None for {kind!r}")
    convention = Convention(
        gates=_order(caller, gates, tuple(own)),
        wanted=tuple(own),
        transposed=as_flag(caller, "transposed", transposed),
        inverted=update == "inverted",
        forget_bias=added,
    )
    sides = [Weights(kernel, recurrent, bias, recurrent_bias, peepholes)]
    if isinstance(reverse, (bool, np.bool_)):
        options |= {"reverse": True} if reverse else {}
    else:
        sides.append(_reverse(caller, reverse))
    arrays = [
        _checked(caller, side, labels, len(own), convention.transposed)
        for side, labels in zip(sides, LABELS)
    ]
    return filled(caller, kind, arrays, convention, options)


def _order(caller: str, gates: str | None, own: tuple[str, ...]) -> tuple[str, ...]:
    """The gates of the arrays by our names."""
    if gates is None:
        return own
    ours = {letter: gate for gate in own for letter in LETTERS.get(gate, "")}
    letters = [ours.get(g, g) for g in gates] if isinstance(gates, str) else []
    if sorted(letters) != sorted(own):
        raise ValueError(
            f"{caller}: gates is {shown(gates)}, expected the letters of {''.join(own)!r} in the "
            "order of the arrays"
        )
    return tuple(letters)


def _reverse(caller: str, value: Any) -> Weights:
    if not isinstance(value, (tuple, list)) or not 2 <= len(value) <= len(Weights._fields):
        raise TypeError(
            f"{caller}: reverse is of type {type(value).__name__}, expected True, False or 2 to "
            f"{len(Weights._fields)} arrays: ({', '.join(Weights._fields)})"
        )
    return Weights(*value)


def _checked(
    caller: str, given: Weights, labels: Sequence[str], gates: int, transposed: bool
) -> Weights:
    """The arrays as (G*H, I), (G*H, H), (G*H,), or their transposes."""
    arrays: list[Array | None] = []
    for k, (label, value) in enumerate(zip(labels, given)):
        if value is None and k > 1:
            arrays.append(None)
            continue
        array = as_array(caller, label, to_numpy(value))
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{caller}: {label} has dtype {array.dtype}, expected real numbers")
        if k < 2 and array.ndim == 3:  # the gates have an axis of their own
            array = array.swapaxes(1, 2) if transposed else array
            array = array.reshape(array.shape[0] * array.shape[1], array.shape[2])
            array = array.T if transposed else array
        elif k in (2, 3) and array.ndim == 2:
            array = array.reshape(-1)
        arrays.append(array)
    recurrent = arrays[1]
    if recurrent is not None and recurrent.ndim == 2 and gates > 1:
        rows, columns = recurrent.shape[::-1] if transposed else recurrent.shape
        if columns == gates * rows > 0:
            shape = f"(H, {gates}*H)" if transposed else f"({gates}*H, H)"
            raise ValueError(
                f"{caller}: {labels[1]} has shape {recurrent.shape}, expected {shape}: "
                f"transposed={not transposed} fits"
            )
    return Weights(*arrays)


# --- for loaders ----------------------------------------------------------------------------------


def check_options(caller: str, kind: type[Any], options: Collection[str]) -> None:
    """Raise unless all are arguments of a layer's constructor."""
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known:
            raise TypeError(f"{caller}: {kind.__name__} has no option {shown(name)}")


def filled(
    caller: str,
    kind: str,
    sides: Sequence[Weights],
    convention: Convention,
    options: Mapping[str, Any],
) -> Recurrent:
    """A layer of one direction or two, whose arrays are checked against each other first."""
    check_options(caller, LAYERS[kind], options)
    found = [converted(caller, side, convention, labels) for side, labels in zip(sides, LABELS)]
    biased = any("b_ih" in arrays for arrays in found)
    peeping = any("peepholes" in arrays for arrays in found)
    state: dict[str, Array] = {}
    for arrays, suffix in zip(found, ("_l0", "_l0_reverse")):
        rows = len(arrays["w_ih"])
        if biased and "b_ih" not in arrays:  # the other direction has one
            arrays |= dict.fromkeys(("b_ih", "b_hh"), np.zeros(rows, arrays["w_ih"].dtype))
        state |= {NAMES[name] + suffix: array for name, array in arrays.items()}
    rows, inputs = found[0]["w_ih"].shape
    shapes = {name: array.shape for name, array in found[0].items()}
    for arrays in found[1:]:
        for name, array in arrays.items():
            check_shape(
                caller, f"{name} of reverse", array, "that of the other direction",
                shapes.get(name),
            )  # fmt: skip
    own = {"bias": biased, "bidirectional": len(found) == 2}
    if peeping:
        own["peepholes"] = True
    double = all(array.dtype == np.float64 for array in state.values())
    dtype = {"dtype": "float64" if double else "float32"}
    hidden = rows // len(convention.wanted)
    layer: Recurrent = LAYERS[kind](inputs, hidden, **{**dtype, **own, **options})
    # A learnt state starts where it does in a new layer.
    learnt = {n: a for n, a in layer.parameters.items() if n.startswith(("h0_", "c0_"))}
    layer.load(learnt | state)
    return layer


def converted(
    caller: str, given: Weights, convention: Convention, labels: Sequence[str]
) -> dict[str, Array]:
    """The arrays of one direction in our convention, by the functions' names."""
    c, G = convention, len(convention.gates)
    kernel, recurrent = (a.T if c.transposed else a for a in given[:2])
    rows = kernel.shape[0] if kernel.ndim == 2 else 0
    hidden = rows // G
    for k, (array, rest) in enumerate(((kernel, "I"), (recurrent, "H"))):
        fits = array.ndim == 2 and len(array) == G * hidden > 0
        if not fits or (rest == "H" and array.shape[1] != hidden):
            shape = f"({rest}, {G}*H)" if c.transposed else f"({G}*H, {rest})"
            numbers = f" with H = {hidden}" if rest == "H" and hidden else ""
            raise ValueError(
                f"{caller}: {labels[k]} has shape {given[k].shape}, expected {shape}{numbers}"
            )
    arrays = {"w_ih": kernel, "w_hh": recurrent}
    biases = {"b_ih": given.bias, "b_hh": given.recurrent_bias}
    if any(b is not None for b in biases.values()) or c.forget_bias:
        for label, (name, bias) in zip(labels[2:], biases.items()):
            arrays[name] = np.zeros(rows, kernel.dtype) if bias is None else bias
            check_shape(caller, label, arrays[name], f"({G}*H,)", (rows,))
    arrays = {name: reorder(array, c.gates, c.wanted) for name, array in arrays.items()}
    if given.peepholes is not None:
        check_shape(caller, labels[4], given.peepholes, "(3, H)", (G - 1, hidden))
        seen = [[g for g in order if g != "g"] for order in (c.gates, c.wanted)]
        arrays["peepholes"] = reorder(given.peepholes, *seen)
    return _adjusted(arrays, c, hidden)


def _adjusted(arrays: dict[str, Array], c: Convention, hidden: int) -> dict[str, Array]:
    """Apply what is not an order of axes: the sense of the update gate, the forget gate's bias."""
    double = np.float64
    arrays = {n: a.astype(double if a.dtype == double else np.float32) for n, a in arrays.items()}
    rows = {g: slice(k * hidden, (k + 1) * hidden) for k, g in enumerate(c.wanted)}
    if c.forget_bias:
        arrays["b_ih"][rows["f"]] += c.forget_bias
    if c.inverted:
        for array in arrays.values():
            array[rows["z"]] *= -1
    return arrays


def reorder(array: Array, given: Sequence[str], wanted: Sequence[str]) -> Array:
    """Reorder the gates of the first axis."""
    blocks = array.reshape(len(given), -1, *array.shape[1:])
    return blocks[[given.index(gate) for gate in wanted]].reshape(array.shape)
