# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import numpy as np
import pytest

from bptt.io import load, save
from bptt.optim import SGD, Adam, AdamW, RMSprop, join, split

CASES = [
    (SGD, {}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.3}),
    (SGD, {"lr": 0.1, "weight_decay": 0.3}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.03, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.2}),
    (Adam, {}),
    (Adam, {"lr": 0.1, "betas": (0.7, 0.9), "eps": 1e-4, "weight_decay": 0.2}),
    (AdamW, {}),
    (AdamW, {"lr": 0.1, "betas": (0.7, 0.9), "eps": 1e-4, "weight_decay": 0.2}),
]
each_case = pytest.mark.parametrize(
    ("cls", "options"), CASES, ids=lambda v: getattr(v, "__name__", None)
)
SHAPES = {"w": (4, 3), "b": (4,), "scale": ()}


def arrays(rng, dtype="float64"):
    return {name: np.asarray(rng.standard_normal(s), dtype) for name, s in SHAPES.items()}


@each_case
def test_twenty_steps_are_torchs(cls, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = arrays(rng)
    tensors = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in params.items()}
    theirs = getattr(torch.optim, cls.__name__)(list(tensors.values()), **options)
    ours = cls(params, **options)
    for step in range(20):
        grads = arrays(rng)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name])
        if step == 10:
            ours.lr = theirs.param_groups[0]["lr"] = 0.007
        ours.step(grads)
        theirs.step()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(params[name], tensor.detach().numpy(), rtol=1e-12, atol=1e-12)


@each_case
def test_float32_stays_float32_and_follows_float64(cls, options):
    rng = np.random.default_rng(0)
    wide = arrays(rng)
    narrow = {k: v.astype("float32") for k, v in wide.items()}
    start, kept = {k: v.copy() for k, v in wide.items()}, dict(narrow)
    a, b = cls(wide, **options), cls(narrow, **options)
    b.lr = np.float64(b.lr)  # as a schedule in NumPy would
    for _ in range(5):
        grads = arrays(rng)
        a.step(grads)
        b.step(grads)  # converts
    for name in SHAPES:
        assert narrow[name] is kept[name]
        assert narrow[name].dtype == np.float32
        assert np.all(wide[name] != start[name])
        np.testing.assert_allclose(narrow[name], wide[name], rtol=1e-4, atol=1e-5)
    assert {s.dtype for kind in b.state.values() for s in kind.values()} == {np.dtype("float32")}


@each_case
def test_training_resumes_exactly_from_a_file(cls, options, tmp_path):
    rng = np.random.default_rng(0)
    params = arrays(rng)
    opt = cls(params, **options)
    for _ in range(3):
        opt.step(arrays(rng))
    opt.lr *= 0.5
    save(tmp_path / "checkpoint.npz", join(params=params, opt=opt.state_dict()))
    loaded = split(load(tmp_path / "checkpoint.npz"))
    again = cls(loaded["params"], **options)
    again.load_state_dict(loaded["opt"])
    assert again.lr == opt.lr
    for _ in range(3):
        grads = arrays(rng)
        opt.step(grads)
        again.step(grads)
    for name in SHAPES:
        np.testing.assert_array_equal(params[name], loaded["params"][name])


def test_state_dict_is_a_copy():
    params = arrays(np.random.default_rng(0))
    opt = Adam(params)
    saved = opt.state_dict()
    opt.step(params)
    assert saved["steps"] == 0
    assert np.all(saved["exp_avg.w"] == 0)
    opt.load_state_dict(saved)
    assert opt.steps == 0
    opt.step(params)
    assert np.all(saved["exp_avg.w"] == 0)


def test_join_and_split_undo_each_other():
    a, b = {"weight": 1, "bias": 2}, {"weight": 3}
    joined = join(rnn=a, head=join(top=b))
    assert joined == {"rnn.weight": 1, "rnn.bias": 2, "head.top.weight": 3}
    assert split(joined) == {"rnn": a, "head": {"top.weight": 3}}


def test_a_refused_step_changes_nothing():
    params = arrays(np.random.default_rng(0))
    before = {k: v.copy() for k, v in params.items()}
    opt = Adam(params)
    good = {k: np.ones(s) for k, s in SHAPES.items()}
    for bad, error, message in [
        (
            {k: v for k, v in good.items() if k != "b"} | {"c": np.ones(4)},
            ValueError,
            "Adam.step: grads has missing names ['b'] and unexpected names ['c'], expected ['w'",
        ),
        (
            good | {"scale": np.ones(1)},
            ValueError,
            "Adam.step: grads['scale'] has shape (1,), expected ()",
        ),
        (
            good | {"scale": np.ones((), complex)},
            TypeError,
            "Adam.step: grads['scale'] has dtype complex128, expected real numbers",
        ),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            opt.step(bad)
    assert opt.steps == 0
    for name in SHAPES:
        np.testing.assert_array_equal(params[name], before[name])
    with pytest.raises(
        ValueError, match=re.escape("Adam.load_state_dict: state has missing names")
    ):
        opt.load_state_dict({"lr": np.array(0.1)})


def read_only():
    array = np.zeros(2)
    array.flags.writeable = False
    return {"w": array}


W = {"w": np.zeros(2)}
ERRORS = [
    (lambda: SGD({"w": [0.0]}), TypeError, "SGD: params['w'] has type list, expected an array of"),
    (lambda: SGD({"w": np.zeros(2, int)}), TypeError, "SGD: params['w'] has dtype int64, expected"),
    (lambda: SGD(read_only()), ValueError, "SGD: params['w'] is read-only, expected a writable"),
    (lambda: SGD(W, lr=-1), ValueError, "SGD: lr is -1, expected 0 <= lr < inf"),
    (lambda: SGD(W, lr=np.nan), ValueError, "SGD: lr is nan, expected 0 <= lr < inf"),
    (lambda: setattr(SGD(W), "lr", np.inf), ValueError, "SGD: lr is inf, expected 0 <= lr < inf"),
    (lambda: SGD(W, momentum=-1), ValueError, "SGD: momentum is -1, expected 0 <= momentum < inf"),
    (lambda: Adam(W, betas=(0.9, 1)), ValueError, "Adam: betas is 1, expected 0 <= betas < 1"),
    (lambda: AdamW(W, weight_decay=-1), ValueError, "AdamW: weight_decay is -1, expected 0 <="),
    (lambda: RMSprop(W, eps=-1), ValueError, "RMSprop: eps is -1, expected 0 <= eps < inf"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
