# SPDX-License-Identifier: MIT
"""Gate sums of up to 1e4 (float32) and 1e5 (float64), of either sign and of any mixture.

Outputs and all gradients are those of an evaluation in long double, of the same inputs, wherever
that can be represented. Of a sum of 1e4 float32 knows no more than 5e-4: the error may also be what
rounding errors of the inputs, of half a unit in the last place, would make of the exact result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt.reference.cells import ACTIVATIONS
from cases import TOLERANCE
from recurrences import CASES, Call, Case, call, results
from test_recurrences import cast

T, B, H = 5, 7, 5
LARGEST = {"float32": 1e4, "float64": 1e5}
WIDE = [
    *(Case(f"rnn-{name}", "rnn", {"activation": name}) for name in ACTIVATIONS if name != "tanh"),
    *(
        Case(f"lstm-{forget}-{gate}-{name}", "lstm",
             {"forget_gate": forget, "gate_activation": gate, "activation": name,
              "output_activation": name, "peepholes": True})
        for forget in ("own", "coupled", "none")
        for gate in ("sigmoid", "hard_sigmoid")
        for name in ("tanh", "relu", "identity")
    ),
    *(
        Case(f"gru-{after}-{gate}-{name}", "gru",
             {"reset_after": after, "gate_activation": gate, "activation": name})
        for after in (True, False)
        for gate in ("sigmoid", "hard_sigmoid")
        for name in ("tanh", "relu", "identity")
    ),
    Case("slstm-layer_norm", "slstm", {"layer_norm": True}),
]  # fmt: skip
PLAIN = {"h_mask", "layer_norm", "leak", "zoneout", "preact_clip", "cell_clip", "resets"}
ALL = [*(c for c in CASES if c.options.keys() <= PLAIN | {"heads", "peepholes"}), *WIDE]
SIGNS = {"mixed": (-1, 1), "negative": (-1, -1), "positive": (1, 1)}


def wide(case: Case, dtype: str, signs: str, start: bool) -> Call:
    """Every sum has an input of its own; its size is log-uniform."""
    gates = reference.CELLS[case.cell].gates - (case.options.get("forget_gate", "own") != "own")
    c = call(case, (T, B, gates * H, H - H % case.options.get("heads", 1)), seed=len(case.id))
    rng = np.random.default_rng(len(signs))

    def sizes(shape: Any) -> Any:
        sign = rng.choice(SIGNS[signs], shape)
        return sign * 10 ** rng.uniform(-2, np.log10(LARGEST[dtype]), shape)

    rows, columns = c.arrays["w_ih"].shape
    arrays = {**c.arrays, "x": sizes(c.arrays["x"].shape), "w_ih": np.eye(rows, columns)}
    if "layer_norm" in arrays:  # which makes sums of any inputs moderate: then the gains are wide
        g_ih, *others = arrays["layer_norm"]
        arrays["layer_norm"] = (sizes(g_ih.shape), *others)
    if start:
        arrays["state"] = None
    return cast(c._replace(arrays=arrays), dtype)


def rounded(c: Call, seed: int) -> Call:
    """Inputs half a unit in the last place away, at random."""
    rng = np.random.default_rng(seed)
    unit = np.finfo(c.arrays["x"].dtype).eps / 2

    def moved(a: Any) -> Any:
        if isinstance(a, tuple):
            return tuple(moved(part) for part in a)
        return (
            None if a is None else a * (1 + unit * rng.uniform(-1, 1, a.shape).astype("longdouble"))
        )

    return c._replace(arrays={name: moved(a) for name, a in c.arrays.items()})


def exact(c: Call) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        return results(cast(c, "longdouble"))


def check(
    got: dict[str, Any], want: dict[str, Any], near: list[dict[str, Any]], dtype: str
) -> None:
    assert got.keys() == want.keys()
    largest = np.finfo(dtype).max / 64
    for name, value in want.items():
        there = np.abs(value) < largest  # of NaN too: beyond what long double can represent
        assert np.isfinite(got[name][there]).all(), name
        size = np.abs(value[there])
        if not name.startswith("d state"):  # which may have e^1e4 beside ones: each by its own size
            size = np.full_like(size, size.max(initial=0))
        by_rounding = max(np.abs(a[name][there] - value[there]).max(initial=0) for a in near)
        off = np.abs(got[name][there] - value[there])
        bound = TOLERANCE[dtype] * np.fmax(size, 1e-300) + 8 * by_rounding
        assert (off <= bound).all(), (name, (off / bound).max(), off.max(), size.max(), by_rounding)


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("case", ALL, ids=lambda c: c.id)
def test_wide_sums(case: Case, dtype: str, isa: str) -> None:
    for signs in SIGNS:
        for start in (False, True):
            c = wide(case, dtype, signs, start)
            want, near = exact(c), [exact(rounded(c, seed)) for seed in range(4)]
            check(results(c, bptt), want, near, dtype)
            if isa == bptt._core.isas()[0]:
                with np.errstate(all="ignore"):
                    check(results(c), want, near, dtype)
