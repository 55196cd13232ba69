# SPDX-License-Identifier: MIT
"""What this installation is and runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core


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
        on; `numpy`, its version.

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
        threads=1,
        numpy=np.__version__,
    )
