# SPDX-License-Identifier: MIT
"""Optimisers of dicts of arrays, updated in place, with PyTorch's formulas and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from ._guesses import answering
from ._types import Array
from ._words import shown
from .layers.parameters import join, split
from .optimizer import Groups, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "join", "split"]


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
    groups : list of dict, optional
        Parameters with a rate or decay of their own, as
        ``[{"params": "*.bias*", "weight_decay": 0}, {"params": ["0.*"], "lr": 1e-4}]``: ``params``
        has patterns of names; the first group that fits a name counts.

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

    @answering
    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(params, lr, weight_decay, groups=groups)
        self.momentum = self._in_range("momentum", momentum)

    def _update(
        self, p: Array, g: Array, room: list[Array], lr: float, decay: float, *state: Array
    ) -> None:
        (v,), (a, _, _) = state, room
        if self.momentum:
            v *= self.momentum
        else:  # 0 * v would turn infinite values into NaN
            v.fill(0)
        v += self._decayed(p, g, decay, a)
        p -= np.multiply(v, lr, out=a)


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
    groups : list of dict, optional
        Parameters with a rate or decay of their own, as
        ``[{"params": "*.bias*", "weight_decay": 0}, {"params": ["0.*"], "lr": 1e-4}]``: ``params``
        has patterns of names; the first group that fits a name counts.

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

    @answering
    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(params, lr, weight_decay, groups=groups)
        self.alpha = self._in_range("alpha", alpha, below=1)
        self.eps = self._in_range("eps", eps)

    def _update(
        self, p: Array, g: Array, room: list[Array], lr: float, decay: float, *state: Array
    ) -> None:
        (s,), (a, b, c) = state, room
        g = self._decayed(p, g, decay, c)
        s *= self.alpha
        np.multiply(g, 1 - self.alpha, out=a)
        s += np.multiply(a, g, out=a)
        np.sqrt(s, out=b)
        b += self.eps
        np.multiply(g, lr, out=a)
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
    groups : list of dict, optional
        Parameters with a rate or decay of their own, as
        ``[{"params": "*.bias*", "weight_decay": 0}, {"params": ["0.*"], "lr": 1e-4}]``: ``params``
        has patterns of names; the first group that fits a name counts.

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

    @answering
    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(params, lr, weight_decay, groups=groups)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{type(self).__name__}: betas is {shown(betas)}, expected two numbers")
        self.betas = tuple(self._in_range("betas", beta, below=1) for beta in betas)
        self.eps = self._in_range("eps", eps)

    def _update(
        self, p: Array, g: Array, room: list[Array], lr: float, decay: float, *state: Array
    ) -> None:
        (m, v), (a, b, c), (b1, b2) = state, room, self.betas
        if self._decoupled:
            p *= 1 - lr * decay
        else:
            g = self._decayed(p, g, decay, c)
        np.subtract(g, m, out=a)
        m += np.multiply(a, 1 - b1, out=a)
        v *= b2
        np.multiply(g, 1 - b2, out=a)
        v += np.multiply(a, g, out=a)
        np.sqrt(v, out=b)
        b /= (1 - b2**self.steps) ** 0.5
        b += self.eps
        np.multiply(m, lr / (1 - b1**self.steps), out=a)
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
    groups : list of dict, optional
        Parameters with a rate or decay of their own, as
        ``[{"params": "*.bias*", "weight_decay": 0}, {"params": ["0.*"], "lr": 1e-4}]``: ``params``
        has patterns of names; the first group that fits a name counts.

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

    @answering
    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        groups: Groups = (),
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, groups=groups)
