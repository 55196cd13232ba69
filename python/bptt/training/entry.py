# SPDX-License-Identifier: MIT
"""The function `fit`: checks its arguments and runs a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .._files.access import Path
from .._validate import as_between, as_callable, as_choice, as_count, as_flag
from ..clip import AutoClip
from ..optim import Optimizer
from ..schedules import Schedule
from .arguments import (
    as_clip,
    as_optimizer,
    as_schedule,
    check_model,
    check_monitors,
    held_out_of,
    layout_of,
)
from .call import call_of
from .callbacks import Callbacks
from .checkpoint import Checkpoint
from .history import History
from .loop import Loss, Metric, Model, Settings, Training
from .samples import as_samples, check_targets

__all__ = ["fit"]


def fit(
    model: Model,
    data: tuple[Any, Any],
    *,
    loss: Loss,
    epochs: int,
    batch_size: int = 32,
    optimizer: Optimizer | None = None,
    lr: float | None = None,
    schedule: str | Callable[[Optimizer, int], Schedule] | None = None,
    clip: float | AutoClip | None = 1.0,
    validation: float | tuple[Any, Any] | None = None,
    groups: Iterable[Any] | None = None,
    patience: int | None = None,
    metric: Metric | None = None,
    callbacks: Iterable[Any] = (),
    nonfinite: str = "raise",
    checkpoint: Path | None = None,
    checkpoint_minutes: float = 5.0,
    seed: int = 0,
    progress: bool | None = None,
) -> History:
    """Train a model in batches, in place, and return what was measured epoch by epoch.

    With validation, the model ends with the weights of the epoch that had the lowest validation
    loss, however the training ends: after all epochs, by `patience`, by an error or by Ctrl-C.
    Without validation it ends with the last weights.

    Ctrl-C ends the training after the current update, and `fit` returns; a second Ctrl-C raises
    KeyboardInterrupt at once.

    Parameters
    ----------
    model : Sequential
        Or any object with ``parameters``, ``model(x, lengths=...)``, ``loss_and_grads(x, target,
        loss, lengths=...)``, ``state_dict()`` and ``load_state_dict(state)``; for a `FlowMonitor`
        also with the ``forward`` and ``backward`` of `Sequential`. It gets batches of shape
        (T, B, ...), or (B, T, ...) if its ``batch_first`` is true.
    data : (x, target)
        The first axis of x counts the sequences: an array (n, T, features), or (n, T) of indices,
        or a list of n arrays with different numbers of steps, which are padded in batches of
        similar lengths. The target has an entry for each sequence: a number or row, or one for each
        step if the model's output has steps.
    loss : callable
        ``loss(prediction, target)`` returns the loss, a mean, and its gradient, as
        `bptt.cross_entropy` does. With steps in the output and different lengths it also gets
        ``lengths=``, as in `Sequential.loss_and_grads`.
    epochs : int
        The number of passes over the data.
    batch_size : int, optional
        Sequences in an update; the last batch of an epoch may have fewer.
    optimizer : Optimizer, optional
        An optimiser of ``model.parameters``; `Adam` if omitted.
    lr : float, optional
        The learning rate of that `Adam`; 1e-3 if omitted.
    schedule : "cosine" or callable, optional
        A function of the optimiser and of the number of updates that returns a schedule; "cosine"
        lowers the rate to 0 by `CosineAnnealing`. It takes a step after each update;
        `ReduceLROnPlateau` takes one after each epoch, with the validation loss (or the loss).
    clip : float or AutoClip, optional
        The largest norm of the gradient, see `clip_grad_norm`; None for no clipping.
    validation : float or (x, target), optional
        A fraction of `data` to hold out, drawn by `seed`, or other data.
    groups : array_like, shape (n,), optional
        The group of each sequence, such as its speaker: the fraction is held out as whole groups.
    patience : int, optional
        Stop after this number of epochs without a lower validation loss.
    metric : callable, optional
        ``metric(prediction, target)`` returns a number for all held-out sequences together; with
        steps in the output, both have a row for each step that is not padding.
    callbacks : iterable, optional
        Objects with ``on_batch(step)``, which gets a `Step` after each update, or
        ``on_epoch(epoch)``, which gets an `Epoch`, or both; or a `FlowMonitor`.
    nonfinite : {"raise", "skip", "zero"}, optional
        What to do if a gradient has values that are not finite: raise an error, skip the update, or
        set these values to 0; see `clip_grad_norm`. "raise" also refuses a loss that is not finite.
    checkpoint : str or path-like, optional
        A file for the whole state of the training, in a format of `bptt.save`. If it exists, the
        same call goes on from there, and ends with the same bits as without the interruption.
        Callbacks are not in it.
    checkpoint_minutes : float, optional
        Minutes between two writes of `checkpoint`; it is also written at the end.
    seed : int, optional
        For the order of the sequences and the choice of the held-out fraction.
    progress : bool, optional
        Show the progress on standard error: on a terminal as a bar by tqdm, or as one line without
        that package; elsewhere as a line for each epoch. If omitted, only on a terminal.

    Returns
    -------
    History
        Losses, metric, rate and time of each epoch.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or `checkpoint` is a file of another call or of another kind. The
        file and the model are then unchanged.
    FloatingPointError
        With ``nonfinite="raise"``, if a loss or gradient is not finite.

    Warns
    -----
    UserWarning
        If the checkpoint cannot be written; training goes on.

    References
    ----------
    Prechelt (1998), "Early stopping - but when?", Neural Networks: Tricks of the Trade, 55-69.

    Examples
    --------
    Find the sign of the sum of each sequence:

    >>> import numpy as np
    >>> import bptt
    >>> rng = np.random.default_rng(0)
    >>> x = [rng.standard_normal((rng.integers(5, 15), 1)) for _ in range(300)]
    >>> target = np.array([int(one.sum() > 0) for one in x])
    >>> model = bptt.Sequential(bptt.GRU(1, 16, seed=0), bptt.Last(), bptt.Linear(16, 2, seed=1))
    >>> history = bptt.fit(
    ...     model, (x, target), loss=bptt.cross_entropy, epochs=20, lr=0.02, validation=0.2,
    ...     metric=lambda logits, target: np.mean(logits.argmax(1) == target),
    ... )
    >>> history.best.metric > 0.9
    True
    """
    check_model(model)
    everything = as_samples("data", data)
    samples, held_out = held_out_of(everything, validation, groups, patience, metric, seed)
    layout = layout_of(model, samples)
    check_targets("data", samples, layout.per_step)
    if held_out is not None:
        label = "validation" if isinstance(validation, (tuple, list)) else "data"
        check_targets(label, held_out, layout.per_step)
    settings = Settings(
        loss=as_callable("fit", "loss", loss),
        metric=None if metric is None else as_callable("fit", "metric", metric),
        epochs=as_count("fit", "epochs", epochs, 1),
        batch_size=as_count("fit", "batch_size", batch_size, 1),
        clip=as_clip(clip),
        nonfinite=as_choice("fit", "nonfinite", nonfinite, ("raise", "skip", "zero")),
        patience=None if patience is None else as_count("fit", "patience", patience, 1),
        seed=as_count("fit", "seed", seed, 0),
    )
    listeners = Callbacks(callbacks)
    check_monitors(model, listeners.monitors)
    shows = None if progress is None else as_flag("fit", "progress", progress)
    minutes = as_between("fit", "checkpoint_minutes", checkpoint_minutes, 0)
    steps = settings.epochs * -(-len(samples) // settings.batch_size)
    optimizer = as_optimizer(optimizer, lr, model)
    rate, file = optimizer.lr, None
    try:
        planned = as_schedule(schedule, optimizer, steps)
        training = Training(model, optimizer, planned, settings, layout, samples, held_out)
        training.check_loss()
        if checkpoint is not None:
            file = Checkpoint(checkpoint, minutes, call_of(training, rate))
            training.resume(file)
    except BaseException:
        optimizer.lr = rate  # which a schedule may have set
        raise
    return training.run(listeners, file, shows)
