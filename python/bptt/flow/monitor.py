# SPDX-License-Identifier: MIT
"""The monitor of the gradient during training: samples, records and alerts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._files.access import Path
from .._validate import as_callable, as_count, as_path, as_scalar
from .._words import shown
from ..trace.nonfinite import NonFinite, described
from ..trace.trace import LayerTrace, Trace
from .curves import curve
from .measure import RETAINING
from .plot import draw_records
from .records import RecordFile
from .verdict import counted, gate_name, kind_of, number, percent

__all__ = ["Alert", "FlowMonitor", "FlowWarning"]

RESERVED = {"step", "cells", "nonfinite"}  # names in a sample
SATURATED = 0.95  # a gate is called dead from this fraction of saturated units on


class FlowWarning(UserWarning):
    """The gradient flow changed for the worse during training."""


@dataclass(frozen=True)
class Alert:
    """An alert of a monitor.

    Attributes
    ----------
    step : int
        The number of the update.
    kind : {"exploding", "vanishing", "dead", "non-finite"}
        What is wrong.
    text : str
        A sentence that says where.
    """

    step: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.text}"


class FlowMonitor:
    """Samples of the gradient during training, from the traces of a training loop.

    A sample is computed from the trace of a backward pass; nothing runs again. It measures
    ||dL/dc||, or ||dL/dh|| for cells without c, from the last step where the training loss enters,
    along the steps that a gradient can take: one dilation apart, up to a reset or `cut`. With a
    loss at every step, gradients enter everywhere and horizons mean nothing; use `gradient_flow`
    from time to time instead.

    Parameters
    ----------
    every : int, optional
        Number of updates from one sample to the next.
    path : str or path-like, optional
        A file to which each sample is appended at once, as one line of JSON. Samples already in the
        file are read first, and an incomplete last line is removed. A file with other content is
        refused and not changed.
    needs : int, optional
        Number of last inputs on which an answer depends, as in `gradient_flow`: a gradient that
        fades further back is healthy.
    on_alert : callable, optional
        Called with each `Alert` instead of issuing a `FlowWarning`.

    Attributes
    ----------
    records : list of dict
        The samples, each with:

        - "step", the number of the update;
        - "cells", a dict for each layer and direction: its "name"; the norms "last" and "first", at
          the last step that has a gradient and at the first step that it can reach (root mean
          square over sequences); the "horizon" in steps, None if it exceeds the sequence; the
          "growth", the largest norm relative to the norm at lag 1; "saturated", the mean fraction
          by gate; the "verdict", as in a report, or "mixed" below a bidirectional layer, where
          gradients enter at both ends;
        - "nonfinite", the place of the first value that is not finite, or None;
        - the numbers given to `update`.

        None stands for numbers that are missing or not finite.
    alerts : list of Alert
        All alerts so far.

    Raises
    ------
    ValueError
        If `every` or `needs` is less than 1, or the file at `path` holds something else.
    OSError
        If `path` cannot be read or written.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> x, target, _ = bptt.tasks.adding(T=30, batch=16, seed=0)
    >>> rnn, monitor = bptt.RNN(2, 16, seed=0), bptt.FlowMonitor(every=5, on_alert=print)
    >>> sgd = bptt.SGD(rnn.parameters, lr=0.1)
    >>> for step in range(10):
    ...     y, h, tape = rnn.forward(x)
    ...     dh = (h - target[:, None]) / h.size
    ...     grads = rnn.backward(tape, dstate=dh, trace=monitor.wants(step))
    ...     monitor.update(step, grads.trace)
    ...     sgd.step(grads.params)
    step 0: layer 0: vanishing, horizon 9.52 steps
    >>> [round(record["cells"][0]["horizon"]) for record in monitor.records]
    [10, 12]
    """

    def __init__(
        self,
        every: int = 50,
        path: Path | None = None,
        *,
        needs: int | None = None,
        on_alert: Callable[[Alert], object] | None = None,
    ) -> None:
        self.every = as_count("FlowMonitor", "every", every, 1)
        self.needs = None if needs is None else as_count("FlowMonitor", "needs", needs, 1)
        self.path = None if path is None else as_path("FlowMonitor", path)
        if on_alert is not None:
            as_callable("FlowMonitor", "on_alert", on_alert)
        self.records: list[dict[str, Any]] = []
        self.alerts: list[Alert] = []
        self._on_alert = on_alert
        self._active: dict[tuple[str, str], float] = {}  # causes of alerts that still hold
        self._file = None if self.path is None else RecordFile(self.path)
        if self._file is not None:
            self.records = self._file.records.copy()

    def __repr__(self) -> str:
        return f"FlowMonitor({len(self.records)} samples, {len(self.alerts)} alerts)"

    def wants(self, step: int) -> bool:
        """Should this update be sampled? Pass the answer as ``backward(..., trace=...)``."""
        return as_count("FlowMonitor.wants", "step", step, 0) % self.every == 0

    def update(
        self,
        step: int,
        trace: Trace | LayerTrace | Mapping[str, Trace | LayerTrace] | None,
        **numbers: float,
    ) -> None:
        """Take a sample.

        Parameters
        ----------
        step : int
            The number of the update.
        trace : Trace, LayerTrace, dict of them, or None
            ``grads.trace``; None takes no sample. A dict has the traces of several layers by the
            names that the cells have in the sample, as "encoder, layer 0".
        **numbers : float
            Other numbers to record with the sample, as ``loss=...``.

        Raises
        ------
        TypeError
            If an argument is of another type.

        Notes
        -----
        Values that are not finite raise no error. If the file cannot be written, there is one
        `FlowWarning`; the missing samples are written as soon as the file can be written again.
        """
        caller = "FlowMonitor.update"
        taken = RESERVED & numbers.keys()
        if taken:
            raise TypeError(f"{caller}: a number is called {min(taken)!r}, expected another name")
        step = as_count(caller, "step", step, 0)
        others = {
            name: None if value is None else _plain(as_scalar(caller, name, value))
            for name, value in numbers.items()
        }
        if trace is None:
            return
        by_layer = trace if isinstance(trace, Mapping) else {"": trace}
        for one in by_layer.values() or [trace]:
            if not isinstance(one, (Trace, LayerTrace)):
                raise TypeError(
                    f"{caller}: trace is {shown(one)}, expected grads.trace of a backward call "
                    "with trace=True, a dict of them, or None"
                )
        place, cells = None, list[dict[str, Any]]()
        for name, one in by_layer.items():
            if place is None and one.nonfinite is not None:
                place = one.nonfinite._replace(layer=one.nonfinite.layer + len(cells))
            cells += _samples(one, self.needs, f"{name}, " if name else "")
        record = {
            "step": step,
            "cells": cells,
            "nonfinite": None if place is None else place._asdict(),
            **others,
        }
        self.records.append(record)
        self._write(step, record)
        first = "" if place is None else f"{cells[place.layer]['name']}: {_where(place)}"
        self._alert(step, ("all", "non-finite"), "non-finite", first)
        for cell in cells:
            self._watch(step, cell)

    def _write(self, step: int, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        key = ("file", "unwritten")
        try:
            self._file.append(record)
        except OSError as error:
            if key not in self._active:
                text = f"samples are kept, but cannot be written: {error}"
                warnings.warn(f"step {step}: {text}", FlowWarning, stacklevel=3)
            self._active[key] = 0.0
        else:
            self._active.pop(key, None)

    def _watch(self, step: int, cell: dict[str, Any]) -> None:
        """Alert on faults of a layer and direction, as a whole and by gate."""
        name, verdict, horizon = cell["name"], cell["verdict"], cell["horizon"]
        wrong = dict.fromkeys(("exploding", "vanishing", "dead"), "")
        if verdict == "exploding":
            times = "" if cell["growth"] is None else f" {number(cell['growth'])} times"
            wrong[verdict] = f"exploding, grows{times}; {self._bound()}"
        elif verdict == "vanishing":
            wrong[verdict] = f"vanishing, horizon {counted(horizon, 'step')}"
            before = self._active.get((name, verdict), 0.0)
            if horizon < before / 2:
                del self._active[name, verdict]
                wrong[verdict] += f", less than half of the {number(before)} before"
        elif verdict == "dead":
            wrong[verdict] = "dead, its gradient is exactly zero, without fading first"
        wrong |= {gate: _dead(gate, part) for gate, part in cell["saturated"].items()}
        for what, text in wrong.items():
            kind = what if what in ("exploding", "vanishing") else "dead"
            self._alert(step, (name, what), kind, text and f"{name}: {text}", horizon or 0.0)

    def _bound(self) -> str:
        lasts = [cell["last"] for record in self.records for cell in record["cells"]]
        bound = np.quantile([v for v in lasts if v] or [1.0], 0.95)
        return (
            f"step_clip=('norm', {bound:.3g}) would bound it: the 95th percentile of its norm at "
            "the last step with a gradient"
        )

    def _alert(
        self, step: int, key: tuple[str, str], kind: str, text: str, value: float = 0.0
    ) -> None:
        """Alert once for each cause, until an empty text says that it is over."""
        if not text:
            self._active.pop(key, None)
        if not text or key in self._active:
            return
        self._active[key] = value
        alert = Alert(step, kind, text)
        self.alerts.append(alert)
        if self._on_alert is not None:
            self._on_alert(alert)
        else:
            warnings.warn(str(alert), FlowWarning, stacklevel=4)

    def plot(self) -> Any:
        """Draw the horizon and the norms at both ends over the updates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        return draw_records(self.records)


# --- a sample -------------------------------------------------------------------------------------


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _samples(trace: Trace | LayerTrace, needs: int | None, of: str) -> list[dict[str, Any]]:
    """A sample of each layer and direction, or of the one trace of a function."""
    traces = trace.cells if isinstance(trace, LayerTrace) else [trace]
    directions = len({cell.source.paths.reverse for cell in traces})
    samples = []
    for k, cell in enumerate(traces):
        name = of + f"layer {k // directions}" + ", reverse" * cell.source.paths.reverse
        mixed = directions > 1 and k < len(traces) - directions
        samples.append(_sample(name, cell, mixed, needs))
    return samples


def _sample(name: str, trace: Trace, mixed: bool, needs: int | None) -> dict[str, Any]:
    """A sample of one trace; `mixed` if gradients enter anywhere, below a bidirectional layer."""
    sample: dict[str, Any] = dict.fromkeys(("last", "first", "horizon", "growth"))
    sample = {"name": name, **sample, "verdict": "too short", "saturated": _saturated(trace)}
    with np.errstate(all="ignore"):
        norms = curve(trace, "c" if trace.dc_by_sequence is not None else "h")
        kind = "non-finite" if trace.nonfinite is not None else kind_of(norms, needs)
    if not len(norms.norms):
        return sample | ({"verdict": "dead"} if trace.valid.any() else {})
    has_trend = kind in ("vanishing", "healthy", "exploding")
    ends = {"last": _plain(norms.norms[0]), "first": _plain(norms.norms[-1])}
    sample |= {**ends, "verdict": "mixed" if mixed and has_trend else kind}
    if mixed or not has_trend:
        return sample
    faded = kind != "exploding" and norms.horizon < norms.reach
    horizon = _plain(norms.horizon) if faded else None
    return sample | {"horizon": horizon, "growth": _plain(norms.growth)}


def _saturated(trace: Trace) -> dict[str, float | None]:
    """Mean over all steps of all sequences; None if the tape has no gates."""
    steps = trace.valid.sum(1)
    count = max(int(steps.sum()), 1)
    try:
        by_step = trace.saturated
    except ValueError:  # the tape has a checkpoint
        return dict.fromkeys(trace.source.ends)
    return {name: _plain(float(np.nansum(f * steps)) / count) for name, f in by_step.items()}


def _where(place: NonFinite) -> str:
    return (
        f"non-finite gradient, first at {described(place)}; "
        "bptt.find_nonfinite(tape) searches the forward pass"
    )


def _dead(gate: str, fraction: float | None) -> str:
    if gate in RETAINING or fraction is None or fraction < SATURATED:
        return ""
    return f"dead {gate_name(gate)}: {percent(fraction)} of its units are saturated"
