# SPDX-License-Identifier: MIT
"""`load_model`: trained layers from files, arrays and modules."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from .._files.access import naming, open_file
from .._files.contents import read
from .._files.formats import kind_of
from .._files.parse import parse_checkpoint, parse_npz, parse_safetensors
from .._validate import as_path, check_mapping
from .._words import listed, shown
from ..layers.base import Layer
from ..layers.recurrent import Recurrent
from ..sequential.description import ESTIMATOR_KEY, KEY
from ..sequential.model import Sequential
from ..sequential.rebuild import from_metadata
from .entries import Entry, Where, chosen
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


class OwnModel(NamedTuple):
    """What a file of `Sequential.save` holds."""

    arrays: dict[str, Any]
    metadata: dict[str, str]


class OfEstimator(dict[str, Any]):
    """The arrays of an estimator's file."""


def _own_or_arrays(parsed: tuple[dict[str, Any], dict[str, str]]) -> Any:
    arrays, metadata = parsed
    if ESTIMATOR_KEY in metadata:
        return OfEstimator(arrays)
    return OwnModel(arrays, metadata) if KEY in metadata else arrays


PARSERS: dict[str, Callable[[bytes], Any]] = {
    "safetensors": lambda content: _own_or_arrays(parse_safetensors(content)),
    "npz": lambda content: _own_or_arrays(parse_npz(content)),
    "torch": lambda content: parse_checkpoint(content)[0],
    "keras": parse_archive,
    "hdf5": parse_h5,
    "json": lambda content: Json(parse_json("it", content)),
}
KINDS = "a model: safetensors, npz, torch.save, Keras, ONNX, RTNeural or NAM"


def load_model(
    source: Any, name: str | None = None, *, cell: str | None = None, **options: Any
) -> Any:
    """Load trained layers from a file, a dict of arrays, or a module of another library.

    The content of a file decides its format. No pickle is read, no code of a file runs, and nothing
    is loaded in part: each array of a layer is used, or named in the error. `bptt.models.load`
    reads the file of an estimator, of which this function loads single layers by `name`.

    Parameters
    ----------
    source : path, dict of str to array_like, module or Layer
        - A file of `Sequential.save`, which holds the whole model; `name` is the number of one of
          its layers, as "1".
        - A file: safetensors, npz, ``torch.save`` of a state dict or of a checkpoint with one
          inside, Keras' .keras and .h5, ONNX, RTNeural's JSON, Neural Amp Modeler's .nam with an
          LSTM.
        - Arrays under PyTorch's names, with any prefix, of layers (``rnn.weight_ih_l0``) or of
          cells (``rnn.weight_ih``). If there is one bias, the other is 0.
        - A module of PyTorch, a layer or model of Keras, an ONNX model or node. None of these
          packages is imported, except for their files. Keras' files need h5py
          (``pip install "bptt[keras]"``), not TensorFlow.
        - A layer or `Sequential` of bptt, which is returned unchanged.
    name : str, optional
        The one layer to load, by its name or the end of it: "encoder" for ``model.encoder``. Of
        arrays by name it may also be a dense layer or an embedding.
    cell : {"rnn", "lstm", "gru", "mgu", "slstm", "lstm1997", "linear", "embedding"}, optional
        The kind of the layer, only for arrays by name. If omitted, the number of gates decides it:
        1 is an RNN, 2 an MGU, 3 a GRU, 4 an LSTM.
    **options
        Arguments of the recurrent layers' constructor that the source does not state, or that
        replace its settings: ``activation="relu"``, ``batch_first=True``, ``dtype="float64"``, ...

    Returns
    -------
    Layer or dict of str to Layer
        The layer, if the source holds one or if `name` is given; else a dict of all its layers, in
        its order. Arrays by name give the recurrent layers alone, because other arrays have no name
        that shows their layer. A module or model gives `Linear` and `Embedding` as well, and is
        refused if it has a layer with weights that bptt lacks; layers without weights are left out.
        RTNeural's layers are called "0", "1", ...; NAM's "lstm", with ``learn_state=True``, and
        "head". For ONNX it is the result of `bptt.onnx.load`.

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
    asked = Request(Where(WHERE, "source"), name, cell, options, whole=name is None)
    return _load(source, asked, partial(chosen, WHERE))


def recurrent_of(
    caller: str,
    label: str,
    source: Any,
    name: str | None = None,
    cell: str | None = None,
    options: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Recurrent:
    """The one recurrent layer of a source, for tools whose argument `label` is a model.

    `seed` is for the masks of a module of PyTorch in training mode.
    """
    asked = Request(Where(caller, label), name, cell, options or {}, seed)
    found = _load(source, asked, partial(_one_recurrent, asked.where))
    if not isinstance(found, Recurrent):
        raise ValueError(
            f"{asked.where} is of type {type(found).__name__}, expected a recurrent layer"
        )
    return found


class Request(NamedTuple):
    """The arguments of `load_model` besides the source."""

    where: Where
    name: str | None
    cell: str | None
    options: dict[str, Any]
    seed: int | None = None
    whole: bool = False  # may the result be a model of several layers?


Choose = Callable[[dict[str, Entry], "str | None", dict[str, Any]], Any]


def _one_recurrent(
    where: Where, entries: dict[str, Entry], name: str | None, options: dict[str, Any]
) -> Any:
    if name is None:
        entries = {n: entry for n, entry in entries.items() if entry.recurrent} or entries
        if len(entries) > 1:
            raise ValueError(
                f"{where.caller}: name is missing, expected one of {listed(entries)} of "
                f"{where.label}"
            )
    return chosen(where.caller, entries, name, options)


def _load(source: Any, asked: Request, choose: Choose) -> Any:
    where, name = asked.where, asked.name
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{where.caller}: name is {shown(name)}, expected the name of a layer")
    if isinstance(source, Sequential):
        return _of_row(source, asked, choose)
    if isinstance(source, Layer):
        if name is not None:
            raise TypeError(f"{where.caller}: name is given, expected none of one layer")
        _check_nothing_more(source, asked)
        return source
    if _is_onnx(source):
        return _onnx(source, asked)
    if not isinstance(source, (str, os.PathLike)):
        return choose(_entries(source, asked), name, asked.options)
    path = as_path(where.caller, source, where.label)
    with open_file(where.caller, path) as file:
        kind = kind_of(file, path)
    if kind == "onnx":
        return _onnx(path, asked)
    content = read(where.caller, path, PARSERS, KINDS)
    with naming(path):
        if isinstance(content, OwnModel):
            model = from_metadata(where.caller, content.metadata, content.arrays)
            return _of_row(model, asked, choose)
        if isinstance(content, OfEstimator) and asked.whole:
            raise ValueError(
                f"{where} is the file of an estimator, expected bptt.models.load for all of it, or "
                "name= for one layer"
            )
        return choose(_entries(content, asked), name, asked.options)


def _check_nothing_more(source: Layer, asked: Request) -> None:
    if asked.cell is not None or asked.options:
        raise TypeError(
            f"{asked.where.caller}: cell or options are given, expected none: "
            f"{type(source).__name__} has its own"
        )


def _of_row(model: Sequential, asked: Request, choose: Choose) -> Any:
    """The model, or one of its layers."""
    _check_nothing_more(model, asked)
    if asked.whole:
        return model
    return choose(_made_already({str(k): of for k, of in enumerate(model.layers)}), asked.name, {})


def _entries(source: Any, asked: Request) -> dict[str, Entry]:
    """The layers of a source that is in memory."""
    where, parsed = asked.where, isinstance(source, (Json, KerasFile))
    if isinstance(source, Mapping) and not parsed:
        check_mapping(where.caller, where.label, source, tensors=True)
        return entries_of_arrays(where, source, asked.name, asked.cell)
    _check_no_cell(asked)
    if isinstance(source, Json):
        return _of_json(source, asked)
    if isinstance(source, KerasFile):
        return entries_of_file(where, source)
    if is_keras(source):  # on PyTorch it is a module of PyTorch as well
        return entries_of_object(where, source)
    if is_module(source):
        return entries_of_module(where, source, asked.seed)
    hint = ", whose network is model_" if hasattr(source, "model_") else ""
    raise TypeError(
        f"{where} is of type {type(source).__name__}{hint}, expected a path, a dict of arrays, a "
        "layer, or a module of PyTorch, Keras or ONNX"
    )


def _check_no_cell(asked: Request) -> None:
    if asked.cell is not None:
        raise TypeError(
            f"{asked.where.caller}: cell is {shown(asked.cell)}, expected None unless arrays are "
            "given by name"
        )


def _of_json(model: Json, asked: Request) -> dict[str, Entry]:
    if is_nam(model):
        found = layers_of_nam(asked.where.caller, model, asked.options)
    else:
        layers = layers_of_rtneural(asked.where.caller, model, asked.options)
        found = {str(k): layer for k, layer in enumerate(layers)}
    return _made_already(found)


def _made_already(layers: Mapping[str, Any]) -> dict[str, Entry]:
    return {
        name: Entry("layer", partial(_made, layer), isinstance(layer, Recurrent))
        for name, layer in layers.items()
    }


def _made(layer: Any, options: dict[str, Any]) -> Any:
    """A layer that has its options already."""
    return layer


# --- ONNX -----------------------------------------------------------------------------------------


def _is_onnx(source: Any) -> bool:
    """Is it a model, graph or node of ONNX?"""
    message = getattr(getattr(source, "DESCRIPTOR", None), "full_name", "")
    return message in ("onnx.ModelProto", "onnx.GraphProto", "onnx.NodeProto")


def _onnx(source: Any, asked: Request) -> Any:
    _check_no_cell(asked)
    if asked.options:
        raise TypeError(
            f"{asked.where.caller}: options {listed(asked.options)} are given, expected none: ONNX "
            "states its own"
        )
    library = importlib.import_module("bptt.onnx")
    if asked.name is None:
        return library.load(source)
    layers = library.load_layers(source)
    entries = {n: Entry("layer", partial(_made, layer)) for n, layer in layers.items()}
    return chosen(asked.where.caller, entries, asked.name, {})
