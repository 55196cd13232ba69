# SPDX-License-Identifier: MIT
"""``bptt export``: a saved model as a C header, or as RTNeural's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files.access import check_target, naming, write_file
from .._types import Array
from .._words import some
from ..exchange.loader import recurrent_of
from ..exchange.rtneural import JSON, as_json, load_rtneural
from ..exchange.state_dict import recurrent_parts
from ..layers.activations import ACTIVATIONS
from ..layers.base import Layer
from ..layers.cells import LAYERS
from ..layers.dropout import Dropout
from ..layers.linear import Linear
from ..layers.masks import is_mask_count
from .c_ends import Exported
from .c_header import HEADER, as_header
from .c_names import as_prefix
from .source import exported, read_model

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Write a saved model for programs without Python: as a header of C89 and C++, or as JSON for
RTNeural. The header has the weights as constant arrays. Of a whole model (Sequential.save) it also
has the functions NAME_start, NAME_step and NAME_reset, which run the model step by step with the
bits of its stream in Python; link such a program with libbptt.a, as docs/embedding.md shows."""

EPILOG = """\
examples:
  bptt export model.npz --c-header model.h     # a whole model, with model_step()
  bptt export amp.safetensors --c-header amp.h
  bptt export amp.safetensors --json amp.json --layers lstm head:tanh
  bptt export amp.json --c-header amp.h        # layers are named 0, 1, ..."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt export`` to a parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "model",
        help="safetensors or npz: a whole model by Sequential.save, or arrays under PyTorch's "
        "names, weight_ih_l0, ...; or RTNeural's .json",
    )
    add("--c-header", metavar="FILE", help="write a header")
    add("--name", help="prefix of all names in the header (default: the name of the file)")
    add("--cell", choices=tuple(LAYERS), help="kind of cell (default: by the number of gates)")
    add("--json", metavar="FILE", help="write RTNeural's JSON")
    add(
        "--layers",
        nargs="+",
        metavar="NAME[:ACTIVATION]",
        help="for --json: the layers by the prefix of their names, in order. A dense layer needs "
        f"its activation ({', '.join(ACTIVATIONS)}) too, which the file does not hold. Not needed "
        "if the file has only one recurrent layer",
    )
    add("--force", action="store_true", help="also overwrite files that bptt did not make")


def run(args: argparse.Namespace) -> int:
    """Write the files of the options.

    Raises
    ------
    ValueError
        If a file has other contents, or no option names a file to write.
    OSError
        If a file cannot be read or written.
    """
    if args.c_header is None and args.json is None:
        raise ValueError("export: nothing to write, expected --c-header FILE or --json FILE")
    from_json = args.model.lower().endswith(".json")
    if from_json and args.json is not None:
        raise ValueError(f"export: {args.model} is RTNeural's JSON already, expected no --json")
    outputs = {"--c-header": (args.c_header, HEADER), "--json": (args.json, JSON)}
    targets = [
        check_target("export", path, own, label, args.force)
        for label, (path, own) in outputs.items()
        if path is not None
    ]
    if len(set(targets)) < len(targets):
        raise ValueError("export: --c-header and --json have the same file, expected two")
    if args.c_header is not None:
        args.name = as_prefix(args.c_header, args.name)
    try:
        model: Any = (
            _numbered(load_rtneural(args.model)) if from_json else read_model("export", args.model)
        )
        with naming(args.model):
            contents = _contents(args, model)
    except (TypeError, ImportError) as error:  # of files, not of a program
        raise ValueError(str(error)) from error
    for label, content in contents.items():
        path, own = outputs[label]
        write_file("export", path, content, own, label, args.force)
    return 0


def _contents(args: argparse.Namespace, model: Any) -> dict[str, bytes]:
    """The contents to write, by option."""
    contents = {}
    whole = exported("export", model)
    if whole and (args.layers or args.cell):
        option = "--layers" if args.layers else "--cell"
        raise ValueError(f"export: {option} is given, expected none: the file has a whole model")
    if args.c_header is not None:
        contents["--c-header"] = as_header(args.c_header, model, args.name, args.cell)
    if args.json is not None:
        layers = _chain(whole) if whole else _layers(model, args.layers, args.cell)
        contents["--json"] = as_json(layers)
    return contents


def _chain(whole: Exported) -> list[Layer]:
    """The layers that do something outside training."""
    if whole != Exported(whole.model):
        raise ValueError("export: --json has an estimator, expected a model without normalisation")
    return [layer for layer in whole.model.layers if not isinstance(layer, Dropout)]


def _numbered(layers: list[Layer]) -> dict[str, Any]:
    return {str(k): layer for k, layer in enumerate(layers)}


def _layers(arrays: Mapping[str, Array], order: list[str] | None, cell: str | None) -> list[Layer]:
    """The layers of all arrays, in the order of the items NAME or NAME:ACTIVATION."""
    recurrent = recurrent_parts("export", arrays)
    left = {key: array for key, array in arrays.items() if not is_mask_count(key, array)}
    if order is None:  # a single layer needs none
        order = list(recurrent) if [len(part) for part in recurrent.values()] == [len(left)] else []
    layers: list[Layer] = []
    for item in order:
        name, _, activation = item.partition(":")
        if name in recurrent and not activation:
            part = recurrent[name]
            layers.append(recurrent_of("export", "model", part, cell=cell))
        else:
            part = {k: arrays[_key(name, k)] for k in ("weight", "bias") if _key(name, k) in arrays}
            layers.append(_linear(name, part, activation or "identity"))
        for key in part:  # of one of PyTorch's cells, the name in the file has no number
            for own in (key, key.removesuffix("_l0")):
                left.pop(_key(name, own), None)
    if left or not layers:
        names = some(dict.fromkeys(key.rpartition(".")[0] or key for key in left))
        raise ValueError(
            f"export: the file also has the layers {names}, expected all in --layers, in order"
        )
    return layers


def _key(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _linear(name: str, arrays: Mapping[str, Array], activation: str) -> Linear:
    weight = arrays.get("weight")
    if weight is None or weight.ndim != 2:
        raise ValueError(f"export: --layers has {name!r}, expected a recurrent or dense layer")
    wide = all(array.dtype == np.float64 for array in arrays.values())
    outputs, inputs = weight.shape
    layer = Linear(
        inputs, outputs, "bias" in arrays, activation=activation,
        dtype="float64" if wide else "float32",
    )  # fmt: skip
    layer.load(arrays)
    return layer
