# SPDX-License-Identifier: MIT
"""``bptt flow``: a report on a saved model and a batch of data."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..grads import Array
from ..io import write_atomically
from .models import LAYERS, layer_of
from .report import FlowReport, gradient_flow

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Run a saved recurrent model forward and backward over a batch, and report where its gradient
goes: how far back it reaches, whether it vanishes or explodes, and what would help."""


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise _refused(text, "a file in an existing folder")
    return path


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise _refused(text, "a whole number from 0 up")
    return int(text)


def _needs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise _refused(text, "a whole number from 1 up")
    return int(text)


def _refused(text: str, expected: str) -> Exception:
    from argparse import ArgumentTypeError  # here, as `import bptt` needs no parser

    return ArgumentTypeError(f"has {text!r}, expected {expected}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt flow`` to a parser."""
    parser.description = DESCRIPTION
    parser.epilog = "Exit code 0: there is a report, whatever it says."
    add = parser.add_argument
    add("model", help="safetensors or npz, with PyTorch's names: weight_ih_l0, ...")
    add("--data", required=True, metavar="X.npy", help="real input, (T, B, I) or (T, I)")
    add("--lengths", metavar="L.npy", help="length of each sequence, (B,)")
    add("--loss", choices=("last", "every"), default="last", help="which steps (default last)")
    add("--layer", metavar="NAME", help="prefix of its parameters, where there are several")
    add("--cell", choices=tuple(LAYERS), help="default: told by the number of gates")
    add("--activation", metavar="NAME", help="of an RNN: tanh (default), relu, ...")
    add("--batch-first", action="store_true", help="data is (B, T, I)")
    add("--needs", type=_needs, metavar="N", help="last inputs that an answer depends on")
    add("--seed", type=_seed, default=0, help="of the probing gradients (default 0)")
    add("--html", type=_file, metavar="FILE", help="write the report as one page")
    add("--plot", type=_file, metavar="FILE", help="write its picture")


def run(args: argparse.Namespace) -> int:
    """Print the report, and write what the options ask for.

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
        layer = layer_of(args.model, args.layer, cell=args.cell, **options)
        lengths = None if args.lengths is None else _array(args.lengths)
        report = gradient_flow(
            layer,
            _array(args.data),
            loss=args.loss,
            lengths=lengths,
            needs=args.needs,
            seed=args.seed,
        )
    except (TypeError, ImportError) as error:  # of files, not of a program
        raise ValueError(str(error)) from error
    _print(report)
    if args.html is not None:
        report.to_html(args.html)
    if args.plot is not None:
        kind = args.plot.suffix[1:].lower()
        figure = report.plot()
        target = os.path.realpath(args.plot)
        write_atomically(target, lambda file: figure.savefig(file, format=kind, dpi=160))
    return 0


def _check_pictures(args: argparse.Namespace) -> None:
    if args.html is None and args.plot is None:
        return
    if not importlib.util.find_spec("matplotlib"):
        raise ValueError('flow: pictures need matplotlib: pip install "bptt[plot]"')
    known = importlib.import_module("matplotlib.backend_bases").FigureCanvasBase.filetypes
    if args.plot is not None and args.plot.suffix[1:].lower() not in known:
        kinds = ", .".join(sorted(known))
        raise ValueError(f"flow: --plot has {str(args.plot)!r}, expected a name in .{kinds}")


def _array(path: str) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"flow: {path} is no array in npy format: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"flow: {path} is an archive, expected one array in npy format")
    return array


def _print(report: FlowReport) -> None:
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        importlib.import_module("rich.console").Console().print(report)
    else:
        print(report)
