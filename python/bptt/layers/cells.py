# SPDX-License-Identifier: MIT
"""The recurrent layers: PyTorch's arguments, parameter names and shapes, NumPy arrays inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from numpy.typing import DTypeLike

from .._cells import ACTIVATIONS, CANDIDATE_ACTIVATIONS, FORGET_GATES, GATE_ACTIVATIONS
from .._guesses import answering
from .._types import Seed
from .._validate import as_bound, as_choice, as_count, as_flag
from .options import Cell, layer_norm_shapes
from .recurrent import Recurrent
from .tape import RecurrentTape

__all__ = ["GRU", "LSTM", "LSTM1997", "MGU", "RNN", "SLSTM", "Recurrent", "RecurrentTape"]


@final
class RNN(Recurrent):
    """RNN layers: h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh)  (Elman, 1990).

    Parameters
    ----------
    activation : {"tanh", "relu", "leaky_relu", "sigmoid", "identity"}, optional
        Keyword only, as all that follow.
    leak : float, optional
        a in (0, 1]: h_t = (1 - a) h_{t-1} + a activation(...), the leaky integrator (Jaeger et al.,
        2007).
    preact_clip : float, optional
        Bound of the argument of the activation.
    layer_norm : bool, optional
        True: layer normalisation with learnt gains, as in `LSTM`. All others are those of
        `Recurrent`; G = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from bptt.layers import RNN
    >>> rnn = RNN(4, 3, activation="relu", seed=0)
    >>> rnn
    RNN(4, 3, activation='relu')
      weight_ih_l0  (3, 4)
      weight_hh_l0  (3, 3)
      bias_ih_l0    (3,)
      bias_hh_l0    (3,)
      27 parameters
    >>> y, h, tape = rnn.forward(np.ones((5, 2, 4)))
    >>> grads = rnn.backward(tape, np.ones_like(y))
    >>> y.shape, h.shape, grads.x.shape, grads.params["bias_hh_l0"].shape
    ((5, 2, 3), (1, 2, 3), (5, 2, 4), (3,))
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        activation: str = "tanh", leak: float | None = None, preact_clip: float | None = None,
        layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        self.activation = as_choice("RNN", "activation", activation, ACTIVATIONS)
        self.leak = as_bound("RNN", "leak", leak, most=1)
        self.preact_clip = as_bound("RNN", "preact_clip", preact_clip)
        self.layer_norm = as_flag("RNN", "layer_norm", layer_norm)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, variational_dropout=variational_dropout,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        options = {
            "activation": self.activation,
            "leak": self.leak,
            "preact_clip": self.preact_clip,
        }
        return Cell("rnn", 1, 1, options, layer_norm_shapes(self, 1, 1))


@final
class LSTM(Recurrent):
    """LSTM layers with a forget gate; arguments of `Recurrent` and these; gates i f g o (G = 4).

    With the gates from w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    Parameters
    ----------
    proj_size : int, optional
        P, less than H: h_t is projected by a learnt ``weight_hr_l0`` (P, H), and so in each layer
        and direction (Sak et al., 2014); outputs and h are P wide. 0: as it is.
    peepholes : bool, optional
        True: the gates see c through a learnt ``peephole_l0`` (3, H), with rows for i, f and o, and
        so in each layer and direction (Gers & Schmidhuber, 2000). (2, H), for i and o, without an
        own forget gate.
    forget_gate : {"own", "coupled", "none"}, optional
        "coupled": f = 1 - i (Greff et al., 2017); "none": f = 1. Gates are then i g o (G = 3).
    gate_activation : {"sigmoid", "hard_sigmoid"}, optional
        Of i, f and o.
    activation, output_activation : {"tanh", "relu", "identity"}, optional
        In place of the tanh of g, and of that of c_t.
    cell_clip, preact_clip : float, optional
        Bounds of c_t, and of the arguments of all gates.
    layer_norm : bool, optional
        True: w_ih x_t, w_hh h_{t-1} and the c_t in tanh(c_t) are normalised to mean 0 and variance
        1 over all units and gates (Ba, Kiros & Hinton, 2016, arXiv:1607.06450), then multiplied by
        learnt gains ``gain_ih_l0`` and ``gain_hh_l0`` (G*H,), ``gain_c_l0`` (H,), 1 at first;
        ``bias_c_l0`` (H,), 0 at first, is added to the last. The biases are added afterwards.

    References
    ----------
    Hochreiter & Schmidhuber (1997), Neural Computation 9(8); Gers, Schmidhuber & Cummins (2000),
    Neural Computation 12(10), for the forget gate.
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        proj_size: int = 0, peepholes: bool = False, forget_gate: str = "own",
        gate_activation: str = "sigmoid", activation: str = "tanh", output_activation: str = "tanh",
        cell_clip: float | None = None, preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        self.proj_size = as_count("LSTM", "proj_size", proj_size, 0)
        self.peepholes = as_flag("LSTM", "peepholes", peepholes)
        self.forget_gate = as_choice("LSTM", "forget_gate", forget_gate, FORGET_GATES)
        self.gate_activation = as_choice(
            "LSTM", "gate_activation", gate_activation, GATE_ACTIVATIONS
        )
        self.activation = as_choice("LSTM", "activation", activation, CANDIDATE_ACTIVATIONS)
        self.output_activation = as_choice(
            "LSTM", "output_activation", output_activation, CANDIDATE_ACTIVATIONS
        )
        self.cell_clip = as_bound("LSTM", "cell_clip", cell_clip)
        self.preact_clip = as_bound("LSTM", "preact_clip", preact_clip)
        self.layer_norm = as_flag("LSTM", "layer_norm", layer_norm)
        if self.proj_size >= as_count("LSTM", "hidden_size", hidden_size, 1):
            raise ValueError(
                f"LSTM: proj_size is {proj_size}, expected less than hidden_size = {hidden_size}"
            )
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, variational_dropout=variational_dropout,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        gates, H = 4 if self.forget_gate == "own" else 3, self.hidden_size
        options = {
            "forget_gate": self.forget_gate,
            "gate_activation": self.gate_activation,
            "activation": self.activation,
            "output_activation": self.output_activation,
            "cell_clip": self.cell_clip,
            "preact_clip": self.preact_clip,
        }
        shapes: dict[str, tuple[int, ...]] = {"peepholes": (gates - 1, H)} if self.peepholes else {}
        if self.proj_size:
            shapes["w_hr"] = (self.proj_size, H)
        return Cell("lstm", gates, 2, options, shapes | layer_norm_shapes(self, gates, 2))


@final
class GRU(Recurrent):
    """GRU layers; arguments of `Recurrent` and these; gates r z n (G = 3).

    The reset gate acts after the recurrent product, as in PyTorch and cuDNN:
    n_t = tanh(w_in x_t + b_in + sig(r) (w_hn h_{t-1} + b_hn)),
    h_t = (1 - sig(z)) n_t + sig(z) h_{t-1}   (Cho et al., 2014, arXiv:1406.1078).

    Parameters
    ----------
    reset_after : bool, optional
        False: the reset gate acts before the product, n_t = tanh(w_in x_t + b_in + w_hn (sig(r)
        h_{t-1}) + b_hn), as in the paper, ONNX's default and Keras 1.
    gate_activation : {"sigmoid", "hard_sigmoid"}, optional
        Of r and z.
    activation : {"tanh", "relu", "identity"}, optional
        In place of the tanh of n.
    preact_clip : float, optional
        Bound of the arguments of all gates.
    layer_norm : bool, optional
        True: layer normalisation with learnt gains, as in `LSTM`. Not with reset_after=False.
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        reset_after: bool = True, gate_activation: str = "sigmoid", activation: str = "tanh",
        preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        self.reset_after = as_flag("GRU", "reset_after", reset_after)
        self.gate_activation = as_choice(
            "GRU", "gate_activation", gate_activation, GATE_ACTIVATIONS
        )
        self.activation = as_choice("GRU", "activation", activation, CANDIDATE_ACTIVATIONS)
        self.preact_clip = as_bound("GRU", "preact_clip", preact_clip)
        self.layer_norm = as_flag("GRU", "layer_norm", layer_norm)
        if layer_norm and not reset_after:
            raise ValueError("GRU: layer_norm is given with reset_after=False, expected True")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, variational_dropout=variational_dropout,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        options = {
            "reset_after": self.reset_after,
            "gate_activation": self.gate_activation,
            "activation": self.activation,
            "preact_clip": self.preact_clip,
        }
        return Cell("gru", 3, 1, options, layer_norm_shapes(self, 3, 1))


@final
class MGU(Recurrent):
    """Minimal gated unit layers; arguments of `Recurrent` and this; gates f n (G = 2).

    The one gate acts after the recurrent product, as the reset gate of `GRU` does:
    n_t = tanh(w_in x_t + b_in + sig(f) (w_hn h_{t-1} + b_hn)),
    h_t = (1 - sig(f)) n_t + sig(f) h_{t-1}   (Zhou et al., 2016, arXiv:1603.09420).

    Parameters
    ----------
    preact_clip : float, optional
        Bound of the arguments of both gates.
    layer_norm : bool, optional
        True: layer normalisation with learnt gains, as in `LSTM`.
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        self.preact_clip = as_bound("MGU", "preact_clip", preact_clip)
        self.layer_norm = as_flag("MGU", "layer_norm", layer_norm)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, variational_dropout=variational_dropout,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        options = {"preact_clip": self.preact_clip}
        return Cell("mgu", 2, 1, options, layer_norm_shapes(self, 2, 1))


@final
class SLSTM(Recurrent):
    """sLSTM layers: arguments of `Recurrent` and this; gates i f z o (G = 4).

    An LSTM with an exponential input gate, normalised by n and kept in range by m; the state is the
    tuple (h, c, n, m). With the gates from w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    m_t = max(log sig(f) + m_{t-1}, i),   i' = exp(i - m_t),   f' = exp(log sig(f) + m_{t-1} - m_t),
    c_t = f' c_{t-1} + i' tanh(z),   n_t = f' n_{t-1} + i',   h_t = sig(o) c_t / n_t;
    m_t = i where n_{t-1} = 0, as in the state of zeros
    (Beck et al., 2024, arXiv:2405.04517, section 2.2).

    Parameters
    ----------
    heads : int, optional
        The units are in so many equal groups, each of which sees only its own h: ``weight_hh_l0``
        is (4*H, H/heads).
    layer_norm : bool, optional
        True: layer normalisation of the sums with learnt gains, as in `LSTM`; c stays as it is.
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        heads: int = 1, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        self.heads = as_count("SLSTM", "heads", heads, 1)
        self.layer_norm = as_flag("SLSTM", "layer_norm", layer_norm)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            recurrent_dropout=recurrent_dropout, variational_dropout=variational_dropout,
            dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        H = self.hidden_size
        if H % self.heads:
            raise ValueError(
                f"SLSTM: hidden_size is {H}, expected a multiple of heads = {self.heads}"
            )
        shapes = {"w_hh": (4 * H, H // self.heads), **layer_norm_shapes(self, 4, 4)}
        return Cell("slstm", 4, 4, {"heads": self.heads}, shapes)


@final
class LSTM1997(Recurrent):
    """LSTM layers as first published: arguments of `Recurrent`; gates i o g (G = 3).

    Without a forget gate, with gates that see gates, and with functions of other ranges; the state
    is the tuple (h, c, i, o). With the gates from w_ih x_t + b_ih + w_hh (h, i, o)_{t-1} + b_hh:
    c_t = c_{t-1} + sig(i) (4 sig(g) - 2),   h_t = sig(o) (2 sig(c_t) - 1).

    The gradient is the paper's truncated one: nothing passes back through w_hh, so that from step
    to step only c carries it, undiminished (and h, by way of skips and zoneout). `LSTM` is the cell
    of today, with the exact gradient.

    ``weight_hh_l0`` is (3*H, 3*H): columns for h, i and o. `recurrent_dropout` there is none of,
    and zoneout leaves i and o alone.

    References
    ----------
    Hochreiter & Schmidhuber (1997), Neural Computation 9(8).
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        zoneout: float | tuple[float, float] = 0.0, variational_dropout: bool = False,
        dtype: DTypeLike = "float32", seed: Seed = None, compute: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dilation=dilation, skip=skip, residual=residual, zoneout=zoneout,
            variational_dropout=variational_dropout, dtype=dtype, seed=seed, compute=compute,
        )  # fmt: skip

    def _describe(self) -> Cell:
        H = self.hidden_size
        return Cell("lstm1997", 3, 4, {}, {"w_hh": (3 * H, 3 * H)})
