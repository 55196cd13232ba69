# SPDX-License-Identifier: MIT
"""``python -m bptt``: the same as the command ``bptt``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
