# SPDX-License-Identifier: MIT
"""PyTorch's own samples of its recurrent modules, and its samples of wrong calls."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")
import torch

import bptt.torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
INFOS = {i.module_cls.__name__: i for i in module_db if i.module_cls.__name__ in NAMES}
each = pytest.mark.parametrize("name", [n for n in NAMES if hasattr(bptt.torch, n)])


def tensors(value: Any) -> Iterator[Any]:
    """All tensors in arguments or results, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def leaves(sample: Any, module: Any) -> list[Any]:
    given = tensors((*sample.forward_input.args, *sample.forward_input.kwargs.values()))
    return [t for t in (*given, *module.parameters()) if t.requires_grad]


def loss(outputs: Any) -> Any:
    made = torch.Generator().manual_seed(0)
    return sum((o * torch.randn(o.shape, generator=made)).sum() for o in tensors(outputs))


def run_wrong(kind: Any, sample: Any, dtype: Any) -> None:
    made, call = (
        getattr(sample.module_error_input, f"{n}_input") for n in ("constructor", "forward")
    )
    module = kind(*made.args, **made.kwargs)
    if sample.error_on is ModuleErrorEnum.FORWARD_ERROR:
        module.to(dtype)(*call.args, **call.kwargs)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each
def test_samples(name: str, dtype: Any, training: bool) -> None:
    torch.manual_seed(0)
    count = 0
    info = INFOS[name]
    for sample in info.module_inputs_func(info, "cpu", dtype, True, training):
        given, call = sample.constructor_input, sample.forward_input
        theirs = info.module_cls(*given.args, **given.kwargs).to(dtype).train(training)
        ours = getattr(bptt.torch, name)(*given.args, **given.kwargs).to(dtype).train(training)
        ours.load_state_dict(theirs.state_dict())
        found = []
        for module in (ours, theirs):
            torch.manual_seed(1)
            outputs = module(*call.args, **call.kwargs)
            grads = torch.autograd.grad(loss(outputs), leaves(sample, module))
            found.append((list(tensors(outputs)), grads))
        tight = {"rtol": 1e-10, "atol": 1e-10} if dtype is torch.float64 else {}
        torch.testing.assert_close(*found, **tight)
        if sample.reference_fn is not None:
            want = sample.reference_fn(ours, *call.args, **call.kwargs)
            torch.testing.assert_close(ours(*call.args, **call.kwargs), want)
        assert ours.backend == "bptt"
        count += 1
    assert count >= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each
def test_wrong_calls(name: str, dtype: Any) -> None:
    count = 0
    info = INFOS[name]
    for sample in info.module_error_inputs_func(info, "cpu", dtype, False, False):
        with pytest.raises(sample.error_type, match=sample.error_regex):
            run_wrong(getattr(bptt.torch, name), sample, dtype)
        count += 1
    assert count >= 4
