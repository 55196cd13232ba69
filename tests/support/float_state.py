# SPDX-License-Identifier: MIT
"""The floating-point state of the calling thread, read and set through the C library's fenv."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# Where fenv_t of glibc has the register of modes, in words of 32 bits; without the flags of past
# exceptions: the bits that round upwards and the bits that flush subnormal numbers.
PLACES = {"x86_64": (7, 0xFFC0, 0x4000, 0x8040), "aarch64": (0, ~0, 0x400000, 0x1000000)}
PLACE, MODES, UPWARDS, FLUSHING = PLACES.get(platform.machine(), (0, 0, 0, 0))
STATES = {"upwards": UPWARDS, "flushing": FLUSHING, "both": UPWARDS | FLUSHING}

try:
    libm: Any = ctypes.CDLL("libm.so.6")
except OSError:
    libm = None


def needed() -> None:
    if not libm or not MODES:
        pytest.skip("the floating-point state is set through glibc, on x86-64 or AArch64")


def _environment() -> Any:
    words = (ctypes.c_uint32 * 64)()
    libm.fegetenv(words)
    return words


def get() -> int:
    return int(_environment()[PLACE]) & MODES


def put(modes: int) -> None:
    words = _environment()
    words[PLACE] = (words[PLACE] & ~MODES) | modes
    libm.fesetenv(words)


@contextmanager
def changed(bits: int) -> Iterator[int]:
    """With these bits set beside the others; gives the modes that should still be set at the end,
    and checks that they are."""
    needed()
    before = get()
    put(before | bits)
    try:
        yield before | bits
        assert get() == before | bits
    finally:
        put(before)
