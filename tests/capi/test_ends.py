# SPDX-License-Identifier: MIT
"""The C interface at both ends: sizes that no memory has, and memory that ends where a page does.

Each test has its own process, because a failure ends it.
"""

from __future__ import annotations

import subprocess
from ctypes import POINTER, byref, c_double, c_size_t, c_ssize_t, c_void_p, sizeof
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import child, embedded, toolchain
from support.compare import same_bits
from support.embedded import INVALID_ARGUMENT, OK, TOO_LARGE, Call, Desc, How, Sizes
from support.problems import CELLS, OPTIONS, problem
from support.toolchain import CONSUMER, options, run

C_CELLS = [CELLS[0], CELLS[-2], CELLS[-1]]  # rnn, lstm, gru
MOST = 2**63 - 1


@pytest.fixture(autouse=True)
def _needs_compiler() -> None:
    toolchain.needs("cc")
    toolchain.needs_installed_package()


def in_a_child(function: str, *arguments: Any) -> None:
    given = ", ".join(map(repr, arguments))
    program = f"import capi.test_ends as t; t.{function}({given}); print('done')"
    assert child.output(program, timeout=300) == "done\n"


# --- memory at the ends of pages


class AtTheEnd:
    """In place of `embedded.Memory`: before or behind it, nothing may be read or written."""

    behind = True

    def __init__(self, size: int) -> None:
        import mmap

        page = mmap.PAGESIZE
        whole = -(-max(size, 1) // page) * page
        self._map = mmap.mmap(-1, whole + 2 * page)
        start = np.frombuffer(self._map, np.uint8)
        forbid(start.ctypes.data, page)
        forbid(start.ctypes.data + page + whole, page)
        first = page + (whole - size if self.behind else 0)
        self.bytes = start[first : first + size]
        self.bytes[...] = 0xFF

    @property
    def address(self) -> int:
        return self.bytes.ctypes.data

    def check(self) -> None:
        pass  # the system does


def forbid(address: int, size: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [c_void_p, c_size_t, ctypes.c_int]
    assert libc.mprotect(address, size, 0) == 0


SHAPES = [(3, 2, 5, 7), (1, 1, 1, 1), (4, 9, 3, 19), (2, 3, 17, 33), (5, 1, 2, 16)]
WAYS = [How(), How(packed=True), How(packed=True, stepped=True), How(in_place=True)]


def all_calls(cell_id: str, isa: str, behind: bool) -> None:
    """The same bits as in memory with something around."""
    library = toolchain.shared_library()
    assert library.bptt_set_isa(isa.encode()) == OK
    cell = next(c for c in C_CELLS if c.id == cell_id)
    usual, AtTheEnd.behind = embedded.Memory, behind
    for dtype in ("float32", "float64"):
        for option in OPTIONS[::3]:
            for shape in SHAPES:
                p = problem(cell, shape, option, dtype)
                for how in WAYS:
                    if how.stepped and (p.lengths is not None or p.reverse):
                        continue
                    results = []
                    for memory in (usual, AtTheEnd):
                        embedded.Memory = memory  # type: ignore[misc, assignment]
                        call = Call(library, p, how)
                        results.append(call.forward() if how.stepped else call.results())
                    same_bits(*results)


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("cell", [c.id for c in C_CELLS])
def test_nothing_around_an_array_is_touched(isa: str, cell: str, behind: bool) -> None:
    in_a_child("all_calls", cell, isa, behind)


def all_optimisers(behind: bool) -> None:
    library, AtTheEnd.behind = toolchain.shared_library(), behind
    for dtype, size in ((np.float32, 4), (np.float64, 8)):
        for n in (0, 1, 3, 8, 17, 1000):
            memories = [AtTheEnd(n * size) for _ in range(4)]
            p, g, m, _ = memories
            for memory in memories:
                memory.bytes.view(dtype)[...] = 0.5
            places, code = [x.address for x in memories], int(size == 8)
            assert library.bptt_sgd(code, n, p.address, g.address, None, 0.1, 0.0) == OK
            assert library.bptt_sgd(code, n, p.address, g.address, m.address, 0.1, 0.9) == OK
            assert library.bptt_adam(code, n, *places, 1, 0.1, 0.9, 0.99, 1e-8) == OK
            norm = c_double()
            counts = AtTheEnd(8)
            counts.bytes.view(np.uint64)[...] = n
            one = (c_void_p * 1)(g.address)
            many = np.frombuffer(counts.bytes, np.uint64).ctypes.data_as(POINTER(c_size_t))
            assert library.bptt_clip_grad_norm(code, 1, one, many, 0.1, byref(norm)) == OK
            assert norm.value == pytest.approx(0.5 * n**0.5)


@pytest.mark.parametrize("behind", [True, False])
def test_optimisers_touch_their_numbers_alone(behind: bool) -> None:
    in_a_child("all_optimisers", behind)


# --- sizes


def descriptor(cell: bytes, dtype: int, **sizes: int) -> Desc:
    desc = Desc(sizeof(Desc), cell, None, dtype, 1, 0)
    whole = {"steps": 3, "batch": 2, "input_size": 4, "hidden_size": 5} | sizes
    for name, value in whole.items():
        setattr(desc, name, value)
    return desc


FIELDS = ("steps", "batch", "input_size", "hidden_size")
ENDS = [0, 1, 2**31 - 1, 2**31, 2**32, 2**40, 2**45, 2**50, 2**59, 2**60, 2**61, 2**62, MOST]


def least(desc: Desc, gates: int) -> dict[str, int]:
    """A lower bound of each size in bytes, in integers that cannot overflow."""
    n = 8 if desc.dtype else 4
    T, B, I, H = (getattr(desc, f) for f in FIELDS)
    return {
        "packed": gates * H * (I + H) * n,
        "tape": T * B * H * n * (gates > 1),
    }


def all_queries() -> None:
    """Every pair of sizes is refused, or gives bytes that did not wrap around."""
    library = toolchain.shared_library()
    seen = set()
    for cell, gates in ((b"rnn", 1), (b"gru", 3), (b"lstm", 4)):
        for dtype in (0, 1):
            for i, first in enumerate(FIELDS):
                for second in FIELDS[i:]:
                    for a in ENDS:
                        for b in ENDS:
                            desc = descriptor(cell, dtype, **{first: a, second: b})
                            sizes = Sizes(sizeof(Sizes))
                            status = library.bptt_query(byref(desc), byref(sizes))
                            seen.add(status)
                            if desc.hidden_size == 0:
                                assert status == INVALID_ARGUMENT
                                continue
                            bound = least(desc, gates)
                            if status == TOO_LARGE:
                                T, B, I, H = (max(getattr(desc, f), 1) for f in FIELDS)
                                assert max(T * B * (I + H), H * (I + H)) > 2**45
                                continue
                            assert status == OK
                            for name, bytes_ in bound.items():
                                assert bytes_ <= getattr(sizes, name) < 2**62
    assert seen == {OK, INVALID_ARGUMENT, TOO_LARGE}


def test_bytes_of_the_largest_sizes() -> None:
    in_a_child("all_queries")


def all_refusals() -> None:
    """Every function reads them; the lengths of two sequences lie at the end of a page."""
    library = toolchain.shared_library()
    p = embedded.Prepared(library, problem(C_CELLS[1], (4, 3, 5, 7), OPTIONS[0]))
    lengths = AtTheEnd(16)
    lengths.bytes.view(np.int64)[...] = 1
    for name in FIELDS:
        right = getattr(p.desc, name)
        for value in (-1, -(2**63), MOST, 2**62, 2**61, MOST - 1):
            setattr(p.desc, name, value)
            for with_lengths in (False, True):
                p.desc.lengths = np.frombuffer(lengths.bytes, np.int64).ctypes.data_as(
                    POINTER(c_ssize_t)
                ) if with_lengths and name == "batch" else None  # fmt: skip
                for function in ("query", "pack", "forward", "backward", "step"):
                    if function == "step" and name == "steps":
                        continue
                    text = f"desc.{name} is {value}" if value < 0 else "cannot be addressed"
                    p.refused(function, INVALID_ARGUMENT if value < 0 else TOO_LARGE, f".*{text}")
        setattr(p.desc, name, right)
        p.desc.lengths = None


def test_sizes_are_refused_before_lengths_are_read() -> None:
    in_a_child("all_refusals")


# --- optimisers


SPOILT = np.array([1.7e308] * 3)


@pytest.mark.parametrize("dtype", [0, 1])
def test_numbers_that_cannot_be_addressed(dtype: int) -> None:
    in_a_child("too_many_numbers", dtype)


def too_many_numbers(dtype: int) -> None:
    library = toolchain.shared_library()
    a = np.ones(8, ["float32", "float64"][dtype])
    p, most = a.ctypes.data, MOST // a.itemsize
    pointers, norm = (c_void_p * 1)(p), c_double(7)

    def refused(status: int, name: str, n: int, most: int = most) -> None:
        assert status == TOO_LARGE
        text = library.bptt_last_error().decode()
        assert text.endswith(
            f"{name} has {n} elements, expected at most {most}: more cannot be addressed"
        )
        assert (a == 1).all()
        assert norm.value == 7

    for n in (2**64 - 1, 2**63, MOST, 2**62, most + 1):
        refused(library.bptt_sgd(dtype, n, p, p, None, 0.1, 0.0), "parameters", n)
        refused(library.bptt_adam(dtype, n, p, p, p, p, 1, 0.1, 0.9, 0.9, 1e-8), "parameters", n)
        size = (c_size_t * 1)(n)
        status = library.bptt_clip_grad_norm(dtype, 1, pointers, size, 1.0, byref(norm))
        refused(status, "an array of gradients", n)
    for n in (2**64 - 1, MOST, 2**60):
        status = library.bptt_clip_grad_norm(
            dtype, n, pointers, (c_size_t * 1)(8), 1.0, byref(norm)
        )
        refused(status, "gradients", n, MOST // 8)


@pytest.mark.parametrize("max_norm", [1.0, 1e308, np.inf])
def test_a_norm_beyond_the_numbers_changes_nothing(max_norm: float) -> None:
    """Each gradient alone is finite."""
    library, a = toolchain.shared_library(), SPOILT.copy()
    pointers, norm = (c_void_p * 1)(a.ctypes.data), c_double(7)
    status = library.bptt_clip_grad_norm(1, 1, pointers, (c_size_t * 1)(3), max_norm, byref(norm))
    assert status == INVALID_ARGUMENT
    text = b"gradients are not finite, or their norm is not, expected both finite"
    assert library.bptt_last_error() == b"bptt_clip_grad_norm: " + text
    assert norm.value == np.inf
    assert (a == SPOILT).all()
    a /= 4  # its norm is 1.7e308 * sqrt(3) / 4
    assert library.bptt_clip_grad_norm(1, 1, pointers, (c_size_t * 1)(3), 1.0, byref(norm)) == OK
    np.testing.assert_allclose(a, 3**-0.5, rtol=1e-15)
    assert norm.value == pytest.approx(1.7e308 / 4 * 3**0.5)


# --- pointers that are not aligned, of what holds no numbers


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("query", "desc"), ("query", "sizes"), ("pack", "weights"), ("forward", "weights"),
        ("forward", "inputs"), ("forward", "outputs"), ("backward", "cotangents"),
        ("backward", "gradients"), ("backward", "clip"), ("step", "weights"),
    ],
)  # fmt: skip
def test_structs_that_are_not_aligned(function: str, argument: str) -> None:
    p = embedded.Prepared(toolchain.shared_library(), problem(C_CELLS[1], (4, 3, 5, 7), OPTIONS[0]))
    struct = getattr(p, argument)
    room = (type(struct) * 2)()
    off = type(struct).from_buffer(room, 4)
    setattr(p, argument, off)
    p.refused(
        function, INVALID_ARGUMENT, f"{argument} is not aligned, expected a multiple of 8 bytes"
    )


def test_lengths_and_sizes_that_are_not_aligned() -> None:
    library = toolchain.shared_library()
    p = embedded.Prepared(library, problem(C_CELLS[1], (4, 3, 5, 7), OPTIONS[0]))
    room = np.ones(64, np.int8)
    p.desc.lengths = room[4:].ctypes.data_as(POINTER(c_ssize_t))
    for function in ("query", "pack", "forward", "backward"):
        p.refused(
            function, INVALID_ARGUMENT, "desc.lengths is not aligned, expected a multiple of 8"
        )
    a = np.ones(3)
    one, size, norm = (c_void_p * 1)(a.ctypes.data), (c_size_t * 1)(3), c_double()
    for name, wrong in (("gradients", 0), ("sizes", 1), ("norm", 2)):
        kinds = (POINTER(c_void_p), POINTER(c_size_t), POINTER(c_double))
        given: list[Any] = [one, size, byref(norm)]
        given[wrong] = room[4:].ctypes.data_as(kinds[wrong])
        status = library.bptt_clip_grad_norm(1, 1, given[0], given[1], 1.0, given[2])
        assert status == INVALID_ARGUMENT
        text = f"bptt_clip_grad_norm: {name} is not aligned, expected a multiple of 8 bytes"
        assert library.bptt_last_error().decode() == text


# --- bptt.hpp


def test_spans_of_every_wrong_size(tmp_path: Path) -> None:
    toolchain.needs("c++")
    run(
        "c++", "-std=c++17", "-O1", "-D_GLIBCXX_ASSERTIONS", CONSUMER / "spans.cpp",
        *options("includes", "libs"), "-o", tmp_path / "spans",
    )  # fmt: skip
    done = subprocess.run([tmp_path / "spans"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "all as expected\n")
