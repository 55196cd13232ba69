# SPDX-License-Identifier: MIT
"""Set one thread on one core before NumPy is imported, and collect bench_*.py files."""

import os

import pytest

for name in ("BPTT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def pytest_collect_file(file_path, parent):
    # A file named on the command line is collected anyway.
    if file_path.match("bench_*.py") and not parent.session.isinitpath(file_path):
        return pytest.Module.from_parent(parent, path=file_path)
    return None
