# SPDX-License-Identifier: MIT
"""Arrays that change between the forward and the backward call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bptt import functional

T, B, I, H = 9, 4, 5, 6
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "mgu": 2, "slstm": 4, "lstm1997": 3}
REFERS = "has changed since the forward call, expected it as it was: the tape refers to it"


def arguments(cell: str, dtype: str = "float64", seed: int = 0, **more: Any) -> dict[str, Any]:
    rng, G = np.random.default_rng(seed), GATES[cell]
    U = 3 * H if cell == "lstm1997" else H
    shapes = {
        "x": (T, B, I), "w_ih": (G * H, I), "w_hh": (G * H, U), "b_ih": (G * H,), "b_hh": (G * H,)
    }  # fmt: skip
    given = {name: (0.5 * rng.standard_normal(s)).astype(dtype) for name, s in shapes.items()}
    return given | more


def run(cell: str, given: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    """y, and a function that calls backward."""
    y, _, tape = getattr(functional, f"{cell}_forward")(**given)
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    return y, lambda **how: getattr(functional, f"{cell}_backward")(tape, dy, **how)


def flat(tree: Any) -> list[Any]:
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in flat(branch)]
    return [] if tree is None else [tree]


def same(got: Any, want: Any) -> None:
    got, want = flat(got), flat(want)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want):
        assert np.array_equal(a, b, equal_nan=True)


def spoil(value: Any) -> None:
    for array in flat(value):
        if isinstance(array, np.ndarray):
            array[...] = array.max() + 1 if array.dtype.kind == "i" else ~array if (
                array.dtype == bool
            ) else np.nan  # fmt: skip


def refused(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        call()


def own(cell: str) -> dict[str, dict[str, Any]]:
    """Optional arguments, each with the others that it needs."""
    rng = np.random.default_rng(3)
    h, more = rng.standard_normal((B, H)), rng.standard_normal((3, B, H))
    states = {"rnn": h, "gru": h, "mgu": h, "lstm": (h, more[0]), "slstm": (h, *abs(more))}
    zone = [(rng.random((T, B, H)) < 0.5).astype(float) for _ in range(2)]
    resets = rng.random((T, B)) < 0.3
    lengths = np.array([9, 3, 0, 7])
    named: dict[str, dict[str, Any]] = {
        "state": {"state": states.get(cell, (h, *more))},
        "zoneout": {"zoneout": zone[0]},
        "resets": {"resets": resets},
        "lengths": {"lengths": lengths},
        "all lengths": {"lengths": np.full(B, T)},
        "lengths and resets": {"lengths": lengths.copy(), "resets": resets.copy()},
        "dilation": {"dilation": 2, "zoneout": zone[0].copy()},
    }
    if cell not in ("rnn", "gru", "mgu"):
        named["two zoneouts"] = {"zoneout": (zone[0].copy(), zone[1])}
    if cell != "lstm1997":
        G = GATES[cell]
        mask = 2.0 * (rng.random((B, H)) < 0.5)
        gains = [rng.random(G * H) for _ in range(2)]
        if cell == "lstm":
            gains += [rng.random(H) for _ in range(2)]
        named |= {
            "h_mask": {"h_mask": mask}, "layer_norm": {"layer_norm": tuple(gains)},
            "masks and lengths": {"h_mask": mask.copy(), "lengths": lengths.copy()},
        }  # fmt: skip
    if cell == "lstm":
        named |= {
            "peepholes": {"peepholes": rng.standard_normal((3, H))},
            "w_hr": {"w_hr": rng.standard_normal((2, H)), "w_hh": rng.standard_normal((4 * H, 2))},
        }
    return named
