# SPDX-License-Identifier: MIT
"""Python threads that call at once get the bits that one alone gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bptt import _call
from cases import CELLS, OPTIONS, Cell, backward, core_results, flat, forward, problem

RAGGED = next(o for o in OPTIONS if o.id == "lengths")


def at_once(call: Callable[[], list[Any]]) -> list[list[Any]]:
    got: list[list[Any]] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        got.extend(call() for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    return got


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.id)
@pytest.mark.parametrize("shared_tape", [False, True])
def test_threads_calling_at_once_give_the_same_bits(cell: Cell, shared_tape: bool) -> None:
    p = problem(cell, (50, 9, 6, 40), RAGGED, "float32")
    _, _, tape = forward(_call, p)

    def whole() -> list[Any]:
        return list(core_results(p).values())

    def gradients() -> list[Any]:
        grads = backward(_call, p, tape)
        return [*grads[:5], *flat(grads.state)]

    call = gradients if shared_tape else whole
    want = call()
    for results in at_once(call):
        assert all(np.array_equal(a, b) for a, b in zip(results, want))
