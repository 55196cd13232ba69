# SPDX-License-Identifier: MIT
"""Swap the recurrent modules of a model for those that compute with bptt, and back.

A module stays the same object, with its parameters, hooks and flags: only its class changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.utils.parametrize import is_parametrized

from .._words import shown
from .backend import reason
from .cells import GRUCell, LSTMCell, RNNCell
from .modules import GRU, LSTM, RNN

TWINS: dict[type, type] = {
    getattr(torch.nn, ours.__name__): ours for ours in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell)
}
OURS = {twin: theirs for theirs, twin in TWINS.items()}
MARK = "_accelerated"
OF_CALLS = ("trace", "backend", "_arrays")  # attributes that a call sets


@dataclass(frozen=True)
class Accelerated:
    """What `accelerate` did to a model.

    Attributes
    ----------
    swapped : dict of str to str
        The modules that compute with bptt now, by their names in the model.
    left : dict of str to str
        The recurrent modules that were left as they are, with the reason.
    """

    swapped: dict[str, str]
    left: dict[str, str]

    def __repr__(self) -> str:
        parts = [("swapped", self.swapped), ("left", self.left)]
        width = max((len(name) for _, part in parts for name in part), default=0)
        lines = []
        for title, part in parts:
            lines.append(f"{title}: {len(part) or 'none'}")
            lines += [f"  {name or '(the model)':{width}}  {text}" for name, text in part.items()]
        return "\n".join(lines)


def accelerate(model: torch.nn.Module) -> Accelerated:
    """Let the recurrent modules of a model compute with bptt.

    Each `torch.nn.RNN`, `LSTM`, `GRU`, `RNNCell`, `LSTMCell` and `GRUCell` in it becomes the module
    of `bptt.torch` with the same name. It is still the same object: parameters, optimisers, tied
    weights, hooks, parametrizations and the training flag stay, and `state_dict` is the same.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.

    Returns
    -------
    Accelerated
        It prints what was swapped, and what was left and why: subclasses, which may compute
        something else; modules with a `forward` of their own; scripted and quantised modules; and
        those whose parameters are not float32 or float64 on the CPU.

    Raises
    ------
    TypeError
        If `model` is no module.

    See Also
    --------
    restore : Undo it.

    Examples
    --------
    >>> import torch
    >>> import bptt.torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(3, 4), "head": torch.nn.Linear(4, 2)})
    >>> bptt.torch.accelerate(model)
    swapped: 1
      encoder  GRU(3, 4)
    left: none
    >>> y, h = model["encoder"](torch.ones(5, 1, 3))
    >>> model["encoder"].backend
    'bptt'
    """
    swapped, left = {}, {}
    for name, module in _modules("accelerate", model):
        if not _is_recurrent(module):
            continue
        why = _why_not(module)
        if why is None:
            _set_class(module, TWINS[_plain_class(module)])
            module.__dict__[MARK] = True
            swapped[name] = str(module)
        else:
            left[name] = f"{type(module).__name__}: {why}"
    return Accelerated(swapped, left)


def restore(model: torch.nn.Module) -> None:
    """Undo `accelerate`: let the modules that it swapped compute with PyTorch again.

    Modules that were created as modules of `bptt.torch` do not change.

    Parameters
    ----------
    model : torch.nn.Module
        The model or a copy of it. Changed in place.

    Raises
    ------
    TypeError
        If `model` is no module.

    Examples
    --------
    >>> import torch
    >>> import bptt.torch
    >>> model = torch.nn.GRU(3, 4)
    >>> report = bptt.torch.accelerate(model)
    >>> bptt.torch.restore(model)
    >>> type(model)
    <class 'torch.nn.modules.rnn.GRU'>
    """
    for _, module in _modules("restore", model):
        if module.__dict__.pop(MARK, False):
            _set_class(module, OURS[_plain_class(module)])
            for name in OF_CALLS:
                module.__dict__.pop(name, None)


def _modules(caller: str, model: Any) -> list[tuple[str, torch.nn.Module]]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{caller}: model is {shown(model)}, expected a torch.nn.Module")
    return list(model.named_modules())


def _is_recurrent(module: torch.nn.Module) -> bool:
    """Is it a recurrent module of PyTorch in any form?"""
    names = {cls.__name__ for cls in TWINS}
    return (
        isinstance(module, (RNNBase, RNNCellBase))
        or getattr(module, "original_name", "") in names  # scripted
        or (type(module).__name__ in names and "quantiz" in type(module).__module__)
    )


def _plain_class(module: torch.nn.Module) -> type:
    """The class, without what parametrizations made of it."""
    cls = type(module)
    return cls.__bases__[0] if is_parametrized(module) else cls


def _why_not(module: torch.nn.Module) -> str | None:
    cls = _plain_class(module)
    if cls in OURS:
        return "computes with bptt already"
    if isinstance(module, torch.jit.ScriptModule):
        return "is scripted"
    if "quantiz" in cls.__module__:
        return "is quantised"
    if cls not in TWINS:
        base = next((c for c in cls.__mro__ if c in TWINS), RNNBase)
        return f"is a subclass of {base.__name__}, which may compute something else"
    if "forward" in module.__dict__:
        return "has a forward of its own"
    tensors = list(module.parameters())
    return reason(tensors[0], tensors[1:], False)


def _set_class(module: torch.nn.Module, target: type) -> None:
    """Change the class, under the class that parametrizations have put on top of it."""
    if is_parametrized(module):
        own = {
            name: value
            for name, value in vars(type(module)).items()
            if isinstance(value, (FunctionType, property))
        }
        target = type(f"Parametrized{target.__name__}", (target,), own)
    module.__class__ = target
