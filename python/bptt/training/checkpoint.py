# SPDX-License-Identifier: MIT
"""The file from which an interrupted training goes on with the same bits."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .._files.access import Path, check_target
from .._types import Array
from .._validate import as_path
from .._words import printable, shown
from ..io import MODEL, load, load_metadata, save
from ..layers.parameters import join, split

__all__ = ["Checkpoint", "Part", "Saved", "restore"]

KEY, FORMAT = "bptt.fit", 1


class Part(Protocol):
    """A part of a training with a state to save: a model, an optimiser, a schedule, a clip."""

    def state_dict(self) -> Mapping[str, Any]: ...
    def load_state_dict(self, state: Any) -> object: ...


class Saved(NamedTuple):
    """The contents of a checkpoint."""

    states: dict[str, dict[str, Array]]  # by part
    position: dict[str, Any]


class Checkpoint:
    """Reads and writes one file, which belongs to one call of `fit`.

    `call` describes that call in words, by argument. The file of a different call is refused, not
    overwritten.
    """

    def __init__(self, path: Path, minutes: float, call: Mapping[str, str]) -> None:
        self.path = as_path("fit", path, "checkpoint")
        self._seconds, self._call = 60 * minutes, dict(call)
        self._last = time.monotonic()
        self._failed = False
        check_target("fit", self.path, MODEL, "checkpoint")

    def damaged(self) -> ValueError:
        place = f"fit: checkpoint {printable(self.path)}"
        return ValueError(f"{place} is damaged, expected a checkpoint of fit")

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self._seconds

    def read(self) -> Saved | None:
        """The state of an earlier run; None if there is no file yet."""
        if not os.path.exists(self.path):
            return None
        place = f"fit: checkpoint {printable(self.path)}"
        try:
            text = load_metadata(self.path).get(KEY)
            arrays = load(self.path)
        except ValueError as error:
            raise ValueError(f"{place} cannot be read: {error}") from None
        if text is None:
            raise ValueError(f"{place} is another file, expected a checkpoint of fit or a new name")
        try:
            content = json.loads(text)
            made, call, position = content["format"], content["call"], dict(content["position"])
        except (ValueError, TypeError, KeyError):
            raise self.damaged() from None
        if made != FORMAT:
            raise ValueError(f"{place} has format {shown(made)}, expected {FORMAT}")
        for what, mine in self._call.items():
            its = call.get(what) if isinstance(call, dict) else None
            if its != mine:
                raise ValueError(
                    f"{place} is of a call with other {what}, {shown(its)}, expected {shown(mine)}:"
                    " repeat that call, or give another name"
                )
        return Saved(split(arrays), position)

    def write(self, states: Mapping[str, Mapping[str, Any]], position: Mapping[str, Any]) -> None:
        """Replace the file, whole or not at all. Training goes on if that fails, with a warning."""
        content = {"format": FORMAT, "call": self._call, "position": position}
        try:
            save(self.path, join(**states), {KEY: json.dumps(content)})
            self._failed = False
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"fit: checkpoint cannot be written, training goes on: {error}", stacklevel=2
                )
            self._failed = True
        self._last = time.monotonic()


def restore(states: Sequence[tuple[Part, Mapping[str, Array]]]) -> None:
    """Load states into their parts, in turn; if one does not fit, no part has changed."""
    before = [(part, part.state_dict()) for part, _ in states]
    try:
        for part, state in states:
            part.load_state_dict(state)
    except BaseException:
        for part, state in before:
            part.load_state_dict(state)
        raise
