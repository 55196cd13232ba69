# SPDX-License-Identifier: MIT
"""The progress of a training on standard error: a bar, one line that changes, or line by line."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

from .history import Epoch

__all__ = ["Progress"]

EVERY = 0.1  # seconds from one change to the next


class Progress:
    """Shows loss, rate and time left.

    On a terminal a bar of tqdm, or one line without that package; elsewhere a line for each epoch,
    if `wanted` is True. None wants it on a terminal only.
    """

    def __init__(self, wanted: bool | None, epochs: int, batches: int, done: int) -> None:
        self.epochs, self.batches, self.done = epochs, batches, done
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._lines = wanted is True and not terminal
        self._terminal = terminal and wanted is not False
        self._validation = ""
        self._begun, self._first, self._due, self._width = time.monotonic(), done, 0.0, 0
        self._bar: Any = None
        if self._terminal:
            self._bar = _tqdm(total=epochs * batches, initial=done)

    def update(self, epoch: int, loss: float, lr: float) -> None:
        """After each update; cheap, since it shows ten of them in a second."""
        self.done += 1
        if not self._terminal or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + EVERY
        self._show(epoch, loss, lr)

    def epoch(self, epoch: Epoch) -> None:
        """After each epoch."""
        if epoch.validation_loss is not None:
            self._validation = f"  validation {epoch.validation_loss:.4g}"
        if self._lines:
            print(self._line(epoch.number, epoch.loss, epoch.lr), file=sys.stderr, flush=True)
        elif self._terminal:
            self._show(epoch.number, epoch.loss, epoch.lr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._terminal and self._width:
            print(file=sys.stderr, flush=True)

    def _show(self, epoch: int, loss: float, lr: float) -> None:
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
            self._bar.set_postfix_str(self._numbers(loss, lr), refresh=False)
            self._bar.update(self.done - self._bar.n)
            return
        line = self._line(epoch, loss, lr)
        self._width = max(self._width, len(line))
        print(f"\r{line:{self._width}}", end="", file=sys.stderr, flush=True)

    def _numbers(self, loss: float, lr: float) -> str:
        return f"loss {loss:.4g}{self._validation}  lr {lr:.3g}"

    def _line(self, epoch: int, loss: float, lr: float) -> str:
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = (self.done - self._first) / seconds
        left = (self.epochs * self.batches - self.done) / rate if rate else 0.0
        shown = f"epoch {epoch}/{self.epochs}  {self._numbers(loss, lr)}"
        return f"{shown}  {rate:.3g} batches/s  {_clock(left)} left"


def _tqdm(**counts: int) -> Any:
    """A bar of tqdm that changes when told, or None without the package."""
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
    return tqdm(**counts, unit="batch", dynamic_ncols=True, mininterval=0, file=sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
