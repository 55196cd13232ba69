# SPDX-License-Identifier: MIT
"""What must hold for any input: splitting, batching, padding, odd arrays, non-finite values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bptt
from support.compare import (
    DTYPES,
    PER_SEQUENCE,
    TOLERANCE,
    assert_close,
    same_bits,
    same_bits_per_sequence,
)
from support.problems import (
    BY_ID,
    CELLS,
    OPTIONS,
    Case,
    backward,
    core_results,
    flat,
    forward,
    problem,
    reference_results,
    state_of,
    take,
)

SHAPE = (7, 5, 6, 19)


@pytest.fixture(params=CELLS, ids=lambda c: c.id)
def cell(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["plain", "clip-norm-lengths", "lengths-reverse"])
def test_a_sequence_gets_the_same_bits_in_any_batch(
    isa: str, cell: Case, option: str, dtype: str
) -> None:
    p = problem(cell, SHAPE, BY_ID[option], dtype)
    whole = core_results(p)
    for rows in ([3, 0, 4, 1, 2], [2], [4, 1], [0, 1, 2, 3, 4, 0, 1, 2, 3]):
        same_bits_per_sequence(core_results(take(p, rows)), whole, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cut", [1, 3, 6])
@pytest.mark.parametrize("option", ["plain", "clip-norm-reverse", "clip-value"])
def test_a_sequence_in_two_calls(isa: str, cell: Case, option: str, cut: int, dtype: str) -> None:
    p = problem(cell, SHAPE, BY_ID[option], dtype)
    whole = core_results(p)
    halves = [slice(0, cut), slice(cut, None)][:: -1 if p.reverse else 1]
    x, state, tapes = p.arrays["x"], p.arrays["state"], []
    for steps in halves:
        arrays = {**p.arrays, "x": x[steps], "state": state}
        y, state, tape = forward(bptt, p._replace(arrays=arrays))
        tapes.append(tape)
        assert np.array_equal(y, whole["y"][steps])
    for i, s in enumerate(flat(state)):
        assert np.array_equal(s, whole[f"state[{i}]"])
    sums: dict[str, Any] = {}
    dstate = p.dstate
    for steps, tape in list(zip(halves, tapes))[::-1]:
        grads = backward(bptt, p._replace(dy=p.dy[steps], dstate=dstate), tape)
        dstate = grads.state
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            sums[f"d {name}"] = sums.get(f"d {name}", 0) + getattr(grads, name)
    sums |= {f"d state[{i}]": s for i, s in enumerate(flat(dstate))}
    assert_close(sums, {name: whole[name] for name in sums}, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_stepping_gives_the_bits_of_the_whole_sequence(isa: str, cell: Case, dtype: str) -> None:
    p = problem(cell, SHAPE, dtype=dtype)
    y, final, _ = forward(bptt, p)
    state = p.arrays["state"]
    for t in range(SHAPE[0]):
        arrays = {**p.arrays, "x": p.arrays["x"][t : t + 1], "state": state}
        y_t, state, _ = forward(bptt, p._replace(arrays=arrays), keep_tape=False)
        assert np.array_equal(y_t[0], y[t])
    for a, b in zip(flat(state), flat(final)):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.id)
def test_inference_and_a_second_backward_give_the_same_bits(cell: Case, option: Any) -> None:
    p = problem(cell, SHAPE, option, "float32")
    y, state, tape = forward(bptt, p)
    y2, state2, none = forward(bptt, p, keep_tape=False)
    assert none is None
    assert np.array_equal(y, y2)
    assert all(np.array_equal(a, b) for a, b in zip(flat(state), flat(state2)))
    first, second = backward(bptt, p, tape), backward(bptt, p, tape)
    for a, b in zip([*first[:5], *flat(first.state)], [*second[:5], *flat(second.state)]):
        assert (a is None and b is None) or np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (4, 0, 2, 4), (0, 0, 1, 1)], ids=str)
@pytest.mark.parametrize("option", ["plain", "lengths", "clip-norm-reverse"])
def test_no_steps_or_no_sequences(isa: str, cell: Case, option: str, shape: Any) -> None:
    options = BY_ID[option]
    if shape[1] == 0 and options.lengths:
        options = options._replace(lengths="none")
    p = problem(cell, shape, options)
    got = core_results(p)
    assert_close(got, reference_results(p), 1e-12)
    if shape[0] == 0:
        for i, s in enumerate(flat(p.arrays["state"])):
            assert np.array_equal(got[f"state[{i}]"], s)
            assert np.array_equal(got[f"d state[{i}]"], flat(p.dstate)[i])
    for name in ("d w_ih", "d w_hh", "d b_ih", "d b_hh"):
        assert not got[name].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["all-empty", "clip-norm-lengths", "clip-value-lengths-reverse"])
def test_length_0_passes_the_state_and_its_gradient_through(
    isa: str, cell: Case, option: str, dtype: str
) -> None:
    p = problem(cell, SHAPE, BY_ID[option], dtype)
    got, empty = core_results(p), p.lengths == 0
    assert empty.any()
    for i, (s, d) in enumerate(zip(flat(p.arrays["state"]), flat(p.dstate))):
        assert np.array_equal(got[f"state[{i}]"][empty], s[empty])
        assert np.array_equal(got[f"d state[{i}]"][empty], d[empty])
    if empty.all():
        for name in ("y", "d x", "d w_ih", "d w_hh", "d b_ih", "d b_hh"):
            assert not got[name].any(), name


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_an_infinite_bound_clips_nothing(isa: str, cell: Case, kind: str) -> None:
    p = problem(cell, SHAPE, BY_ID["lengths"])
    same_bits(core_results(p.clipped(kind, np.inf)), core_results(p))
    same_bits(reference_results(p.clipped(kind, np.inf)), reference_results(p))


@pytest.mark.parametrize("kind", ["value", "norm"])
@pytest.mark.parametrize("H", [16, 19])
def test_clipping_hides_no_nan(isa: str, cell: Case, H: int, kind: str) -> None:
    p = problem(cell, (4, 3, 2, H)).clipped(kind, 0.1)
    clean = core_results(p)
    p.dy[1, 2, 0] = np.nan
    got = core_results(p)
    assert np.isnan(got["d state[0]"][2]).all()
    assert np.array_equal(got["d state[0]"][:2], clean["d state[0]"][:2])


def test_gradients_are_linear_in_what_they_come_from(cell: Case) -> None:
    p = problem(cell, SHAPE)
    double = core_results(p._replace(dy=2 * p.dy, dstate=state_of([2 * d for d in flat(p.dstate)])))
    once = core_results(p)
    for name in once:
        if name.startswith("d "):
            assert np.array_equal(double[name], 2 * once[name]), name
    zero = core_results(p._replace(dy=None, dstate=None))
    assert not any(zero[name].any() for name in zero if name.startswith("d "))
    only_y = core_results(p._replace(dstate=None))
    only_state = core_results(p._replace(dy=None))
    total = {n: only_y[n] + only_state[n] for n in once if n.startswith("d ")}
    assert_close(total, {n: once[n] for n in total}, 1e-12)


@pytest.mark.parametrize("option", ["lengths", "lengths-reverse", "clip-norm-lengths", "all-empty"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
def test_padding_is_never_read(isa: str, cell: Case, option: str, garbage: float) -> None:
    p = problem(cell, SHAPE, BY_ID[option])
    padding = np.arange(SHAPE[0])[:, None] >= p.lengths
    clean = core_results(p)
    x, dy = p.arrays["x"].copy(), p.dy.copy()
    x[padding], dy[padding] = garbage, garbage
    same_bits(core_results(p._replace(arrays={**p.arrays, "x": x}, dy=dy)), clean)
    assert not clean["y"][padding].any()
    assert not clean["d x"][padding].any()


@pytest.mark.parametrize("H", [16, 19])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_in_its_sequence(isa: str, cell: Case, dtype: str, H: int) -> None:
    p = problem(cell, (7, 5, 6, H), dtype=dtype)
    clean = core_results(p)
    p.arrays["x"][2, 3, 1] = np.nan
    got = core_results(p)
    others = [0, 1, 2, 4]
    for name in PER_SEQUENCE:
        if name in got:
            axis = 0 if "state" in name else 1
            assert np.array_equal(
                np.take(got[name], others, axis), np.take(clean[name], others, axis)
            )
    assert np.isnan(got["y"][2:, 3]).all()
    assert np.array_equal(got["y"][:2, 3], clean["y"][:2, 3])
    assert np.isnan(got["d w_ih"]).any()


@pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning")
@pytest.mark.parametrize("H", [16, 19])
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30])
def test_infinite_input_saturates_as_in_the_reference(
    isa: str, cell: Case, value: float, H: int
) -> None:
    p = problem(cell, (4, 2, 1, H))
    p.arrays["x"][1, 0, 0] = value
    got, want = core_results(p), reference_results(p)
    for name in want:
        finite = np.isfinite(want[name])
        assert np.array_equal(np.isfinite(got[name]), finite), name
        if name != "d w_ih":  # infinity times a vanishing derivative: infinite or NaN
            assert np.array_equal(np.isnan(got[name]), np.isnan(want[name])), name
        a, b = got[name][finite], want[name][finite]
        assert np.abs(a - b).max(initial=0.0) <= 1e-12 * np.abs(b).max(initial=1.0), name


def test_an_overflown_linear_state_has_the_gradient_of_its_weights(isa: str) -> None:
    """h becomes infinite, yet dL/dh_0 = w^T: padding lanes must not turn it into NaN."""
    linear = next(c for c in CELLS if c.id == "rnn-identity")
    p = problem(linear, (3, 2, 2, 19))
    p.arrays["x"][0] = np.inf
    p.arrays["w_ih"][:] = np.abs(p.arrays["w_ih"])
    got = core_results(p)
    want = problem(linear, (3, 2, 2, 19))
    clean = core_results(want._replace(arrays={**want.arrays, "w_ih": p.arrays["w_ih"]}))
    assert np.array_equal(got["d state[0]"], clean["d state[0]"])
    assert np.array_equal(got["d x"], clean["d x"])


def awkward_views(array: Any) -> dict[str, Any]:
    """The same numbers in every way NumPy can hold them."""
    raw = np.empty(array.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    locked = array.copy()
    locked.flags.writeable = False
    return {
        "Fortran": np.asfortranarray(array),
        "strided": wide[..., ::2],
        "reversed": array[..., ::-1].copy()[..., ::-1],
        "swapped axes": array.swapaxes(0, -1).copy().swapaxes(0, -1),
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "misaligned": misaligned,
        "read-only": locked,
        "list": array.tolist(),
        **({"matrix": np.asmatrix(array)} if array.ndim == 2 else {}),
    }


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_any_memory_layout_gives_the_same_bits(cell: Case) -> None:
    p = problem(cell, (4, 3, 2, 5))
    want = core_results(p)
    for name, array in p.arrays.items():
        if name == "state":
            continue
        for kind, view in awkward_views(array).items():
            got = core_results(p._replace(arrays={**p.arrays, name: view}))
            assert all(np.array_equal(got[k], want[k]) for k in want), (name, kind)
    for kind, view in awkward_views(p.dy).items():
        got = core_results(p._replace(dy=view))
        assert all(np.array_equal(got[k], want[k]) for k in want), ("dy", kind)
    state = flat(p.arrays["state"])
    for kind, view in awkward_views(state[0]).items():
        arrays = {**p.arrays, "state": state_of([view, *state[1:]])}
        got = core_results(p._replace(arrays=arrays))
        assert all(np.array_equal(got[k], want[k]) for k in want), ("state", kind)


def test_one_input_broadcast_to_all_steps(cell: Case) -> None:
    p = problem(cell, (4, 3, 2, 5))
    x = np.broadcast_to(p.arrays["x"][:1, :1], (4, 3, 2))
    same_bits(
        core_results(p._replace(arrays={**p.arrays, "x": x})),
        core_results(p._replace(arrays={**p.arrays, "x": x.copy()})),
    )


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "float16", "int64"])
def test_other_real_kinds_convert(cell: Case, kind: str) -> None:
    p = problem(cell, (4, 3, 2, 5), dtype="float32")
    x = (3 * np.abs(p.arrays["x"])).astype(kind)
    same_bits(
        core_results(p._replace(arrays={**p.arrays, "x": x})),
        core_results(p._replace(arrays={**p.arrays, "x": x.astype("float32")})),
    )


def test_one_float64_array_decides_the_precision(cell: Case) -> None:
    p = problem(cell, (4, 3, 2, 5), dtype="float32")
    for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh"):
        arrays = {**p.arrays, name: p.arrays[name].astype("float64")}
        got = core_results(p._replace(arrays=arrays))
        assert all(a.dtype == np.float64 for a in got.values())
    state = state_of([s.astype("float64") for s in flat(p.arrays["state"])])
    got = core_results(p._replace(arrays={**p.arrays, "state": state}))
    assert all(a.dtype == np.float32 for a in got.values())


def test_inputs_are_never_changed(cell: Case) -> None:
    p = problem(cell, SHAPE, BY_ID["clip-norm-lengths"])
    before = p.cast("float64")
    core_results(p)
    for name, array in p.arrays.items():
        for a, b in zip(flat(array), flat(before.arrays[name])):
            assert np.array_equal(a, b), name
    assert np.array_equal(p.dy, before.dy)
    assert all(np.array_equal(a, b) for a, b in zip(flat(p.dstate), flat(before.dstate)))


def test_the_tape_owns_its_weights_and_state(cell: Case) -> None:
    """An optimiser may change the weights between forward and backward."""
    p = problem(cell, SHAPE)
    want = core_results(p)
    y, _, tape = forward(bptt, p)
    for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
        p.arrays[name][...] = np.nan
    for s in flat(p.arrays["state"]):
        s[...] = np.nan
    grads = backward(bptt, p, tape)
    assert np.array_equal(grads.w_hh, want["d w_hh"])
    assert np.array_equal(grads.x, want["d x"])
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cell=st.sampled_from(CELLS),
    shape=st.tuples(
        *(st.integers(0, 12), st.integers(0, 9), st.integers(1, 40), st.integers(1, 40))
    ),
    option=st.sampled_from(OPTIONS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_problems(cell: Case, shape: Any, option: Any, dtype: str, seed: int) -> None:
    if shape[1] == 0 and option.lengths == "any":
        option = option._replace(lengths="none")
    p = problem(cell, shape, option, dtype, seed)
    assert_close(core_results(p), reference_results(p), TOLERANCE[dtype])
