# SPDX-License-Identifier: MIT
"""The loop over epochs and batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np

from .._types import Array
from .._validate import as_scalar
from ..clip import AutoClip, clip_grad_norm
from ..losses import loss_of
from ..optim import Optimizer
from ..schedules import ReduceLROnPlateau, Schedule
from .callbacks import Callbacks, Step
from .checkpoint import Checkpoint, Part, restore
from .history import Epoch, History
from .interrupt import Interrupt
from .progress import Progress
from .samples import Batch, Layout, Samples

__all__ = ["Loss", "Metric", "Model", "Settings", "Training"]

Loss = Callable[..., tuple[float, Array]]
Metric = Callable[[Array, Array], float]


class Model(Protocol):
    """What `fit` needs of a model."""

    @property
    def parameters(self) -> Mapping[str, Array]: ...
    def __call__(self, x: Any, *, lengths: Any = None) -> Any: ...
    def loss_and_grads(self, x: Any, target: Any, loss: Any, *, lengths: Any = None) -> Any: ...
    def state_dict(self) -> Mapping[str, Array]: ...
    def load_state_dict(self, state: Any) -> object: ...


@dataclass(frozen=True, eq=False)
class Settings:
    """How to train: the checked arguments of `fit`."""

    loss: Loss
    metric: Metric | None
    epochs: int
    batch_size: int
    clip: float | AutoClip
    nonfinite: str
    patience: int | None
    seed: int


@dataclass
class Position:
    """How far a training is, in a checkpoint beside the states of its parts."""

    epoch: int = 0  # complete epochs
    batches: int = 0  # complete batches of the next epoch
    updates: int = 0  # complete batches since the beginning
    total: float = 0.0  # of the losses of this epoch, each times its steps
    steps: int = 0
    nonfinite: int = 0
    seconds: float = 0.0  # of this epoch
    waited: int = 0  # epochs without a better validation loss
    best: float = math.inf  # validation loss


class Training:
    """One training: its parts, and what a checkpoint holds of them."""

    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        schedule: Schedule | None,
        settings: Settings,
        layout: Layout,
        samples: Samples,
        held_out: Samples | None,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.settings, self.layout = settings, layout
        self.samples, self.held_out = samples, held_out
        self.batches = -(-len(samples) // settings.batch_size)
        self.at, self.history = Position(), History()
        self.best: dict[str, Array] | None = None  # state of the model after its best epoch

    # --- checkpoints

    @property
    def parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {"model": self.model, "optimizer": self.optimizer}
        if self.schedule is not None:
            parts["schedule"] = self.schedule
        if isinstance(self.settings.clip, AutoClip):
            parts["clip"] = self.settings.clip
        return parts

    def save(self, checkpoint: Checkpoint) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        best = {} if self.best is None else {"best": self.best}
        position = asdict(self.at) | {"epochs": [list(epoch) for epoch in self.history.epochs]}
        checkpoint.write(states | best, position)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from the state in a checkpoint, if its file exists."""
        saved = checkpoint.read()
        if saved is None:
            return
        try:
            at = dict(saved.position)
            epochs = [Epoch(*row) for row in at.pop("epochs")]
            position = Position(**at)
            kinds = [type(at[field.name]) is type(field.default) for field in fields(Position)]
            if not (all(kinds) and self._reaches(position) and len(epochs) == position.epoch):
                raise checkpoint.damaged()
            best = [(self.model, saved.states["best"])] if "best" in saved.states else []
            restore([*best, *((part, saved.states[name]) for name, part in self.parts.items())])
        except (KeyError, TypeError, ValueError):
            raise checkpoint.damaged() from None
        self.at, self.history, self.best = position, History(epochs), saved.states.get("best")

    def _reaches(self, at: Position) -> bool:
        return 0 <= at.epoch <= self.settings.epochs and 0 <= at.batches <= self.batches

    # --- the loop

    @property
    def finished(self) -> bool:
        return self.stopped or self.at.epoch == self.settings.epochs

    @property
    def stopped(self) -> bool:
        """Has validation not improved for `patience` epochs?"""
        return self.settings.patience is not None and self.at.waited >= self.settings.patience

    def run(
        self, callbacks: Callbacks, checkpoint: Checkpoint | None, progress: bool | None
    ) -> History:
        done = self.at.epoch * self.batches + self.at.batches
        bar = Progress(progress, self.settings.epochs, self.batches, done)
        try:
            with Interrupt() as stop:
                while not (self.finished or stop.pressed):
                    self._epoch(stop, bar, callbacks, checkpoint)
            self.history.interrupted, self.history.stopped = not self.finished, self.stopped
            if checkpoint is not None:
                self.save(checkpoint)
        except KeyboardInterrupt:  # a second Ctrl-C, or one that `Interrupt` leaves alone
            self.history.interrupted = True
            if stop.pressed:
                raise
        finally:
            bar.close()
            if self.best is not None:
                self.model.load_state_dict(self.best)
        return self.history

    def _epoch(
        self, stop: Interrupt, bar: Progress, callbacks: Callbacks, checkpoint: Checkpoint | None
    ) -> None:
        at, settings = self.at, self.settings
        # A generator of each epoch's own: nothing of it need be saved.
        rng = np.random.default_rng((settings.seed, at.epoch))
        order = self.samples.order(settings.batch_size, rng)
        begun = time.monotonic() - at.seconds
        while at.batches < self.batches and not stop.pressed:
            batch = self.samples.batch(order[at.batches], self.layout)
            step, trace = self._update(batch, callbacks)
            at.seconds = time.monotonic() - begun
            bar.update(step.epoch, at.total / max(at.steps, 1), step.lr)
            callbacks.on_batch(step, trace)
            if checkpoint is not None and checkpoint.due:
                self.save(checkpoint)
        measured = None if stop.pressed else self._validate(stop)
        if measured is None:
            return
        at.seconds = time.monotonic() - begun
        epoch = self._finish(*measured)
        bar.epoch(epoch)
        callbacks.on_epoch(epoch)

    def _update(self, batch: Batch, callbacks: Callbacks) -> tuple[Step, Any]:
        at, settings = self.at, self.settings
        wants_trace = callbacks.wants_trace(at.updates)
        value, grads, trace = (self._traced if wants_trace else self._plain)(batch)
        place = f"update {at.updates} in epoch {at.epoch + 1}"
        if settings.nonfinite == "raise" and not math.isfinite(value):
            raise FloatingPointError(
                f"fit: the loss is {value} at {place}, expected a finite number: try a lower lr or "
                "clip, or leave such batches out by nonfinite='skip'"
            )
        try:
            norm = clip_grad_norm(grads, settings.clip, nonfinite=settings.nonfinite)
        except FloatingPointError as error:
            raise FloatingPointError(f"fit: at {place}: {error}") from None
        step = Step(at.updates, at.epoch + 1, value, norm, self.optimizer.lr)
        if math.isfinite(norm):
            self.optimizer.step(grads)
        if self.schedule is not None and not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        if math.isfinite(value):
            at.total += value * batch.steps
            at.steps += batch.steps
        at.nonfinite += not (math.isfinite(value) and math.isfinite(norm))
        at.batches += 1
        at.updates += 1
        return step, trace

    def _plain(self, batch: Batch) -> tuple[float, dict[str, Array], None]:
        value, grads = self.model.loss_and_grads(
            batch.x, batch.target, self.settings.loss, lengths=batch.lengths
        )
        return float(value), grads, None

    def _traced(self, batch: Batch) -> tuple[float, dict[str, Array], Any]:
        """The same, with the trace of the backward pass."""
        model: Any = self.model
        y, tape = model.forward(batch.x, lengths=batch.lengths)
        value, d = self.loss_of(y, batch)
        grads = model.backward(tape, d, trace=True, grads=["params"])
        return value, grads.params, grads.trace

    def _finish(self, loss: float | None, metric: float | None) -> Epoch:
        """Close an epoch: its row, the best weights, the schedule by epoch."""
        at = self.at
        mean = at.total / at.steps if at.steps else math.nan
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(mean if loss is None else loss)
        number = at.epoch + 1
        lr, seconds = self.optimizer.lr, at.seconds
        epoch = Epoch(number, mean, loss, metric, lr, seconds, at.nonfinite)
        self.history.epochs.append(epoch)
        if loss is not None and loss < at.best:
            at.best, at.waited = loss, 0
            self.best = {name: array.copy() for name, array in self.model.state_dict().items()}
        elif loss is not None:
            at.waited += 1
        self.at = Position(epoch=number, updates=at.updates, waited=at.waited, best=at.best)
        return epoch

    # --- the loss without an update

    def check_loss(self) -> None:
        """Compute one loss on each data set, so that a misfit is an error before training."""
        for samples in filter(None, (self.samples, self.held_out)):
            batch = samples.batch(np.zeros(1, np.int64), self.layout)
            self.loss_of(self.model(batch.x, lengths=batch.lengths), batch)

    def _validate(self, stop: Interrupt) -> tuple[float | None, float | None] | None:
        """Loss and metric of the held-out sequences, if any; None if interrupted."""
        if self.held_out is None:
            return None, None
        total, steps, outputs, targets = 0.0, 0, list[Array](), list[Array]()
        for chosen in self.held_out.order(self.settings.batch_size, None):
            batch = self.held_out.batch(chosen, self.layout)
            y = self.model(batch.x, lengths=batch.lengths)
            value, _ = self.loss_of(y, batch)
            total, steps = total + value * batch.steps, steps + batch.steps
            if self.settings.metric is not None:
                outputs.append(self._rows(y, batch))
                targets.append(self._rows(batch.target, batch))
            if stop.pressed:
                return None
        metric = None
        if self.settings.metric is not None:
            value = self.settings.metric(np.concatenate(outputs), np.concatenate(targets))
            metric = as_scalar("fit", "the result of metric", value)
        return total / max(steps, 1), metric

    def loss_of(self, y: Array, batch: Batch) -> tuple[float, Array]:
        """The loss of a batch and its gradient, as `Sequential.loss_and_grads` calls it."""
        lengths = batch.lengths if self.layout.per_step else None
        return loss_of(
            "fit", self.settings.loss, y, batch.target, lengths=lengths,
            batch_first=self.layout.batch_first,
        )  # fmt: skip

    def _rows(self, values: Array, batch: Batch) -> Array:
        """One row for each sequence; or for each step, without padding, sequence by sequence."""
        if not self.layout.per_step:
            return values
        rows = values if self.layout.batch_first else values.swapaxes(0, 1)
        if batch.lengths is None:
            return rows.reshape(-1, *rows.shape[2:])
        return rows[np.arange(rows.shape[1]) < batch.lengths[:, None]]
