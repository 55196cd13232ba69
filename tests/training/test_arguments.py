# SPDX-License-Identifier: MIT
"""Arguments of `fit` that do not fit each other; `tests/robustness` has those of a wrong kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from support.models import Chain

X, Y = np.ones((6, 4, 2)), np.arange(6) % 2


def call(**changed: Any) -> Any:
    model = changed.pop("model", None) or Chain()
    good = {"data": (X, Y), "loss": bptt.cross_entropy, "epochs": 1}
    return bptt.fit(model, **{**good, **changed})


def of(made: Chain, **more: Any) -> dict[str, Any]:
    return {"model": made, **more}


class Pair(Chain):
    def __call__(self, x: Any, *, lengths: Any = None) -> Any:
        return super().__call__(x, lengths=lengths), None


OTHER = Chain()
REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a layer": (lambda: {"model": bptt.GRU(2, 3)}, "model is .*, which has no loss_and_grads, exp"),
    "a class": (lambda: {"model": Chain}, "model is .*, expected a model such as"),
    "a pair": (lambda: of(Pair()), "model returns .*, expected one array"),
    "one array": (lambda: {"data": X}, "data is .*, expected a pair"),
    "no sequences": (lambda: {"data": (X[:0], Y[:0])}, r"data\[0\] has no sequences"),
    "no steps": (lambda: {"data": (X[:, :0], Y)}, r"data\[0\] has only sequences without steps"),
    "one axis": (lambda: {"data": (X[:, 0, 0], Y)}, r"data\[0\] has shape \(6,\), expected \(n, T"),
    "fewer targets": (lambda: {"data": (X, Y[:5])}, r"data\[1\] has 5 targets, expected one for"),
    "other features": (
        lambda: {"data": ([X[0], X[1][:3], X[2][:, :1]], Y[:3])},
        r"data\[0\]\[2\] has shape \(4, 1\), expected \(T, 2\) as the others",
    ),
    "other kinds": (
        lambda: {"data": ([X[0], X[1][:3].astype(int)], Y[:2])},
        r"data\[0\]\[1\] has dtype int64, expected that of the others = float64",
    ),
    "texts": (lambda: {"data": (["ab", "cd"], Y[:2])}, r"data\[0\]\[0\] has dtype <U2, expected"),
    "targets by step": (
        lambda: {"data": ([X[0], X[1][:3]], [np.ones(4), np.ones(3)])},
        r"data\[1\] has arrays of several lengths, expected one target for each sequence",
    ),
    "targets without steps": (
        lambda: of(Chain(every=True)),
        r"data\[1\]\[0\] has shape \(\), expected a target for each of the 4 steps",
    ),
    "targets of other steps": (
        lambda: of(Chain(every=True), data=(X, np.ones((6, 3), int))),
        r"data\[1\]\[0\] has shape \(3,\), expected a target for each of the 4 steps",
    ),
    "held out by step": (
        lambda: {"validation": (X, [np.ones(k + 1) for k in range(6)])},
        r"validation\[1\] has arrays of several lengths",
    ),
    "half a fraction": (lambda: {"validation": 1.0}, "validation is 1, expected a fraction"),
    "one sequence": (
        lambda: {"data": (X[:1], Y[:1]), "validation": 0.5},
        "validation is 0.5 of one sequence, expected two or more",
    ),
    "one group": (
        lambda: {"validation": 0.5, "groups": ["a"] * 6},
        "validation is 0.5 of one group, expected two or more",
    ),
    "other groups": (
        lambda: {"validation": 0.5, "groups": [1, 2]},
        r"groups has shape \(2,\), expected \(n,\) = \(6,\)",
    ),
    "groups alone": (lambda: {"groups": Y}, "groups is given, expected it with a fraction"),
    "patience alone": (lambda: {"patience": 1}, "patience is given, expected validation with it"),
    "metric alone": (lambda: {"metric": max}, "metric is given, expected validation with it"),
    "an optimiser of another": (
        lambda: {"optimizer": bptt.SGD(OTHER.parameters)},
        "optimizer has other parameters, expected those of model.parameters",
    ),
    "two rates": (
        lambda: of(OTHER, optimizer=bptt.SGD(OTHER.parameters), lr=0.1),
        "lr is given beside optimizer",
    ),
    "no schedule": (
        lambda: {"schedule": lambda opt, n: None},
        "schedule returns None, expected a schedule of the given optimiser",
    ),
    "another's schedule": (
        lambda: {"schedule": lambda opt, n: bptt.StepLR(bptt.SGD({}), 1)},
        "schedule returns .*, expected a schedule of the given optimiser",
    ),
    "a plateau by update": (
        lambda: {"schedule": lambda o, n: bptt.WarmUp(o, 2, after=bptt.ReduceLROnPlateau(o))},
        "schedule has ReduceLROnPlateau after a warm-up",
    ),
    "a loss without gradient": (
        lambda: {"loss": lambda y, t: 0.5},
        "loss returns 0.5, expected the loss and its gradient",
    ),
    "no callback": (lambda: {"callbacks": [print]}, r"callbacks\[0\] is .*, expected an object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_anything_changes(case: str) -> None:
    make, message = REFUSED[case]
    arguments = make()
    model = arguments.get("model")
    before = model.state_dict() if isinstance(model, Chain) else {}
    with pytest.raises((ValueError, TypeError), match=f"^fit: {message}"):
        call(**arguments)
    if isinstance(model, Chain):
        assert model.calls == []
        for name, array in before.items():
            np.testing.assert_array_equal(model.state_dict()[name], array)


def test_a_loss_that_does_not_fit_the_targets_is_found_before_training() -> None:
    model = Chain()
    for data in ((X, Y + 5), (X, np.ones((6, 9)))):
        with pytest.raises((ValueError, TypeError), match=r"^cross_entropy: target has"):
            call(model=model, data=data)
    with pytest.raises(ValueError, match=r"^cross_entropy: target has"):
        call(model=model, validation=(X, Y + 5))
    with pytest.raises(ValueError, match=r"^GRU: x has"):
        call(model=model, validation=(np.ones((2, 4, 3)), Y[:2]))
    assert model.calls == []


def test_a_refused_call_leaves_the_rate(tmp_path: Any) -> None:
    model = Chain()
    adam = bptt.Adam(model.parameters, lr=0.5)
    path = tmp_path / "run.npz"
    bptt.save(path, {"a": Y})
    with pytest.raises(ValueError, match=r"^fit: checkpoint .* is another file"):
        call(
            model=model, optimizer=adam, checkpoint=path,
            schedule=lambda opt, n: bptt.WarmUp(opt, 5),
        )  # fmt: skip
    assert adam.lr == 0.5


def test_lists_and_other_types_are_arrays() -> None:
    """The same bits from lists, float32 and arrays of objects."""
    results = []
    objects = np.empty(6, object)
    objects[:] = [*X]
    for data in ((X, Y), (X.tolist(), Y.tolist()), (X.astype("f4"), Y), (objects, [*Y])):
        model = Chain()
        call(model=model, data=data)
        results.append(np.concatenate([a.ravel() for a in model.parameters.values()]).tobytes())
    assert len(set(results)) == 1


def test_sequences_without_steps() -> None:
    history = call(data=([X[0], X[1][:0], X[2][:3]], Y[:3]))
    assert np.isfinite(history.epochs[0].loss)
