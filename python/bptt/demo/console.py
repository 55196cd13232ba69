# SPDX-License-Identifier: MIT
"""The output of the demo: text, progress bars (tqdm) and a table (rich), or plain text."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Console", "Result", "optional"]


def optional(module: str) -> Any:
    """The module if it is installed, else None."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


@dataclass(frozen=True)
class Result:
    """A score, the best score without learning, and the goal of a full run."""

    task: str
    model: str
    score: float
    measure: str
    baseline: float
    goal: float | None = None
    higher_is_better: bool = False

    def met(self) -> bool:
        if self.goal is None:
            return True
        return self.score >= self.goal if self.higher_is_better else self.score < self.goal

    def row(self, judged: bool) -> tuple[str, ...]:
        goal = ""
        if self.goal is not None:
            goal = f"{'>=' if self.higher_is_better else '<'} {self.goal:.3g}"
            if judged:
                goal += " met" if self.met() else " MISSED"
        numbers = f"{self.score:.3g}", f"{self.baseline:.3g}"
        return self.task, self.model, self.measure, *numbers, goal


HEADER = ("task", "model", "measure", "score", "baseline", "goal")


class Console:
    """Prints with tqdm and rich if they are installed; else says so once."""

    def __init__(self) -> None:
        self._tqdm, self._rich = optional("tqdm"), optional("rich.console")
        extra = 'pip install "bptt[progress]"'
        if self._tqdm is None:
            self.print(f"No progress bars without tqdm: {extra}")
        if self._rich is None:
            self.print(f"No framed table without rich: {extra}")

    def print(self, text: str = "") -> None:
        print(text, flush=True)

    def progress(self, steps: int, what: str) -> Iterable[int]:
        """``range(steps)``, with a bar if standard error is a terminal."""
        if self._tqdm is None:
            return range(steps)
        bar = self._tqdm.tqdm(range(steps), desc=f"   {what}", disable=None, leave=False, ncols=79)
        return bar  # type: ignore[no-any-return]

    def table(self, results: list[Result], judged: bool) -> None:
        rows = [r.row(judged) for r in results]
        self.print()
        if self._rich is None:
            widths = [max(map(len, column)) for column in zip(HEADER, *rows)]
            for row in (HEADER, tuple("-" * w for w in widths), *rows):
                self.print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths)).rstrip())
        else:
            table = importlib.import_module("rich.table").Table(*HEADER)
            for row in rows:
                table.add_row(*row, style="red" if row[-1].endswith("MISSED") else None)
            self._rich.Console().print(table)
