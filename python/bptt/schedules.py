# SPDX-License-Identifier: MIT
"""Learning-rate schedules: each call of `step` sets the ``lr`` of an optimiser.

Except for `ReduceLROnPlateau`, the rate is a function of the number of steps t and of the rate that
the optimiser has when the schedule is made. Schedules agree with PyTorch's schedulers of the same
names; `WarmUp` agrees with LinearLR, followed by another scheduler through SequentialLR.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

from ._guesses import answering
from ._validate import (
    as_array,
    as_between,
    as_choice,
    as_count,
    as_number,
    as_scalar,
    check_mapping,
)
from ._words import listed, shown
from .optim import Optimizer, join, split

__all__ = ["CosineAnnealing", "ReduceLROnPlateau", "Schedule", "StepLR", "WarmUp"]


MOST_STEPS = 1 << 53  # the largest number up to which float64 counts exactly


class Schedule(ABC):
    """Base class of `StepLR`, `CosineAnnealing`, `ReduceLROnPlateau` and `WarmUp`.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rate is set.

    Attributes
    ----------
    optimizer : Optimizer
        The argument.
    base_lr : float
        The rate of the optimiser when the schedule was made.
    steps : int
        Number of calls of `step` so far, t.
    """

    _fields: ClassVar[tuple[str, ...]] = ("base_lr", "steps")

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            has = f"of type {type(optimizer).__name__}"
            raise TypeError(
                f"{type(self).__name__}: optimizer is {has}, expected an optimiser, "
                "such as bptt.Adam(layer.parameters)"
            )
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.steps = 0

    def step(self, metric: float | None = None) -> None:
        """Advance by one step, usually after each epoch, and set the rate.

        Parameters
        ----------
        metric : float, optional
            A measure of success, such as the validation loss. `ReduceLROnPlateau` needs it; other
            schedules ignore it, so that one training loop serves all schedules.
        """
        rate = self._lr(self.steps + 1, metric)
        self.optimizer.lr = rate
        self.steps += 1

    @abstractmethod
    def _lr(self, t: int, metric: float | None) -> float:
        """The rate at step t."""

    def state_dict(self) -> dict[str, float]:
        """Return the state of the schedule, for `bptt.save`: numbers by name.

        The arguments of the constructor are not included.
        """
        return {"lr": self.optimizer.lr} | {name: getattr(self, name) for name in self._fields}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the state from `state_dict`, and the rate of the optimiser.

        Parameters
        ----------
        state : dict of str to float
            The result of `state_dict`; numbers, or arrays without dimensions as from `bptt.load`.

        Raises
        ------
        ValueError, TypeError
            If names are missing or unexpected, or a value is not a number or out of its range.
            Nothing has changed then.
        """
        self._restore(self._checked(state))

    def _checked(self, state: Mapping[str, float]) -> dict[str, float]:
        caller = f"{type(self).__name__}.load_state_dict"
        check_mapping(caller, "state", state)
        expected = ["lr", *self._fields]
        if set(state) != set(expected):
            raise ValueError(
                f"{caller}: state has names {listed(sorted(state))}, expected "
                f"{listed(sorted(expected))}"
            )
        return {name: self._loaded(caller, name, state[name]) for name in expected}

    def _loaded(self, caller: str, name: str, value: Any) -> float:
        """Return a number of a state, which may be an array without dimensions."""
        label = f"state[{name!r}]"
        array = as_array(caller, label, value)
        if array.ndim:
            raise ValueError(f"{caller}: {label} has shape {array.shape}, expected a number")
        if isinstance(getattr(self, name, None), int):
            return as_count(caller, label, array.item(), 0, MOST_STEPS)
        number = as_number(caller, label, array.item())
        if math.isnan(number):
            raise ValueError(f"{caller}: {label} is nan, expected a number")
        if name != "best" and not 0 <= number < math.inf:
            raise ValueError(f"{caller}: {label} is {number}, expected a finite number, 0 or more")
        return number

    def _restore(self, numbers: Mapping[str, float]) -> None:
        for name in self._fields:
            setattr(self, name, numbers[name])
        self.optimizer.lr = numbers["lr"]


@final
class StepLR(Schedule):
    """Multiply the rate by `gamma` every `step_size` steps: base_lr gamma^floor(t / step_size).

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rate is set.
    step_size : int
        Number of steps between two changes of the rate.
    gamma : float, optional
        Factor of each change.

    Attributes
    ----------
    optimizer, step_size, gamma
        The arguments.
    base_lr : float
        The rate of the optimiser when the schedule was made.
    steps : int
        Number of calls of `step` so far, t.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.optim import SGD
    >>> from bptt.schedules import StepLR
    >>> opt = SGD({"w": np.zeros(3)}, lr=1.0)
    >>> schedule = StepLR(opt, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates.append(opt.lr)
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = as_count("StepLR", "step_size", step_size, 1, MOST_STEPS)
        self.gamma = as_between("StepLR", "gamma", gamma, 0)

    def _lr(self, t: int, metric: float | None) -> float:
        return self.base_lr * self.gamma ** (t // self.step_size)


@final
class CosineAnnealing(Schedule):
    """Lower the rate to `eta_min` in `t_max` steps, along half a cosine; then it rises again.

    eta_min + (base_lr - eta_min) (1 + cos(pi t / t_max)) / 2.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rate is set.
    t_max : int
        Number of steps to the lowest rate.
    eta_min : float, optional
        The lowest rate.

    Attributes
    ----------
    optimizer, t_max, eta_min
        The arguments.
    base_lr : float
        The rate of the optimiser when the schedule was made.
    steps : int
        Number of calls of `step` so far, t.

    References
    ----------
    Loshchilov & Hutter (2017), arXiv:1608.03983, without the restarts.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> opt = bptt.SGD({"w": np.zeros(3)}, lr=1.0)
    >>> schedule = bptt.CosineAnnealing(opt, t_max=4)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates.append(round(opt.lr, 3))
    ...     schedule.step()
    >>> rates
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    @answering
    def __init__(self, optimizer: Optimizer, t_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.t_max = as_count("CosineAnnealing", "t_max", t_max, 1, MOST_STEPS)
        self.eta_min = as_between("CosineAnnealing", "eta_min", eta_min, 0)

    def _lr(self, t: int, metric: float | None) -> float:
        fraction = (1 + math.cos(math.pi * t / self.t_max)) / 2
        return self.eta_min + (self.base_lr - self.eta_min) * fraction


@final
class ReduceLROnPlateau(Schedule):
    """Multiply the rate by `factor` when the metric stops improving.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rate is set.
    mode : {"min", "max"}, optional
        Are smaller or larger metrics better?
    factor : float, optional
        Factor of each reduction, 0..1.
    patience : int, optional
        Number of successive steps without improvement that do not yet reduce the rate.
    threshold : float, optional
        The metric improves if it is better than the best so far by more than this fraction of the
        best.
    cooldown : int, optional
        Number of steps after a reduction that do not count.
    min_lr : float, optional
        The lowest rate.
    eps : float, optional
        A reduction by this much or less is not made.

    Attributes
    ----------
    optimizer, mode, factor, patience, threshold, cooldown, min_lr, eps
        The arguments.
    base_lr : float
        The rate of the optimiser when the schedule was made.
    steps : int
        Number of calls of `step` so far.
    best : float
        The best metric so far.
    bad_steps : int
        Number of successive steps without improvement.
    cooldown_left : int
        Number of next steps that will not count.

    Notes
    -----
    For positive metrics, this agrees with PyTorch. For negative metrics, PyTorch's threshold counts
    *no change* as an improvement, so that the rate never falls; here it is a fraction of their
    absolute value. NaN is no improvement.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> opt = bptt.SGD({"w": np.zeros(3)}, lr=1.0)
    >>> schedule = bptt.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> opt.lr
    0.5
    """

    _fields = ("base_lr", "steps", "best", "bad_steps", "cooldown_left")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        caller = "ReduceLROnPlateau"
        super().__init__(optimizer)
        self.mode = as_choice(caller, "mode", mode, ("min", "max"))
        self.factor = as_between(caller, "factor", factor, 0, 1)
        self.patience = as_count(caller, "patience", patience, 0, MOST_STEPS)
        self.threshold = as_between(caller, "threshold", threshold, 0)
        self.cooldown = as_count(caller, "cooldown", cooldown, 0, MOST_STEPS)
        self.min_lr = as_between(caller, "min_lr", min_lr, 0)
        self.eps = as_between(caller, "eps", eps, 0)
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = self.cooldown_left = 0

    def _lr(self, t: int, metric: float | None) -> float:
        if metric is None:
            raise TypeError("ReduceLROnPlateau: metric is None, expected a number for each step")
        metric = as_scalar("ReduceLROnPlateau", "metric", metric)
        gain = self.best - metric if self.mode == "min" else metric - self.best
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if gain > margin:
            self.best, self.bad_steps = float(metric), 0
        else:
            self.bad_steps += 1
        if self.cooldown_left:
            self.cooldown_left -= 1
            self.bad_steps = 0
        if self.bad_steps <= self.patience:
            return self.optimizer.lr
        self.bad_steps, self.cooldown_left = 0, self.cooldown
        rate = self.optimizer.lr
        reduced = min(rate, max(rate * self.factor, self.min_lr))
        return reduced if rate - reduced > self.eps else rate


@final
class WarmUp(Schedule):
    """Raise the rate linearly from start_factor * base_lr to base_lr, in `warmup_steps` steps.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rate is set.
    warmup_steps : int
        Number of steps of the warm-up.
    start_factor : float, optional
        Factor of the first rate, 0..1. The rate is set when the schedule is made.
    after : Schedule, optional
        A schedule that takes over after the warm-up: its step t is step warmup_steps + t of this
        schedule. Its base_lr is used for both.

    Attributes
    ----------
    optimizer, warmup_steps, start_factor, after
        The arguments.
    base_lr : float
        The rate at the end of the warm-up.
    steps : int
        Number of calls of `step` so far, t.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.optim import SGD
    >>> from bptt.schedules import CosineAnnealing, WarmUp
    >>> opt = SGD({"w": np.zeros(3)}, lr=1.0)
    >>> schedule = WarmUp(opt, 2, start_factor=0.0, after=CosineAnnealing(opt, t_max=2))
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates.append(opt.lr)
    ...     schedule.step()
    >>> rates
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        start_factor: float = 1 / 3,
        after: Schedule | None = None,
    ) -> None:
        super().__init__(optimizer)
        warmup_steps = as_count("WarmUp", "warmup_steps", warmup_steps, 1, MOST_STEPS)
        start_factor = as_between("WarmUp", "start_factor", start_factor, 0, 1)
        if not isinstance(after, (Schedule, type(None))):
            raise TypeError(f"WarmUp: after is {shown(after)}, expected a schedule or None")
        if after is not None and after.optimizer is not optimizer:
            raise ValueError("WarmUp: after has another optimiser, expected a schedule of this one")
        if after is not None:
            self.base_lr = after.base_lr
        self.warmup_steps, self.start_factor, self.after = warmup_steps, start_factor, after
        optimizer.lr = self._lr(0, None)

    def _lr(self, t: int, metric: float | None) -> float:
        if t <= self.warmup_steps:
            rise = (1 - self.start_factor) * t / self.warmup_steps
            return self.base_lr * (self.start_factor + rise)
        if self.after is None:
            return self.base_lr
        self.after.step(metric)
        return self.optimizer.lr

    def state_dict(self) -> dict[str, float]:
        after = {} if self.after is None else join(after=self.after.state_dict())
        return super().state_dict() | after

    def _checked(self, state: Mapping[str, float]) -> dict[str, float]:
        caller = "WarmUp.load_state_dict"
        check_mapping(caller, "state", state)
        after = {name: v for name, v in state.items() if name.startswith("after.")}
        own = super()._checked({name: v for name, v in state.items() if name not in after})
        if self.after is not None:
            return own | join(after=self.after._checked(split(after).get("after", {})))
        if after:
            raise ValueError(f"{caller}: state has names that start with 'after.', expected none")
        return own

    def _restore(self, numbers: Mapping[str, float]) -> None:
        if self.after is not None:
            self.after._restore(split(numbers)["after"])
        super()._restore(numbers)
