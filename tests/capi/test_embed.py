# SPDX-License-Identifier: MIT
"""The C interface gives the bits of the Python functions, in every way to call it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from support import toolchain
from support.compare import DTYPES, TOLERANCE, assert_close, same_bits
from support.embedded import Call, Cotangents, Gradients, How, address
from support.problems import (
    BY_ID,
    CELLS,
    LONG_SHAPES,
    OPTIONS,
    SHAPES,
    THREAD_SHAPES,
    Case,
    Options,
    core_results,
    of_many_threads,
    problem,
    reference_results,
    take,
)

CLIPS = [
    Options(f"clip-{kind}-{target}", step_clip=(kind, bound, target))
    for target in ("h", "c", "gates")
    for kind, bound in (("value", 0.1), ("norm", 0.3))
]


@pytest.fixture
def library(isa: str) -> Iterator[Any]:
    """On the same instruction set as the Python package."""
    loaded = toolchain.shared_library()
    assert loaded.bptt_set_isa(isa.encode()) == 0
    assert loaded.bptt_isa() == isa.encode()
    yield loaded
    assert loaded.bptt_set_isa(None) == 0


def clips_of(cell: Case) -> list[Options]:
    lstm = cell.cell == "lstm"
    return [o for o in CLIPS if lstm or o.step_clip[2:] != ("c",)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_forward_and_backward(library: Any, cell: Case, dtype: str) -> None:
    for options in OPTIONS + clips_of(cell):
        for seed, shape in enumerate(SHAPES):
            p = problem(cell, shape, options, dtype, seed)
            want = core_results(p)
            for packed in (False, True):
                same_bits(Call(library, p, How(packed=packed)).results(), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_without_a_tape_and_step_by_step(library: Any, cell: Case, dtype: str) -> None:
    for options in OPTIONS[:5]:
        for seed, shape in enumerate(SHAPES):
            p = problem(cell, shape, options, dtype, seed)
            want = outputs_of(core_results(p))
            for packed in (False, True):
                call = Call(library, p, How(packed=packed), train=False)
                assert call.sizes.tape == call.sizes.backward_workspace == 0
                same_bits(call.forward(), want)
                if not p.reverse and p.lengths is None:
                    how = How(packed=packed, stepped=True)
                    same_bits(Call(library, p, how).forward(), want)


def outputs_of(results: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if not name.startswith("d ")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_the_final_state_over_the_initial_one(library: Any, cell: Case, dtype: str) -> None:
    """The next call then goes on from there."""
    shapes = [*SHAPES[:6], of_many_threads(cell, THREAD_SHAPES[0])]
    for options in OPTIONS[:5]:
        for seed, shape in enumerate(shapes):
            p = problem(cell, shape, options, dtype, seed)
            how = How(in_place=True, threads=3 * (shape is shapes[-1]), parallel="on_threads")
            same_bits(Call(library, p, how).results(), core_results(p))


@pytest.mark.parametrize("shape", [*LONG_SHAPES, (1, 1, 300, 170), (8, 1, 5, 300)], ids=str)
@pytest.mark.parametrize("cell", CELLS[-3:], ids=lambda c: c.id)
def test_many_chunks_and_few_rows(library: Any, cell: Case, shape: Any) -> None:
    for name in ("plain", "lengths-reverse"):
        p = problem(cell, shape, BY_ID[name], "float32")
        same_bits(Call(library, p, How(packed=True)).results(), core_results(p))


RESULTS = {"dh0": "d state[0]", "dc0": "d state[1]"}
FIELDS = ("dx", "dw_ih", "dw_hh", "db_ih", "db_hh", "dh0", "dc0")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS[-3:], ids=lambda c: c.id)
def test_gradients_that_are_null(library: Any, cell: Case, dtype: str) -> None:
    """Of each subset: the others have their bits, and nothing is written anywhere else."""
    for options, shape, threads in [
        (OPTIONS[0], (23, 9, 5, 7), 0),
        (OPTIONS[9], (9, 5, 3, 18), 0),
        (OPTIONS[5], of_many_threads(cell, THREAD_SHAPES[-1]), 2),
    ]:
        p = problem(cell, shape, options, dtype)
        call = Call(library, p, How(threads=threads, parallel="on_threads" if threads else None))
        call.forward()
        whole = call.backward()
        for k in range(0, 2 ** len(FIELDS), 5 if threads else 1):
            null = {name for i, name in enumerate(FIELDS) if k >> i & 1}
            left_out = {RESULTS.get(name, f"d {name[1:]}") for name in null}
            some = call.backward(null)
            for name, value in some.items():
                if name in left_out:
                    assert np.isnan(value).all()
            kept = [name for name in whole if name not in left_out]
            same_bits({n: some[n] for n in kept}, {n: whole[n] for n in kept})


@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0)])
@pytest.mark.parametrize("cell", CELLS[-3:], ids=lambda c: c.id)
def test_no_steps_and_no_sequences(library: Any, cell: Case, T: int, B: int) -> None:
    p = take(problem(cell, (3, 2, 5, 4)), np.arange(B))
    p = p._replace(arrays={**p.arrays, "x": p.arrays["x"][:T]}, dy=p.dy[:T])
    same_bits(Call(library, p).results(), core_results(p))


@pytest.mark.parametrize("cell", CELLS[-3:], ids=lambda c: c.id)
def test_no_inputs(library: Any, cell: Case) -> None:
    """Python refuses this. The results are those with one input that is always 0."""
    p = problem(cell, (3, 2, 1, 4))
    x, w_ih = p.arrays["x"], p.arrays["w_ih"]
    zero = p._replace(arrays={**p.arrays, "x": 0 * x})
    none = p._replace(arrays={**p.arrays, "x": x[..., :0], "w_ih": w_ih[:, :0]})
    got, want = Call(library, none).results(), core_results(zero)
    for results in (got, want):
        del results["d x"], results["d w_ih"]
    same_bits(got, want)


PARALLEL = ("in_order", "last_first", "not_at_all", "on_threads")


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("cell", CELLS[-3:], ids=lambda c: c.id)
def test_any_parallel_for(library: Any, cell: Case, parallel: str) -> None:
    for seed, shape in enumerate(THREAD_SHAPES):
        p = problem(cell, of_many_threads(cell, shape), OPTIONS[5 * (seed % 2)], "float32", seed)
        want = core_results(p, threads=1)
        for threads in (2, 5):
            how = How(threads=threads, parallel=parallel, packed=bool(seed % 2))
            same_bits(Call(library, p, how).results(), want)


def test_threads_are_started_for_large_calls_only(library: Any) -> None:
    """Otherwise the test above would compare one thread with one."""
    counts: list[int] = []
    type_of_task = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
    type_of_for = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_int, type_of_task, ctypes.c_void_p
    )

    @type_of_for
    def parallel_for(context: Any, count: int, task: Any, argument: Any) -> None:
        counts.append(count)
        for index in range(count):
            task(argument, index)

    for shape in (SHAPES[1], THREAD_SHAPES[0], THREAD_SHAPES[-1]):
        call = Call(library, problem(CELLS[0], shape, dtype="float32"), How(threads=3))
        call.desc.parallel_for = ctypes.cast(parallel_for, ctypes.c_void_p)
        call.results()
    assert len(counts) == 4
    assert all(1 < count <= 3 for count in counts)


@pytest.mark.parametrize("names", [("dx", "dw_ih", "dw_hh"), ("dw_ih", "dw_hh")])
@pytest.mark.parametrize("id", ["plain", "lengths-reverse"])
def test_what_may_be_left_out(library: Any, id: str, names: tuple[str, ...]) -> None:
    """Null cotangents are zeros, null gradients are not wanted."""
    p = problem(CELLS[-2], (5, 3, 4, 9), BY_ID[id])
    call = Call(library, p)
    call.forward()
    all_of_them = call.backward()
    workspace = call.memory(call.sizes.backward_workspace)
    kept = {name: call.empty(*all_of_them[f"d {name[1:]}"].shape) for name in names}
    for cotangents, dy in ((Cotangents(), 0.0), (Cotangents(dy=p.dy.ctypes.data), p.dy)):
        call.run(
            "bptt_backward", call.desc, call.x.ctypes.data, call.y.ctypes.data, cotangents, None,
            Gradients(**{name: address(kept[name]) for name in names}),
            call.tape.address, workspace.address,
        )  # fmt: skip
        zeros = np.zeros_like(call.outputs()["state[0]"])
        want = core_results(p._replace(dy=np.zeros_like(p.dy) + dy, dstate=(zeros, zeros)))
        same_bits({f"d {name[1:]}": kept[name] for name in names}, pick(want, names))


def pick(results: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {f"d {name[1:]}": results[f"d {name[1:]}"] for name in names}


@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_sigmoid_which_python_has_for_gates_alone(library: Any, dtype: str) -> None:
    cell = Case("rnn-hard_sigmoid", "rnn", {"activation": "hard_sigmoid"})
    p = problem(cell, (6, 5, 16, 32), OPTIONS[4], dtype)
    assert_close(Call(library, p).results(), reference_results(p), TOLERANCE[dtype])


def test_an_infinite_bound_clips_nothing(library: Any) -> None:
    p = problem(CELLS[-1], SHAPES[2])
    infinite = p.clipped("norm", np.inf)
    same_bits(Call(library, infinite).results(), core_results(infinite))
