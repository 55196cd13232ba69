# SPDX-License-Identifier: MIT
"""Check of any backward function against central differences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ._convert import as_array, as_between, as_callable, as_generator, as_positive, listed
from .grads import Array, check_mapping, shown

__all__ = ["gradcheck"]

Tree = Any  # an array, or a tuple or list of trees


def gradcheck(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Tree],
    params: Mapping[str, Array] | None = None,
    *,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the gradients of a pair of functions with central differences, in float64.

    For random cotangents d of all outputs y, each element v of each input is moved by eps, and
    sum(d * (y(v + eps) - y(v - eps))) / (2 eps) must be the gradient that `backward` gives for it.
    All functions and layers of this package fit as they are; others need a `lambda`.

    Parameters
    ----------
    forward : callable
        ``forward(**inputs)`` returns a tuple: the outputs (each an array, or a tuple of them), and
        last a tape. It must give the same result each time (a layer with dropout does not).
    backward : callable
        ``backward(tape, *cotangents)``, with one cotangent per output, returns an object with one
        attribute per input, or a dict.
    inputs : dict of str to ndarray or tuple of ndarray
        float64. Arguments that are not to be checked go into `forward`, by `functools.partial`.
    params : dict of str to ndarray, optional
        float64 arrays that `forward` reads though it is not given them, as ``layer.parameters``;
        their gradients are in ``params`` of what `backward` returns. They are moved in place, and
        are at the end as they were.
    eps : float, optional
        Step of the differences.
    rtol, atol : float, optional
        Allowed error of each element: atol + rtol times the largest difference quotient of the
        same array.
    seed : int, optional
        For the cotangents.

    Returns
    -------
    dict of str to float
        The largest absolute error in each input and parameter.

    Raises
    ------
    AssertionError
        If a gradient is wrong (names the worst element), is missing, or has the wrong shape.
    TypeError
        If an input, parameter or output is not a float64 array, or `forward` returns no tuple.

    Notes
    -----
    Two calls of `forward` for each number in `inputs` and `params`: keep them small. Differences
    say nothing at a kink, such as that of relu at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.functional import lstm_backward, lstm_forward
    >>> from bptt.gradcheck import gradcheck
    >>> from bptt.layers import GRU
    >>> rng = np.random.default_rng(0)
    >>> inputs = {
    ...     "x": rng.normal(size=(5, 2, 3)),
    ...     "w_ih": rng.normal(size=(16, 3)),
    ...     "w_hh": rng.normal(size=(16, 4)),
    ...     "state": (rng.normal(size=(2, 4)), rng.normal(size=(2, 4))),
    ... }
    >>> errors = gradcheck(lstm_forward, lstm_backward, inputs)
    >>> list(errors)
    ['x', 'w_ih', 'w_hh', 'state[0]', 'state[1]']
    >>> gru = GRU(3, 4, num_layers=2, dtype="float64", seed=0)
    >>> errors = gradcheck(gru.forward, gru.backward, {"x": inputs["x"]}, gru.parameters)
    >>> max(errors.values()) < 1e-7
    True
    """
    where = "gradcheck"
    as_callable(where, "forward", forward), as_callable(where, "backward", backward)
    eps, rtol = as_positive(where, "eps", eps), as_between(where, "rtol", rtol, 0)
    atol, rng = as_between(where, "atol", atol, 0), as_generator(where, "seed", seed)
    params = {} if params is None else params
    check_mapping(where, "inputs", inputs)
    check_mapping(where, "params", params)
    inputs = {name: _copy(f"inputs[{shown(name)}]", tree) for name, tree in inputs.items()}
    _check_names(forward, inputs)
    for name, array in params.items():
        _float64(f"params[{shown(name)}]", array)
    *outputs, tape = _call(forward, inputs)
    cotangents = [_normal(rng, y) for y in outputs]
    weights = [d for _, d in _leaves("", cotangents)]
    grads = backward(tape, *cotangents)

    def difference(array: Array, index: tuple[int, ...]) -> float:
        value = array[index]
        try:
            array[index] = value + eps
            above = _copy("an output", _call(forward, inputs)[:-1])
            array[index] = value - eps
            below = _copy("an output", _call(forward, inputs)[:-1])
        finally:
            array[index] = value
        # Outputs are subtracted before they are summed: large sums would hide small differences.
        pairs = zip(weights, _leaves("", above), _leaves("", below))
        return sum(float(np.sum(d * (a - b))) for d, (_, a), (_, b) in pairs) / (2 * eps)

    errors = {}
    for name, array, gradient in _matched(inputs, params, grads):
        numeric = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            numeric[index] = difference(array, index)
        error = np.abs(gradient - numeric)
        allowed = atol + rtol * np.max(np.abs(numeric), initial=0)
        if not np.all(error <= allowed):  # NaN is an error too
            worst = np.unravel_index(int(np.argmax(error)), error.shape)
            at = tuple(int(i) for i in worst)
            raise AssertionError(
                f"gradcheck: gradient of {name} is {gradient[at]:.10g} at {at}, expected "
                f"{numeric[at]:.10g} +- {allowed:.2g} ({int(np.sum(~(error <= allowed)))} of "
                f"{error.size} elements are wrong)"
            )
        errors[name] = float(np.max(error, initial=0))
    return errors


def _check_names(forward: Callable[..., Any], inputs: Mapping[str, Tree]) -> None:
    try:
        signature = inspect.signature(forward)
    except ValueError:  # of what is not written in Python
        return
    try:
        signature.bind(**inputs)
    except TypeError as error:
        raise TypeError(
            f"gradcheck: inputs has the names {listed(inputs)}, expected the arguments of forward: "
            f"{str(error)[:100]}"
        ) from None


def _call(forward: Callable[..., Any], inputs: Mapping[str, Tree]) -> tuple[Any, ...]:
    result = forward(**inputs)
    if not isinstance(result, tuple) or len(result) < 2:
        raise TypeError(
            f"gradcheck: forward returns {type(result).__name__}, expected a tuple (*outputs, tape)"
        )
    return result


def _leaves(name: str, tree: Tree) -> Iterator[tuple[str, Array]]:
    """The arrays of a tree, with names such as ``state[0]``."""
    if isinstance(tree, (tuple, list)):
        for i, branch in enumerate(tree):
            yield from _leaves(f"{name}[{i}]", branch)
    else:
        yield name, tree


def _float64(name: str, array: Any) -> Array:
    converted = as_array("gradcheck", name, array)
    if converted.dtype != np.float64:
        raise TypeError(f"gradcheck: {name} has dtype {converted.dtype}, expected float64")
    return converted


def _copy(name: str, tree: Tree) -> Tree:
    if isinstance(tree, (tuple, list)):
        return tuple(_copy(f"{name}[{i}]", branch) for i, branch in enumerate(tree))
    return _float64(name, tree).copy()


def _normal(rng: np.random.Generator, tree: Tree) -> Tree:
    """Random numbers in the shape of an output."""
    if isinstance(tree, (tuple, list)):
        return tuple(_normal(rng, branch) for branch in tree)
    return rng.standard_normal(_float64("an output", tree).shape)


def _matched(
    inputs: Mapping[str, Tree], params: Mapping[str, Array], grads: Any
) -> Iterator[tuple[str, Array, Array]]:
    """Name, array and gradient of everything that is checked."""
    groups: list[tuple[Mapping[str, Tree], Any]] = [(inputs, grads)]
    if params:
        groups.append((params, _get(grads, "params")))
    for given, found in groups:
        for key, tree in given.items():
            arrays = dict(_leaves(key, tree))
            gradients = dict(_leaves(key, _get(found, key)))
            for name, array in arrays.items():
                gradient = np.asarray(gradients.get(name))
                if gradient.shape != array.shape or gradient.dtype.kind != "f":
                    raise AssertionError(
                        f"gradcheck: gradient of {name} has shape {gradient.shape} and dtype "
                        f"{gradient.dtype}, expected {array.shape} and float64"
                    )
                yield name, _float64(name, array), gradient


def _get(found: Any, name: str) -> Any:
    has = name in found if isinstance(found, Mapping) else hasattr(found, name)
    if not has:
        raise AssertionError(f"gradcheck: backward returns no gradient of {name}, expected one")
    return found[name] if isinstance(found, Mapping) else getattr(found, name)
