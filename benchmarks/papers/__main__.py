# SPDX-License-Identifier: MIT
"""All experiments, by one command: ``python -m benchmarks.papers``."""

from .runs import NAMES, main

if __name__ == "__main__":
    main(NAMES)
