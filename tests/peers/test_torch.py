# SPDX-License-Identifier: MIT
"""The functions equal PyTorch's modules, outputs and all gradients; test_layers: so do layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.compare import DTYPES, TOLERANCE_OF_TORCH, assert_close
from support.problems import CELLS, Case, Problem, core_results, flat, problem

torch = pytest.importorskip("torch")

CELLS_OF_TORCH = [
    c for c in CELLS if c.options.get("activation") not in ("leaky_relu", "sigmoid", "identity")
]


def torch_results(p: Problem) -> dict[str, Any]:
    """Named as in `problems.results`. PyTorch knows neither length 0 nor T = 0."""
    T, _, I = p.arrays["x"].shape
    H = p.arrays["w_hh"].shape[1]
    options = {"nonlinearity": p.options["activation"]} if p.cell == "rnn" else {}
    module = getattr(torch.nn, p.cell.upper())(I, H, dtype=torch.float64, **options)
    parameters = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), module.parameters()))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.as_tensor(p.arrays[name]))
    x = torch.tensor(p.arrays["x"], requires_grad=True)
    state = [torch.tensor(s[None], requires_grad=True) for s in flat(p.arrays["state"])]
    hx = tuple(state) if len(state) > 1 else state[0]
    if p.lengths is None:
        y, last = module(x, hx)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.as_tensor(p.lengths), enforce_sorted=False
        )
        y, last = module(packed, hx)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    last = list(last) if isinstance(last, tuple) else [last]
    loss = (y * torch.as_tensor(p.dy)).sum()
    for s, d in zip(last, flat(p.dstate)):
        loss = loss + (s[0] * torch.as_tensor(d)).sum()
    loss.backward()
    named = {"y": y} | {f"state[{i}]": s[0] for i, s in enumerate(last)} | {"d x": x.grad}
    named |= {f"d {name}": parameter.grad for name, parameter in parameters.items()}
    named |= {f"d state[{i}]": s.grad[0] for i, s in enumerate(state)}
    return {name: value.detach().numpy() for name, value in named.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("cell", CELLS_OF_TORCH, ids=lambda c: c.id)
def test_functions_equal_torch(isa: str, cell: Case, ragged: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for seed in range(12):
        T, B = int(rng.integers(1, 30)), int(rng.integers(1, 12))
        shape = (T, B, int(rng.integers(1, 40)), int(rng.integers(1, 70)))
        p = problem(cell, shape, dtype=dtype, seed=seed)
        if ragged:
            p = p.given(lengths=rng.integers(1, T + 1, B))
        assert_close(core_results(p), torch_results(p.cast("float64")), TOLERANCE_OF_TORCH[dtype])
