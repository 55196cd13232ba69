# SPDX-License-Identifier: MIT
"""The recurrent layers: PyTorch's arguments, parameter names and shapes, NumPy arrays inside.

The docstrings here describe the arguments that differ between layers. `Recurrent` describes the
others, and adds them to each docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from numpy.typing import ArrayLike, DTypeLike

from .._guesses import answering
from .._types import Activation, Seed
from .._validate import as_count
from .recurrent import LAYERS as LAYERS
from .recurrent import Recurrent
from .tape import RecurrentTape

__all__ = ["GRU", "LSTM", "LSTM1997", "MGU", "RNN", "SLSTM", "Recurrent", "RecurrentTape"]


@final
class RNN(Recurrent, kind="rnn"):
    """RNN layers: h_t = activation(w_ih x_t + b_ih + w_hh h_{t-1} + b_hh).

    There is one gate, the new h itself (G = 1).

    Parameters
    ----------
    activation : str or tuple, optional
        A name, or a tuple of a name and its parameters, such as ``("leaky_relu", 0.2)``; see
        `rnn_forward`. Keyword only, as are all arguments after it.
    leak : float or array_like, shape (H,), optional
        a in (0, 1]: h_t = (1 - a) h_{t-1} + a activation(...), a leaky integrator (Jaeger et al.,
        2007). An array has one a for each unit, the same in all layers.
    preact_clip : float, optional
        The argument of the activation is clipped to -preact_clip..preact_clip.
    layer_norm : bool, optional
        True: both products are normalised to mean 0 and variance 1 over all units, then multiplied
        by learnt gains, as in `LSTM`.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14(2).

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

    activation: Activation
    leak: float | tuple[float, ...] | None
    preact_clip: float | None
    layer_norm: bool

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        activation: Activation = "tanh", leak: ArrayLike | None = None,
        preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False, learn_state: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        common = self._take_options(locals())
        H = as_count("RNN", "hidden_size", hidden_size, 1)
        if isinstance(self.leak, tuple) and len(self.leak) != H:
            raise ValueError(f"RNN: leak has shape ({len(self.leak)},), expected (H,) = ({H},)")
        super().__init__(**common)


@final
class LSTM(Recurrent, kind="lstm"):
    """LSTM layers with a forget gate, in the gate order i f g o (G = 4).

    With the gates from w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    c_t = sig(f) c_{t-1} + sig(i) tanh(g),   h_t = sig(o) tanh(c_t).

    Parameters
    ----------
    proj_size : int, optional
        P, less than H: h_t is projected by a learnt matrix (P, H), and `y` and h are P wide (Sak et
        al., 2014, arXiv:1402.1128). 0: no projection.
    peepholes : bool, optional
        True: the gates see c through learnt weights (3, H), with rows for i, f and o (Gers &
        Schmidhuber, 2000). Without an own forget gate they are (2, H), for i and o.
    forget_gate : {"own", "coupled", "none"}, optional
        "coupled": f = 1 - i (Greff et al., 2017, arXiv:1503.04069); "none": f = 1. The gates are
        then i g o (G = 3).
    gate_activation : str or tuple, optional
        The activation of i, f and o: a name, or a tuple of a name and its parameters, such as
        ``("hard_sigmoid", 0.2)``; see `rnn_forward`.
    activation : str or tuple, optional
        Replaces the tanh of g.
    output_activation : str or tuple, optional
        Replaces the tanh of c_t.
    cell_clip : float, optional
        c_t is clipped to -cell_clip..cell_clip.
    preact_clip : float, optional
        The arguments of all gates are clipped to -preact_clip..preact_clip.
    layer_norm : bool, optional
        True: w_ih x_t, w_hh h_{t-1} and the c_t in tanh(c_t) are normalised to mean 0 and variance
        1 over all units and gates, then multiplied by learnt gains; a learnt offset is added to the
        last (Ba, Kiros & Hinton, 2016, arXiv:1607.06450). The biases are added afterwards.

    Attributes
    ----------
    parameters : dict of str to ndarray
        Of layer 0 ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0`` and
        ``bias_hh_l0`` (G*H,), as in PyTorch. Layers above count up and have directions * H columns
        in ``weight_ih``; the names of the reverse direction end with ``_reverse``.
        With `peepholes` also ``peephole_l0`` (3, H); with `proj_size` ``weight_hr_l0`` (P, H),
        and P takes the place of H in the columns; with `layer_norm` ``gain_ih_l0``, ``gain_hh_l0``
        (G*H,) and ``gain_c_l0`` (H,), 1 at first, and ``bias_c_l0`` (H,), 0 at first.

    References
    ----------
    Hochreiter & Schmidhuber (1997), Neural Computation 9(8); Gers, Schmidhuber & Cummins (2000),
    Neural Computation 12(10), for the forget gate.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> lstm = bptt.LSTM(3, 4, num_layers=2, seed=0)
    >>> x = np.ones((10, 2, 3), np.float32)  # 10 steps of 2 sequences
    >>> y, (h, c), tape = lstm.forward(x)  # for training
    >>> grads = lstm.backward(tape, dy=y)  # of the loss 0.5 * sum(y**2)
    >>> bptt.Adam(lstm.parameters).step(grads.params)
    >>> y, (h, c) = lstm(x)  # for inference
    >>> y.shape, h.shape, c.shape
    ((10, 2, 4), (2, 2, 4), (2, 2, 4))
    """

    proj_size: int
    peepholes: bool
    forget_gate: str
    gate_activation: Activation
    activation: Activation
    output_activation: Activation
    cell_clip: float | None
    preact_clip: float | None
    layer_norm: bool

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        proj_size: int = 0, peepholes: bool = False, forget_gate: str = "own",
        gate_activation: Activation = "sigmoid", activation: Activation = "tanh",
        output_activation: Activation = "tanh",
        cell_clip: float | None = None, preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False, learn_state: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        common = self._take_options(locals())
        if self.proj_size >= as_count("LSTM", "hidden_size", hidden_size, 1):
            raise ValueError(
                f"LSTM: proj_size is {proj_size}, expected less than hidden_size = {hidden_size}"
            )
        super().__init__(**common)


@final
class GRU(Recurrent, kind="gru"):
    """GRU layers, in the gate order r z n (G = 3).

    As in PyTorch and cuDNN, the reset gate acts after the recurrent product:
    n_t = tanh(w_in x_t + b_in + sig(r) (w_hn h_{t-1} + b_hn)),
    h_t = (1 - sig(z)) n_t + sig(z) h_{t-1}.

    Parameters
    ----------
    reset_after : bool, optional
        False: the reset gate acts before the product, w_hn (sig(r) h_{t-1}), as in the paper.
    gate_activation : str or tuple, optional
        The activation of r and z: a name, or a tuple of a name and its parameters, such as
        ``("hard_sigmoid", 0.2)``; see `rnn_forward`.
    activation : str or tuple, optional
        Replaces the tanh of n.
    preact_clip : float, optional
        The arguments of all gates are clipped to -preact_clip..preact_clip.
    layer_norm : bool, optional
        True: both products are normalised to mean 0 and variance 1 over all units and gates, then
        multiplied by learnt gains, as in `LSTM`. Not with ``reset_after=False``.

    References
    ----------
    Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder", EMNLP,
    arXiv:1406.1078.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> gru = bptt.GRU(3, 4, bidirectional=True, seed=0)
    >>> x = np.ones((10, 2, 3), np.float32)
    >>> y, h = gru(x, lengths=[10, 6])
    >>> y.shape, h.shape, bool(y[6:, 1].any())
    ((10, 2, 8), (2, 2, 4), False)
    """

    reset_after: bool
    gate_activation: Activation
    activation: Activation
    preact_clip: float | None
    layer_norm: bool

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        reset_after: bool = True, gate_activation: Activation = "sigmoid",
        activation: Activation = "tanh", preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False, learn_state: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        common = self._take_options(locals())
        if self.layer_norm and not self.reset_after:
            raise ValueError("GRU: layer_norm is given with reset_after=False, expected True")
        super().__init__(**common)


@final
class MGU(Recurrent, kind="mgu"):
    """Minimal gated unit layers, in the gate order f n (G = 2).

    The one gate acts after the recurrent product, as the reset gate of `GRU` does:
    n_t = tanh(w_in x_t + b_in + sig(f) (w_hn h_{t-1} + b_hn)),
    h_t = (1 - sig(f)) n_t + sig(f) h_{t-1}.

    Parameters
    ----------
    preact_clip : float, optional
        The arguments of both gates are clipped to -preact_clip..preact_clip.
    layer_norm : bool, optional
        True: both products are normalised to mean 0 and variance 1 over all units and gates, then
        multiplied by learnt gains, as in `LSTM`.

    References
    ----------
    Zhou et al. (2016), "Minimal gated unit for recurrent neural networks", arXiv:1603.09420.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> mgu = bptt.MGU(3, 4, seed=0)
    >>> y, h, tape = mgu.forward(np.ones((10, 2, 3)))
    >>> grads = mgu.backward(tape, dy=y)
    >>> y.shape, h.shape, grads.params["weight_hh_l0"].shape
    ((10, 2, 4), (1, 2, 4), (8, 4))
    """

    preact_clip: float | None
    layer_norm: bool

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        preact_clip: float | None = None, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False, learn_state: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(**self._take_options(locals()))


@final
class SLSTM(Recurrent, kind="slstm"):
    """sLSTM layers, in the gate order i f z o (G = 4).

    An LSTM with an exponential input gate, normalised by n and kept in range by m. The state is the
    tuple (h, c, n, m). With the gates from w_ih x_t + b_ih + w_hh h_{t-1} + b_hh:
    m_t = max(log sig(f) + m_{t-1}, i),   i' = exp(i - m_t),   f' = exp(log sig(f) + m_{t-1} - m_t),
    c_t = f' c_{t-1} + i' tanh(z),   n_t = f' n_{t-1} + i',   h_t = sig(o) c_t / n_t;
    m_t = i where n_{t-1} = 0, as in a state of zeros.

    Parameters
    ----------
    heads : int, optional
        The units form this many equal groups; a unit sees only the h of its own group.
        ``weight_hh_l0`` is then (4*H, H/heads).
    layer_norm : bool, optional
        True: both products are normalised to mean 0 and variance 1 over all units and gates, then
        multiplied by learnt gains, as in `LSTM`; c is not normalised.

    References
    ----------
    Beck et al. (2024), "xLSTM: extended long short-term memory", section 2.2, arXiv:2405.04517.

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> slstm = bptt.SLSTM(3, 4, heads=2, seed=0)
    >>> y, (h, c, n, m) = slstm(np.ones((10, 2, 3)))
    >>> y.shape, m.shape, slstm.parameters["weight_hh_l0"].shape
    ((10, 2, 4), (1, 2, 4), (16, 2))
    """

    heads: int
    layer_norm: bool

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        heads: int = 1, layer_norm: bool = False,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False,
        zoneout: float | tuple[float, float] = 0.0, recurrent_dropout: float = 0.0,
        variational_dropout: bool = False, dtype: DTypeLike = "float32", seed: Seed = None,
        compute: str | None = None,
    ) -> None:  # fmt: skip
        common = self._take_options(locals())
        H = as_count("SLSTM", "hidden_size", hidden_size, 1)
        if H % self.heads:
            raise ValueError(
                f"SLSTM: hidden_size is {H}, expected a multiple of heads = {self.heads}"
            )
        super().__init__(**common)


@final
class LSTM1997(Recurrent, kind="lstm1997"):
    """LSTM layers as first published, in the gate order i o g (G = 3).

    There is no forget gate, gates see gates, and the activations have other ranges. The state is
    the tuple (h, c, i, o). With the gates from w_ih x_t + b_ih + w_hh (h, i, o)_{t-1} + b_hh:
    c_t = c_{t-1} + sig(i) (4 sig(g) - 2),   h_t = sig(o) (2 sig(c_t) - 1).

    The gradient is the paper's truncated one: nothing passes back through w_hh. From step to step
    only c carries the gradient, undiminished (and h, by way of skips and zoneout). Use `LSTM` for
    the modern cell with the exact gradient.

    ``weight_hh_l0`` is (3*H, 3*H): columns for h, i and o. zoneout does not apply to i and o;
    `recurrent_dropout` is not supported.

    References
    ----------
    Hochreiter & Schmidhuber (1997), "Long short-term memory", Neural Computation 9(8).

    Examples
    --------
    >>> import numpy as np
    >>> import bptt
    >>> layer = bptt.LSTM1997(3, 4, seed=0)
    >>> y, (h, c, i, o) = layer(np.ones((10, 2, 3)))
    >>> y.shape, c.shape, layer.parameters["weight_hh_l0"].shape
    ((10, 2, 4), (1, 2, 4), (12, 12))
    """

    @answering
    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        dilation: int | Sequence[int] = 1, skip: int = 0, residual: bool = False,
        reverse: bool = False,
        zoneout: float | tuple[float, float] = 0.0, variational_dropout: bool = False,
        dtype: DTypeLike = "float32", seed: Seed = None, compute: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(**self._take_options(locals()))
