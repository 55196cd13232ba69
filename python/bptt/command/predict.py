# SPDX-License-Identifier: MIT
"""``bptt predict``: the predictions of a trained model for a file of data."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._types import Array
from .._words import listed, printable
from ..io import load_metadata
from ..models import Forecaster, LanguageModel, SequenceClassifier, load
from ..models.calendar import dates_after
from .data import Columns, Sequences, check_has_columns, read_sequences
from .fit import COLUMNS, add_column_options, columns_of
from .outcome import in_one_line, print_json
from .score import root_mean_square_error
from .series import as_day, read_series

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Run a trained model on a file of data, and print a table in CSV: a row for each sequence, with the
probability of each class; or for each step of a forecast, which begins after the last value of the
data, with the ends of the interval.

The data has the form that 'bptt fit' took. The target column may be missing; if it is there, the
score is printed on standard error. A forecast needs the target. With --inputs, rows at the end that
have no value are the steps to forecast."""
EPILOG = """\
examples:
  bptt predict gestures.npz new.csv > predictions.csv
  bptt predict co2.npz co2.csv --json
  bptt predict sales.npz sales.csv

Exit code: 0 done; 2 wrong use or wrong data."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt predict`` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("model", help="a model of 'bptt fit', or of the save of an estimator")
    parser.add_argument("data", help="the file of data, as for 'bptt fit'")
    add_column_options(parser, "as in 'bptt fit' of the model")
    parser.add_argument("--json", action="store_true", help="print JSON instead of CSV")


def run(args: argparse.Namespace) -> int:
    """Print the predictions.

    Raises
    ------
    ValueError
        If the file has no such model, or other data than the model was trained on.
    OSError
        If a file cannot be read.
    """
    with in_one_line():
        model = load(args.model)
        if isinstance(model, LanguageModel):
            raise ValueError(
                f"predict: {printable(args.model)} has a LanguageModel, which 'bptt generate' runs"
            )
        columns = _columns(args)
        score = None
        if isinstance(model, Forecaster):
            rows = [*_forecasts(model, args.data, columns)]
        else:
            data = read_sequences(
                "predict", args.data, columns,
                numbers=not isinstance(model, SequenceClassifier), needs_target=False,
            )  # fmt: skip
            rows = [*_predictions(model, data)]
            score = _score(model, data)
    if args.json:
        print_json({"predictions": rows, "score": score})
        return 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([f"{v:.8g}" if isinstance(v, float) else v for v in row.values()]
                     for row in rows)  # fmt: skip
    if score is not None and sys.stderr is not None:
        sys.stdout.flush()
        print(f"{score['metric']} {score['value']:.4g} on {data}", file=sys.stderr)
    return 0


def _columns(args: argparse.Namespace) -> Columns:
    """The columns of the training, or others that are given."""
    kept, given = load_metadata(args.model).get(COLUMNS), columns_of(args)
    check_has_columns("predict", args.data, given)
    try:
        columns = Columns() if kept is None else Columns.from_json(kept)
    except (ValueError, TypeError) as error:
        raise ValueError(f"predict: {printable(args.model)} is damaged: {error}") from None
    return columns._replace(**{k: v for k, v in given._asdict().items() if v})


def _predictions(model: Any, data: Sequences) -> Iterable[dict[str, Any]]:
    label = data.columns.group_column or "row"
    if not isinstance(model, SequenceClassifier):
        for name, value in zip(data.names, model.predict(data.X)):
            yield {label: name, "prediction": value.tolist()}
        return
    probabilities = model.predict_proba(data.X)
    for name, row in zip(data.names, probabilities):
        answer = model.classes_[row.argmax()]
        each = {f"p({one})": float(p) for one, p in zip(model.classes_, row)}
        yield {label: name, "prediction": answer.tolist(), **each}


def _score(model: Any, data: Sequences) -> dict[str, Any] | None:
    if data.y is None:
        return None
    if isinstance(model, SequenceClassifier):
        return {"metric": "accuracy", "value": model.score(data.X, data.y)}
    return {"metric": "RMSE", "value": root_mean_square_error(model, data)}


def _forecasts(model: Forecaster, path: str, columns: Columns) -> Iterable[dict[str, Any]]:
    data, steps = read_series("predict", path, columns), model.features_.steps
    for one in data.series:
        if columns.inputs and one.ahead < steps:
            raise ValueError(
                f"predict: {printable(path)} has {one.ahead} rows after the last value of "
                f"{one.name!r}, expected {steps} with {listed(columns.inputs)} and nothing in "
                f"{data.columns.target!r}"
            )
    found = model.predict_quantiles(series=data.values, dates=data.dates, inputs=data.inputs)
    for one, rows in zip(data.series, found):
        days = None if one.dates is None else _days(one.dates, len(one.values), steps)
        for step, row in enumerate(rows):
            of = {"series": one.name, "step": step + 1}
            yield of | ({} if days is None else {"date": as_day(days[step])}) | _named(model, row)


def _days(dates: Array, T: int, steps: int) -> Array:
    """The dates of a forecast: those that the file has, or the next ones."""
    return dates[T : T + steps] if len(dates) >= T + steps else dates_after(dates[:T], steps)


def _named(model: Forecaster, row: Array) -> dict[str, float]:
    """The quantiles, the median first."""
    by_level = dict(zip(model.quantiles, map(float, row)))
    return {"prediction": by_level.pop(0.5)} | {f"q{q:g}": v for q, v in by_level.items()}
