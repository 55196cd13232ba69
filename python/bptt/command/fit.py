# SPDX-License-Identifier: MIT
"""``bptt fit``: from a file of data to a trained model in a file."""

from __future__ import annotations

import importlib.util
import inspect
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import whole
from .._files.access import check_target
from ..io import MODEL
from ..layers.recurrent import LAYERS
from ..models import Forecaster, LanguageModel, SequenceClassifier, SequenceRegressor
from ..models.files import save
from ..models.network import POOLINGS
from ..models.vocabulary import UNITS
from .data import Columns, check_has_columns, read_sequences, read_text
from .outcome import check_replaces, in_one_line, print_json, print_lines, quoted
from .score import (
    Score,
    accuracy,
    errors_of_forecasts,
    held_out_rows,
    perplexities,
    root_mean_square,
)
from .series import read_series

if TYPE_CHECKING:
    import argparse

__all__ = ["COLUMNS", "add_arguments", "add_column_options", "columns_of", "run"]

COLUMNS = "bptt.command.columns"  # of a model's file: which columns of a table it reads

ESTIMATORS: dict[str, type[Any]] = {
    "classify": SequenceClassifier, "regress": SequenceRegressor, "forecast": Forecaster,
    "text": LanguageModel,
}  # fmt: skip
# Options that are arguments of the estimators: type, choices and meaning.
OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "steps": (whole(1), None, "forecast: number of steps to forecast (required)"),
    "season": (whole(1), None, "forecast: steps until the pattern repeats, such as 12 for months"),
    "window": (whole(2), None, "forecast, text: steps that the model sees at once"),
    "tokens": (None, UNITS, "what a text is split into"),
    "pooling": (None, POOLINGS, "classify, regress: how the steps become one vector"),
    "cell": (None, tuple(LAYERS), "kind of recurrent layer"),
    "hidden_size": (whole(1), None, "size of the recurrent layers"),
    "num_layers": (whole(1), None, "number of recurrent layers"),
    "dropout": (float, None, "share of values dropped in training, against overfitting"),
    "epochs": (whole(1), None, "number of passes over the data"),
    "batch_size": (whole(1), None, "sequences in one update"),
    "lr": (float, None, "learning rate"),
    "seed": (whole(0), None, "seed of all random numbers"),
}

DESCRIPTION = """\
Train a recurrent network on a file of data, and write it to a file. A part of the data is held out.
At the end the model is scored on it, and a trivial baseline beside it.

  --task classify   the class of each sequence: a speaker, a gesture, the sentiment of a text
  --task regress    a number for each sequence
  --task forecast   the next steps of time series, with intervals
  --task text       the next character or word of a text; the model can then write

The data is a table in .csv, .tsv or .parquet, whose first row has the names of the columns; or
arrays in an .npz file; or a text. By task:

  classify, regress
      With --group-column NAME, a row is one step, and the rows with the same value in this column
      are one sequence. Its target stands in each of its rows:

          rec,x,y,label
          r0,-0.574,-0.132,falls
          r0,-0.060,0.105,falls
          r1,0.382,0.561,rises

      Without it, a row is a whole sequence, and its columns are the steps. If there is only one
      column besides the target, it is text.
      Arrays: x, (n, T) or (n, T, features), for n sequences of T steps; y, (n,); and lengths, (n,),
      if some sequences are shorter than T.
  forecast
      A row is one step, in the order of time; with --group-column there are several series. If the
      first column has dates such as 2024-12-31, they are used. --inputs names columns whose future
      is known, such as holidays; the rows to forecast then stand at the end, without a value:

          date,sales,holiday
          2024-12-23,310,0
          2024-12-24,402,1
          2024-12-25,,1

      Arrays: y, (T,) or (n, T); and inputs, (T or more, K) or (n, T or more, K), for K columns.
  text
      A text file in UTF-8."""

EPILOG = """\
examples:
  bptt fit gestures.csv --task classify --group-column rec --target label --out gestures.npz
  bptt fit reviews.csv --task classify --target sentiment --out reviews.npz
  bptt fit co2.csv --task forecast --steps 13 --season 52 --fill-gaps --out co2.npz
  bptt fit sales.csv --task forecast --steps 14 --target sales --inputs holiday --out sales.npz
  bptt fit hamlet.txt --task text --out hamlet.npz

Ctrl-C ends the training early and writes the model; a second one writes nothing. An earlier
model is replaced, and no other file.

Exit code: 0 the model is better than the baseline, or --test is 0; 1 it is not better, but was
written; 2 wrong use or wrong data, nothing was written; 130 interrupted by Ctrl-C; after the first
one the model was written, if its training had begun."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt fit`` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add = parser.add_argument
    add("data", help="the file of data")
    add("--task", required=True, choices=tuple(ESTIMATORS), help="what to learn, see above")
    add("--out", required=True, metavar="MODEL", help="the model: a .npz or .safetensors file")
    add_column_options(parser)
    add(
        "--test", type=float, default=0.2, metavar="FRACTION",
        help="share of the data held out for the score: sequences at random, or the end of series "
        "and texts (default 0.2; 0: learn from all, no score)",
    )  # fmt: skip
    for name, (kind, choices, meaning) in OPTIONS.items():
        add(
            f"--{name.replace('_', '-')}", type=kind, choices=choices, dest=name,
            metavar=None if choices else "N" if kind is not float else "X",
            help=meaning + _defaults(name),
        )  # fmt: skip
    add("--checkpoint", metavar="FILE", help="save the training here now and then; the same "
        "command goes on from there")  # fmt: skip
    add("--json", action="store_true", help="print the summary as JSON")


def add_column_options(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the options that say how a table is read; `default` says what holds without them."""
    options = {
        "target": ("column to predict", "the last"),
        "group-column": ("column that says to which sequence or series a row belongs", "none"),
        "date": ("forecast: column of dates", "the first, if it has dates"),
        "inputs": ("columns to learn from; forecast: those that are known ahead",
                   "classify, regress: all others; forecast: none"),
    }  # fmt: skip
    for name, (meaning, usual) in options.items():
        text = f"{meaning} (default: {default or usual})"
        several = "+" if name == "inputs" else None
        parser.add_argument(f"--{name}", metavar="NAME", nargs=several, help=text)
    parser.add_argument(
        "--fill-gaps", action="store_true",
        help="forecast: fill empty cells of the target, and steps whose rows are missing, by "
        "straight lines; they do not count in the score"
        + (f" (default: {default})" if default else ""),
    )  # fmt: skip


def columns_of(args: argparse.Namespace) -> Columns:
    return Columns(args.target, args.group_column, args.date, args.inputs, args.fill_gaps)


def _defaults(name: str) -> str:
    """The default of an option; by task where tasks differ."""
    tasks: dict[Any, list[str]] = {}
    for task, kind in ESTIMATORS.items():
        parameter = inspect.signature(kind).parameters.get(name)
        if parameter and parameter.default not in (None, inspect.Parameter.empty):
            tasks.setdefault(parameter.default, []).append(task)
    if len(tasks) < 2:
        return "".join(f" (default {value})" for value in tasks)
    texts = [f"{', '.join(of)} {value}" for value, of in tasks.items()]
    return f" (default: {'; '.join(texts)})"


# --- training -------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A model, what to say about it, and what measures its score, if any data was held out."""

    model: Any
    data: str
    columns: Columns
    measure: Callable[[], Score] | None
    note: str | None = None


def run(args: argparse.Namespace) -> int:
    """Train, write the model and print a summary.

    Returns
    -------
    int
        0, 1 if the model is no better than the baseline, 130 if Ctrl-C ended training or score.

    Raises
    ------
    ValueError
        If data or options are wrong; no model is written.
    OSError
        If a file cannot be read or written.
    KeyboardInterrupt
        If Ctrl-C came before the training; no model is written.
    """
    begun = time.perf_counter()
    with in_one_line():
        _check_out(args)
        if not 0 <= args.test < 1:
            raise ValueError(f"fit: --test is {args.test:g}, expected 0 or more, below 1")
        estimator = _estimator(args)
        by_task = {"forecast": _forecaster, "text": _writer}
        trained = by_task.get(args.task, _reader)(args, estimator)
        interrupted, score = trained.model.history_.interrupted, None
        try:
            score = trained.measure() if trained.measure else None
        except KeyboardInterrupt:
            interrupted = True
        save(trained.model, args.out, {COLUMNS: trained.columns.to_json()})
    _report(args, trained, score, interrupted, time.perf_counter() - begun)
    if interrupted:
        return 130
    return 0 if score is None or score.better() else 1


def _check_out(args: argparse.Namespace) -> None:
    """Find out before the training whether the model can be written."""
    suffix = os.path.splitext(args.out)[1].lower()
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(f"fit: --out is {args.out!r}, expected a name in .npz or .safetensors")
    if suffix == ".safetensors" and not importlib.util.find_spec("safetensors"):
        raise ValueError('fit: --out needs safetensors: pip install "bptt[safetensors]", or .npz')
    target = check_target("fit", args.out, MODEL, "--out")
    if target == os.path.realpath(args.data):
        raise ValueError("fit: --out is the file of data, expected another file")
    check_replaces("fit", args.out, "--out")


def _estimator(args: argparse.Namespace) -> Any:
    """The estimator of the task with the options that are given."""
    kind = ESTIMATORS[args.task]
    given = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    known = inspect.signature(kind).parameters
    for name in given:
        if name not in known:
            raise ValueError(
                f"fit: --{name.replace('_', '-')} is given, expected none with --task {args.task}"
            )
    for name in ("target", "group_column", "date", "inputs", "fill_gaps"):
        of_series = name in ("date", "fill_gaps")
        if getattr(args, name) and (args.task == "text" or (of_series and args.task != "forecast")):
            raise ValueError(
                f"fit: --{name.replace('_', '-')} is given, expected none with --task {args.task}"
            )
    if args.task == "forecast" and args.steps is None:
        raise ValueError("fit: --steps is missing, expected the number of steps to forecast")
    return kind(**given)


def _reader(args: argparse.Namespace, model: Any) -> Trained:
    """Train a classifier or a regressor."""
    classify, columns = args.task == "classify", columns_of(args)
    check_has_columns("fit", args.data, columns)
    data = read_sequences("fit", args.data, columns, numbers=not classify)
    assert data.y is not None
    learn, hold = held_out_rows(data.y, args.test, model.seed, by_class=classify)
    if not len(learn):
        raise ValueError(f"fit: {args.data} has {data}, {len(hold)} held out, expected more")
    learnt, held = data.taken(learn), data.taken(hold)
    model.fit(learnt.X, learnt.y, checkpoint=args.checkpoint)
    score = partial(accuracy if classify else root_mean_square, model, learnt, held)
    count = len(model.classes_) if classify else 0
    classes = f", {count} class{'es' * (count != 1)}" if classify else ""
    return Trained(model, f"{data}{classes}", data.columns, score if len(hold) else None)


def _forecaster(args: argparse.Namespace, model: Any) -> Trained:
    columns = columns_of(args)
    check_has_columns("fit", args.data, columns)
    data = read_series("fit", args.data, columns)
    lengths = [len(values) for values in data.values]
    cuts = [n - max(round(args.test * n), model.steps) if args.test else n for n in lengths]
    if min(cuts) < 1:
        raise ValueError(
            f"fit: {args.data} has {min(lengths)} steps, expected more than --steps {model.steps}"
        )
    if args.test and all(one.filled[cut:].all() for one, cut in zip(data.series, cuts)):
        raise ValueError(f"fit: {args.data} has gaps alone in the part held out, expected values")
    dates = data.dates and [one[:cut] for one, cut in zip(data.dates, cuts)]
    values = [one[:cut] for one, cut in zip(data.values, cuts)]
    model.fit(values, dates=dates, inputs=data.inputs, checkpoint=args.checkpoint)
    score = partial(errors_of_forecasts, model, data, cuts) if args.test else None
    note = data.note
    if data.inputs and min(one.ahead for one in data.series) < model.steps:
        note = (f"{note}; " if note else "") + (
            f"predict needs {model.steps} more steps at the end, with inputs and without a value"
        )
    return Trained(model, str(data), data.columns, score, note)


def _writer(args: argparse.Namespace, model: Any) -> Trained:
    text = read_text("fit", args.data)
    cut = len(text) - round(args.test * len(text))
    model.fit(text[:cut], checkpoint=args.checkpoint)
    score = partial(perplexities, model, text[:cut], text[cut:]) if args.test else None
    data = f"{len(text):,} characters, {len(model.vocabulary_):,} different {model.tokens}"
    return Trained(model, data, Columns(), score)


# --- summary --------------------------------------------------------------------------------------


def _report(
    args: argparse.Namespace, trained: Trained, score: Score | None, interrupted: bool,
    seconds: float,
) -> None:  # fmt: skip
    network, history = trained.model.model_, trained.model.history_
    layers = ", ".join(repr(layer).split("\n")[0] for layer in network.layers)
    count = sum(array.size for array in network.parameters.values())
    best = history.best
    then = f"bptt predict {quoted(args.out)} {quoted(args.data)}"
    if args.task == "text":
        then = f"bptt generate {quoted(args.out)} --prompt {quoted('The')}"
    size = os.path.getsize(args.out)
    if args.json:
        print_json({
            "task": args.task, "data": trained.data, "layers": layers, "parameters": count,
            "epochs": len(history), "best_epoch": best and best.number,
            "loss": best and best.loss, "validation_loss": best and best.validation_loss,
            "interrupted": interrupted, "seconds": round(seconds, 3),
            "score": score and {
                "metric": score.metric, "value": score.value, "baseline": score.baseline,
                "baseline_is": score.baseline_is, "held_out": score.held_out,
                "better": score.better(), **score.more,
            },
            "out": args.out, "bytes": size, "next": then, "note": trained.note,
        })  # fmt: skip
        return
    epochs = f"{len(history)} epoch{'s' * (len(history) != 1)}"
    early = " (interrupted)" if interrupted else " (stopped early)" * history.stopped
    loss = "" if best is None else f", loss {best.loss:.4g}"
    if best is not None and best.validation_loss is not None:
        loss += f", validation loss {best.validation_loss:.4g} in epoch {best.number}"
    print_lines({
        "data": trained.data,
        "model": f"{layers}: {count:,} parameters",
        "training": f"{epochs}{early}{loss}; {seconds:.1f} s in all",
        "score": score and f"{score}" + ("" if score.better() else ", no worse than the model"),
        "written": f"{args.out}, {size:,} bytes",
        "note": trained.note,
        "next": then,
    })  # fmt: skip
