# SPDX-License-Identifier: MIT
"""``bptt demo``: four tasks, a table of results and a picture."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import Any

from .._arguments import as_file, whole
from .._files.pictures import check_picture, write_picture
from .console import Console, optional
from .digits import three_digits
from .plot import draw
from .tasks import adding, co2, speakers

FULL = {"digits": 2000, "adding": 1500, "speakers": 300, "co2": 800}
QUICK = {"digits": 500, "adding": 250, "speakers": 100, "co2": 300}

DESCRIPTION = """\
Train on four tasks and print the results:
  1  three binary digits, one neuron: which digit came first? Shows each step's term of dL/dw_in
  2  the adding problem over 100 steps: RNN against LSTM
  3  nine speakers, recognised from 7 to 29 frames of speech (JapaneseVowels)
  4  atmospheric CO2: a forecast for 52 weeks, against the same season last year
The picture shows the terms of dL/dw_in, the losses, ||dL/dh_t|| by step, and the forecast."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt demo`` to a parser."""
    parser.description = DESCRIPTION
    parser.epilog = "Exit code 1: a full run missed one of its goals."
    add, out = parser.add_argument, Path("bptt-demo.png")
    add("--quick", action="store_true", help="train less: too short to reach the goals")
    add("--seed", type=whole(0), default=0, help="seed of all random numbers (default 0)")
    add("--out", type=as_file, default=out, help="file of the picture (default %(default)s)")
    add("--force", action="store_true", help="also overwrite a file that bptt did not make")


def run(args: argparse.Namespace) -> int:
    """Train, print the results, and draw the picture.

    Returns
    -------
    int
        0, or 1 if a full run missed one of its goals.
    """
    console = Console()
    figure = _figure(args.out, args.force, console)
    steps = QUICK if args.quick else FULL
    started = time.perf_counter()

    digits, digits_result = three_digits(console, args.seed, steps["digits"])
    sums, sums_results = adding(console, args.seed, steps["adding"])
    speakers_result = speakers(console, args.seed, steps["speakers"])
    forecast, forecast_result = co2(console, args.seed, steps["co2"])

    results = [digits_result, *sums_results, speakers_result, forecast_result]
    console.table(results, judged=not args.quick)
    console.print(f"{time.perf_counter() - started:.0f} s.")
    if figure is not None:
        draw(figure, digits, sums, forecast)
        write_picture("demo", "--out", args.out, figure, 120, args.force)
        console.print(f"Picture: {args.out}")
    if args.quick:
        console.print("This was a quick run; the goals apply to a full run, 'bptt demo'.")
        return 0
    return 0 if all(r.met() for r in results) else 1


def _figure(out: Path, force: bool, console: Console) -> Any:
    """An empty figure, or None without matplotlib."""
    if optional("matplotlib.figure") is None:
        console.print('No picture without matplotlib: pip install "bptt[plot]"')
        return None
    check_picture("demo", "--out", out, force)
    return importlib.import_module("matplotlib.figure").Figure((12, 8), layout="constrained")
