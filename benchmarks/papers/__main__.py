# SPDX-License-Identifier: MIT
"""Run all experiments: ``python -m benchmarks.papers``."""

from .runs import NAMES, main

if __name__ == "__main__":
    main(NAMES)
