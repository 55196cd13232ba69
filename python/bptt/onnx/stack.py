# SPDX-License-Identifier: MIT
"""Finds out whether a graph computes one recurrent layer and nothing else.

Each program adds nodes of its own that move axes and pick states. So these nodes are not
interpreted: the graph runs with random weights, and must give the results of the layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._cells import CELLS
from .._types import Array
from ..layers.cells import LAYERS
from ..layers.recurrent import Recurrent
from .layer import named, weights_of
from .model import Model
from .nodes import SURROUNDING
from .operator import Operator

__all__ = ["stack_of"]

SIZES = ((4, 3), (5, 2))  # T and B of the trials
BATCH_AXIS = {"h": 1, "c": 1, "lengths": 0}
NEAR = {"float32": 1e-4, "float64": 1e-9}  # relative; another arrangement is wrong by about 1


def stack_of(model: Model) -> Recurrent | None:
    """The layer that computes the outputs of a graph, or None."""
    operators = list(model.operators.values())
    roles = _roles(model)
    if roles is None or not model.others <= SURROUNDING or not _fit(operators):
        return None
    rng = np.random.default_rng(0)
    layers: list[Recurrent] = [o.layer for o in operators if o.layer is not None]
    trained = [{n: a.copy() for n, a in layer.parameters.items()} for layer in layers]
    try:
        for layer in layers:
            random = {n: rng.uniform(-0.6, 0.6, a.shape) for n, a in layer.parameters.items()}
            layer.parameters.update(random)
        fitting = [
            first for first in (False, True) if _equal(model, _joined(operators, first), roles, rng)
        ]
    finally:
        for layer, arrays in zip(layers, trained):
            layer.parameters.update(arrays)
    return _joined(operators, fitting[0]) if fitting else None


def _roles(model: Model) -> dict[str, str] | None:
    """What each input of the graph may be: x, h, c or lengths."""
    floats = ["x", *CELLS[next(iter(model.operators.values())).attributes.op.lower()].states]
    roles = {}
    for name, (dtype, shape) in model.inputs.items():
        if shape is not None and len(shape) == 3 and dtype.kind == "f" and floats:
            roles[name] = floats.pop(0)
        elif shape is not None and len(shape) == 1 and dtype.kind == "i":
            roles[name] = "lengths"
        else:
            return None
    return roles if "x" in roles.values() and len({*roles.values()}) == len(roles) else None


def _fit(operators: list[Operator]) -> bool:
    """Can all nodes be layers on top of each other?"""
    if any(o.layer is None for o in operators):
        return False
    structures = [o.layer.structure for o in operators if o.layer is not None]
    first = structures[0]
    width = first.directions * first.hidden_size
    same = [
        (s.kind, s.reverse, s.options, s.learnt, s.bias, s.hidden_size, s.dtype) for s in structures
    ]
    return (
        all(s == same[0] for s in same)
        and all(s.directions == first.directions for s in structures)
        and all(s.input_size == width for s in structures[1:])
    )


def _joined(operators: list[Operator], batch_first: bool) -> Recurrent:
    """One layer with the weights of all nodes."""
    layers = [o.layer for o in operators if o.layer is not None]
    s = layers[0].structure
    more = {"peepholes": True} if "peepholes" in s.learnt else {}
    joined: Recurrent = LAYERS[s.kind](
        s.input_size, s.hidden_size, len(layers), bias=s.bias, batch_first=batch_first,
        bidirectional=s.directions == 2, reverse=s.reverse, dtype=s.dtype, seed=0, **s.options,
        **more,
    )  # fmt: skip
    arrays: dict[str, Array] = {}
    for number, layer in enumerate(layers):
        arrays |= named(joined, number, weights_of(layer))
    joined.load(arrays)
    return joined


def _equal(model: Model, layer: Recurrent, roles: dict[str, str], rng: Any) -> bool:
    """Is each output of the graph one of the layer's results, for random inputs of two sizes?"""
    for sizes in SIZES:
        inputs = _random(model, layer, roles, sizes, rng)
        if inputs is None:
            return False
        state = tuple(inputs[r] for r in ("h", "c") if r in inputs)
        if state and len(state) != layer.structure.states:
            return False
        y, final = layer(
            inputs["x"], (state if len(state) > 1 else state[0]) if state else None,
            inputs.get("lengths"),
        )  # fmt: skip
        try:
            outputs = model({name: inputs[role] for name, role in roles.items()})
        except (TypeError, ValueError):  # an arrangement for other shapes
            return False
        results = [y, *(final if isinstance(final, tuple) else (final,))]
        results += _as_node(model, layer, results)
        near = NEAR[layer.dtype.name]
        if not all(any(_close(o, r, near) for r in results) for o in outputs.values()):
            return False
    return True


def _random(
    model: Model, layer: Recurrent, roles: dict[str, str], sizes: tuple[int, int], rng: Any
) -> dict[str, Array] | None:
    """Inputs by role, of the sizes that the graph declares where it does."""
    shapes = {role: model.inputs[name].shape or () for name, role in roles.items()}
    declared = shapes["x"][1::-1] if layer.batch_first else shapes["x"][:2]
    T, B = (n if isinstance(n, int) else size for n, size in zip(declared, sizes))
    batches = [shapes[role][axis] for role, axis in BATCH_AXIS.items() if role in shapes]
    B = next((n for n in batches if isinstance(n, int)), B)
    s = layer.structure
    wanted: dict[str, tuple[int, ...]] = {
        "x": (B, T, s.input_size) if layer.batch_first else (T, B, s.input_size),
        **dict.fromkeys(("h", "c"), (s.cells, B, s.hidden_size)),
        "lengths": (B,),
    }
    if not T or not B:
        return None
    found: dict[str, Array] = {}
    for role, shape in shapes.items():
        if any(isinstance(n, int) and n != size for n, size in zip(shape, wanted[role])):
            return None
        if role == "lengths":  # the longest first, as PyTorch's packed sequences want them
            found[role] = np.sort(rng.integers(1, T + 1, B))[::-1].copy()
            found[role][0] = T
        else:
            found[role] = rng.normal(size=wanted[role]).astype(s.dtype)
    return found


def _as_node(model: Model, layer: Recurrent, results: list[Array]) -> list[Array]:
    """The results in the shapes of a node: Y (T, D, B, H), or (B, T, D, H) with layout 1."""
    if layer.num_layers > 1:
        return []
    (operator,) = model.operators.values()
    D, (y, *states) = layer.structure.directions, results
    Y = y.reshape(*y.shape[:2], D, -1)
    if operator.attributes.batch_first:
        return [Y, *(state.swapaxes(0, 1) for state in states)] if layer.batch_first else []
    return [] if layer.batch_first else [Y.swapaxes(1, 2)]


def _close(got: Array, want: Array, near: float) -> bool:
    if got.shape != want.shape:
        return False
    return bool(np.abs(got - want).max(initial=0) <= near * np.abs(want).max(initial=1))
