# SPDX-License-Identifier: MIT
"""`gradient_flow` and its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._files.access import Path, check_target, write_file
from .._types import Array
from .._validate import as_array, as_count, as_lengths_within, to_numpy
from .._words import shown
from ..exchange.loader import recurrent_of
from ..layers.recurrent import Recurrent
from ..layers.sequences import hint_on_ids, time_major
from ..losses import loss_of
from ..sequential.model import Sequential
from .advice import Advice, advise
from .curves import norm
from .entry import Entry
from .html import PAGE, fragment, page
from .measure import at_ends, measure, unit_vectors
from .of_row import Part, Run
from .plot import draw
from .report_data import ReportData
from .text import as_rich, as_text
from .trial_inits import Study
from .verdict import judge

__all__ = ["FlowReport", "gradient_flow"]

OWN = "your own"  # the name of a loss that the user gives

Loss = str | Callable[[Array], tuple[float, ArrayLike]]


class FlowReport(ReportData):
    """A report on the gradient of a recurrent model; made by `gradient_flow`.

    ``print(report)`` shows it as text, a notebook as a page.

    Attributes
    ----------
    verdict : str
        The worst of `verdicts`: "non-finite", "exploding", "dead", "vanishing", "healthy" or
        "too short" (fewer than 4 steps).
    cells : tuple of CellFlow
        The numbers of each layer and direction, in the order of the state.
    verdicts : tuple of str
        A sentence on each layer and direction, which begins with its verdict.
    advice : tuple of Advice
        Proposed changes, each with its reason; empty if the measurements call for none.
    norms : dict of str to float
        Euclidean norm of the gradient of each parameter.
    value : float or None
        The loss, if a function returned it.
    loss, model : str
        The loss and the model, in words.
    dtype : numpy.dtype
        The precision of the model, in which everything was computed.
    lengths : ndarray, shape (B,)
        Length of each sequence.
    reading : str
        How the axes of x were read, if the model came from a file or dict, which does not say.
    """

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> Any:
        return as_rich(self)

    def __repr__(self) -> str:
        return f"FlowReport({self.verdict}: {self.model})"

    def _repr_html_(self) -> str:
        return fragment(self)

    def plot(self) -> Any:
        """Draw the gradient by lag, the shares of dL/dW_hh and the saturation of the gates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        return draw(self)

    def to_html(self, path: Path | None = None) -> str:
        """Return the report as one HTML page with its pictures inside.

        Parameters
        ----------
        path : str or path-like, optional
            A file to write the page to, whole or not at all: a new file, or an earlier page.

        Returns
        -------
        str

        Raises
        ------
        ImportError
            Without matplotlib.
        OSError, ValueError
            If the file cannot be written.
        """
        caller = "FlowReport.to_html"
        if path is not None:  # refuse the path before drawing the pictures
            check_target(caller, path, PAGE)
        text = page(self)
        if path is not None:
            write_file(caller, path, text.encode(), PAGE)
        return text


def gradient_flow(
    model: Any,
    x: ArrayLike,
    dy: ArrayLike | None = None,
    *,
    loss: Loss = "last",
    lengths: ArrayLike | None = None,
    needs: int | None = None,
    seed: int = 0,
) -> FlowReport:
    """Measure how far a recurrent model's gradient reaches on one batch, and report it in words.

    The model runs forward and backward as in training, in its own dtype, so values that underflow
    in float32 are zero here too. The model is not changed. Two gradients are measured:

    - the gradient of the loss: ||dL/dh_t||, each step's share of dL/dW_hh, and saturated gates;
    - a probe: a gradient of norm 1 that enters each layer and direction at its last step, and grows
      or fades on its way back, independently of the loss and of other layers. The verdict rests on
      this probe.

    Parameters
    ----------
    model : Recurrent, Sequential, torch.nn.RNN, LSTM or GRU, dict of str to array_like, or path
        Of a `Sequential` all recurrent layers are reported; if there are several, "layer 4.0" is
        layer 0 of ``model.layers[4]``, and a built-in loss is one of the top one. `x` is the
        model's input, such as ids, and `dy` and a function `loss` are of the model's output. Others
        as in `load_model`, which also takes options that a file does not hold, such as the
        activation of an RNN.
    x : array_like, shape (T, B, I), or (B, T, I) with `batch_first`, or (T, I)
        A batch of the task, scaled as in training. The gates, and so the gradients, depend on it:
        random noise instead of data gives another report.
    dy : array_like, shape of the model's output, optional
        Gradient of your loss with respect to the output.
    loss : {"last", "every"} or callable, optional
        The loss, if there is no `dy`. "last": L = sum over sequences b of <u_b, h_b>, with h_b the
        last output of b in each direction of the top layer and u_b a random vector of norm 1.
        "every": the same sum over all outputs of b. A function of the output y returns the loss and
        its gradient, such as ``lambda y: bptt.mse(y, target)``.
    lengths : array_like of int, shape (B,), optional
        Length of each sequence; T if omitted.
    needs : int, optional
        Number of last inputs on which an answer of the task depends; `bptt.flow.needed_memory`
        measures it. A gradient that fades further back is healthy.
    seed : int, optional
        Seed of the random vectors, and of the dropout masks of a PyTorch module in training mode. A
        layer of bptt uses the masks of its next call.

    Returns
    -------
    FlowReport

    Raises
    ------
    ValueError
        If shapes disagree, no sequence has a step, `needs` is less than 1, or `x` holds whole
        numbers in two axes, which may be ids.
    TypeError
        If `model` is of another type, or an array does not hold real numbers.

    References
    ----------
    Bengio, Simard & Frasconi (1994), IEEE Transactions on Neural Networks 5(2);
    Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> x = np.random.default_rng(0).standard_normal((200, 8, 4))
    >>> report = bptt.gradient_flow(bptt.RNN(4, 16, seed=0), x)
    >>> report.verdict
    'vanishing'
    >>> bptt.gradient_flow(bptt.RNN(4, 16, seed=0), x, needs=5).verdict
    'healthy'
    """
    caller = "gradient_flow"
    seed = as_count(caller, "seed", seed, 0)
    needs = None if needs is None else as_count(caller, "needs", needs, 1)
    row = model if isinstance(model, Sequential) else (
        recurrent_of(caller, "model", model, seed=seed))  # fmt: skip
    x, first = to_numpy(x), row.layers[0] if isinstance(row, Sequential) else row
    reading = ""
    if isinstance(first, Recurrent):
        given, x = x, _batch(caller, "x", first, x, first.input_size)
        reading = how_read(first, given)
        lengths = _lengths(caller, first, x, lengths, reading)
    run = Run(caller, row, x, lengths)
    T, B = run.parts[0].tape.shape
    ends = np.full(B, T) if lengths is None else np.asarray(run.parts[0].tape.lengths)
    if not ends.any():
        raise ValueError(f"{caller}: x has {T} steps of {B} sequences, expected at least one")
    value, words, gradient = _loss(caller, run, dy, loss, ends, seed)
    studies, alone = list[Study](), len(run.parts) == 1
    above: Part | None = None
    for part in reversed(run.parts):
        gradient = gradient if above is None else run.down(gradient, above, part)
        study, gradient = _study(part, gradient, ends, seed, needs, words == OWN, alone)
        studies.insert(0, study)
        above = part
    return FlowReport(
        cells=tuple(cell for study in studies for cell in study.cells),
        verdicts=tuple(text for study in studies for text in study.verdicts),
        advice=tuple(one for study in studies for one in _advice(study)),
        norms={f"{s.place}{name}": norm(g) for s in studies for name, g in s.params.items()},
        value=value,
        loss=words,
        model=", ".join(repr(study.layer).splitlines()[0] for study in studies),
        dtype=run.parts[0].layer.dtype,
        lengths=ends,
        reading=reading if isinstance(model, (Mapping, str, os.PathLike)) else "",
    )


def _study(
    part: Part,
    gradient: Any,
    ends: Array,
    seed: int,
    needs: int | None,
    own_loss: bool,
    alone: bool,
) -> tuple[Study, Any]:
    """The measurements of one layer, and the gradient of its input."""
    layer, place = part.layer, "" if alone else f"{part.number}."
    with np.errstate(all="ignore"):
        grads = part.tape.layer.backward(
            part.tape, gradient, trace="full", grads=[*layer.parameters, *([] if alone else ["x"])]
        )
        assert grads.trace is not None
        entry = Entry(_by_direction(layer, gradient), ends)
        cells = measure(part.tape.layer, part.tape, grads.trace.cells, entry, seed, place)
    judged = [judge(cell, needs) for cell in cells]
    full = [trace.full for trace in grads.trace.cells if trace.full is not None]
    study = Study(
        layer, part.x, ends, seed, needs, cells, [kind for kind, _ in judged],
        [text for _, text in judged], full, grads.params, own_loss, _entering(entry), place,
    )  # fmt: skip
    return study, grads.x


def _advice(study: Study) -> tuple[Advice, ...]:
    """Advice on one layer; of several, it says on which."""
    if not study.place:
        return advise(study)
    name = f"model.layers[{study.place[:-1]}]"
    return tuple(replace(one, text=f"{name}: {one.text}") for one in advise(study))


def _lengths(caller: str, layer: Recurrent, x: Array, lengths: Any, reading: str) -> Array | None:
    T, B, _ = time_major(layer.structure, "x", x, layer.input_size, "input_size").shape
    if lengths is not None:
        lengths = as_array(caller, "lengths", to_numpy(lengths))
        if T != B and lengths.shape == (T,):
            raise ValueError(
                f"{caller}: lengths has shape ({T},), expected (B,) = ({B},), as {reading}"
            )
    return as_lengths_within(caller, lengths, T, B)


def how_read(layer: Recurrent, x: Any) -> str:
    """In words: how the axes of x are read. Neither shapes nor weights determine it."""
    shape = np.shape(to_numpy(x))
    if len(shape) == 2:
        return f"x of shape {shape} is read as (T, I), one sequence"
    if layer.batch_first:
        return f"x of shape {shape} is read as (B, T, I)"
    return f"x of shape {shape} is read as (T, B, I); batch_first reads (B, T, I)"


def _batch(caller: str, name: str, layer: Recurrent, value: Any, size: int) -> Array:
    """The array, with an axis for the batch added if it has none."""
    array = as_array(caller, name, value)
    if array.ndim != 2:
        return array
    axes = "B, T" if layer.batch_first else "T, B"
    hint = hint_on_ids(name, array)
    if array.shape[1] != size:
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}, expected ({axes}, {size}) or (T, {size})"
            + hint
        )
    if hint:  # (T, I) and a batch of ids fit both
        raise ValueError(
            f"{caller}: {name} has whole numbers in two axes, {array.shape}, which may be (T, I) "
            f"or ids, expected ({axes}, {size})" + hint
        )
    return np.expand_dims(array, 0 if layer.batch_first else 1)


def _loss(
    caller: str, run: Run, dy: Any, loss: Loss, lengths: Array, seed: int
) -> tuple[float | None, str, Any]:
    """The value of the loss, its name, and its gradient at the top recurrent layer."""
    top = run.parts[-1]
    layer, y = top.layer, top.y
    if dy is not None:
        if not (isinstance(loss, str) and loss == "last"):
            raise ValueError(f"{caller}: dy and loss are both given, expected one of them")
        dy = to_numpy(dy)
        dy = _batch(caller, "dy", layer, dy, run.y.shape[-1]) if run.y.ndim == 3 else dy
        return None, OWN, run.down(dy, None, top)
    if callable(loss):
        value, gradient = loss_of(caller, loss, run.y)
        return value, OWN, run.down(to_numpy(gradient), None, top)
    if not isinstance(loss, str) or loss not in ("last", "every"):
        raise ValueError(f"{caller}: loss is {shown(loss)}, expected 'last', 'every' or a function")
    T, B = y.shape[:2][:: -1 if layer.batch_first else 1]
    directions = 1 + layer.bidirectional
    parts = []
    for reverse in range(directions):
        k = (layer.num_layers - 1) * directions + reverse
        u = unit_vectors(B, layer.structure.width, seed, k)
        inside = (np.arange(T)[:, None] < lengths)[..., None]
        parts.append(
            at_ends(u, lengths, T, layer.structure.is_reverse(k)) if loss == "last" else inside * u
        )
    gradient = np.concatenate(parts, axis=-1).astype(layer.dtype)
    words = {
        "last": "on the last step, L = sum of <u_b, h_b> over sequences b, with random unit vectors"
        f" u_b (seed {seed})",
        "every": "on every step, L = sum of <u_b, h_tb> over steps and sequences b, with random "
        f"unit vectors u_b (seed {seed})",
    }[loss]
    return None, words, gradient.swapaxes(0, 1) if layer.batch_first else gradient


def _by_direction(layer: Recurrent, gradient: Any) -> list[Array]:
    """The gradient of each direction, (T, B, width)."""
    dy = np.asarray(gradient, layer.dtype)
    dy = dy.swapaxes(0, 1) if layer.batch_first else dy
    return np.split(dy, 1 + layer.bidirectional, axis=-1)


def _entering(entry: Entry) -> float:
    """The 95th percentile of the nonzero norms of dL/dy over steps and sequences."""
    dys = np.stack(entry.dys).astype(np.float64)
    largest = float(np.abs(dys).max(initial=0))
    scale = largest if 0 < largest < np.inf else 1.0  # so that squares stay in range
    norms = scale * np.linalg.norm(dys / scale, axis=-1)
    norms = norms[:, np.arange(norms.shape[1])[:, None] < entry.lengths]
    return float(np.quantile(norms[norms > 0], 0.95)) if (norms > 0).any() else 0.0
