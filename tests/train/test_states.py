# SPDX-License-Identifier: MIT
"""Every field of every `load_state_dict`: a wrong value is refused before anything changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt


def optimiser(kind: Any = bptt.Adam, **options: Any) -> Any:
    made = kind({"w": np.ones(3, "f4")}, **options)
    made.step({"w": np.arange(3.0)})
    return made


def stepped(kind: Any, *arguments: Any, **options: Any) -> Any:
    schedule = kind(optimiser(), *arguments, **options)
    schedule.step(1.0)
    schedule.step(1.0)
    return schedule


def warm_up() -> Any:
    sgd = optimiser(bptt.SGD)
    schedule = bptt.WarmUp(sgd, 1, after=bptt.ReduceLROnPlateau(sgd))
    for _ in range(3):
        schedule.step(1.0)
    return schedule


def layer() -> Any:
    made = bptt.LSTM(3, 4, zoneout=0.5, seed=0)
    made.forward(np.ones((2, 1, 3)))
    return made


MAKE: dict[str, Callable[[], Any]] = {
    "layer": layer,
    "linear": lambda: bptt.Linear(3, 4, seed=0),
    "adam": optimiser,
    "rmsprop": lambda: optimiser(bptt.RMSprop),
    "sgd": lambda: optimiser(bptt.SGD, momentum=0.5),
    "step": lambda: stepped(bptt.StepLR, 2),
    "cosine": lambda: stepped(bptt.CosineAnnealing, 5),
    "plateau": lambda: stepped(bptt.ReduceLROnPlateau),
    "warm-up": warm_up,
    "auto": lambda: bptt.AutoClip(window=3, history=[1.0, 2.0]),
}
NO_COUNTS = [-5, np.nan, 2.5, 1e300, np.inf, True, "3", None, [1], np.ones(2, int), 2**70]
NO_RATES = [-1e-3, np.nan, np.inf, "0.1", None, [0.1, 0.2], np.ones(1), 1j, True]
NO_ARRAYS = [
    np.ma.masked_array(np.ones(3), [1, 0, 0]),
    np.ones(2),
    1.0,
    "a",
    None,
    np.ones(3, complex),
    [[1], [1, 2]],
]
NO_SQUARES = [*NO_ARRAYS, [-1, 0, 0]]
NO_MASKS = [np.ones(2), [1], [[1, 2]], [-1, 0], [1, -1], [1, 3, 2, 1], [1, 3, 3], [1, 3, 1, 1],
            [1, 3, -1], None, "a", 5, [2**63, 1], [np.nan, 1], []]  # fmt: skip
NO_HISTORIES = [[-1.0], [0.0], [np.nan], [np.inf], 1.0, [[1.0]], ["a"], None, [1.0] * 4, [1j]]
FIELDS = [
    ("layer", "masks", NO_MASKS),
    ("layer", "bias_ih_l0", NO_ARRAYS),
    ("linear", "bias", NO_ARRAYS),
    ("adam", "steps", NO_COUNTS),
    ("adam", "lr", NO_RATES),
    ("adam", "exp_avg.w", NO_ARRAYS),
    ("adam", "exp_avg_sq.w", NO_SQUARES),
    ("rmsprop", "square_avg.w", NO_SQUARES),
    ("rmsprop", "steps", NO_COUNTS),
    ("sgd", "momentum_buffer.w", NO_ARRAYS),
    ("sgd", "steps", NO_COUNTS),
    ("step", "steps", NO_COUNTS),
    ("step", "base_lr", NO_RATES),
    ("step", "lr", NO_RATES),
    ("cosine", "steps", NO_COUNTS),
    ("plateau", "best", [np.nan, "1", None, [1.0], True]),
    ("plateau", "bad_steps", NO_COUNTS),
    ("plateau", "cooldown_left", NO_COUNTS),
    ("warm-up", "steps", NO_COUNTS),
    ("warm-up", "lr", NO_RATES),
    ("warm-up", "after.steps", NO_COUNTS),
    ("warm-up", "after.best", [np.nan]),
    ("warm-up", "after.lr", NO_RATES),
    ("auto", "history", NO_HISTORIES),
]


def bits(state: Any) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in state.items()}


def everything(made: Any) -> list[dict[str, bytes]]:
    parts = [made, *(getattr(made, name) for name in ("optimizer", "after") if hasattr(made, name))]
    return [bits(part.state_dict()) for part in parts]


@pytest.mark.parametrize(
    ("kind", "field", "values"), FIELDS, ids=[f"{k}-{f}" for k, f, _ in FIELDS]
)
def test_a_value_that_is_none_of_its_field(kind: str, field: str, values: list[Any]) -> None:
    made, other = MAKE[kind](), MAKE[kind]()
    before = everything(made)
    # Another state, so that what is taken over before the refusal would show.
    state = {k: np.asarray(v) * 2 if k != "masks" else v for k, v in other.state_dict().items()}
    where = type(made).__name__
    for value in values:
        with pytest.raises((ValueError, TypeError)) as error:
            made.load_state_dict({**state, field: value})
        assert re.match(rf"{where}\b|ReduceLROnPlateau|LSTM", str(error.value)), str(error.value)
        assert "expected" in str(error.value) or "is no array" in str(error.value), error.value
        assert everything(made) == before, value
    made.load_state_dict(state)
    assert everything(made) != before


@pytest.mark.parametrize("kind", MAKE)
def test_names_that_are_missing_or_unknown(kind: str) -> None:
    made = MAKE[kind]()
    before, state = everything(made), made.state_dict()
    for name in state:
        with pytest.raises(ValueError, match="expected"):
            made.load_state_dict({k: v for k, v in state.items() if k != name})
    for more in ({"epoch": 1}, {"after.after.steps": 1}, {3: 1}):
        with pytest.raises((ValueError, TypeError), match="expected"):
            made.load_state_dict({**state, **more})
    with pytest.raises(TypeError, match="expected a dict of arrays"):
        made.load_state_dict([*state.items()])
    assert everything(made) == before


@pytest.mark.parametrize("kind", MAKE)
def test_a_state_comes_back_through_a_file(kind: str, tmp_path: Any) -> None:
    made, other = MAKE[kind](), MAKE[kind]()
    state = {k: np.asarray(v) * 2 if k != "masks" else v for k, v in other.state_dict().items()}
    made.load_state_dict(state)
    bptt.save(tmp_path / "state.npz", made.state_dict())
    other.load_state_dict(bptt.load(tmp_path / "state.npz"))
    assert everything(other) == everything(made) == everything(other)
    assert bits(other.state_dict()) == bits(state)


def test_a_schedule_sets_the_rate_whatever_was_loaded_first() -> None:
    """WarmUp sets the rate when it is made, which may be after the optimiser was loaded."""
    first = warm_up()
    first.optimizer.lr = 0.123
    states = first.optimizer.state_dict(), first.state_dict()
    sgd = optimiser(bptt.SGD)
    sgd.load_state_dict(states[0])
    schedule = bptt.WarmUp(sgd, 1, after=bptt.ReduceLROnPlateau(sgd))
    schedule.load_state_dict(states[1])
    assert sgd.lr == 0.123


def test_an_infinite_average_is_a_state_too() -> None:
    sgd = optimiser(bptt.SGD)
    sgd.step({"w": np.array([np.inf, 1, np.nan])})
    again = optimiser(bptt.SGD)
    again.load_state_dict(sgd.state_dict())
    assert everything(again) == everything(sgd)
