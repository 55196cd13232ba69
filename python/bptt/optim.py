# SPDX-License-Identifier: MIT
"""Optimisers of dicts of arrays, updated in place, with PyTorch's formulas and defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import ArrayLike

from ._types import Array
from ._validate import as_array, as_count, as_number, check_mapping
from ._words import listed, shown
from .clip import check_writable
from .layers.parameters import join, split, warn_of_lost_layers

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "join", "split"]


class Optimizer(ABC):
    """Base class of `SGD`, `Adam`, `AdamW` and `RMSprop`.

    Raises
    ------
    TypeError
        If a parameter is not a float32 or float64 array.
    ValueError
        If a parameter is read-only, or a number is out of its range.

    Warns
    -----
    UserWarning
        If `params` has all arrays of one layer, but only some of another with the same names: their
        dicts were probably merged without `join`.
    """

    _kinds: ClassVar[tuple[str, ...]]
    _squares: ClassVar[tuple[str, ...]] = (
        "square_avg",
        "exp_avg_sq",
    )  # kinds whose values are never negative

    def __init__(self, params: Mapping[str, Array], lr: float, weight_decay: float) -> None:
        check_writable(type(self).__name__, "params", params)
        warn_of_lost_layers(type(self).__name__, "params", params)
        self.params = params
        self._arrays = dict(params)
        self.lr = lr
        self.weight_decay = self._in_range("weight_decay", weight_decay)
        self.steps = 0
        self.state = {
            kind: {name: np.zeros_like(p) for name, p in params.items()} for kind in self._kinds
        }
        # Allocate the temporary memory of all steps now, so that none fails half-way: three arrays
        # of the largest parameter's size, which all parameters share.
        most = max((p.nbytes for p in params.values()), default=0)
        rows = np.empty((3, -(-most // 64) * 64), np.uint8)
        self._room = {
            name: [row[: p.nbytes].view(p.dtype).reshape(p.shape) for row in rows]
            for name, p in params.items()
        }

    def __repr__(self) -> str:
        count = sum(p.size for p in self.params.values())
        arrays = f"{len(self.params)} arrays of {count:,} parameters"
        return f"{type(self).__name__}(lr={self.lr:g}): {arrays}, {self.steps} steps"

    @property
    def lr(self) -> float:
        """Learning rate; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._in_range("lr", value)

    def _in_range(self, name: str, value: float, below: float = np.inf) -> float:
        if isinstance(value, Mapping):
            raise TypeError(
                f"{type(self).__name__}: {name} is a dict, expected a number: bptt.optim.join "
                "makes one dict of several"
            )
        number = as_number(type(self).__name__, name, value)
        if not 0 <= number < below:
            raise ValueError(
                f"{type(self).__name__}: {name} is {shown(value)}, expected 0 <= {name} < {below}"
            )
        return number  # no NumPy scalar, which would turn float32 updates into float64

    def step(self, grads: Mapping[str, ArrayLike]) -> None:
        """Update every parameter in place.

        Parameters
        ----------
        grads : dict of str to array_like
            The gradients, with the names and shapes of the parameters; converted to their dtypes.
            A parameter that its layer has frozen needs none and stays as it is.

        Raises
        ------
        ValueError
            If names are missing or unexpected, a shape is wrong, or a parameter was replaced by
            another array. Nothing has changed then.
        TypeError
            If a gradient does not hold real numbers.
        """
        caller = f"{type(self).__name__}.step"
        check_mapping(caller, "grads", grads)
        if self._arrays.keys() != self.params.keys():
            raise ValueError(
                f"{caller}: params has other names than at the start, "
                "expected the same: make a new optimiser"
            )
        for name, array in self._arrays.items():
            if self.params[name] is not array:
                raise ValueError(
                    f"{caller}: params[{name!r}] is another array than at the start, expected the "
                    f"same: change it in place, params[{name!r}][...] = value"
                )
        frozen: frozenset[str] = getattr(self.params, "frozen", frozenset())
        given = {name: g for name, g in grads.items() if name not in frozen} if frozen else grads
        learn = {name: p for name, p in self.params.items() if name not in frozen}
        checked = self._match("step", "grads", given, learn)
        self.steps += 1
        for name, p in learn.items():
            state = (self.state[kind][name] for kind in self._kinds)
            self._update(p, checked[name], self._room[name], *state)

    @abstractmethod
    def _update(self, p: Array, g: Array, room: list[Array], *state: Array) -> None:
        """Update one parameter and its state in place, with three temporary arrays."""

    def _decayed(self, p: Array, g: Array, out: Array) -> Array:
        """g + weight_decay p, in `out`; g itself without weight decay."""
        if not self.weight_decay:
            return g
        np.multiply(p, self.weight_decay, out=out)
        out += g
        return out

    def _match(
        self, method: str, label: str, arrays: Mapping[str, Any], expected: Mapping[str, Array]
    ) -> dict[str, Array]:
        caller = f"{type(self).__name__}.{method}"
        check_mapping(caller, label, arrays)
        missing = [name for name in expected if name not in arrays]
        unexpected = [name for name in arrays if name not in expected]
        if missing or unexpected:
            raise ValueError(
                f"{caller}: {label} has missing names {listed(missing)} and unexpected names "
                f"{listed(unexpected)}, expected {listed(expected)}"
            )
        matched = {}
        for name, like in expected.items():
            place = f"{label}[{shown(name)}]"
            array = as_array(caller, place, arrays[name])
            if array.shape != like.shape:
                raise ValueError(
                    f"{caller}: {place} has shape {array.shape}, expected {like.shape}"
                )
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{caller}: {place} has dtype {array.dtype}, expected real numbers")
            matched[name] = np.asarray(array, like.dtype)
        return matched

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of the optimiser's state, for `bptt.save`.

        Returns
        -------
        dict of str to ndarray
            "lr", "steps", and "<kind>.<parameter name>" for each array in ``state``. The other
            arguments of the constructor are not included.
        """
        flat = {name: array.copy() for name, array in join(**self.state).items()}
        return {"lr": np.array(self.lr), "steps": np.array(self.steps)} | flat

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Restore the state from `state_dict`: later steps are then exactly the same.

        Parameters
        ----------
        state : dict of str to array_like
            The result of `state_dict`, of an optimiser of the same class and parameters.

        Raises
        ------
        ValueError, TypeError
            If names, shapes or dtypes do not fit, "steps" is not a whole number, or "lr" is not a
            valid rate. Nothing has changed then.
        """
        caller = f"{type(self).__name__}.load_state_dict"
        check_mapping(caller, "state", state)
        arrays = join(**self.state)
        scalars = {"lr": np.zeros(()), "steps": np.zeros(())}
        checked = self._match("load_state_dict", "state", state, scalars | arrays)
        steps = as_count(caller, "steps", np.asarray(state["steps"])[()], 0)
        for name, array in checked.items():
            if name.split(".")[0] in self._squares and np.any(array < 0):
                raise ValueError(f"{caller}: state[{name!r}] has values below 0, expected squares")
        self.lr = float(checked["lr"])  # checked last, and before anything changes
        self.steps = steps
        for name, array in arrays.items():
            array[...] = checked[name]


@final
class SGD(Optimizer):
    """Gradient descent, with heavy-ball momentum: v = momentum v + g,  p = p - lr v.

    Parameters
    ----------
    params : dict of str to ndarray
        The parameters, float32 or float64, such as ``layer.parameters``; updated in place.
    lr : float, optional
        Learning rate.
    momentum : float, optional
        Factor by which v decays from step to step; 0 for plain gradient descent.
    weight_decay : float, optional
        Adds weight_decay p to each gradient g.

    Attributes
    ----------
    lr : float
        Learning rate; may be set at any time. The other arguments are attributes too.
    steps : int
        Number of steps so far.
    state : dict of str to dict of str to ndarray
        v by parameter name, in ``state["momentum_buffer"]``.

    References
    ----------
    Polyak (1964), USSR Computational Mathematics and Mathematical Physics 4(5).

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.optim import SGD
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> SGD(params, lr=0.5).step({"w": np.array([2.0, 0.0])})
    >>> params
    {'w': array([0., 2.])}
    """

    _kinds = ("momentum_buffer",)

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = self._in_range("momentum", momentum)

    def _update(self, p: Array, g: Array, room: list[Array], *state: Array) -> None:
        (v,), (a, _, _) = state, room
        if self.momentum:
            v *= self.momentum
        else:  # 0 * v would turn infinite values into NaN
            v.fill(0)
        v += self._decayed(p, g, a)
        p -= np.multiply(v, self.lr, out=a)


@final
class RMSprop(Optimizer):
    """Steps divided by the running root mean square of the gradient.

    s = alpha s + (1 - alpha) g^2,  p = p - lr g / (sqrt(s) + eps).

    Parameters
    ----------
    params : dict of str to ndarray
        The parameters, float32 or float64, such as ``layer.parameters``; updated in place.
    lr : float, optional
        Learning rate.
    alpha : float, optional
        Decay of the running mean s, 0 <= alpha < 1.
    eps : float, optional
        Keeps the divisor away from 0.
    weight_decay : float, optional
        Adds weight_decay p to each gradient g.

    Attributes
    ----------
    lr : float
        Learning rate; may be set at any time. The other arguments are attributes too.
    steps : int
        Number of steps so far.
    state : dict of str to dict of str to ndarray
        s by parameter name, in ``state["square_avg"]``.

    References
    ----------
    Tieleman & Hinton (2012), Lecture 6.5 of Neural Networks for Machine Learning.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> bptt.RMSprop(params, lr=0.1).step({"w": np.array([5.0, -5.0])})
    >>> params["w"].round(3)
    array([0., 3.])
    """

    _kinds = ("square_avg",)

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.alpha = self._in_range("alpha", alpha, below=1)
        self.eps = self._in_range("eps", eps)

    def _update(self, p: Array, g: Array, room: list[Array], *state: Array) -> None:
        (s,), (a, b, c) = state, room
        g = self._decayed(p, g, c)
        s *= self.alpha
        np.multiply(g, 1 - self.alpha, out=a)
        s += np.multiply(a, g, out=a)
        np.sqrt(s, out=b)
        b += self.eps
        np.multiply(g, self.lr, out=a)
        p -= np.divide(a, b, out=a)


class Adam(Optimizer):
    """Adam: steps by running means of the gradient and of its square.

    m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,
    p = p - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), at step t, with betas = (b1, b2).

    Parameters
    ----------
    params : dict of str to ndarray
        The parameters, float32 or float64, such as ``layer.parameters``; updated in place.
    lr : float, optional
        Learning rate.
    betas : tuple of two floats, optional
        Decay of the running means m and v, each 0 <= beta < 1.
    eps : float, optional
        Keeps the divisor away from 0.
    weight_decay : float, optional
        Adds weight_decay p to each gradient g. `AdamW` decays parameters directly instead.

    Attributes
    ----------
    lr : float
        Learning rate; may be set at any time. The other arguments are attributes too.
    steps : int
        Number of steps so far.
    state : dict of str to dict of str to ndarray
        m and v by parameter name, in ``state["exp_avg"]`` and ``state["exp_avg_sq"]``.

    References
    ----------
    Kingma & Ba (2015), arXiv:1412.6980.

    Examples
    --------
    Train a layer to output zeros:

    >>> import numpy as np
    >>> import bptt
    >>> gru = bptt.GRU(3, 8, seed=0)
    >>> adam = bptt.Adam(gru.parameters, lr=0.01)
    >>> x = np.random.default_rng(0).standard_normal((20, 4, 3))
    >>> losses = []
    >>> for step in range(50):
    ...     y, h, tape = gru.forward(x)
    ...     loss, dy = bptt.mse(y, np.zeros_like(y))
    ...     grads = gru.backward(tape, dy)
    ...     adam.step(grads.params)
    ...     losses.append(loss)
    >>> losses[-1] < 0.3 * losses[0]
    True
    """

    _kinds = ("exp_avg", "exp_avg_sq")
    _decoupled: ClassVar[bool] = False  # is weight decay applied to the parameters directly?

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{type(self).__name__}: betas is {shown(betas)}, expected two numbers")
        self.betas = tuple(self._in_range("betas", beta, below=1) for beta in betas)
        self.eps = self._in_range("eps", eps)

    def _update(self, p: Array, g: Array, room: list[Array], *state: Array) -> None:
        (m, v), (a, b, c), (b1, b2) = state, room, self.betas
        if self._decoupled:
            p *= 1 - self.lr * self.weight_decay
        else:
            g = self._decayed(p, g, c)
        np.subtract(g, m, out=a)
        m += np.multiply(a, 1 - b1, out=a)
        v *= b2
        np.multiply(g, 1 - b2, out=a)
        v += np.multiply(a, g, out=a)
        np.sqrt(v, out=b)
        b /= (1 - b2**self.steps) ** 0.5
        b += self.eps
        np.multiply(m, self.lr / (1 - b1**self.steps), out=a)
        p -= np.divide(a, b, out=a)


@final
class AdamW(Adam):
    """Adam with decoupled weight decay: p = (1 - lr weight_decay) p before each step of `Adam`.

    Parameters
    ----------
    params : dict of str to ndarray
        The parameters, float32 or float64, such as ``layer.parameters``; updated in place.
    lr : float, optional
        Learning rate.
    betas : tuple of two floats, optional
        Decay of the running means m and v of `Adam`, each 0 <= beta < 1.
    eps : float, optional
        Keeps the divisor away from 0.
    weight_decay : float, optional
        Rate of decay of the parameters, relative to `lr`.

    Attributes
    ----------
    lr : float
        Learning rate; may be set at any time. The other arguments are attributes too.
    steps : int
        Number of steps so far.
    state : dict of str to dict of str to ndarray
        m and v by parameter name, in ``state["exp_avg"]`` and ``state["exp_avg_sq"]``.

    References
    ----------
    Loshchilov & Hutter (2019), arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> bptt.AdamW(params, lr=0.1, weight_decay=0.5).step({"w": np.array([4.0, -4.0])})
    >>> params["w"].round(3)  # 0.95 w, then steps of 0.1
    array([0.85, 2.  ])
    """

    _decoupled = True

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
