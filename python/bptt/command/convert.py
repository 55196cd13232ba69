# SPDX-License-Identifier: MIT
"""``bptt convert``: a model's file in another format."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import io
from .._files.access import check_target, naming, open_file
from .._files.formats import kind_of
from .._files.parse import PARSERS
from .._words import listed, printable
from ..exchange.keras_write import save_keras
from ..exchange.loader import load_model
from ..exchange.rtneural import save_rtneural
from ..exchange.state_dict import recurrent_parts
from ..export.c_header import save_c_header
from ..io import MODEL
from ..layers.base import Layer
from ..layers.dropout import Dropout
from ..layers.masks import is_mask_count
from ..models import load as load_estimator
from ..models.files import KEY
from ..sequential.model import Sequential
from .outcome import check_replaces, in_one_line, print_json, print_lines

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Write the layers of a model's file in another format. The content of the source decides how it is
read; the suffix of the target decides the format:

  .safetensors .npz   whole models with their description; all arrays of other files of arrays
  .keras .h5          for Keras; needs h5py: pip install "bptt[keras]"
  .onnx               for onnxruntime and others; pip install "bptt[onnx]"
  .json               for RTNeural
  .h                  a header of C, as 'bptt export --c-header'

Sources: .safetensors and .npz, torch.save, Keras' .keras and .h5, ONNX, the JSON of RTNeural and of
Neural Amp Modeler. Where the target holds one chain of layers, each must read the output of the one
before it, in the order of the source. Only two things are left out: Dropout, and the normalisation
of an estimator's inputs. The command notes the second."""
EPILOG = """\
examples:
  bptt convert model.keras model.safetensors
  bptt convert state_dict.pt model.npz
  bptt convert model.npz model.onnx

An earlier model in the same format is replaced; any other file is not.

Exit code: 0 done; 2 wrong use, or a layer that the format lacks; nothing was written."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt convert`` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("source", help="the file of a model")
    parser.add_argument("out", help="the file to write")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the file, and print its contents in a few lines.

    Raises
    ------
    ValueError
        If the source is no model, or the format of the target lacks its layers.
    OSError
        If a file cannot be read or written.
    """
    suffix = os.path.splitext(args.out)[1].lower()
    if suffix not in WRITERS:
        raise ValueError(
            f"convert: out is {args.out!r}, expected a name in {listed(WRITERS).strip('[]')}"
        )
    with open_file("convert", args.source) as file:
        kind = kind_of(file, args.source)
    if os.path.exists(args.out) and os.path.samefile(args.source, args.out):
        raise ValueError("convert: out is the source, expected another file")
    if WRITERS[suffix] is _as_arrays:
        check_target("convert", args.out, MODEL, "out")
        again = kind in PARSERS and os.path.exists(args.out)
        check_replaces("convert", args.out, "out", io.load(args.source) if again else ())
    with in_one_line():
        what, note = WRITERS[suffix](args.source, kind, args.out)
    size = os.path.getsize(args.out)
    if args.json:
        print_json({"source": args.source, "read": what, "out": args.out, "bytes": size,
                    "note": note})  # fmt: skip
    else:
        print_lines({"read": what, "written": f"{args.out}, {size:,} bytes", "note": note})
    return 0


Said = tuple[str, "str | None"]  # what was read, and what to know


# --- writers --------------------------------------------------------------------------------------


def _as_arrays(source: str, kind: str, out: str) -> Said:
    """Copy arrays with their metadata, so that nothing is lost; of other sources the layers."""
    if kind in PARSERS:
        arrays, metadata = io.load(source), io.load_metadata(source)
        io.save(out, arrays, metadata)
        return f"{len(arrays)} arrays", None
    layers = _chain(source, kind)
    Sequential(*layers).save(out)
    return _shown(layers), None


def _as_header(source: str, kind: str, out: str) -> Said:
    if kind in PARSERS:
        save_c_header(out, source)
        return "the arrays and layers of the source", None
    layers = _chain(source, kind)
    save_c_header(out, {str(k): layer for k, layer in enumerate(layers)})
    return _shown(layers), None


def _as_chain(write: Callable[[str, list[Layer]], object]) -> Callable[[str, str, str], Said]:
    def convert(source: str, kind: str, out: str) -> Said:
        layers = _chain(source, kind)
        write(out, layers)
        return _shown(layers), _note(source, kind)

    return convert


def _write_onnx(out: str, layers: list[Layer]) -> None:
    importlib.import_module("bptt.onnx").export(layers, out)


WRITERS: dict[str, Callable[[str, str, str], Said]] = {
    ".safetensors": _as_arrays, ".npz": _as_arrays, ".keras": _as_chain(save_keras),
    ".h5": _as_chain(save_keras), ".onnx": _as_chain(_write_onnx),
    ".json": _as_chain(save_rtneural), ".h": _as_header,
}  # fmt: skip


# --- sources --------------------------------------------------------------------------------------


def _is_estimator(source: str, kind: str) -> bool:
    return kind in ("safetensors", "npz") and KEY in io.load_metadata(source)


def _note(source: str, kind: str) -> str | None:
    if not _is_estimator(source, kind):
        return None
    return "the network alone; its inputs are normalised or numbered as the estimator does"


def _chain(source: str, kind: str) -> list[Layer]:
    """The layers of a file that are one chain, without Dropout."""
    found = load_estimator(source).model_ if _is_estimator(source, kind) else load_model(source)
    if isinstance(found, Sequential):
        return [layer for layer in found.layers if not isinstance(layer, Dropout)]
    with naming(source):
        if kind in PARSERS:
            _check_all_recurrent(io.load(source))
        if isinstance(found, Layer):
            return [found]
        if not isinstance(found, dict):  # of ONNX
            raise ValueError(
                "convert: the graph has more than a chain of layers, expected one: "
                "bptt.onnx.load_layers has its layers"
            )
        return [*found.values()]


def _check_all_recurrent(arrays: dict[str, Any]) -> None:
    """Raise if arrays by name hold more than one layer, or another: their order is not known."""
    recurrent = recurrent_parts("convert", arrays)
    left = [
        name for name, array in arrays.items()
        if name.rpartition(".")[0] not in recurrent and not is_mask_count(name, array)
    ]  # fmt: skip
    if left or len(recurrent) != 1:
        others = [printable(name) for name in left or recurrent]
        raise ValueError(
            f"convert: the source has arrays by name, among them {listed(others)}, expected one "
            "recurrent layer, or a whole model by Sequential.save, which has the order of layers"
        )


def _shown(layers: list[Layer]) -> str:
    return ", ".join(repr(layer).split("\n")[0] for layer in layers)
