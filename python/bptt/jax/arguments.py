# SPDX-License-Identifier: MIT
"""Checks a call's arguments while JAX traces it: shapes and dtypes are known, values are not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._binding.call import as_bf16, as_threads
from .._binding.options import is_default
from .._cells import CELLS
from .._validate import as_checkpoint, as_count, as_flag, as_lengths_within, as_step_clip
from .._words import listed
from .axes import SEQUENCES, Given, leaves, tree_map
from .callbacks import Call, Shapes, results_of

KINDS: dict[str, tuple[Any, str]] = {
    "lengths": (jnp.integer, "integers"),
    "resets": (jnp.bool_, "bool"),
}


def as_call(
    cell: str, arrays: Given, reverse: Any, options: dict[str, Any], how: tuple[Any, ...]
) -> tuple[Call, Given]:
    """Split a call into its arrays and everything else.

    `options` are those of the cell's row; `how`: step_clip, cut, threads, checkpoint, compute.
    """
    caller = f"jax.{cell}"
    static, more = split_options(caller, cell, options)
    given = {name: as_given(caller, cell, name, v) for name, v in (arrays | more).items()}
    for name in ("x", "w_ih", "w_hh"):
        if given[name] is None:
            raise TypeError(f"{caller}: {name} is None, expected an array")
    given = of_one_dtype(given)
    if given["x"].ndim == 2:
        given |= {n: with_batch(given[n], SEQUENCES[n]) for n in given if n in SEQUENCES}
    step_clip, cut, threads, checkpoint, compute = how
    as_bf16(caller, compute, given["x"].dtype)
    call = Call(
        cell,
        static,
        as_flag(caller, "reverse", reverse),
        (
            None if threads is None else as_threads(caller, threads),
            as_checkpoint(caller, checkpoint),
            compute,
        ),
        None if step_clip is None else as_step_clip(caller, step_clip),
        None if cut is None else as_count(caller, "cut", cut, 1),
    )
    check(caller, call, given)
    return call, given


# --- options --------------------------------------------------------------------------------------


def is_array(value: Any) -> bool:
    """Is it an array with dimensions, or a tuple with one?"""
    if isinstance(value, (tuple, list)):
        return any(map(is_array, value))
    return getattr(value, "ndim", 0) > 0


def split_options(
    caller: str, cell: str, options: dict[str, Any]
) -> tuple[tuple[tuple[str, Any], ...], Given]:
    """Options that are constants of the compiled program, checked; and those that are arrays."""
    static, arrays, known = [], {}, CELLS[cell].options
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"{caller}: {name} is no argument, expected one of {listed(known, 16)}")
        if is_default(value, known[name].default):
            continue
        if not is_array(value):
            if isinstance(value, jax.core.Tracer):
                raise TypeError(f"{caller}: {name} is a traced number, expected a constant")
            value = value.item() if hasattr(value, "item") else value
            converted = known[name].convert(caller, name, value)
            if not is_array(converted):
                static.append((name, tuple(value) if isinstance(value, list) else value))
                continue
            value = converted  # from lists
        if name == "zoneout" and any(np.ndim(v) == 0 for v in leaves(value)):
            raise TypeError(f"{caller}: zoneout is a number and an array, expected two of a kind")
        arrays[name] = value
    return tuple(static), arrays


# --- arrays ---------------------------------------------------------------------------------------


def as_given(caller: str, cell: str, name: str, value: Any) -> Any:
    """One array, several in a tuple, or None."""
    several = name in ("layer_norm", "zoneout") or (name, len(CELLS[cell].states)) == ("state", 2)
    if several and isinstance(value, (tuple, list)):
        return tuple(None if part is None else as_jax(caller, name, part) for part in value)
    return None if value is None else as_jax(caller, name, value)


def as_jax(caller: str, name: str, value: Any) -> jax.Array:
    """The value as an array of JAX, if the argument can have its dtype."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{caller}: {name} is not an array: {str(error)[:200]}") from None
    kind, expected = KINDS.get(name, (None, "real numbers"))
    if kind:
        fits = jnp.issubdtype(array.dtype, kind)
    else:  # extended: keys of random numbers
        fits = jnp.isrealobj(array) and not jnp.issubdtype(array.dtype, jax.dtypes.extended)
    if not fits:
        raise TypeError(f"{caller}: {name} has dtype {array.dtype}, expected {expected}")
    return array


def of_one_dtype(given: Given) -> Given:
    """In float64 if x, a weight or a bias is, else in float32."""
    decide = [given[name] for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh")]
    wide = any(a is not None and a.dtype == np.float64 for a in decide)
    dtype = np.dtype(np.float64 if wide else np.float32)
    return {
        name: value if name in KINDS else tree_map(lambda a: a.astype(dtype), value)
        for name, value in given.items()
    }


def with_batch(value: Any, axis: int) -> Any:
    """The arrays of one sequence, as those of a batch of one."""
    # An array with too few dimensions stays as it is, and `check` says what is expected.
    return tree_map(lambda a: jnp.expand_dims(a, axis) if a.ndim >= -1 - axis else a, value)


def check(caller: str, call: Call, given: Given) -> None:
    """Raise the core's errors about shapes and options."""
    try:
        results_of(call, shapes_of(given))
    except (TypeError, ValueError) as error:
        text = str(error)
        for direction in ("forward", "backward"):
            text = text.replace(f"{call.cell}_{direction}: ", f"{caller}: ")
        raise type(error)(text) from None
    if not isinstance(given["lengths"], jax.core.Tracer):  # else the core does, in the callback
        as_lengths_within(caller, given["lengths"], *given["x"].shape[:2])


def shapes_of(given: Given) -> Shapes:
    return tuple(tree_map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), given).items())
