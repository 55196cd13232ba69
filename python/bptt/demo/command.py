# SPDX-License-Identifier: MIT
"""``bptt demo``: four tasks, a table of results and one picture."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path
from typing import Any

from .._files.pictures import check_picture, write_picture
from .console import Console, optional
from .digits import three_digits
from .tasks import adding, co2, speakers

FULL = {"digits": 2000, "adding": 1500, "speakers": 300, "co2": 800}
QUICK = {"digits": 500, "adding": 250, "speakers": 100, "co2": 300}

DESCRIPTION = """\
Train on four tasks and print what came out:
  1  three binary digits, one neuron: which came first? Every step's term of dL/dw_in
  2  the adding problem over 100 steps: RNN against LSTM
  3  speakers told apart by 7 to 29 frames of speech (JapaneseVowels)
  4  atmospheric CO2 forecast for 52 weeks, against the same season last year
The picture shows the terms, the losses, ||dL/dh_t|| step by step, and a forecast."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = "Exit code 1: a full run missed one of its goals."
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train less: too short for the goals",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of everything drawn (default 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("bptt-demo.png"), help="the picture (default %(default)s)"
    )
    parser.add_argument(
        "--force", action="store_true", help="write also over a file that bptt did not make"
    )


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


_seed.__name__ = "non-negative int"  # argparse names the type in its message


def run(args: argparse.Namespace) -> int:
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
        from .plot import draw

        draw(figure, digits, sums, forecast)
        write_picture("demo", "--out", args.out, figure, 120, args.force)
        console.print(f"Picture: {args.out}")
    if args.quick:
        console.print("A quick run: the goals are those of the full one, 'bptt demo'.")
        return 0
    return 0 if all(r.met() for r in results) else 1


def _figure(out: Path, force: bool, console: Console) -> Any:
    """An empty figure, or None without matplotlib; a name that cannot be written is refused now."""
    if not out.parent.is_dir():
        raise ValueError(f"demo: --out has folder {out.parent}, expected one that exists")
    if out.is_dir():
        raise ValueError(f"demo: --out is the folder {out}, expected a file")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"demo: --out has folder {out.parent}, expected one that can be written")
    if optional("matplotlib.figure") is None:
        console.print('No picture without matplotlib: pip install "bptt[plot]"')
        return None
    check_picture("demo", "--out", out, force)
    return importlib.import_module("matplotlib.figure").Figure((12, 8), layout="constrained")
