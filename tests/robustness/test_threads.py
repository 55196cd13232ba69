# SPDX-License-Identifier: MIT
"""The bits of all results depend neither on the threads of a call nor on the calling threads."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core
from support import child
from support.compare import DTYPES, same_bits, same_bits_per_sequence
from support.problems import (
    BY_ID,
    CELLS,
    THREAD_SHAPES,
    Case,
    backward,
    core_results,
    flat,
    forward,
    of_many_threads,
    problem,
    take,
)

ORDERS = ["plain", "clip-norm-reverse", "clip-norm-lengths", "clip-value-lengths-reverse"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ORDERS)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_any_number_of_threads_gives_the_same_bits(
    isa: str, cell: Case, option: str, dtype: str
) -> None:
    for shape in THREAD_SHAPES:
        p = problem(cell, of_many_threads(cell, shape), BY_ID[option], dtype)
        want = core_results(p, threads=1)
        # The other activations, and smaller instruction sets, run the same loops.
        tanh = cell.options.get("activation", "tanh") == "tanh"
        for threads in (2, 3, 4, 7) if tanh and isa == _core.isas()[0] else (2, 3):
            same_bits(core_results(p, threads=threads), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_threads_that_share_copies_of_wide_rows(isa: str, cell: Case, dtype: str) -> None:
    for shape in [(130, 2, 512, 256), (9, 3, 256, 512), (4, 1, 1100, 530)]:
        p = problem(cell, shape, BY_ID["plain"], dtype)
        want = core_results(p, threads=1)
        for threads in (2, 3):
            same_bits(core_results(p, threads=threads), want)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of Linux")
def test_these_shapes_use_several_threads() -> None:
    """A forked child starts with none but its own, so each shows how many one shape takes."""
    program = """
        import os
        from support.problems import CELLS, THREAD_SHAPES, core_results, of_many_threads, problem

        for cell in CELLS:
            for shape in THREAD_SHAPES:
                if os.fork() == 0:
                    core_results(problem(cell, of_many_threads(cell, shape)), threads=4)
                    os._exit(len(os.listdir("/proc/self/task")))
                print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert set(child.output(program).split()) <= {"2", "3", "4"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["plain", "clip-norm-lengths", "lengths-reverse"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_a_sequence_gets_the_same_bits_in_any_batch_on_any_threads(
    isa: str, cell: Case, option: str, dtype: str
) -> None:
    p = problem(cell, of_many_threads(cell, (12, 17, 30, 437)), BY_ID[option], dtype)
    whole = core_results(p, threads=1)
    for rows in (list(range(17)), [3], [16, 0, 9], list(range(16, 4, -1))):
        part = take(p, rows)
        for threads in (1, 4):
            same_bits_per_sequence(core_results(part, threads=threads), whole, rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_a_tape_serves_any_number_of_threads(cell: Case, dtype: str) -> None:
    for shape in THREAD_SHAPES[1], THREAD_SHAPES[-1]:
        p = problem(cell, of_many_threads(cell, shape), BY_ID["clip-norm-lengths"], dtype)
        want = core_results(p, threads=1)
        for kept in (1, 4):
            _, _, tape = forward(bptt, p, threads=kept)
            for threads in (1, 2, 3, 4):
                grads = backward(bptt, p, tape, threads=threads)
                got = {f"d {name}": getattr(grads, name) for name in grads._fields[:5]}
                same_bits(got, {name: want[name] for name in got})


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
def test_inference_on_any_number_of_threads(cell: Case) -> None:
    for shape in THREAD_SHAPES:
        p = problem(cell, of_many_threads(cell, shape), BY_ID["lengths-reverse"], "float32")
        want, *_ = forward(bptt, p, threads=1)
        for threads in (2, 3, 4):
            y, state, none = forward(bptt, p, keep_tape=False, threads=threads)
            assert none is None
            same_bits({"y": y}, {"y": want})
            finals = flat(forward(bptt, p, threads=1)[1])
            same_bits(dict(enumerate(flat(state))), dict(enumerate(finals)))  # type: ignore


def at_once(call: Callable[[], list[Any]], count: int = 4) -> list[list[Any]]:
    got: list[list[Any]] = []
    start = threading.Barrier(count)

    def work() -> None:
        start.wait()
        got.extend(call() for _ in range(5))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 5 * count, "a thread hangs"
    return got


HOW: list[dict[str, Any]] = [{}, {"threads": 4}, {"threads": 2, "checkpoint": "sqrt"}]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
@pytest.mark.parametrize("shared_tape", [False, True])
def test_threads_calling_at_once_give_the_same_bits(
    cell: Case, shared_tape: bool, how: dict[str, Any]
) -> None:
    shape = of_many_threads(cell, (25, 9, 6, 120)) if how else (50, 9, 6, 40)
    p = problem(cell, shape, BY_ID["lengths"], "float32")
    _, _, tape = forward(bptt, p, **how)

    def whole() -> list[Any]:
        return list(core_results(p, **how).values())

    def gradients() -> list[Any]:
        grads = backward(bptt, p, tape, threads=how.get("threads"))
        return [*grads[:5], *flat(grads.state)]

    call = gradients if shared_tape else whole
    want = call()
    for results in at_once(call):
        assert all(np.array_equal(a, b) for a, b in zip(results, want))


@pytest.mark.parametrize("threads", [1, 3])
def test_eight_threads_share_a_layer(threads: int) -> None:
    layer = bptt.LSTM(6, 64, num_layers=2, bidirectional=True, seed=0)
    x = np.random.default_rng(0).standard_normal((30, 9, 6)).astype("f4")

    def call() -> list[Any]:
        y, state, tape = layer.forward(x)
        grads = layer.backward(tape, y)
        results = [y, *state, grads.x, *grads.state, *grads.params.values(), *layer(x)[1]]
        return [a.tobytes() for a in results]

    bptt.set_num_threads(threads)
    try:
        want = call()
        assert all(got == want for got in at_once(call, 8))
    finally:
        _core.set_threads(0)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of Linux")
def test_without_memory_for_more_threads_a_call_takes_those_there_are() -> None:
    program = """
        import os, resource
        from support.compare import same_bits
        from support.problems import CELLS, core_results, problem

        p = problem(CELLS[-1], (20, 16, 19, 99))
        want = core_results(p, threads=1)
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        limit = size + (5 << 20)  # not enough for the stacks of three threads
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        same_bits(core_results(p, threads=4), want)
        same_bits(core_results(p, threads=4), want)
        print(len(os.listdir("/proc/self/task")) < 4)
    """
    assert child.output(program) == "True\n"


# --- how many


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    _core.set_threads(0)


@pytest.mark.parametrize("count", [1, 2, 3, 1024, np.int64(5), np.uint8(6)])
def test_what_was_set_is_in_use(restored: None, count: Any) -> None:
    bptt.set_num_threads(count)
    assert bptt.get_num_threads() == bptt.show_config()["threads"] == count
    assert type(bptt.get_num_threads()) is int


@pytest.mark.parametrize(
    ("count", "kind", "text"),
    [
        (0, ValueError, "threads is 0, expected 1"),
        (-1, ValueError, "threads is -1, expected 1"),
        (1025, ValueError, "threads is 1025, expected 1..1024"),
        (2000, ValueError, "threads is 2000, expected 1..1024"),
        (2**31, ValueError, "threads is 2147483648, expected 1..1024"),
        (2**70, ValueError, f"threads is {2**70}, expected 1..1024"),
        (1.5, TypeError, "threads is 1.5, expected a whole number"),
        (2.0, TypeError, "threads is 2.0, expected a whole number"),
        (True, TypeError, "threads is True, expected a whole number"),
        (None, TypeError, "threads is None, expected a whole number"),
        ("2", TypeError, "threads is '2', expected a whole number"),
    ],
    ids=str,
)
def test_set_num_threads_refuses(restored: None, count: Any, kind: Any, text: str) -> None:
    bptt.set_num_threads(3)
    with pytest.raises(kind, match=re.escape(f"set_num_threads: {text}")):
        bptt.set_num_threads(count)
    assert bptt.get_num_threads() == 3


@pytest.mark.parametrize("threads", [1, 3, 1024, np.int64(2)])
def test_a_small_call_may_name_any_number(threads: Any) -> None:
    y, _, tape = bptt.rnn_forward([[[1.0]]], [[1.0]], [[1.0]], threads=threads)
    assert bptt.rnn_backward(tape, y, threads=threads).b_ih is None


GET = (
    "import os\n{before}\nimport bptt\nprint(bptt.get_num_threads(), bptt.show_config()['threads'])"
)


def default_threads(before: str = "", **environment: str | None) -> int:
    environment = {"OMP_NUM_THREADS": None, **environment}
    first, second = child.output(GET.format(before=before), 60, **environment).split()
    assert first == second
    return int(first)


@pytest.mark.parametrize("value", ["1", "3", "1024", "007"])
def test_the_environment_sets_the_number(value: str) -> None:
    assert default_threads(BPTT_NUM_THREADS=value, OMP_NUM_THREADS="2") == int(value)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", "1025", " "])
def test_a_bad_number_in_the_environment_is_refused_at_the_first_call(value: str) -> None:
    program = """
        import numpy as np
        import bptt

        one = np.ones((1, 1, 1), np.float32)
        calls = [
            lambda: bptt.rnn_forward(one, one[0], one[0]),
            lambda: bptt.rnn_forward([[[1.0]]], [[1.0]], [[1.0]], keep_tape=False),
            bptt.get_num_threads,
        ]
        for call in calls:
            try:
                call()
            except ValueError as error:
                print(error)
        bptt.rnn_forward(one, one[0], one[0], threads=1)
        bptt.set_num_threads(2)
        bptt.rnn_forward(one, one[0], one[0])
        print(bptt.get_num_threads())
    """
    text = f"BPTT_NUM_THREADS is '{value}', expected a number from 1 to 1024"
    assert child.output(program, BPTT_NUM_THREADS=value).splitlines() == [text] * 3 + ["2"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_default_is_the_cores_that_this_process_may_use() -> None:
    cores, cpus = default_threads(), sorted(os.sched_getaffinity(0))
    assert 1 <= cores <= len(cpus)
    for some in (cpus[:1], cpus[-1:], cpus[:2]):
        before = f"os.sched_setaffinity(0, {some})"
        assert default_threads(before) == min(cores, len(some))
    assert default_threads(BPTT_NUM_THREADS="") == cores


def test_openmp_sets_an_upper_limit() -> None:
    cores = default_threads()
    for value in ("1", "2", "3", "1000", "0", "many", ""):
        limit = int(value) if value in ("1", "2", "3") else 1024
        assert default_threads(OMP_NUM_THREADS=value) == min(cores, limit), value


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of Linux")
def test_threads_start_with_the_first_call_that_uses_them() -> None:
    program = """
        import os
        import numpy as np

        def count():
            return len(os.listdir("/proc/self/task"))

        before = count()
        import bptt
        after_import = count()
        small = [np.ones(s, np.float32) for s in ((3, 2, 4), (32, 4), (32, 8))]
        large = [np.ones(s, np.float32) for s in ((20, 16, 50), (400, 50), (400, 100))]
        bptt.lstm_backward(bptt.lstm_forward(*small)[2])
        bptt.lstm_backward(bptt.lstm_forward(*small, threads=3)[2], threads=3)
        bptt.lstm_forward(*large, threads=1)
        after_small = count()
        bptt.lstm_forward(*large, threads=3)
        after_large = count()
        bptt.lstm_forward(*large, threads=2, keep_tape=False)
        again = count()
        bptt.set_num_threads(4)
        bptt.lstm_forward(*large)
        more = count()
        bptt.set_num_threads(1)
        bptt.lstm_forward(*large)
        print(*(n - before for n in (after_import, after_small, after_large, again, more, count())))
    """
    assert child.output(program, BPTT_NUM_THREADS="8") == "0 0 2 2 3 3\n"
