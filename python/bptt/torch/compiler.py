# SPDX-License-Identifier: MIT
"""Lets `torch.compile` see through the modules, as it does through most of PyTorch's.

Its tracer refuses each `nn.RNN`, `LSTM` and `GRU`, and so their subclasses, unless a switch for all
of them is on: PyTorch's own would then become one graph of all steps, which takes minutes to
compile. So the switch is on only while the tracer looks at a module of ours. A tracer without this
method refuses the modules here as it does PyTorch's.
"""

from __future__ import annotations

from typing import Any

from torch._dynamo import config
from torch._dynamo.variables.builder import VariableBuilder

__all__ = ["let_trace"]

_TRACED: list[type] = []


def let_trace(cls: type) -> None:
    """Let the tracer take the instances of this class."""
    _TRACED.append(cls)


def _let_trace_ours() -> None:
    wrap = getattr(VariableBuilder, "wrap_module", None)
    if wrap is None:
        return

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, tuple(_TRACED)):
            return wrap(self, value)
        with config.patch(allow_rnn=True):
            return wrap(self, value)

    VariableBuilder.wrap_module = wrap_module  # type: ignore[method-assign]


_let_trace_ours()
