# SPDX-License-Identifier: MIT
"""Groups of parameters: rates, decay and clipping of their own."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.schedules import StepLR

NAMES = ("0.weight", "1.weight_ih_l0", "1.bias_ih_l0", "2.weight", "2.bias")
GROUPS = [
    {"params": "*.bias*", "weight_decay": 0.0},
    {"params": ["0.*"], "lr": 3e-3, "weight_decay": 0.2},
    {"params": "*", "lr": 0.02},
]
KINDS = {"SGD": {"momentum": 0.9}, "RMSprop": {}, "Adam": {}, "AdamW": {}}
OWN = {"lr": 0.01, "weight_decay": 0.1}


def arrays(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((3, 2)) for name in NAMES}


def made(kind: str, groups: Any = GROUPS) -> tuple[Any, Any]:
    params = arrays(0)
    return params, getattr(bptt, kind)(params, **OWN, **KINDS[kind], groups=groups)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_torchs(kind: str) -> None:
    torch = pytest.importorskip("torch")
    params, ours = made(kind)
    tensors = {name: torch.nn.Parameter(torch.tensor(a)) for name, a in arrays(0).items()}
    parts = (("1.bias_ih_l0", "2.bias"), ("0.weight",), ("1.weight_ih_l0", "2.weight"))
    groups = [
        {**group, "params": [tensors[name] for name in part]} for group, part in zip(GROUPS, parts)
    ]
    theirs = getattr(torch.optim, kind)(groups, **OWN, **KINDS[kind])
    slower, theirs_slower = StepLR(ours, 2, 0.5), torch.optim.lr_scheduler.StepLR(theirs, 2, 0.5)
    for step in range(6):
        grads = arrays(step + 1)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name])
        ours.step(grads)
        theirs.step()
        slower.step()
        theirs_slower.step()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(params[name], tensor.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_the_optimisers_own_numbers_changes_no_bit(kind: str) -> None:
    (a, plain), (b, same) = made(kind, ()), made(kind, [{"params": "2.*", **OWN}])
    for step in range(3):
        for optimizer in (plain, same):
            optimizer.step(arrays(step))
    assert all(a[name].tobytes() == b[name].tobytes() for name in NAMES)


def test_a_state_dict_has_the_groups() -> None:
    (a, first), (b, second) = made("AdamW"), made("AdamW", [dict(g, lr=1.0) for g in GROUPS])
    first.step(arrays(1))
    first.lr = 0.005
    for name in NAMES:
        b[name][...] = a[name]
    second.load_state_dict(first.state_dict())
    for optimizer in (first, second):
        optimizer.step(arrays(2))
    assert all(a[name].tobytes() == b[name].tobytes() for name in NAMES)
    assert second.groups == first.groups
    before = second.state_dict()
    with pytest.raises(ValueError, match=r"group_lr is -1\.0, expected 0 <= "):
        second.load_state_dict({**before, "group_lr": np.array([1.0, -1, 1])})
    with pytest.raises(ValueError, match="unexpected names"):
        made("AdamW", ())[1].load_state_dict(before)
    assert "group_lr" not in made("AdamW", ())[1].state_dict()


def test_groups_of_a_model_leave_frozen_layers_alone() -> None:
    model = bptt.Sequential(bptt.GRU(2, 3, seed=0), bptt.Last(), bptt.Linear(3, 2, seed=1))
    model.frozen = [name for name in model.parameters if name.startswith("0.")]
    before = model.state_dict()
    adam = bptt.AdamW(model.parameters, groups=[{"params": "2.*", "lr": 0.1}])
    adam.step(model.loss_and_grads(np.ones((4, 1, 2)), [1], bptt.cross_entropy)[1])
    same = {n for n, a in model.parameters.items() if np.array_equal(a, before[n])}
    assert same == model.frozen


def test_each_group_is_clipped_by_its_own_norm() -> None:
    grads = arrays(3)
    auto = bptt.AutoClip()
    want = {name: g.copy() for name, g in grads.items()}
    part = {name: want[name] for name in ("1.weight_ih_l0", "2.weight")}
    norms = bptt.clip_grad_norm(grads, {"0.*": 0.5, "*.weight*": 1.0, "2.b*": auto})
    expected = {
        "0.*": bptt.clip_grad_norm({"w": want["0.weight"]}, 0.5),
        "*.weight*": bptt.clip_grad_norm(part, 1.0),
        "2.b*": np.linalg.norm(want["2.bias"]),
    }
    assert norms == pytest.approx(expected, rel=1e-15)
    assert auto.history == [norms["2.b*"]]
    assert all(grads[name].tobytes() == want[name].tobytes() for name in NAMES)


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "zero"])
def test_values_that_are_not_finite_in_one_group(nonfinite: str) -> None:
    grads = arrays(4)
    grads["2.bias"][0, 0] = np.nan
    before = {name: g.copy() for name, g in grads.items()}
    bounds = {"0.*": 0.5, "*": 1.0}
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"1 of 6 in '2\.bias'"):
            bptt.clip_grad_norm(grads, bounds)
        assert all(grads[name].tobytes() == before[name].tobytes() for name in NAMES)
        return
    norms = bptt.clip_grad_norm(grads, bounds, nonfinite=nonfinite)
    if nonfinite == "skip":
        assert math.isnan(norms["*"])
        assert not any(g.any() for g in grads.values())
    else:
        assert norms["0.*"] == pytest.approx(np.linalg.norm(before["0.weight"]))
        assert grads["2.bias"][0, 0] == 0


BAD = [
    ({"params": "*"}, "SGD: groups is {'params': '*'}, expected a list of dicts"),
    (["*"], "SGD: groups[0] is '*', expected a dict with 'params' and 'lr' or 'weight_decay'"),
    ([{"lr": 1}], "SGD: groups[0] is {'lr': 1}, expected a dict with 'params'"),
    ([{"params": "*", "betas": 1}], "SGD: groups[0] is {'params': '*', 'betas': 1}, expected a d"),
    ([{"params": 3}], "SGD: groups[0]['params'] is 3, expected names, as '*.bias*'"),
    ([{"params": "3.*"}], "SGD: groups has '3.*', expected a pattern of some of ['0.weight'"),
    ([{"params": "*", "lr": -1}], "SGD: lr is -1, expected 0 <= lr < inf"),
    ([{"params": "*", "lr": "1"}], "SGD: lr is '1', expected a number"),
]


@pytest.mark.parametrize(("groups", "message"), BAD, ids=[row[1][:40] for row in BAD])
def test_bad_groups(groups: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        made("SGD", groups)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"0.*": 1, "7.*": 1}, "clip_grad_norm: groups has '7.*', expected a pattern of some of"),
        ({"0.*": 1, "*": 0}, "clip_grad_norm: max_norm is 0, expected more than 0"),
        ({"0.*": 1, "*": None}, "clip_grad_norm: max_norm['*'] is None, expected a number"),
        ({3: 1}, "clip_grad_norm: max_norm has the name 3, expected text"),
    ],
)
def test_bad_bounds_change_nothing(bounds: Any, message: str) -> None:
    grads = arrays(0)
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        bptt.clip_grad_norm(grads, bounds)
    assert all(grads[name].tobytes() == g.tobytes() for name, g in arrays(0).items())
