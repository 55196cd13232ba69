# SPDX-License-Identifier: MIT
"""Reads models, nodes and tensors of ONNX from files and objects, and checks them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .._files.access import open_file
from .._types import Array
from .._validate import as_array, as_path, to_numpy
from .._words import brief, printable, shown
from .library import library

__all__ = ["as_model", "as_node", "refusing", "tensor_of", "tensors_of"]


@contextlib.contextmanager
def refusing(caller: str) -> Iterator[None]:
    """Turn errors that a damaged model may cause anywhere into one sentence."""
    try:
        yield
    except (ImportError, MemoryError, ValueError):
        raise
    except Exception as error:  # text that is not UTF-8 is bytes here, and so on
        raise ValueError(f"{caller} is damaged or not an ONNX model") from error


def as_node(caller: str, value: Any) -> Any:
    """Raise unless `value` is a node."""
    if not isinstance(value, library(caller).NodeProto):
        raise TypeError(f"{caller}: node is {type(value).__name__}, expected an onnx.NodeProto")
    return value


def as_model(caller: str, source: Any) -> tuple[str, Any]:
    """A model from a path, bytes or itself; and what to call it in messages."""
    onnx = library(caller)
    if isinstance(source, onnx.ModelProto):
        return caller, source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return caller, _parsed(onnx, caller, bytes(source), "")
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"{caller}: source is {type(source).__name__}, expected a path, bytes, an "
            "onnx.ModelProto or an onnx.NodeProto"
        )
    path = as_path(caller, source, "source")
    with open_file(caller, path) as file:
        content = file.read()
    caller = f"{caller}: {printable(path)}"
    return caller, _parsed(onnx, caller, content, os.path.dirname(os.path.abspath(path)))


def _parsed(onnx: Any, caller: str, content: bytes, folder: str) -> Any:
    """The model of a file's content; `folder` has its external data."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has an error class of its own
        raise ValueError(f"{caller} is damaged or not an ONNX model") from error
    if not model.ir_version or not model.HasField("graph"):
        raise ValueError(f"{caller} is damaged or not an ONNX model: it has no graph")
    if not model.graph.node:
        raise ValueError(f"{caller} has no node, expected a recurrent one")
    external = library(caller, "onnx.external_data_helper")
    try:  # it refuses paths that lead out of the folder
        if folder:
            external.load_external_data_for_model(model, folder)
    except Exception as error:  # of the package, of the file system, of NumPy
        raise ValueError(
            f"{caller} has weights in another file, which cannot be read: {brief(str(error), 120)}"
        ) from error
    return model


def tensors_of(caller: str, given: Any) -> dict[str, Array]:
    """Constants by name: arrays, or tensors of ONNX."""
    if given is None:
        return {}
    tensor = library(caller).TensorProto
    if isinstance(given, Mapping):
        items = list(given.items())
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        items = [(t.name if isinstance(t, tensor) else None, t) for t in given]
    else:
        raise TypeError(
            f"{caller}: initializers is {type(given).__name__}, expected a dict of arrays or a "
            "list of onnx.TensorProto"
        )
    found = {}
    for name, value in items:
        if not isinstance(name, str):
            has = shown(name) if isinstance(given, Mapping) else type(value).__name__
            raise TypeError(f"{caller}: initializers has {has}, expected names and tensors")
        label = f"initializers[{brief(name)}]"
        is_tensor = isinstance(value, tensor)
        found[name] = (
            tensor_of(caller, label, value) if is_tensor
            else as_array(caller, label, to_numpy(value))
        )  # fmt: skip
    return found


def tensor_of(caller: str, name: str, tensor: Any) -> Array:
    """The array of a tensor, whose parts may disagree."""
    helper = library(caller, "onnx.numpy_helper")
    if tensor.data_location == tensor.EXTERNAL:
        raise ValueError(
            f"{caller}: {name} is in another file, expected the path of the model, or a model "
            "loaded by onnx.load"
        )
    try:
        array: Array = helper.to_array(tensor)
    except MemoryError:
        raise
    except Exception as error:  # wrong sizes, unknown types
        raise ValueError(f"{caller}: {name} is damaged: {brief(str(error), 120)}") from error
    if array.dtype.kind == "O":  # text
        return np.asarray(array, dtype=object)
    return array
