# SPDX-License-Identifier: MIT
"""The reference equals PyTorch: its modules where it has them, else autograd of a transcription.

So does the core where PyTorch has modules, and with layer normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import bptt
from bptt import reference
from support import torch_twin
from support.compare import assert_close
from support.problems import CASES, NO_BIAS, PLAIN, Case, problem, results

NORMAL = [case for case in CASES if "layer_norm" in case.options]


@pytest.mark.parametrize("cut", [None, 1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_results_are_those_of_the_transcription(case: Case, cut: int | None) -> None:
    for seed, bias in enumerate([True, False]):
        c = problem(case, (7, 3, 3, 4), PLAIN if bias else NO_BIAS, seed=seed)
        got, want = results(reference, c, cut=cut), torch_twin.results(c, cut)
        assert_close(got, want, 1e-11 if "layer_norm" in c.arrays else 1e-12)


@pytest.mark.parametrize("case", NORMAL, ids=lambda c: c.id)
def test_normalised_cells_of_the_core_are_those_of_the_transcription(case: Case) -> None:
    for shape in [(7, 3, 3, 4), (5, 4, 6, 18)]:
        c = problem(case, shape)
        assert_close(results(bptt, c), torch_twin.results(c), 1e-11)


@pytest.mark.parametrize("kind", ["value", "norm"])
@pytest.mark.parametrize("target", ["h", "c", "gates"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_step_clip_is_a_hook_of_the_transcription(case: Case, target: str, kind: str) -> None:
    if target == "gates" and "reset_after" in case.options:
        return  # r's gradient comes of n's before both are clipped together: no hook does that
    c = problem(case, (7, 3, 3, 4))
    clip, tolerance = (kind, 0.1, target), 1e-11 if "layer_norm" in c.arrays else 1e-12
    got = results(reference, c, step_clip=clip)
    assert_close(got, torch_twin.results(c, step_clip=clip), tolerance)
    free = results(reference, c)
    changed = any(not np.array_equal(got[name], free[name]) for name in got)
    if target == "c":
        assert changed == (reference.CELLS[case.cell].states > 1)
    elif case.cell != "lstm1997":  # which passes nothing back to h, but by zoneout
        assert changed


@pytest.mark.parametrize("ours", [reference, bptt], ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_results_are_those_of_the_module(name: str, ours: Any) -> None:
    T, B, I, H = 9, 3, 4, 6
    case = Case("", name, {}, projection=name == "lstm")
    c = problem(case, (T, B, I, H))
    size = {"proj_size": H - 1} if name == "lstm" else {}
    module = getattr(torch.nn, name.upper())(I, H, dtype=torch.float64, **size)
    names = ["w_ih", "w_hh", "b_ih", "b_hh", *(["w_hr"] if name == "lstm" else [])]
    with torch.no_grad():
        for key, parameter in zip(names, module.parameters()):
            parameter.copy_(torch.tensor(c.arrays[key]))
    state = c.arrays["state"]
    one = not isinstance(state, tuple)
    start = tuple(torch.tensor(s[None]) for s in ([state] if one else state))
    x = torch.tensor(c.arrays["x"], requires_grad=True)
    y, final = module(x, start[0] if one else start)
    loss = (y * torch.tensor(c.dy)).sum()
    pairs = zip([final] if one else final, [c.dstate] if one else c.dstate)
    for f, d in pairs:
        loss = loss + (f[0] * torch.tensor(d)).sum()
    loss.backward()
    want: dict[str, Any] = {"y": y.detach().numpy(), "d x": np.asarray(x.grad)}
    want |= {f"d {k}": np.asarray(p.grad) for k, p in zip(names, module.parameters())}
    got = results(ours, c)
    assert_close({key: got[key] for key in want}, want, 1e-12)
