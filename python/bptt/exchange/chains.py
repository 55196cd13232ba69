# SPDX-License-Identifier: MIT
"""Checks of a chain of layers before it is written in another library's format."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .._words import shown
from ..layers.base import Layer
from ..layers.embedding import Embedding
from ..layers.expressible import check_expressible
from ..layers.linear import Linear
from ..layers.recurrent import Recurrent
from ..trace.nonfinite import check_finite

__all__ = ["check_chain", "sizes_of_layer"]


def check_chain(
    caller: str, layers: Any, kinds: tuple[type[Layer], ...], written: Collection[str], library: str
) -> None:
    """Raise unless `library` can hold the layers, each of which reads the output before it.

    `written` has the options of recurrent layers that its format holds.
    """
    if isinstance(layers, Layer) or not isinstance(layers, Sequence) or not layers:
        raise TypeError(f"{caller}: layers is {_brief(layers)}, expected a list of layers")
    names = [kind.__name__ for kind in kinds]
    width = None
    for k, layer in enumerate(layers):
        place = f"{caller}: layers[{k}]"
        if not isinstance(layer, kinds):
            raise TypeError(
                f"{place} is {_brief(layer)}, expected {', '.join(names[:-1])} or {names[-1]}"
            )
        if isinstance(layer, Recurrent):
            check_expressible(place, layer, written, library)
        for name, array in layer.parameters.items():
            check_finite(f"{place}: {name}", array)
        inputs, outputs = sizes_of_layer(layer)
        if width is not None and inputs != width:
            raise ValueError(
                f"{place} has {inputs or 'indices as'} inputs, expected {width}, the outputs "
                "before it"
            )
        width = outputs


def sizes_of_layer(layer: Layer) -> tuple[int, int]:
    """Inputs and outputs; an embedding has 0 inputs."""
    if isinstance(layer, Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, Embedding):
        return 0, layer.embedding_dim
    assert isinstance(layer, Recurrent)
    return layer.input_size, layer.structure.directions * layer.structure.width


def _brief(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"a list of length {len(value)}" if value else "an empty list"
    simple = value is None or isinstance(value, (str, bool, int, float))
    return shown(value) if simple else f"of type {type(value).__name__}"
