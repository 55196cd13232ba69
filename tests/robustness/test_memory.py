# SPDX-License-Identifier: MIT
"""Memory is used again from call to call: no growth, and no page faults once warm."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import threading
from typing import Any

import numpy as np
import pytest

import bptt

T, B, I, H = 100, 16, 32, 64


def arguments(T: int = T, B: int = B, I: int = I, H: int = H) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [(T, B, I), (4 * H, I), (4 * H, H), (4 * H,), (4 * H,)]
    return [rng.standard_normal(s).astype("float32") * 0.1 for s in shapes]


def train(a: list[Any], dy: Any, threads: int | None = None, checkpoint: str | None = None) -> None:
    y, _, tape = bptt.lstm_forward(*a, threads=threads, checkpoint=checkpoint)
    bptt.lstm_backward(tape, dy, threads=threads)
    assert y.shape == dy.shape


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of Linux")
def test_a_warm_training_step_causes_no_page_faults() -> None:
    a, dy = arguments(), np.ones((T, B, H), np.float32)
    for _ in range(3):
        train(a, dy)
    before = page_faults()
    for _ in range(20):
        train(a, dy)
    # Tape and results are some 2.8 MB: 700 pages of 4 KiB a step, were they fresh.
    assert page_faults() - before < 20 * 20


@pytest.mark.parametrize("how", [{}, {"threads": 3}, {"checkpoint": "sqrt"}], ids=str)
@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of Linux")
def test_nor_do_larger_steps(how: dict[str, Any]) -> None:
    a, dy = arguments(100, 32, 128, 128), np.ones((100, 32, 128), np.float32)
    for _ in range(5):
        train(a, dy, **how)
    before = page_faults()
    for _ in range(20):
        train(a, dy, **how)
    assert page_faults() - before < 200


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("how", [{}, {"threads": 2}, {"checkpoint": "sqrt"}], ids=str)
@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size of Linux")
def test_ten_thousand_small_training_steps_do_not_grow(how: dict[str, Any]) -> None:
    a, dy = arguments(3, 2, 4, 8), np.ones((3, 2, 8), np.float32)
    for _ in range(500):
        train(a, dy, **how)
    before = resident()
    for _ in range(10_000):
        train(a, dy, **how)
    assert resident() - before < 2 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size of Linux")
def test_calls_of_many_shapes_do_not_grow() -> None:
    def call(n: int) -> None:
        x = np.ones((1 + n % 7, 1 + n % 5, 3))
        w_ih, w_hh = np.ones((4 * (1 + n % 11), 3)), np.ones((4 * (1 + n % 11), 1 + n % 11))
        _, _, tape = bptt.lstm_forward(x, w_ih, w_hh, lengths=[n % 2] * x.shape[1])
        bptt.lstm_backward(tape, step_clip=("norm", 1.0))
        with pytest.raises(ValueError, match="lengths"):
            bptt.lstm_forward(x, w_ih, w_hh, lengths=[99] * x.shape[1])

    for n in range(500):
        call(n)
    before = resident()
    for n in range(5000):
        call(n)
    assert resident() - before < 2 << 20


def test_results_outlive_their_tape_and_each_other() -> None:
    a, dy = arguments(), np.ones((T, B, H), np.float32)
    y, _, tape = bptt.lstm_forward(*a)
    grads = bptt.lstm_backward(tape, dy)
    kept = y.copy(), grads.x.copy()
    del tape
    for _ in range(5):  # would overwrite memory that went back too early
        train([2 * v for v in a], dy)
    assert np.array_equal(y, kept[0])
    assert np.array_equal(grads.x, kept[1])


def _child() -> None:
    a, dy = arguments(), np.ones((T, B, H), np.float32)
    train(a, dy)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_child_forked_while_threads_compute_does_not_hang() -> None:
    a, dy = arguments(), np.ones((T, B, H), np.float32)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            train(a, dy)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = multiprocessing.get_context("fork").Process(target=_child)
            child.start()
            child.join(30)
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
