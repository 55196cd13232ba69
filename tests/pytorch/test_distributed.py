# SPDX-License-Identifier: MIT
"""Many processes: PyTorch's DistributedDataParallel, torchrun after a crash, and MPI."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("torch")
import torch

from support import ddp
from support.child import PATIENCE
from support.paths import ROOT, TESTS

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not hasattr(os, "fork"), reason="needs gloo"
)
EXAMPLE = ROOT / "examples" / "distributed.py"
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
    # Else gloo may wait for the processes before the restart, whose addresses are still stored.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}  # fmt: skip


T = TypeVar("T")


def tried_twice(run: Callable[[Path], T], folder: Path) -> T:
    """The result of a run in a new folder.

    The ranks of gloo that meet while a machine is busy once in forty times wait for each other for
    ever, or fail when they part, so they may try again.
    """
    folder.mkdir()
    try:
        return run(folder)
    except subprocess.TimeoutExpired:
        again = folder.with_name(f"{folder.name} again")
        again.mkdir()
        return run(again)


def on_two_ranks(folder: Path, library: str) -> list[dict[str, Any]]:
    """What `ddp.train` finds on each rank."""
    return tried_twice(partial(_on_two_ranks, library=library), folder / library)


def _on_two_ranks(folder: Path, library: str) -> list[dict[str, Any]]:
    program = (  # shows where it waits if it waits for ever
        "import faulthandler, sys\n"
        f"faulthandler.dump_traceback_later({60 * PATIENCE}, exit=True)\n"
        "from support import ddp\nddp.main(*sys.argv[1:])"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, library, str(folder), str(rank)],
            cwd=TESTS, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    errors = "".join([rank.communicate(timeout=120 * PATIENCE)[1] for rank in ranks])
    if "Timeout (" in errors:
        print(errors)
        raise subprocess.TimeoutExpired("two ranks", 60 * PATIENCE, stderr=errors)
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    return [torch.load(folder / f"{library}{rank}.pt") for rank in range(2)]


def test_ddp_has_the_bits_of_the_sum_and_the_loss_of_one_process(tmp_path: Path) -> None:
    ranks = on_two_ranks(tmp_path, "bptt")
    together, whole = ddp.by_hand(parts=2), ddp.by_hand(parts=1)
    assert len(together["gradients"]) == ddp.STEPS
    for rank in ranks:
        for name in ("gradients", "parameters"):
            for got, want in zip(rank[name], together[name], strict=True):
                assert got.keys() == want.keys()
                assert all(torch.equal(got[n], want[n]) for n in want), name
    mean = sum(torch.tensor(rank["losses"], dtype=torch.float64) for rank in ranks) / 2
    torch.testing.assert_close(mean, torch.tensor(whole["losses"], dtype=torch.float64))
    for got, want in zip(ranks[0]["gradients"], whole["gradients"], strict=True):
        for n in want:
            torch.testing.assert_close(got[n], want[n], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_ddp_of_pytorchs_modules_agrees(tmp_path: Path) -> None:
    ours, theirs = (on_two_ranks(tmp_path, library)[0] for library in ("bptt", "torch"))
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-5)


# --- torchrun -------------------------------------------------------------------------------------


def torchrun(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
            "--local-addr=127.0.0.1", "--nproc-per-node=2", "--max-restarts=2",
            "--monitor-interval=0.1", EXAMPLE, "state.pt", "--quick",
        ],
        cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(c) for c in children if b"distributed.py" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]


def trained(folder: Path, kill: bool) -> str:
    """What a training prints, of which one rank is killed after the first checkpoint."""
    run = torchrun(folder)
    if kill:
        end = time.monotonic() + 60 * PATIENCE
        while not (folder / "state.pt").exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(workers(run.pid)[1], signal.SIGKILL)
    try:
        out, errors = run.communicate(timeout=240 * PATIENCE)
    except subprocess.TimeoutExpired:
        run.terminate()  # which ends its processes
        run.communicate()
        raise
    assert run.returncode == 0, errors
    return out


def trained_and_repeated(folder: Path) -> tuple[str, str]:
    """The same, and again from the last checkpoint."""
    whole = trained(folder, kill=False)
    if "goes on" in whole:  # torchrun has started ranks again that gloo had let fail at their end
        raise subprocess.TimeoutExpired("ranks that nobody kills", 0, whole)
    return whole, trained(folder, kill=False)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_after_a_killed_rank_training_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    whole, end = tried_twice(trained_and_repeated, tmp_path / "whole")
    killed = tried_twice(partial(trained, kill=True), tmp_path / "killed")
    assert re.search(r"goes on from step \d+\n", killed)
    assert "goes on from step 40\n" in end
    losses = [dict(re.findall(r"step (\d+)  loss (\S+)", out)) for out in (whole, killed, end)]
    assert len(losses[0]) == 10
    assert losses[0] == losses[1]
    assert losses[2] == {step: loss for step, loss in losses[0].items() if int(step) > 40}


# --- MPI ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_recipe_of_mpi(tmp_path: Path) -> None:
    """Two ranks end with the loss of one."""
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("needs mpiexec")
    page = (ROOT / "docs" / "distributed.md").read_text("utf-8")
    (program,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "train.py").write_text(program)
    losses = []
    for ranks in ("1", "2"):
        done = subprocess.run(
            [mpiexec, "-n", ranks, sys.executable, "train.py"], cwd=tmp_path, env=ENVIRONMENT,
            capture_output=True, text=True, timeout=120 * PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append(float(done.stdout.removeprefix("loss ")))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] < 0.5
