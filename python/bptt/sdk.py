# SPDX-License-Identifier: MIT
"""Paths of the C and C++ headers and of the library, for compilers.

::

    cc main.c $(python -m bptt --includes --libs) -o main
"""

from __future__ import annotations

import os
from pathlib import Path

from . import __path__ as _folders

__all__ = ["cmakedir", "includes", "libs", "pkgconfigdir"]


def _find(pattern: str) -> Path:
    """Find a file in the folders of the package: an editable install has two."""
    for folder in _folders:
        for found in Path(folder).glob(pattern):
            return found.resolve()
    raise FileNotFoundError(
        f"the package in {', '.join(_folders)} has no {pattern}, expected an installed one: "
        "pip install bptt"
    )


def includes() -> str:
    """The compiler option ``-I`` with the folder of bptt.h."""
    return f"-I{_find('include/bptt.h').parent}"


def libs() -> str:
    """The static library, and the math library that it needs."""
    library = _find("lib/*bptt.*")
    return str(library) if os.name == "nt" else f"{library} -lm"


def cmakedir() -> str:
    """The folder of bpttConfig.cmake, for ``bptt_DIR`` or ``CMAKE_PREFIX_PATH`` of CMake."""
    return str(_find("lib/cmake/bptt/bpttConfig.cmake").parent)


def pkgconfigdir() -> str:
    """The folder of bptt.pc, for ``PKG_CONFIG_PATH``."""
    return str(_find("lib/pkgconfig/bptt.pc").parent)
