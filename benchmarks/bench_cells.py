# SPDX-License-Identifier: MIT
"""Time the core and its NumPy reference, in one group for each cell, size and pass.

pytest -n 0 benchmarks --benchmark-only
pytest -n 0 benchmarks --benchmark-only -k "lstm and medium-training"
"""

import pytest

from bptt.bench.peers import PEERS, TOLERANCE
from bptt.bench.workloads import CELLS, POINTS, disagreement, flops, problem

CASES = [
    pytest.param(cell, point, mode, id=f"{cell}-{point}-{mode}")
    for cell in CELLS
    for point in POINTS
    for mode in POINTS[point].passes
]


@pytest.mark.parametrize("implementation", ["bptt", "reference"])
@pytest.mark.parametrize(("cell", "point", "mode"), CASES)
@pytest.mark.benchmark(min_rounds=3, max_time=0.3)
def test_cell(benchmark, cell, point, mode, implementation):
    arguments = problem(cell, POINTS[point])
    core, timed = (
        PEERS[name].prepare(cell, mode == "training", arguments)
        for name in ("bptt", implementation)
    )
    expected, result = (job.arrays(job.run(job.state)) for job in (core, timed))
    error, array = disagreement(result, expected)
    assert error <= TOLERANCE, array

    benchmark.group = f"{cell} {point} {mode}"
    benchmark.extra_info["flops"] = flops(cell, POINTS[point], mode)
    benchmark(timed.run, timed.state)
