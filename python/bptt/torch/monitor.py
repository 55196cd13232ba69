# SPDX-License-Identifier: MIT
"""Watches the gradient in a training loop of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from .._words import shown
from ..flow.monitor import FlowMonitor
from .layer import Layer
from .layer_calls import RecurrentCall
from .modules import Recurrent


class Watch:
    """A model that a monitor watches, until `remove`; see `watch`.

    Attributes
    ----------
    step : int
        The number of the next update.
    """

    def __init__(self, modules: dict[str, Any], optimizer: Any, monitor: FlowMonitor) -> None:
        self.monitor, self.step = monitor, 0
        self._modules = modules
        self._before = {name: module.tracing for name, module in modules.items()}
        self._handle = optimizer.register_step_post_hook(self._after_step)
        self._trace_or_not()

    def __repr__(self) -> str:
        return f"Watch({self.step} updates of {', '.join(self._modules) or 'the model'})"

    def remove(self) -> None:
        """Stop, and leave the model as it was."""
        self._handle.remove()
        for name, module in self._modules.items():
            module.tracing = self._before[name]

    def _trace_or_not(self) -> None:
        wanted = self.monitor.wants(self.step)
        for name, module in self._modules.items():
            module.tracing = self._before[name] or (True if wanted else None)
            module.__dict__.pop("trace", None)

    def _after_step(self, *_: Any) -> None:
        if self.monitor.wants(self.step):
            traces = {name: module.trace for name, module in self._modules.items()}
            found = {n: t for n, t in traces.items() if t is not None}
            self.monitor.update(self.step, found or None)
        self.step += 1
        self._trace_or_not()


def watch(model: torch.nn.Module, optimizer: torch.optim.Optimizer, monitor: FlowMonitor) -> Watch:
    """Let a monitor watch the gradient of a model: one line, and the training loop stays as it is.

    After each update that the monitor wants, it gets the traces of all modules of `bptt.torch` in
    the model, recorded by the backward call before the update. Where a module is called several
    times for one update, the trace is that of the last backward call.

    Parameters
    ----------
    model : torch.nn.Module
        A model with modules of `bptt.torch`, also by `accelerate`, or with a recurrent `Layer`.
    optimizer : torch.optim.Optimizer
        Its steps are the updates.
    monitor : FlowMonitor
        Names in its records are those of the modules in the model.

    Returns
    -------
    Watch
        ``remove()`` ends it.

    Raises
    ------
    TypeError
        If an argument is of another type.
    ValueError
        If the model has no such module.

    Examples
    --------
    >>> import torch
    >>> import bptt, bptt.torch
    >>> model = torch.nn.ModuleDict({"encoder": bptt.torch.GRU(3, 4)})
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> monitor = bptt.FlowMonitor(every=2, on_alert=lambda alert: None)
    >>> watched = bptt.torch.watch(model, sgd, monitor)
    >>> for step in range(4):
    ...     model["encoder"](torch.ones(30, 2, 3))[1].sum().backward()
    ...     sgd.step()
    >>> [(record["step"], record["cells"][0]["name"]) for record in monitor.records]
    [(0, 'encoder, layer 0'), (2, 'encoder, layer 0')]
    >>> watched.remove()
    """
    expected = {
        "model": (model, torch.nn.Module, "torch.nn.Module"),
        "optimizer": (optimizer, torch.optim.Optimizer, "torch.optim.Optimizer"),
        "monitor": (monitor, FlowMonitor, "FlowMonitor"),
    }
    for name, (value, kind, text) in expected.items():
        if not isinstance(value, kind):
            raise TypeError(f"watch: {name} is {shown(value)}, expected a {text}")
    modules = {name: module for name, module in model.named_modules() if _has_trace(module)}
    if not modules:
        raise ValueError(
            "watch: model has no module of bptt.torch, expected one; bptt.torch.accelerate(model) "
            "makes them of torch.nn's"
        )
    return Watch(modules, optimizer, monitor)


def _has_trace(module: torch.nn.Module) -> bool:
    return isinstance(module, Recurrent) or (
        isinstance(module, Layer) and module._call is RecurrentCall
    )
