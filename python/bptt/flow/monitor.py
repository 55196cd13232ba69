# SPDX-License-Identifier: MIT
"""The gradient during training: samples, a record of them, alerts."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._convert import as_callable, as_count, as_path, as_scalar
from ..grads import shown
from ..io import Path
from ..nonfinite import NonFinite
from ..trace import LayerTrace, Trace
from .measure import RETAINS, Curve, rms_by_lag
from .verdict import course, died, number, percent

__all__ = ["Alert", "FlowMonitor", "FlowWarning"]

SATURATED = 0.95  # of a gate's units, from which on it is called dead


class FlowWarning(UserWarning):
    """The gradient flow changed for the worse during training."""


@dataclass(frozen=True)
class Alert:
    """What a monitor saw at an update: exploding, vanishing, dead or non-finite, and where."""

    step: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.text}"


class FlowMonitor:
    """Samples of the gradient during training, from the traces of any training loop.

    A sample is taken from a trace that a backward pass made anyway: nothing runs again. Horizons
    are those of ||dL/dc||, or ||dL/dh|| of cells without c, of the loss that is trained; with a
    loss at every step each step gets a gradient of its own, and they say nothing: there, use
    `gradient_flow` from time to time.

    Parameters
    ----------
    every : int, optional
        Sample each so many updates.
    path : str or path-like, optional
        A file to which each sample is appended as one line of JSON, at once. Samples that are
        there are read first, and a last line that was cut off is removed.
    on_alert : callable, optional
        Called with each `Alert` in place of a `FlowWarning`.

    Attributes
    ----------
    records : list of dict
        The samples: "step"; "cells", a dict for each layer and direction with its "name", the norms
        "last" and "first" at the last and first step (root mean square over sequences), the
        "horizon" in steps (None if it is beyond the sequence), the "growth" (largest norm over
        that at lag 1), "saturated" (mean fraction by gate) and "verdict";
        "nonfinite", where the first value that is not finite was, or None; and whatever else was
        given to `update`. None stands for numbers that are not finite.
    alerts : list of Alert

    Raises
    ------
    ValueError
        If `every` is less than 1, or the file at `path` holds something else.
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
        on_alert: Callable[[Alert], object] | None = None,
    ) -> None:
        self.every = as_count("FlowMonitor", "every", every, 1)
        self.path = None if path is None else as_path("FlowMonitor", path)
        if on_alert is not None:
            as_callable("FlowMonitor", "on_alert", on_alert)
        self.records: list[dict[str, Any]] = []
        self.alerts: list[Alert] = []
        self._on_alert = on_alert
        self._known: dict[tuple[str, str], float] = {}  # what was alerted on, and not over since
        if self.path is not None:
            self.records = _resume(self.path)

    def __repr__(self) -> str:
        return f"FlowMonitor({len(self.records)} samples, {len(self.alerts)} alerts)"

    def wants(self, step: int) -> bool:
        """Is this update one of those to sample? For ``backward(..., trace=...)``."""
        return as_count("FlowMonitor.wants", "step", step, 0) % self.every == 0

    def update(self, step: int, trace: Trace | LayerTrace | None, **numbers: float) -> None:
        """Take a sample.

        Parameters
        ----------
        step : int
            The number of the update.
        trace : Trace, LayerTrace or None
            ``grads.trace``; None takes no sample.
        **numbers : float
            Other things to record with it, as ``loss=...``.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        where = "FlowMonitor.update"
        step = as_count(where, "step", step, 0)
        numbers = {name: as_scalar(where, name, value) for name, value in numbers.items()}
        if trace is None:
            return
        if not isinstance(trace, (Trace, LayerTrace)):
            raise TypeError(
                f"{where}: trace is {shown(trace)}, expected grads.trace of a backward call with "
                "trace=True, or None"
            )
        place = trace.nonfinite
        cells = [_sample(name, cell) for name, cell in _cells(trace)]
        record = {
            "step": int(step),
            **{name: _plain(value) for name, value in numbers.items()},
            "cells": cells,
            "nonfinite": None if place is None else place._asdict(),
        }
        self.records.append(record)
        if self.path is not None:
            with open(self.path, "ab", buffering=0) as file:  # one write for one line
                file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        first = "" if place is None else f"{cells[place.layer]['name']}: {_describe(place)}"
        self._alert(int(step), ("all", "non-finite"), "non-finite", first)
        for cell in cells:
            self._watch(int(step), cell)

    def _watch(self, step: int, cell: dict[str, Any]) -> None:
        """Alert on what is wrong in a layer and direction, as a whole and by gate."""
        name, verdict, horizon = cell["name"], cell["verdict"], cell["horizon"]
        wrong = dict.fromkeys(("exploding", "vanishing", "dead"), "")
        if verdict == "exploding":
            wrong[verdict] = f"exploding, grows {number(cell['growth'])} times; {self._bound()}"
        elif verdict == "vanishing":
            wrong[verdict] = f"vanishing, horizon {number(horizon)} steps"
            before = self._known.get((name, verdict), 0.0)
            if horizon < before / 2:
                del self._known[name, verdict]
                wrong[verdict] += f", less than half of the {number(before)} before"
        elif verdict == "dead":
            wrong[verdict] = "dead, its gradient is exactly zero and did not fade before"
        wrong |= {gate: _dead(gate, part) for gate, part in cell["saturated"].items()}
        for what, text in wrong.items():
            kind = what if what in ("exploding", "vanishing") else "dead"
            self._alert(step, (name, what), kind, text and f"{name}: {text}", horizon or 0.0)

    def _bound(self) -> str:
        lasts = [cell["last"] for record in self.records for cell in record["cells"]]
        bound = np.quantile([v for v in lasts if v is not None] or [1.0], 0.95)
        return (
            f"step_clip=('norm', {bound:.3g}), the 95 % quantile of what enters at the "
            "last step, would bound it"
        )

    def _alert(
        self, step: int, key: tuple[str, str], kind: str, text: str, value: float = 0.0
    ) -> None:
        """Once, until it is over: until the text is empty."""
        if not text:
            self._known.pop(key, None)
        if not text or key in self._known:
            return
        self._known[key] = value
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
        from .plot import draw_records

        return draw_records(self.records)


# --- a sample -------------------------------------------------------------------------------------


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _cells(trace: Trace | LayerTrace) -> Iterator[tuple[str, Trace]]:
    """Names and traces of layers and directions, or of a function's single one."""
    traces = trace.cells if isinstance(trace, LayerTrace) else [trace]
    directions = 1 + any(t.source.reverse for t in traces)
    for k, each in enumerate(traces):
        yield f"layer {k // directions}" + ", reverse" * (k % directions), each


def _sample(name: str, trace: Trace) -> dict[str, Any]:
    sample: dict[str, Any] = dict.fromkeys(("last", "first", "horizon", "growth"))
    saturated = _saturated(trace)
    sample = {"name": name, **sample, "verdict": "too short", "saturated": saturated}
    norms = trace.dh_by_sequence if trace.dc_by_sequence is None else trace.dc_by_sequence
    lengths = trace.valid.sum(0)
    if lengths.max(initial=0) < 2:
        return sample
    with np.errstate(all="ignore"):
        by_lags = rms_by_lag(norms, lengths, trace.source.reverse)
    sample |= {"last": _plain(by_lags[0]), "first": _plain(by_lags[-1])}
    if not np.isfinite(by_lags).all():
        return sample | {"verdict": "non-finite"}
    curve = Curve(by_lags, trace.weights[0].dtype)
    if died(curve):
        return sample | {"verdict": "dead"}
    horizon = None if curve.horizon >= curve.reach else curve.horizon
    return sample | {
        "horizon": horizon,
        "growth": _plain(curve.growth),
        "verdict": course(curve),
    }


def _saturated(trace: Trace) -> dict[str, float | None]:
    """The mean over all steps of all sequences."""
    steps = trace.valid.sum(1)
    count = max(int(steps.sum()), 1)
    return {
        name: _plain(float(np.nansum(fraction * steps)) / count)
        for name, fraction in trace.saturated.items()
    }


def _describe(place: NonFinite) -> str:
    return (
        f"non-finite gradient, first at step {place.step}, sequence {place.sequence}, "
        f"{place.gate}, unit {place.unit}; bptt.find_nonfinite(tape) looks at the way forward"
    )


def _dead(gate: str, fraction: float | None) -> str:
    if gate in RETAINS.values() or fraction is None or fraction < SATURATED:
        return ""
    return f"dead gate {gate}, {percent(fraction)} of its units are at an end of its range"


def _resume(path: str) -> list[dict[str, Any]]:
    """The whole lines of a file, which is cut after the last of them; none if it is not there."""
    if not os.path.exists(path):
        open(path, "ab").close()  # fails now rather than in training
        return []
    with open(path, "r+b") as file:
        content = file.read()
        end = content.rfind(b"\n") + 1
        try:
            records = [json.loads(line) for line in content[:end].splitlines()]
            if any("step" not in r or "cells" not in r for r in records):
                raise ValueError("no samples")
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"FlowMonitor: path has {path!r}, expected a file of a monitor: {error}"
            ) from None
        if b"{" != content[end : end + 1] and content[end:]:
            raise ValueError(f"FlowMonitor: path has {path!r}, expected a file of a monitor")
        file.truncate(end)
    return records
