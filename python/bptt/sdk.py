# SPDX-License-Identifier: MIT
"""Where the package keeps its C and C++ headers and library, for compilers.

::

    cc main.c $(python -m bptt --includes --libs) -o main
"""

from __future__ import annotations

import os
from pathlib import Path

from . import __path__ as _folders

__all__ = ["cmakedir", "includes", "libs", "pkgconfigdir"]


def _find(pattern: str) -> Path:
    """In the package's folders: an editable install has one of sources and one of results."""
    for folder in _folders:
        for found in Path(folder).glob(pattern):
            return found.resolve()
    raise FileNotFoundError(
        f"the package in {', '.join(_folders)} has no {pattern}, expected an installed one: "
        "pip install bptt"
    )


def includes() -> str:
    """``-I`` and the folder of bptt.h."""
    return f"-I{_find('include/bptt.h').parent}"


def libs() -> str:
    """The static library, and what it needs: only functions of C's <math.h>."""
    library = _find("lib/*bptt.*")
    return str(library) if os.name == "nt" else f"{library} -lm"


def cmakedir() -> str:
    """The folder of bpttConfig.cmake, for CMake's ``bptt_DIR`` or ``CMAKE_PREFIX_PATH``."""
    return str(_find("lib/cmake/bptt/bpttConfig.cmake").parent)


def pkgconfigdir() -> str:
    """The folder of bptt.pc, for ``PKG_CONFIG_PATH``."""
    return str(_find("lib/pkgconfig/bptt.pc").parent)
