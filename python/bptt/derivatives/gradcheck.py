# SPDX-License-Identifier: MIT
"""Check of any backward function against central differences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from .._types import Array
from .._validate import as_array, as_callable, as_generator, as_number, check_mapping
from .._words import listed, shown

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

    For random cotangents d of all outputs y, the gradient of each element v of each input must be
    sum(d * (y(v + eps) - y(v - eps))) / (2 eps). There are three sets of cotangents: of size 1, of
    size 1000 with half of them 0, and of size 0.001. All functions and layers of this package can
    be passed directly; others may need a `lambda`.

    The functions are also called again, to check that gradients belong to their own tape and that
    nothing the caller owns has changed. Only the cotangents may be overwritten by `backward`.

    Parameters
    ----------
    forward : callable
        ``forward(**inputs)`` returns a tuple of the outputs (each an array, or a tuple of arrays)
        and a tape. It must return the same outputs each time; a layer with dropout does not.
    backward : callable
        ``backward(tape, *cotangents)``, with one cotangent for each output, returns an object with
        an attribute for each input, or a dict.
    inputs : dict of str to ndarray or tuple of ndarray
        float64 arguments of `forward`. Bind arguments that are not to be checked with
        `functools.partial`.
    params : dict of str to ndarray, optional
        float64 arrays that `forward` reads without being passed them, as ``layer.parameters``. The
        result of `backward` has their gradients in ``params``. The arrays are changed in place, and
        restored at the end.
    eps : float, optional
        Step of the differences, at most 0.01. An element so large that rounding would swallow the
        step is moved further.
    rtol, atol : float, optional
        Allowed error of each element: atol + rtol times its difference quotient + the rounding
        error of the quotient, but at most rtol times the largest quotient of the array. Gradients
        are first divided by the size of their cotangents.
    seed : int, optional
        Seed of the cotangents.

    Returns
    -------
    dict of str to float
        The largest absolute error in each input and parameter.

    Raises
    ------
    AssertionError
        If a gradient is wrong (the message names the worst element), missing, or no float64 array
        of the right shape; if an output is not finite; if `forward` or `backward` returns another
        result when called again, or changes its arguments, the parameters, or earlier results.
    TypeError
        If an input, parameter or output is not a float64 array, or `forward` returns no tuple.
    ValueError
        If there is nothing to check, or `eps`, `rtol` or `atol` is out of its range.

    Notes
    -----
    `forward` is called twice for each number in `inputs` and `params`: keep them small. Differences
    are meaningless at a kink, such as relu at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.functional import lstm_backward, lstm_forward
    >>> from bptt import gradcheck
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
    caller = "gradcheck"
    as_callable(caller, "forward", forward), as_callable(caller, "backward", backward)
    _check_numbers(eps, rtol, atol)
    rng, params = as_generator(caller, "seed", seed), {} if params is None else params
    check_mapping(caller, "inputs", inputs)
    check_mapping(caller, "params", params)
    inputs = {name: _copy(f"inputs[{shown(name)}]", tree) for name, tree in inputs.items()}
    params = {name: _float64(f"params[{shown(name)}]", array) for name, array in params.items()}
    if not sum(a.size for tree in (inputs, params) for _, a in _leaves("", [*tree.values()])):
        raise ValueError("gradcheck: inputs has no element, expected one at least to check")
    if both := inputs.keys() & params.keys():
        raise ValueError(f"gradcheck: params has {sorted(both)} of inputs, expected other names")
    _check_names(forward, inputs)
    kept = _copy("params", [*params.values()])
    try:
        outputs, tape, unchanged = _run_forward(forward, inputs, params)
        tests = _cotangents(rng, outputs)
        gradients = _run_backward(backward, tape, tests, inputs, params, unchanged)
        weights = [[d for _, d in _leaves("", d)] for d, _ in tests]
        ys = [y for _, y in _leaves("", outputs)]
        # An upper bound of the rounding error of a difference quotient.
        noise = [2**-46 * sum(float(np.sum(np.abs(d * y))) for d, y in zip(w, ys)) for w in weights]
        errors = {}
        for name, array in _arrays(inputs, params):
            numeric = np.zeros((len(tests), *array.shape))
            for index in np.ndindex(*array.shape):
                numeric[(slice(None), *index)] = _quotients(
                    forward, inputs, weights, array, index, eps
                )
            errors[name] = max(
                _largest_error(name, gradients[k][name], n, size, rtol, atol, noise[k] / (2 * eps))
                for k, (n, (_, size)) in enumerate(zip(numeric, tests))
            )
    finally:
        for array, value in zip(params.values(), kept):
            array[...] = value
    return errors


def _check_numbers(eps: float, rtol: float, atol: float) -> None:
    for name, value in {"eps": eps, "rtol": rtol, "atol": atol}.items():
        as_number("gradcheck", name, value)
    if not eps > 0:
        raise ValueError(f"gradcheck: eps is {eps!r}, expected more than 0")
    if eps > 0.01:  # the quotient would not approximate a derivative
        raise ValueError(f"gradcheck: eps is {eps!r}, expected at most 0.01")
    if not 0 <= rtol < 1:
        raise ValueError(f"gradcheck: rtol is {rtol!r}, expected 0 <= rtol < 1")
    if not 0 <= atol < np.inf:
        raise ValueError(f"gradcheck: atol is {atol!r}, expected 0 <= atol < inf")


def _check_names(forward: Callable[..., Any], inputs: Mapping[str, Tree]) -> None:
    try:
        signature = inspect.signature(forward)
    except ValueError:  # not written in Python
        return
    try:
        signature.bind(**inputs)
    except TypeError as error:
        raise TypeError(
            f"gradcheck: inputs has the names {listed(inputs)}, expected the arguments of forward: "
            f"{str(error)[:100]}"
        ) from None


# --- calls, and checks of their side effects ------------------------------------------------------


def _run_forward(
    forward: Callable[..., Any], inputs: Mapping[str, Tree], params: Mapping[str, Array]
) -> tuple[Tree, Any, Callable[[str], None]]:
    """Outputs, tape, and a check that nothing the caller owns has changed."""
    arguments = {name: _copy(name, tree) for name, tree in inputs.items()}
    before = {name: array.copy() for name, array in params.items()}
    *results, tape = _call(forward, arguments)
    outputs = _copy("output", results)

    def unchanged(who: str) -> None:
        _same(arguments, inputs, f"{who} changes {{}}, expected it as it was")
        _same(params, before, f"{who} changes {{}}, expected it as it was")
        _same({"output": results}, {"output": outputs}, f"{who} changes {{}} of the call before, "
              "expected memory of its own")  # fmt: skip

    unchanged("forward")
    for name, y in _leaves("output", outputs):
        if not np.all(np.isfinite(y)):
            raise AssertionError(f"gradcheck: {name} is not finite, expected finite values")
    repeated = _call(forward, {name: _copy(name, tree) for name, tree in inputs.items()})[:-1]
    _same({"output": repeated}, {"output": outputs}, "forward gives another {} when it is called "
          "again, expected the same: is anything random?")  # fmt: skip
    # A call with other inputs shows whether calls share memory: the tape above is used after it.
    with np.errstate(all="ignore"):
        _call(forward, {k: _scaled(v, 0.875) for k, v in inputs.items()})
    unchanged("another call of forward")
    return outputs, tape, unchanged


def _run_backward(
    backward: Callable[..., Any],
    tape: Any,
    tests: list[tuple[Tree, float]],
    inputs: Mapping[str, Tree],
    params: Mapping[str, Array],
    unchanged: Callable[[str], None],
) -> list[dict[str, Array]]:
    """The gradients of each test, by name."""
    returned, gradients = [], []
    for cotangents, _ in [*tests, tests[0]]:
        grads = backward(tape, *_copy("cotangent", cotangents))  # which it may overwrite
        returned.append(dict(_matched(inputs, params, grads)))
        gradients.append({name: g.copy() for name, g in returned[-1].items()})
        unchanged("backward")
        _same(returned[0], gradients[0], "backward changes the gradient of {} of the call before, "
              "expected memory of its own")  # fmt: skip
    *gradients, repeated = gradients
    for name, gradient in gradients[0].items():
        with np.errstate(invalid="ignore"):
            close = np.abs(repeated[name] - gradient) <= 1e-9 * np.max(np.abs(gradient), initial=0)
        if not np.all(close) and not np.array_equal(repeated[name], gradient, equal_nan=True):
            raise AssertionError(
                f"gradcheck: gradient of {name} is another when backward is called again with the "
                "same tape, expected the same"
            )
    return gradients


def _same(found: Mapping[str, Tree], expected: Mapping[str, Tree], message: str) -> None:
    for key, tree in found.items():
        pairs = zip_longest(_leaves(key, tree), _leaves(key, expected[key]), fillvalue=(key, None))
        for (name, a), (_, b) in pairs:
            if a is None or b is None or not np.array_equal(a, b, equal_nan=True):
                raise AssertionError(f"gradcheck: {message.format(name)}")


def _cotangents(rng: np.random.Generator, outputs: Tree) -> list[tuple[Tree, float]]:
    """Cotangents and their size. A right gradient is linear in them: large, small or partly 0."""

    def half_zero(tree: Tree) -> Tree:
        if isinstance(tree, tuple):
            return tuple(half_zero(branch) for branch in tree)
        return rng.standard_normal(tree.shape) * (rng.random(tree.shape) < 0.5)

    return [(_normal(rng, outputs), 1.0), (_scaled(half_zero(outputs), 1e3), 1e3),
            (_scaled(_normal(rng, outputs), 1e-3), 1e-3)]  # fmt: skip


# --- the comparison -------------------------------------------------------------------------------


def _quotients(
    forward: Callable[..., Any],
    inputs: Mapping[str, Tree],
    weights: list[list[Array]],
    array: Array,
    index: tuple[int, ...],
    eps: float,
) -> list[float]:
    """The difference quotient of each test, for one element."""
    value = array[index]
    step = max(eps, abs(value) * 2**-32) if np.isfinite(value) else eps

    def at(changed: float) -> list[Array]:
        array[index] = changed
        arguments = {name: _copy(name, tree) for name, tree in inputs.items()}
        return [y for _, y in _leaves("", _copy("output", _call(forward, arguments)[:-1]))]

    try:
        above, below = at(value + step), at(value - step)
    finally:
        array[index] = value
    shapes = [[y.shape for y in ys] for ys in (weights[0], above, below)]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        raise AssertionError(f"gradcheck: outputs have shapes {shapes[1]}, expected {shapes[0]}")
    width = (value + step) - (value - step) if np.isfinite(value) else 2 * step
    with np.errstate(invalid="ignore"):  # a quotient that is not finite counts as wrong
        # Outputs are subtracted before they are summed: large sums would hide small differences.
        differences = [a - b for a, b in zip(above, below)]
        return [sum(float(np.sum(d * e)) for d, e in zip(w, differences)) / width for w in weights]


def _largest_error(
    name: str, gradient: Array, numeric: Array, size: float, rtol: float, atol: float, noise: float
) -> float:
    """The largest error, in units of the cotangents' size."""
    gradient, numeric = gradient / size, numeric / size
    with np.errstate(invalid="ignore"):
        error, largest = np.abs(gradient - numeric), np.max(np.abs(numeric), initial=0)
        allowed = atol + rtol * np.abs(numeric) + min(noise / size, rtol * largest)
        right = np.isfinite(numeric) & (error <= allowed)  # False for NaN
    if not np.all(right):
        worst = np.unravel_index(int(np.argmax(np.where(right, -1, error))), error.shape)
        at = tuple(int(i) for i in worst)
        raise AssertionError(
            f"gradcheck: gradient of {name} is {gradient[at]:.10g} at {at}, expected "
            f"{numeric[at]:.10g} +- {allowed[at]:.2g} ({int(np.sum(~right))} of "
            f"{error.size} elements are wrong"
            + (")" if size == 1 else f"; both divided by {size:g}, the size of the cotangents)")
        )
    return float(np.max(error, initial=0))


# --- trees of arrays ------------------------------------------------------------------------------


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


def _float64(name: str, value: Any) -> Array:
    array = as_array("gradcheck", name, value)
    if array.dtype != np.float64:
        raise TypeError(f"gradcheck: {name} has dtype {array.dtype}, expected float64")
    return array


def _copy(name: str, tree: Tree) -> Tree:
    if isinstance(tree, (tuple, list)):
        return tuple(_copy(f"{name}[{i}]", branch) for i, branch in enumerate(tree))
    return _float64(name, tree).copy()


def _scaled(tree: Tree, factor: float) -> Tree:
    if isinstance(tree, tuple):
        return tuple(_scaled(branch, factor) for branch in tree)
    return factor * tree


def _normal(rng: np.random.Generator, tree: Tree) -> Tree:
    """Random numbers in the shape of an output."""
    if isinstance(tree, tuple):
        return tuple(_normal(rng, branch) for branch in tree)
    return rng.standard_normal(tree.shape)


def _arrays(inputs: Mapping[str, Tree], params: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    for group in (inputs, params):
        for key, tree in group.items():
            yield from _leaves(key, tree)


def _matched(
    inputs: Mapping[str, Tree], params: Mapping[str, Array], grads: Any
) -> Iterator[tuple[str, Array]]:
    """Name and gradient of each array to check."""
    groups: list[tuple[Mapping[str, Tree], Any]] = [(inputs, grads)]
    if params:
        groups.append((params, _get(grads, "params")))
    for trees, found in groups:
        for key, tree in trees.items():
            gradients = dict(_leaves(key, _get(found, key)))
            for name, array in _leaves(key, tree):
                gradient = as_array("gradcheck", f"gradient of {name}", gradients.get(name))
                if gradient.shape != array.shape or gradient.dtype != np.float64:
                    raise AssertionError(
                        f"gradcheck: gradient of {name} has shape {gradient.shape} and dtype "
                        f"{gradient.dtype}, expected {array.shape} and float64"
                    )
                yield name, gradient


def _get(found: Any, name: str) -> Any:
    has = name in found if isinstance(found, Mapping) else hasattr(found, name)
    if not has:
        raise AssertionError(f"gradcheck: backward returns no gradient of {name}, expected one")
    return found[name] if isinstance(found, Mapping) else getattr(found, name)
