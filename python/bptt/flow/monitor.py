# SPDX-License-Identifier: MIT
"""The gradient during training: samples, a record of them, alerts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._files.access import Path
from .._validate import as_callable, as_count, as_path, as_scalar
from .._words import shown
from ..trace.nonfinite import NonFinite, described
from ..trace.trace import LayerTrace, Trace
from .curves import curve
from .measure import RETAINS
from .records import RecordFile
from .verdict import counted, kind_of, number, percent

__all__ = ["Alert", "FlowMonitor", "FlowWarning"]

RESERVED = {"step", "cells", "nonfinite"}  # names in a sample
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
    are those of ||dL/dc||, or ||dL/dh|| of cells without c, of the loss that is trained, from the
    last step where it enters on, along the steps that a gradient can take: as far apart as the
    dilation, up to a reset or `cut`. With a loss at every step each step gets a gradient of its
    own, and they say nothing: there, use `gradient_flow` from time to time.

    Parameters
    ----------
    every : int, optional
        Sample each so many updates.
    path : str or path-like, optional
        A file to which each sample is appended as one line of JSON, at once. Samples that are
        there are read first, and a last line that was cut off is removed. Any other file is refused
        and stays as it is.
    needs : int, optional
        How many inputs an answer depends on, as of `gradient_flow`: a gradient that fades later is
        healthy.
    on_alert : callable, optional
        Called with each `Alert` in place of a `FlowWarning`.

    Attributes
    ----------
    records : list of dict
        The samples: "step"; "cells", a dict for each layer and direction with its "name", the norms
        "last" and "first" at the last step that has a gradient and at the first that it can reach
        (root mean square over sequences), the "horizon" in steps (None if it is beyond the
        sequence), the "growth" (largest norm over that at lag 1), "saturated" (mean fraction by
        gate) and "verdict", as in a report, or "mixed" below a bidirectional layer, where gradients
        enter at both ends; "nonfinite", where the first value that is not finite was, or None; and
        whatever else was given to `update`. None stands for numbers that are not finite, or are
        none.
    alerts : list of Alert

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
        self._known: dict[tuple[str, str], float] = {}  # what was alerted on, and not over since
        self._file = None if self.path is None else RecordFile(self.path)
        if self._file is not None:
            self.records = self._file.records.copy()

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
        TypeError
            If an argument is of another type.

        Notes
        -----
        No trace is an error, whatever it holds. A file that cannot be written is a `FlowWarning`:
        one, until the file can be written again. The samples that it lacks are written then.
        """
        where = "FlowMonitor.update"
        taken = RESERVED & numbers.keys()
        if taken:
            raise TypeError(f"{where}: a number is called {min(taken)!r}, expected another name")
        step = as_count(where, "step", step, 0)
        given = {
            name: None if value is None else _plain(as_scalar(where, name, value))
            for name, value in numbers.items()
        }
        if trace is None:
            return
        if not isinstance(trace, (Trace, LayerTrace)):
            raise TypeError(
                f"{where}: trace is {shown(trace)}, expected grads.trace of a backward call with "
                "trace=True, or None"
            )
        place, cells = trace.nonfinite, _samples(trace, self.needs)
        record = {
            "step": step,
            "cells": cells,
            "nonfinite": None if place is None else place._asdict(),
            **given,
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
            if key not in self._known:
                text = f"samples are kept, but cannot be written: {error}"
                warnings.warn(f"step {step}: {text}", FlowWarning, stacklevel=3)
            self._known[key] = 0.0
        else:
            self._known.pop(key, None)

    def _watch(self, step: int, cell: dict[str, Any]) -> None:
        """Alert on what is wrong in a layer and direction, as a whole and by gate."""
        name, verdict, horizon = cell["name"], cell["verdict"], cell["horizon"]
        wrong = dict.fromkeys(("exploding", "vanishing", "dead"), "")
        if verdict == "exploding":
            times = "" if cell["growth"] is None else f" {number(cell['growth'])} times"
            wrong[verdict] = f"exploding, grows{times}; {self._bound()}"
        elif verdict == "vanishing":
            wrong[verdict] = f"vanishing, horizon {counted(horizon, 'step')}"
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
        bound = np.quantile([v for v in lasts if v] or [1.0], 0.95)
        return (
            f"step_clip=('norm', {bound:.3g}), the 95 % quantile of what enters at the "
            "last step that has a gradient, would bound it"
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


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _samples(trace: Trace | LayerTrace, needs: int | None) -> list[dict[str, Any]]:
    """Of layers and directions, or of a function's single one."""
    traces = trace.cells if isinstance(trace, LayerTrace) else [trace]
    directions = len({each.source.paths.reverse for each in traces})
    samples = []
    for k, each in enumerate(traces):
        name = f"layer {k // directions}" + ", reverse" * each.source.paths.reverse
        mixed = directions > 1 and k < len(traces) - directions
        samples.append(_sample(name, each, mixed, needs))
    return samples


def _sample(name: str, trace: Trace, mixed: bool, needs: int | None) -> dict[str, Any]:
    """`mixed`: below a bidirectional layer gradients enter at both ends, and on the way."""
    sample: dict[str, Any] = dict.fromkeys(("last", "first", "horizon", "growth"))
    sample = {"name": name, **sample, "verdict": "too short", "saturated": _saturated(trace)}
    with np.errstate(all="ignore"):
        by_lag = curve(trace, "c" if trace.dc_by_sequence is not None else "h")
        kind = "non-finite" if trace.nonfinite is not None else kind_of(by_lag, needs)
    if not len(by_lag.norms):
        return sample | ({"verdict": "dead"} if trace.valid.any() else {})
    known = kind in ("vanishing", "healthy", "exploding")
    ends = {"last": _plain(by_lag.norms[0]), "first": _plain(by_lag.norms[-1])}
    sample |= {**ends, "verdict": "mixed" if mixed and known else kind}
    if mixed or not known:
        return sample
    faded = kind != "exploding" and by_lag.horizon < by_lag.reach
    horizon = _plain(by_lag.horizon) if faded else None
    return sample | {"horizon": horizon, "growth": _plain(by_lag.growth)}


def _saturated(trace: Trace) -> dict[str, float | None]:
    """The mean over all steps of all sequences; None where the tape has no gates any more."""
    steps = trace.valid.sum(1)
    count = max(int(steps.sum()), 1)
    try:
        by_step = trace.saturated
    except ValueError:  # of a tape with a checkpoint
        return dict.fromkeys(trace.source.ends)
    return {name: _plain(float(np.nansum(f * steps)) / count) for name, f in by_step.items()}


def _where(place: NonFinite) -> str:
    return (
        f"non-finite gradient, first at {described(place)}; "
        "bptt.find_nonfinite(tape) looks at the way forward"
    )


def _dead(gate: str, fraction: float | None) -> str:
    if gate in RETAINS.values() or fraction is None or fraction < SATURATED:
        return ""
    return f"dead gate {gate}, {percent(fraction)} of its units are at an end of its range"
