# SPDX-License-Identifier: MIT
"""Threads and processes: PyTorch's number of threads, workers, forks, simultaneous calls."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch.utils.data import DataLoader, Dataset

import bptt
import bptt.torch
from bptt import _core
from bptt.torch import stack


def test_threads_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Spy:
        @staticmethod
        def forward(*arguments: Any) -> Any:
            asked.append(arguments[4][0])
            return _core.forward(*arguments)

        @staticmethod
        def backward(*arguments: Any) -> Any:
            asked.append(arguments[4][5])
            return _core.backward(*arguments)

    monkeypatch.setattr(stack, "_core", Spy)
    before, own = torch.get_num_threads(), bptt.get_num_threads()
    gru, x = bptt.torch.GRU(8, 64), torch.randn(20, 16, 8)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y, _ = gru(x)
            found.append(torch.autograd.grad(y.sum(), list(gru.parameters())))
    finally:
        torch.set_num_threads(before)
    assert asked == [1, 1, 2, 2, 3, 3]
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    assert bptt.get_num_threads() == own


class Features(Dataset[Any]):
    """Items that a module computes in the worker."""

    def __init__(self) -> None:
        self.gru = bptt.torch.GRU(4, 8)
        self.x = torch.randn(6, 10, 4)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, k: int) -> Any:
        with torch.no_grad():
            return self.gru(self.x[k])[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe here")
def test_workers_of_a_data_loader() -> None:
    data = Features()
    want = torch.stack([data[k] for k in range(len(data))])
    loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_use_computes() -> None:
    """The core does; PyTorch's own threads do not survive a fork, so nothing here asks for them."""
    gru, x = bptt.torch.GRU(32, 128), torch.randn(50, 32, 32)
    dy = torch.randn(50, 32, 128)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        want = gru(x)[0]
        want.backward(dy)
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            y = gru(x)[0]
            y.backward(dy)
            os._exit(0 if y.detach().numpy().tobytes() == expected(want) else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)


def expected(y: Any) -> bytes:
    return bytes(y.detach().numpy().tobytes())


def test_simultaneous_calls() -> None:
    gru = bptt.torch.GRU(4, 16, num_layers=2)
    inputs = torch.randn(8, 12, 3, 4)
    want = [torch.autograd.grad(gru(x)[0].sum(), list(gru.parameters())) for x in inputs]
    wrong = []

    def work(k: int) -> None:
        for _ in range(20):
            got = torch.autograd.grad(gru(inputs[k])[0].sum(), list(gru.parameters()))
            if not all(torch.equal(a, b) for a, b in zip(got, want[k])):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
