# SPDX-License-Identifier: MIT
"""Attention as a layer: the outputs of a recurrent layer pooled to one vector per sequence.

The gradient reaches every step directly, not only through all the steps after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._guesses import answering
from .._types import Array, Seed, Wanted
from .._validate import as_choice, as_float, as_generator, check_shape
from .._words import shown
from ..functional.attention import (
    AdditiveTape,
    DotTape,
    additive_attention_backward,
    additive_attention_forward,
    as_scale,
    check_attention,
    dot_attention_backward,
    dot_attention_forward,
)
from .base import Layer

__all__ = ["Attention", "AttentionLayerGrads"]


# Of `additive_attention_forward`, by the layer's names.
ARGUMENTS = {
    "weight_query": "w_query",
    "weight_key": "w_key",
    "bias": "b",
    "weight_score": "w_score",
}


class AttentionLayerGrads(NamedTuple):
    """Gradients of a scalar loss with respect to the layer's parameters and inputs.

    What `backward` left out by its `grads` is None, or not in ``params``.

    Attributes
    ----------
    params : dict of str to ndarray
        By parameter name, in the order and with the shapes of ``layer.parameters``.
    x : ndarray, shape (T, B, hidden_size)
        Exactly 0 beyond the lengths.
    query : ndarray, shape (B, hidden_size), or None where the forward call had none
    """

    params: dict[str, Array]
    x: Any
    query: Array | None


@final
class Attention(Layer):
    """Pool the steps of each sequence: a mean, weighted by how well each step fits a query.

    Parameters
    ----------
    hidden_size : int
        H, the size of the steps and of the query.
    kind : {"additive", "dot"}, optional
        "additive": the scores are weight_score . tanh(weight_key x_t + weight_query query + bias);
        the query can be left out. "dot": the scores are scale query . x_t, without parameters.
    scale : float, optional
        The scale of the "dot" scores; 1 / sqrt(H) if omitted.
    dtype : {"float32", "float64"}, optional
        The type of parameters, computation and results; other real input is converted.
    seed : int or numpy.random.Generator, optional
        For the initial parameters, U(-1/sqrt(H), 1/sqrt(H)), as in `Linear`; a random seed if
        omitted.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight_query`` and ``weight_key`` (H, H), ``bias`` and ``weight_score`` (H,); empty for
        "dot".

    References
    ----------
    "additive": Bahdanau, Cho & Bengio (2015), ICLR; without a query, Yang et al. (2016), NAACL.
    "dot": Luong, Pham & Manning (2015), EMNLP; its scale: Vaswani et al. (2017), NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt import Attention
    >>> from bptt.layers import GRU
    >>> gru, attention = GRU(3, 8, seed=0), Attention(8, seed=1)
    >>> lengths = [5, 2]
    >>> y, state, tape = gru.forward(np.ones((5, 2, 3)), lengths=lengths)
    >>> context, weights, attention_tape = attention.forward(y, state[-1], lengths)
    >>> context.shape, weights[2:, 1]
    ((2, 8), array([0., 0., 0.], dtype=float32))
    >>> pooled = attention.backward(attention_tape, np.ones_like(context))
    >>> grads = gru.backward(tape, pooled.x, pooled.query[None])
    """

    hidden_size: int

    @answering
    def __init__(
        self,
        hidden_size: int,
        kind: str = "additive",
        *,
        scale: float | None = None,
        dtype: DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        super().__init__(dtype, hidden_size=hidden_size)
        as_choice("Attention", "kind", kind, ("additive", "dot"))
        if kind == "additive" and scale is not None:
            raise ValueError(
                f"Attention: scale is {shown(scale)} with kind 'additive', expected None"
            )
        as_scale("Attention", scale, self.hidden_size)
        self.kind, self.scale = kind, scale
        H, rng = self.hidden_size, as_generator("Attention", "seed", seed)
        shapes: dict[str, tuple[int, ...]] = {}
        if kind == "additive":
            shapes = {"weight_query": (H, H), "weight_key": (H, H), "bias": (H,)}
            shapes["weight_score"] = (H,)
        self._fill(shapes, lambda shape: rng.uniform(-(H**-0.5), H**-0.5, shape))

    def __call__(
        self, x: ArrayLike, query: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> tuple[Array, Array]:
        """Return context and weights, as `forward` does, without a tape."""
        return self.forward(x, query, lengths)[:2]

    def forward(
        self, x: ArrayLike, query: ArrayLike | None = None, lengths: ArrayLike | None = None
    ) -> tuple[Array, Array, AdditiveTape | DotTape]:
        """Pool the steps of each sequence.

        Parameters
        ----------
        x : array_like, shape (T, B, hidden_size)
            For instance the output of a recurrent layer.
        query : array_like, shape (B, hidden_size), optional
            For instance the layer's final state; "dot" needs a query. Without a query,
            ``weight_score`` is a learnt query.
        lengths : array_like of int, shape (B,), optional
            The number of steps of each sequence, 0..T, in any order. Later steps are not read.

        Returns
        -------
        context : ndarray, shape (B, hidden_size)
            0 where the length is 0.
        weights : ndarray, shape (T, B)
            They sum to 1 over the steps of a sequence and are 0 beyond its length. Read-only.
        tape : AdditiveTape or DotTape
            For `backward`. It refers to `x`, which must not change, and has copies of `query` and
            of the parameters.

        Raises
        ------
        ValueError
            If a shape disagrees with the layer or with `x`, or a length is outside 0..T.
        TypeError
            If `x` or `query` does not hold real numbers, or `lengths` integers, or "dot" is given
            no query.
        """
        caller = "Attention"
        x = as_float(caller, "x", x, self.dtype)
        if query is not None:
            query = as_float(caller, "query", query, self.dtype)
        elif self.kind == "dot":
            raise TypeError(f"{caller}: query is None, expected an array with kind 'dot'")
        check_attention(caller, x, query, lengths)
        shape = (*x.shape[:2], self.hidden_size)
        check_shape(caller, "x", x, "(T, B, hidden_size)", shape)
        if query is None:
            _, w_key, b, w_score = self.parameters.values()
            return additive_attention_forward(x, w_key, w_score, b=b, lengths=lengths)
        check_shape(caller, "query", query, "(B, hidden_size)", shape[1:])
        if self.kind == "dot":
            return dot_attention_forward(x, query, scale=self.scale, lengths=lengths)
        w_query, w_key, b, w_score = self.parameters.values()
        return additive_attention_forward(x, w_key, w_score, query, w_query, b, lengths=lengths)

    def backward(
        self,
        tape: AdditiveTape | DotTape,
        dcontext: ArrayLike | None = None,
        dweights: ArrayLike | None = None,
        *,
        grads: Wanted = None,
    ) -> AttentionLayerGrads:
        """Return the gradients of a loss from its gradients at the layer's results.

        Parameters
        ----------
        tape : AdditiveTape or DotTape
            The third result of `forward`; not modified.
        dcontext : array_like, shape (B, hidden_size), optional
            Gradient with respect to the context, zeros if omitted.
        dweights : array_like, shape (T, B), optional
            Gradient with respect to the weights, zeros if omitted. Padding is not read.
        grads : collection of str, optional
            The gradients to compute: names of parameters, or "params" for all that are not frozen,
            "x" and "query"; all if omitted.

        Returns
        -------
        AttentionLayerGrads
            The fields ``params`` (dict by parameter name), ``x`` and ``query``. Without a query,
            the gradient of ``weight_query`` is zero.

        Raises
        ------
        ValueError
            If a shape disagrees with the results of `forward`, or `x` has changed since and the
            change is seen (see `lstm_forward`).
        TypeError
            If `tape` is not from `forward`, or a gradient does not hold real numbers.
        """
        wanted = self._wanted(grads, ("x", "query"))
        if isinstance(tape, DotTape) and self.kind == "dot":
            g = dot_attention_backward(tape, dcontext, dweights, grads=wanted)
            return AttentionLayerGrads({}, g.x, g.query)
        if not isinstance(tape, AdditiveTape) or self.kind == "dot":
            self._refuse_tape(tape, "third")
        some = [ARGUMENTS.get(name, name) for name in wanted]
        g = additive_attention_backward(tape, dcontext, dweights, grads=some)
        params = {name: getattr(g, ARGUMENTS[name]) for name in self.parameters if name in wanted}
        if tape.query is None and "weight_query" in params:
            params["weight_query"] = np.zeros_like(self.parameters["weight_query"])
        return AttentionLayerGrads(params, g.x, g.query)
