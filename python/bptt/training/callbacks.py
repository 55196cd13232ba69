# SPDX-License-Identifier: MIT
"""Callbacks: objects that a training tells of each update and epoch, and monitors of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .._validate import as_callable
from .._words import shown
from .history import Epoch

__all__ = ["Callbacks", "Step"]


class Step(NamedTuple):
    """One update, as callbacks see it.

    Attributes
    ----------
    number : int
        0 for the first update of the training.
    epoch : int
        1 for the first epoch.
    loss : float
        Loss of the batch, before the update.
    norm : float
        Norm of the gradient, before clipping.
    lr : float
        Learning rate of the update.
    """

    number: int
    epoch: int
    loss: float
    norm: float
    lr: float


class Callbacks:
    """Calls the methods that each callback has: ``on_batch``, ``on_epoch``, or a monitor's."""

    def __init__(self, callbacks: Any) -> None:
        number = isinstance(callbacks, np.ndarray) and not callbacks.ndim
        if number or isinstance(callbacks, (str, bytes)) or not isinstance(callbacks, Iterable):
            raise TypeError(f"fit: callbacks is {shown(callbacks)}, expected a list of objects")
        every = list(callbacks)
        for k, one in enumerate(every):
            methods = [n for n in ("on_batch", "on_epoch", "update") if hasattr(one, n)]
            if not methods or isinstance(one, (type, dict)):
                raise TypeError(
                    f"fit: callbacks[{k}] is {shown(one)}, expected an object with on_batch(step) "
                    "or on_epoch(epoch), or a FlowMonitor"
                )
            for name in methods:
                as_callable("fit", f"callbacks[{k}].{name}", getattr(one, name))
        self._batch = [one.on_batch for one in every if hasattr(one, "on_batch")]
        self._epoch = [one.on_epoch for one in every if hasattr(one, "on_epoch")]
        self.monitors = [one for one in every if hasattr(one, "wants") and hasattr(one, "update")]

    def wants_trace(self, number: int) -> bool:
        """Does a monitor sample this update?"""
        return any(monitor.wants(number) for monitor in self.monitors)

    def on_batch(self, step: Step, trace: Any) -> None:
        for monitor in self.monitors if trace is not None else ():
            if monitor.wants(step.number):
                monitor.update(step.number, trace, loss=step.loss, norm=step.norm)
        for call in self._batch:
            call(step)

    def on_epoch(self, epoch: Epoch) -> None:
        for call in self._epoch:
            call(epoch)
