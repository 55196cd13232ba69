# SPDX-License-Identifier: MIT
"""What this installation is and runs."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import _core
from ._binding.call import as_threads

# In a process that multiprocessing started, the others compute as well.
_process = sys.modules.get("multiprocessing.process")
if _process is not None and _process.current_process().name != "MainProcess":
    _core.expect_siblings()


class Config(dict[str, Any]):
    """A dict that prints as a table."""

    def __repr__(self) -> str:
        def text(value: Any) -> str:
            return " ".join(value) if isinstance(value, list) else str(value)

        return "\n".join(f"{key:<14} {text(value)}" for key, value in self.items())


def show_config() -> Config:
    """The version and the kernels in use.

    Returns
    -------
    Config
        A dict that prints as a table: `version`; `isas_compiled`, the instruction sets this build
        holds kernels for, and `isas`, those that run on this machine, best first; `isa`, the one in
        use (the environment variable ``BPTT_ISA`` forces another); `threads` that one call computes
        on, see `get_num_threads`; `bf16`: has it products in bfloat16, for ``compute="bf16"``?
        `numpy`, its version.

    Raises
    ------
    ValueError
        If ``BPTT_ISA`` names no instruction set that runs here.
    """
    return Config(
        version=_core.__version__,
        isas_compiled=_core.compiled_isas(),
        isas=_core.isas(),
        isa=_core.isa(),
        threads=_core.threads(),
        bf16=_core.has_bf16(),
        numpy=np.__version__,
    )


def get_num_threads() -> int:
    """How many threads a call computes on that names no number; small ones take fewer.

    Results do not depend on it, to the last bit.

    Returns
    -------
    int
        What `set_num_threads` was given; else the environment variable ``BPTT_NUM_THREADS``; else
        1 in a process that was forked or that `multiprocessing` started, as its siblings compute
        too; else the cores that this process may use (its affinity mask and its cgroup's quota, at
        most ``OMP_NUM_THREADS``).
    """
    return _core.threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads a call computes on that names no number.

    Parameters
    ----------
    threads : int
        1 or more.

    Raises
    ------
    TypeError, ValueError
        If it is no whole number, or outside 1..1024.
    """
    _core.set_threads(as_threads("set_num_threads", threads))
