# SPDX-License-Identifier: MIT
"""The measurements of a training, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path as PathOf
from typing import Any, NamedTuple

from .._files.access import Path, check_target
from .._files.pictures import PICTURE, check_format, write_picture
from .._validate import as_path
from ..flow.plot import COLOURS, new_figure, style

__all__ = ["Epoch", "History"]

SHOWN = 10  # epochs in a repr: the first half of them and the last half


class Epoch(NamedTuple):
    """The numbers of one epoch.

    Attributes
    ----------
    number : int
        1 for the first epoch.
    loss : float
        Mean loss over the sequences, or over all steps if the model has an output at each step.
        The loss of a batch is measured just before its update. NaN if no loss was finite.
    validation_loss, metric : float or None
        After the epoch, over all held-out sequences or steps.
    lr : float
        Learning rate at the end of the epoch.
    seconds : float
        Time it took, validation included.
    nonfinite : int
        Number of batches whose loss or gradient was not finite.
    """

    number: int
    loss: float
    validation_loss: float | None
    metric: float | None
    lr: float
    seconds: float
    nonfinite: int


class History:
    """The epochs of a training; `print` shows a table of them.

    Attributes
    ----------
    epochs : list of Epoch
        The complete epochs.
    stopped : bool
        True if early stopping ended the training.
    interrupted : bool
        True if Ctrl-C ended it.
    """

    def __init__(
        self, epochs: Sequence[Epoch] = (), *, stopped: bool = False, interrupted: bool = False
    ) -> None:
        self.epochs = list(epochs)
        self.stopped, self.interrupted = stopped, interrupted

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights the model has: with the lowest validation loss, or the last."""
        best, lowest = None, math.inf
        for epoch in self.epochs:
            loss = epoch.validation_loss
            if loss is None:
                best = epoch
            elif loss < lowest:
                best, lowest = epoch, loss
        return best

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        reason = "interrupted" if self.interrupted else "stopped early" if self.stopped else ""
        count = f"{len(self)} epoch{'s' * (len(self) != 1)}"
        title = f"History({', '.join(filter(None, (count, reason)))})"
        if not self.epochs:
            return title
        columns = [
            name for name in COLUMNS if any(getattr(e, name) is not None for e in self.epochs)
        ]
        hidden = len(self) > SHOWN
        rows = self.epochs[: SHOWN // 2] + self.epochs[-SHOWN // 2 :] if hidden else self.epochs
        best = self.best
        if hidden and best is not None and best not in rows:
            rows = sorted([*rows, best])
        lines, before = [["epoch", *(COLUMNS[c] for c in columns)]], 0
        for row in rows:
            if row.number > before + 1:
                lines.append(["..."] + [""] * len(columns))
            cells = [_number(getattr(row, name)) for name in columns]
            lines.append([f"{row.number}", *cells, *(["best"] if row is best else [])])
            before = row.number
        widths = [max(len(line[k]) for line in lines) for k in range(len(columns) + 1)]
        shown = ("  ".join(c.rjust(w) for c, w in zip(line, [*widths, 4])) for line in lines)
        return "\n".join([title, *(f"  {line}".rstrip() for line in shown)])

    def plot(self, path: Path | None = None) -> Any:
        """Draw the losses over the epochs, and the metric and the learning rate below them.

        Parameters
        ----------
        path : str or path-like, optional
            A picture to write, such as ``"history.png"``: a new file, or a picture made by bptt.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If there is no epoch, or `path` has another suffix or is a file of another kind.
        """
        caller = "History.plot"
        if not self.epochs:
            raise ValueError(f"{caller}: the history has no epochs, expected one or more")
        has_metric = any(e.metric is not None for e in self.epochs)
        figure = new_figure(caller, 9, 6 + 2 * has_metric)
        if path is not None:
            target = PathOf(as_path(caller, path))
            check_format(caller, "path", target)
            check_target(caller, target, PICTURE)
        with style():
            panels = figure.subplots(2 + has_metric, sharex=True)
            self._draw(panels[0], {"loss": "training", "validation_loss": "validation"})
            panels[0].set(title="Loss", ylabel="mean of the epoch")
            if has_metric:
                self._draw(panels[1], {"metric": "validation"})
                panels[1].set(title="Metric")
            self._draw(panels[-1], {"lr": "learning rate"})
            panels[-1].set(title="Learning rate", xlabel="epoch", yscale="log")
        for panel in panels:
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        if path is not None:
            write_picture(caller, "path", target, figure, "figure", force=False)
        return figure

    def _draw(self, panel: Any, names: dict[str, str]) -> None:
        best = self.best
        for (name, label), colour in zip(names.items(), COLOURS):
            values = [getattr(epoch, name) for epoch in self.epochs]
            if all(value is None for value in values):
                continue
            drawn = [math.nan if value is None else value for value in values]
            panel.plot(range(1, len(drawn) + 1), drawn, color=colour, marker=".", label=label)
        if best is not None:
            panel.axvline(best.number, color="0.35", ls=":", lw=1.2, label=f"best: {best.number}")
        panel.legend(loc="best")


COLUMNS = {
    "loss": "loss", "validation_loss": "validation", "metric": "metric", "lr": "lr",
    "seconds": "seconds",
}  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
