# SPDX-License-Identifier: MIT
"""bptt: exact backpropagation through time on CPUs.

Layers hold parameters. Below them are functions that take and return arrays. `bptt.reference` has
the same functions as plain equations in NumPy.

Recurrent layers
    RNN LSTM GRU MGU SLSTM LSTM1997

Other layers
    Linear Embedding Attention LayerNorm Dropout Last MeanPool

Models
    Sequential

Batches and predictions
    pad_sequences minibatches last softmax

Losses
    mse cross_entropy binary_cross_entropy quantile_loss

Optimisers
    SGD Adam AdamW RMSprop

Learning-rate schedules
    StepLR CosineAnnealing WarmUp ReduceLROnPlateau

Training
    fit History

Clipping
    clip_grad_norm clip_grad_value AutoClip

Long sequences
    tbptt

Files
    load_model layer_from_arrays save_keras save load load_metadata save_c_header save_rtneural
    load_rtneural

Gradient flow of a model
    gradient_flow FlowReport FlowMonitor FlowWarning find_nonfinite NonFinite

Traces of a backward pass
    Trace LayerTrace Shares by_lag per_sample_gradients

Jacobians
    step_jacobians jacobian jacobian_norms singular_values lyapunov_spectrum memory_horizon
    decay_bound spectral_radius

Derivatives along a direction
    jvp vjp hvp layer_hvp gradcheck

Functions
    rnn_forward rnn_backward lstm_forward lstm_backward gru_forward gru_backward mgu_forward
    mgu_backward slstm_forward slstm_backward lstm1997_forward lstm1997_backward Grads
    additive_attention_forward additive_attention_backward dot_attention_forward
    dot_attention_backward

Threads and kernels
    set_num_threads get_num_threads show_config

Modules
    init losses optim schedules models regularise tasks datasets reference
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from . import _core
except ImportError as error:
    raise ImportError(
        "bptt: the compiled module bptt._core is missing or does not fit this Python; install the "
        "package with 'pip install .' (needs g++ or clang), and import it from outside its source "
        f"folder. ({error})"
    ) from None

from . import datasets, init, losses, models, optim, reference, regularise, schedules, tasks
from ._grads import Grads
from .batches import minibatches, pad_sequences
from .clip import AutoClip, clip_grad_norm, clip_grad_value
from .config import get_num_threads, set_num_threads, show_config
from .derivatives.directional import hvp, jvp, layer_hvp, vjp
from .derivatives.gradcheck import gradcheck
from .exchange import layer_from_arrays, load_model, load_rtneural, save_keras, save_rtneural
from .export import save_c_header
from .flow import FlowMonitor, FlowReport, FlowWarning, gradient_flow
from .functional import (
    additive_attention_backward,
    additive_attention_forward,
    dot_attention_backward,
    dot_attention_forward,
    gru_backward,
    gru_forward,
    lstm1997_backward,
    lstm1997_forward,
    lstm_backward,
    lstm_forward,
    mgu_backward,
    mgu_forward,
    rnn_backward,
    rnn_forward,
    slstm_backward,
    slstm_forward,
)
from .io import load, load_metadata, save
from .jacobians import (
    decay_bound,
    jacobian,
    jacobian_norms,
    lyapunov_spectrum,
    memory_horizon,
    singular_values,
    spectral_radius,
    step_jacobians,
)
from .jacobians.lags import by_lag
from .layers.attention import Attention
from .layers.cells import GRU, LSTM, LSTM1997, MGU, RNN, SLSTM
from .layers.dropout import Dropout
from .layers.embedding import Embedding
from .layers.layer_norm import LayerNorm
from .layers.linear import Linear
from .layers.nonfinite import find_nonfinite
from .layers.pooling import Last, MeanPool, last
from .losses import binary_cross_entropy, cross_entropy, mse, quantile_loss, softmax
from .optim import SGD, Adam, AdamW, RMSprop
from .schedules import CosineAnnealing, ReduceLROnPlateau, StepLR, WarmUp
from .sequential.model import Sequential
from .sequential.tbptt import tbptt
from .trace.nonfinite import NonFinite
from .trace.per_sample import per_sample_gradients
from .trace.shares import Shares
from .trace.trace import LayerTrace, Trace
from .training import History, fit

__version__ = _core.__version__

__all__ = [
    "GRU",
    "LSTM",
    "LSTM1997",
    "MGU",
    "RNN",
    "SGD",
    "SLSTM",
    "Adam",
    "AdamW",
    "Attention",
    "AutoClip",
    "CosineAnnealing",
    "Dropout",
    "Embedding",
    "FlowMonitor",
    "FlowReport",
    "FlowWarning",
    "Grads",
    "History",
    "Last",
    "LayerNorm",
    "LayerTrace",
    "Linear",
    "MeanPool",
    "NonFinite",
    "RMSprop",
    "ReduceLROnPlateau",
    "Sequential",
    "Shares",
    "StepLR",
    "Trace",
    "WarmUp",
    "additive_attention_backward",
    "additive_attention_forward",
    "binary_cross_entropy",
    "by_lag",
    "clip_grad_norm",
    "clip_grad_value",
    "cross_entropy",
    "datasets",
    "decay_bound",
    "dot_attention_backward",
    "dot_attention_forward",
    "find_nonfinite",
    "fit",
    "get_num_threads",
    "gradcheck",
    "gradient_flow",
    "gru_backward",
    "gru_forward",
    "hvp",
    "init",
    "jacobian",
    "jacobian_norms",
    "jvp",
    "last",
    "layer_from_arrays",
    "layer_hvp",
    "load",
    "load_metadata",
    "load_model",
    "load_rtneural",
    "losses",
    "lstm1997_backward",
    "lstm1997_forward",
    "lstm_backward",
    "lstm_forward",
    "lyapunov_spectrum",
    "memory_horizon",
    "mgu_backward",
    "mgu_forward",
    "minibatches",
    "models",
    "mse",
    "optim",
    "pad_sequences",
    "per_sample_gradients",
    "quantile_loss",
    "reference",
    "regularise",
    "rnn_backward",
    "rnn_forward",
    "save",
    "save_c_header",
    "save_keras",
    "save_rtneural",
    "schedules",
    "set_num_threads",
    "show_config",
    "singular_values",
    "slstm_backward",
    "slstm_forward",
    "softmax",
    "spectral_radius",
    "step_jacobians",
    "tasks",
    "tbptt",
    "vjp",
]


if not TYPE_CHECKING:  # to a type checker, an unknown name stays an error
    from ._guesses import unknown_name as __getattr__  # noqa: F401
del TYPE_CHECKING


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
