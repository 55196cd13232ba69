# SPDX-License-Identifier: MIT
"""``bptt flow``: a report on a saved model and a batch of data."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arguments import as_file, whole
from .._files.access import check_target, open_file, write_file
from .._files.formats import OTHERS, Unreadable, kind_of
from .._files.parse import parse_npy, parse_table
from .._files.pictures import check_picture, write_picture
from .._types import Array
from .._validate import as_path
from .._words import brief, printable
from ..exchange.loader import recurrent_of
from ..layers.cells import LAYERS
from .html import PAGE
from .report import FlowReport, gradient_flow, how_read

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

ARRAYS = {"npy": parse_npy, "table": parse_table}

DESCRIPTION = """\
Run a saved recurrent model forward and backward over a batch, and report on its gradient: how
far back it reaches, whether it vanishes or explodes, and what would help."""
EPILOG = """\
example:
  bptt flow model.safetensors --data x.npy --html report.html

Exit code 0: a report was made, whatever its verdict."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt flow`` to a parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "model",
        help="a file that bptt.load_model reads: .safetensors, .npz, .pt, .keras, ...",
    )
    add(
        "--data",
        required=True,
        metavar="X.npy",
        help="real input, (T, B, I) or (T, I), or a table in .csv with one row per step",
    )
    add("--lengths", metavar="L.npy", help="length of each sequence, (B,), or a table in .csv")
    add(
        "--loss",
        choices=("last", "every"),
        default="last",
        help="steps at which the probe, a random linear loss, reads the output (default last)",
    )
    add("--layer", metavar="NAME", help="name of the layer, if the file has several")
    add("--cell", choices=tuple(LAYERS), help="kind of cell (default: by the number of gates)")
    add("--activation", metavar="NAME", help="activation of an RNN: tanh (default), relu, ...")
    add("--batch-first", action="store_true", help="data is (B, T, I)")
    add("--needs", type=whole(1), metavar="N", help="number of last inputs that an answer needs")
    add("--seed", type=whole(0), default=0, help="seed of the probe (default 0)")
    add("--html", type=as_file, metavar="FILE", help="write the report as one page")
    add("--plot", type=as_file, metavar="FILE", help="write the pictures of the report")
    add("--force", action="store_true", help="also overwrite files that bptt did not make")


def run(args: argparse.Namespace) -> int:
    """Print the report, and write the files of the options.

    Raises
    ------
    ValueError
        If a file holds something else, or a picture cannot be made.
    OSError
        If a file cannot be read or written.
    """
    _check_pictures(args)
    options: dict[str, Any] = {"batch_first": True} if args.batch_first else {}
    if args.activation is not None:
        options["activation"] = args.activation
    try:
        layer = recurrent_of("flow", "model", args.model, args.layer, args.cell, options)
        lengths = None if args.lengths is None else _whole(_array(args.lengths))
        data = _array(args.data)
        report = gradient_flow(
            layer, data, loss=args.loss, lengths=lengths, needs=args.needs, seed=args.seed
        )
    except (TypeError, ImportError) as error:  # of files, not of a program
        raise ValueError(str(error)) from error
    report = dataclasses.replace(report, reading=how_read(layer, data))
    _print(report)
    if args.html is not None:
        write_file("flow", args.html, report.to_html().encode(), PAGE, "--html", args.force)
    if args.plot is not None:
        write_picture("flow", "--plot", args.plot, report.plot(), 160, args.force)
    return 0


def _check_pictures(args: argparse.Namespace) -> None:
    if args.html and args.plot and os.path.realpath(args.html) == os.path.realpath(args.plot):
        raise ValueError("flow: --html and --plot have the same file, expected two")
    if args.html is not None:
        if not importlib.util.find_spec("matplotlib"):
            raise ValueError('flow: --html needs matplotlib: pip install "bptt[plot]"')
        check_target("flow", args.html, PAGE, "--html", args.force)
    if args.plot is not None:
        check_picture("flow", "--plot", args.plot, args.force)


def _array(path: str) -> Array:
    """The array of a file in npy format, or of a table."""
    name = as_path("flow", path)
    shown = f"flow: {printable(name)}"
    with open_file("flow", name) as file:
        kind = kind_of(file, name)
        if kind not in ARRAYS:
            what = "is not an array in npy format"
            if kind in OTHERS:
                what = OTHERS[kind].split(", ")[0]
            elif kind != "unknown":
                what = "is an archive of arrays"
            raise ValueError(f"{shown} {what}, expected one array: .npy, or a table in .csv")
        content = file.read()
    try:
        array = ARRAYS[kind](content)
        if array.dtype.kind not in "biuf":
            raise Unreadable(f"has dtype {array.dtype}, expected real numbers")
        return array
    except Unreadable as error:
        raise ValueError(f"{shown} {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # NumPy raises various errors for a damaged file
        raise ValueError(f"{shown} is damaged ({brief(str(error), 90)})") from error


def _whole(lengths: Array) -> Array:
    """Convert lengths to integers on one axis; a table has floats on two."""
    if lengths.dtype.kind == "f" and (lengths == np.rint(lengths)).all():
        lengths = lengths.astype(np.int64)
    return lengths.reshape(-1) if lengths.ndim == 2 and 1 in lengths.shape else lengths


def _print(report: FlowReport) -> None:
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        importlib.import_module("rich.console").Console().print(report)
    else:
        print(report)
