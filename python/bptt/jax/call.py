# SPDX-License-Identifier: MIT
"""A call of the core as a function of JAX, with the backward pass as its derivative."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.buffer_callback import buffer_callback

from .._binding.call import gradients_of
from .arguments import as_call, shapes_of
from .axes import Given, leaves, tree_map
from .callbacks import Backward, Call, Forward

SymbolicZero = jax.custom_derivatives.SymbolicZero


def recurrence(
    cell: str, arrays: Given, reverse: Any, options: dict[str, Any], how: tuple[Any, ...]
) -> tuple[Any, Any]:
    """y and the final state; the arguments are those of `as_call`."""
    call, given = as_call(cell, arrays, reverse, options, how)
    results: tuple[Any, Any] = forward(call, given)
    if jnp.ndim(arrays["x"]) == 2:  # one sequence
        results = tree_map(lambda a: jnp.squeeze(a, -2), results)
    return results


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def called(callback: Forward | Backward, given: Given) -> Given:
    """The callback's results, in the compiled program."""
    # Not `jax.pure_callback`: it hands over copies that a thread of the same pool makes. If all
    # threads are busy, or there is one core, the callback waits for them for ever.
    shapes = callback.results(shapes_of(given))
    fill: Any = callback
    results: Given = buffer_callback(fill, shapes, vmap_method="expand_dims")(given)
    return results


@called.defjvp
def called_jvp(callback: Forward | Backward, primals: Any, tangents: Any) -> Any:
    """Reached from the rules below, so by a derivative of a derivative."""
    raise TypeError(
        f"jax.{callback.call.cell}: a second derivative is wanted, which is not computed; "
        "expected a first derivative (bptt.hvp has the Hessian times a vector)"
    )


# --- the derivative -------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def forward(call: Call, given: Given) -> tuple[Any, Any]:
    """y and the final state."""
    results = called(Forward(call), given)
    return results["y"], results["state"]


def forward_rule(call: Call, primals: Given) -> tuple[Any, Any]:
    """As `forward`; and what the rule below needs."""
    wanted = [n for n, value in primals.items() if any(p.perturbed for p in leaves(value))]
    for name in wanted:
        if name not in gradients_of(call.cell):
            raise TypeError(
                f"jax.{call.cell}: a gradient of {name} is wanted, which is not computed; "
                f"expected jax.lax.stop_gradient({name})"
            )
    given = jax.tree.map(lambda p: p.value, primals)
    # A dict of Nones holds no arrays, so its keys are known when the rule below is traced.
    return forward(call, given), (given, dict.fromkeys(wanted))


def backward_rule(call: Call, kept: tuple[Given, dict[str, None]], cotangents: Any) -> tuple[Given]:
    """The gradients of the arrays, None for those that have none."""

    def is_zero(d: Any) -> bool:
        return isinstance(d, SymbolicZero)

    given, wanted = kept
    dy, dstate = jax.tree.map(lambda d: None if is_zero(d) else d, cotangents, is_leaf=is_zero)
    grads = called(Backward(call, tuple(wanted)), given | {"dy": dy, "dstate": dstate})
    return ({name: grads.get(name) for name in given},)


forward.defvjp(forward_rule, backward_rule, symbolic_zeros=True)
