# SPDX-License-Identifier: MIT
"""The version, the instruction set and the number of threads in use."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from . import _core
from ._binding.call import as_threads

# In a process that multiprocessing started, its siblings compute too: use one thread.
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
    """The version, the instruction sets and the number of threads of this installation.

    Returns
    -------
    Config
        A dict that prints as a table:

        - version: the version of bptt;
        - isas_compiled: the instruction sets of this build;
        - isas: the instruction sets that run on this machine, best first;
        - isa: the instruction set in use, which the environment variable ``BPTT_ISA`` can force;
        - caches: the sizes of the three data caches that the kernels are tuned to, those of this
          machine unless the environment variable ``BPTT_CACHES`` lists others;
        - threads: the number of threads of one call, as by `get_num_threads`;
        - bf16: does it have products in bfloat16, for ``compute="bf16"``?
        - numpy: the version of NumPy.

    Raises
    ------
    ValueError
        If ``BPTT_ISA`` names no instruction set that runs here, or ``BPTT_CACHES`` is no list of
        three sizes.

    Examples
    --------
    >>> import bptt
    >>> sorted(bptt.show_config())
    ['bf16', 'caches', 'isa', 'isas', 'isas_compiled', 'numpy', 'threads', 'version']
    """
    return Config(
        version=_core.__version__,
        isas_compiled=_core.compiled_isas(),
        isas=_core.isas(),
        isa=_core.isa(),
        caches=_core.caches(),
        threads=_core.threads(),
        bf16=_core.has_bf16(),
        numpy=np.__version__,
    )


def get_num_threads() -> int:
    """Number of threads of a call without the argument `threads`; small calls use fewer.

    Results do not depend on it: they are the same to the last bit.

    Returns
    -------
    int
        The number set by `set_num_threads`; else the environment variable ``BPTT_NUM_THREADS``;
        else 1 in a process that was forked or that `multiprocessing` started, because its siblings
        compute too; else the number of cores that this process may use, by its affinity mask and
        the quota of its cgroup, and at most ``OMP_NUM_THREADS``.

    Examples
    --------
    >>> import bptt
    >>> threads = bptt.get_num_threads()
    >>> bptt.set_num_threads(2)
    >>> bptt.get_num_threads()
    2
    >>> bptt.set_num_threads(threads)
    """
    return _core.threads()


def set_num_threads(threads: int) -> None:
    """Set the number of threads of calls without the argument `threads`.

    Parameters
    ----------
    threads : int
        1 to 1024.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a whole number, or outside 1..1024.
    """
    _core.set_threads(as_threads("set_num_threads", threads))
