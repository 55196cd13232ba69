# SPDX-License-Identifier: MIT
"""`load_model`: trained layers from whatever holds them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .._files.access import naming, open_file
from .._files.contents import read
from .._files.formats import kind_of
from .._files.parse import parse_checkpoint, parse_npz, parse_safetensors
from .._validate import as_path, check_mapping
from .._words import listed, shown
from ..layers.base import Layer
from ..layers.recurrent import Recurrent
from .entries import Entry, chosen
from .keras_files import (
    KerasFile,
    entries_of_file,
    entries_of_object,
    is_keras,
    parse_archive,
    parse_h5,
)
from .modules import entries_of_module, is_module
from .nam import is_nam, layers_of_nam
from .rtneural import layers_of_rtneural, parse_json
from .state_dict import entries_of_arrays

__all__ = ["load_model", "recurrent_of"]

WHERE = "load_model"


class Json(dict[str, Any]):
    """The object of a JSON file, to tell it from a dict of arrays."""


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "safetensors": lambda content: parse_safetensors(content)[0],
    "npz": lambda content: parse_npz(content)[0],
    "torch": lambda content: parse_checkpoint(content)[0],
    "keras": parse_archive,
    "hdf5": parse_h5,
    "json": lambda content: Json(parse_json("the file", content)),
}
KINDS = "a model: safetensors, npz, torch.save, Keras, ONNX, RTNeural or NAM"


def load_model(
    source: Any, name: str | None = None, *, cell: str | None = None, **options: Any
) -> Any:
    """Load trained layers from a file, a dict of arrays, or a module of another library.

    The content of a file decides its format. No pickle is read, no code of a file runs, and nothing
    is loaded in part: each array of a layer is used, or named in the error.

    Parameters
    ----------
    source : path, dict of str to array_like, module or Layer
        - A file: safetensors, npz, ``torch.save`` of a state dict or of a checkpoint with one
          inside, Keras' .keras and .h5, ONNX, RTNeural's JSON, Neural Amp Modeler's .nam with an
          LSTM.
        - Arrays under PyTorch's names, with any prefix, of layers (``rnn.weight_ih_l0``) or of
          cells (``rnn.weight_ih``). If there is one bias, the other is 0.
        - A module of PyTorch, a layer or model of Keras, an ONNX model or node. None of these
          packages is imported, except for their files. Keras' files need h5py
          (``pip install "bptt[keras]"``), not TensorFlow.
        - A layer of bptt, which is returned unchanged.
    name : str, optional
        The one layer to load, by its name or the end of it: "encoder" for ``model.encoder``. Of
        arrays by name it may also be a dense layer or an embedding.
    cell : {"rnn", "lstm", "gru", "mgu", "slstm", "lstm1997", "linear", "embedding"}, optional
        The kind of the layer, only for arrays by name. If omitted, the number of gates tells it as
        in PyTorch: 1 is an RNN, 3 a GRU, 4 an LSTM; 2 is an MGU.
    **options
        Arguments of the recurrent layers' constructor that the source does not tell, or that
        replace what it tells: ``activation="relu"``, ``batch_first=True``, ``dtype="float64"``, ...

    Returns
    -------
    Layer or dict of str to Layer
        The layer, if the source holds one or if `name` is given; else a dict of all its layers, in
        its order. Arrays by name give the recurrent layers alone, as no name shows what else an
        array is. A module or model gives `Linear` and `Embedding` as well, and is refused if it has
        a layer with weights that bptt lacks; layers without weights are left out. RTNeural's layers
        are called "0", "1", ...; NAM's "lstm" and "head", and "state" is the initial state (h, c)
        of one sequence.

        Layers of Keras are in the layout that it uses, ``batch_first=True``. Without `dtype`, a
        layer is in float64 if all its weights are, else in float32.

    Raises
    ------
    ValueError
        If the file is damaged or of another format, or names, shapes or settings do not fit a layer
        of bptt.
    TypeError
        If `source` is something else, or options do not belong to the layer.
    ImportError
        If a package is missing that the file needs.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> weights = {"net.weight_ih_l0": np.ones((12, 2)), "net.weight_hh_l0": np.zeros((12, 3))}
    >>> bptt.load_model(weights)
    LSTM(2, 3, bias=False, dtype='float64')
      weight_ih_l0  (12, 2)
      weight_hh_l0  (12, 3)
      60 parameters
    """
    if isinstance(source, Layer):
        _check_none(source, name, cell, options)
        return source
    return _in_source(source, name, cell, options, None, _everything)


def recurrent_of(
    source: Any,
    name: str | None = None,
    cell: str | None = None,
    options: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Recurrent:
    """The one recurrent layer of a source; `seed` is for the masks of a module of PyTorch."""
    if isinstance(source, Recurrent):
        _check_none(source, name, cell, options or {})
        return source
    found = _in_source(source, name, cell, options or {}, seed, _recurrent_only)
    if not isinstance(found, Recurrent):
        raise ValueError(f"{WHERE}: source is {type(found).__name__}, expected a recurrent layer")
    return found


def _check_none(
    source: Layer, name: str | None, cell: str | None, options: Mapping[str, Any]
) -> None:
    if name is not None or cell is not None or options:
        raise TypeError(
            f"{WHERE}: name, cell or options are given, expected none: {type(source).__name__} "
            "has its own"
        )


Choose = Callable[[dict[str, Entry], str | None, dict[str, Any]], Any]
_everything: Choose = partial(chosen, WHERE)


def _recurrent_only(entries: dict[str, Entry], name: str | None, options: dict[str, Any]) -> Any:
    if name is None:
        entries = {n: entry for n, entry in entries.items() if entry.recurrent} or entries
        if len(entries) > 1:
            raise ValueError(f"{WHERE}: name is missing, expected one of {listed(entries)}")
    return chosen(WHERE, entries, name, options)


def _in_source(
    source: Any,
    name: str | None,
    cell: str | None,
    options: dict[str, Any],
    seed: int | None,
    choose: Choose,
) -> Any:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{WHERE}: name is {shown(name)}, expected the name of a layer")
    if _is_onnx(source):
        return _onnx(source, name, cell, options)
    if not isinstance(source, (str, os.PathLike)):
        return choose(_entries(source, name, cell, options, seed), name, options)
    path = as_path(WHERE, source, "source")
    with open_file(WHERE, path) as file:
        kind = kind_of(file, path)
    if kind == "onnx":
        return _onnx(path, name, cell, options)
    content = read(WHERE, path, PARSERS, KINDS)
    with naming(path):
        return choose(_entries(content, name, cell, options, seed), name, options)


def _entries(
    source: Any, name: str | None, cell: str | None, options: dict[str, Any], seed: int | None
) -> dict[str, Entry]:
    """The layers of a source that is in memory."""
    known = isinstance(source, (Json, KerasFile))
    if isinstance(source, Mapping) and not known:
        check_mapping(WHERE, "source", source, tensors=True)
        return entries_of_arrays(WHERE, source, name, cell)
    if cell is not None and (known or is_module(source) or is_keras(source)):
        raise TypeError(
            f"{WHERE}: cell is {shown(cell)}, expected None: the source names its cells"
        )
    if isinstance(source, Json):
        return _of_json(source, options)
    if isinstance(source, KerasFile):
        return entries_of_file(WHERE, source)
    if is_keras(source):  # on PyTorch it is a module of PyTorch as well
        return entries_of_object(WHERE, source)
    if is_module(source):
        return entries_of_module(WHERE, source, seed)
    raise TypeError(
        f"{WHERE}: source is of type {type(source).__name__}, expected a path, a dict of arrays, a "
        "layer, or a module of PyTorch, Keras or ONNX"
    )


def _of_json(model: Json, options: dict[str, Any]) -> dict[str, Entry]:
    if is_nam(model):
        found = layers_of_nam(WHERE, model, options)
    else:
        layers = layers_of_rtneural(WHERE, model, options)
        found = {str(k): layer for k, layer in enumerate(layers)}
    return {
        name: Entry("layer", lambda _, layer=layer: layer, isinstance(layer, Recurrent))  # type: ignore[misc]
        for name, layer in found.items()
    }


# --- ONNX -----------------------------------------------------------------------------------------


def _is_onnx(source: Any) -> bool:
    """Is it a model, graph or node of ONNX?"""
    message = getattr(getattr(source, "DESCRIPTOR", None), "full_name", "")
    return message in ("onnx.ModelProto", "onnx.GraphProto", "onnx.NodeProto")


def _onnx(source: Any, name: str | None, cell: str | None, options: dict[str, Any]) -> Any:
    if cell is not None:
        raise TypeError(
            f"{WHERE}: cell is {shown(cell)}, expected None: the source names its cells"
        )
    given = options if name is None else {"name": name, **options}
    return importlib.import_module("bptt.onnx").load(source, **given)
