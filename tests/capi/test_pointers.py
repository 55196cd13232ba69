# SPDX-License-Identifier: MIT
"""Pointers, tapes, packed weights and clips that the C interface refuses."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_ssize_t
from typing import Any

import pytest

from bptt import _core
from support import toolchain
from support.embedded import (
    ALIGNMENT,
    INVALID_ARGUMENT,
    MISMATCH,
    OK,
    UNSUPPORTED,
    Desc,
    Prepared,
    StepClip,
)
from support.problems import CELLS, OPTIONS, problem

RNN, LSTM, GRU = CELLS[0], CELLS[-2], CELLS[-1]
SHAPE = (4, 3, 5, 7)
FUNCTIONS = ("query", "pack", "forward", "backward", "step")


@pytest.fixture(scope="module")
def library() -> Any:
    return toolchain.shared_library()


@pytest.fixture
def lstm(library: Any) -> Prepared:
    return Prepared(library, problem(LSTM, SHAPE, OPTIONS[4]))


@pytest.fixture
def gru(library: Any) -> Prepared:
    return Prepared(library, problem(GRU, SHAPE, OPTIONS[0], "float32"))


NEEDED = {
    "query": ["desc", "sizes"],
    "pack": ["desc", "weights", "weights.w_ih", "weights.w_hh", "packed"],
    "forward": [
        "desc", "weights", "inputs", "outputs", "weights.w_ih", "weights.w_hh", "inputs.x",
        "outputs.y", "outputs.h_n", "outputs.c_n", "tape", "workspace",
    ],
    "backward": [
        "desc", "x", "y", "cotangents", "gradients", "tape", "workspace",
    ],
    "step": ["desc", "weights", "x", "h", "c", "workspace"],
}  # fmt: skip
OPTIONAL = {
    "pack": ["weights.b_ih", "weights.b_hh"],
    "forward": ["weights.b_ih", "weights.b_hh", "weights.packed", "inputs.h0", "inputs.c0"],
    "backward": [
        "cotangents.dy", "cotangents.dh_n", "cotangents.dc_n", "gradients.dx", "gradients.dw_ih",
        "gradients.dw_hh", "gradients.db_ih", "gradients.db_hh", "gradients.dh0", "gradients.dc0",
        "clip",
    ],
    "step": ["weights.b_ih", "weights.b_hh", "weights.w_ih", "weights.w_hh"],
}  # fmt: skip


SIZES = {"packed": "packed", "tape": "tape", "workspace": "{}_workspace"}


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(function, name) for function, names in table.items() for name in names]


def change(prepared: Prepared, name: str, change: Any) -> None:
    struct, _, field = name.rpartition(".")
    where = getattr(prepared, struct) if struct else prepared
    setattr(where, field, change(getattr(where, field)))


@pytest.mark.parametrize(("function", "name"), pairs(NEEDED))
def test_null_where_something_is_needed(lstm: Prepared, function: str, name: str) -> None:
    change(lstm, name, lambda _: None)
    if name == "weights.w_ih":
        lstm.weights.packed = None
    own = f"sizes.{SIZES[name].format(function)} bytes" if name in SIZES else ""
    lstm.refused(function, INVALID_ARGUMENT, rf"{name}\b.* is null, expected {own}")


@pytest.mark.parametrize(("function", "name"), pairs(OPTIONAL))
def test_null_where_it_may_be(lstm: Prepared, function: str, name: str) -> None:
    change(lstm, name, lambda _: None)
    assert lstm(function) == OK


POINTERS = {
    function: [name for name in names if name not in {"desc", "sizes", "clip"}
               and (name[:4] in {"tape", "work", "pack"} or len(name) < 2 or "." in name)]
    for function, names in ((f, NEEDED[f] + OPTIONAL.get(f, [])) for f in FUNCTIONS)
}  # fmt: skip


@pytest.mark.parametrize(("function", "name"), pairs(POINTERS))
def test_memory_that_is_not_aligned(lstm: Prepared, function: str, name: str) -> None:
    """Arrays as their numbers are, the library's own memory to BPTT_ALIGNMENT."""
    own = name in {"tape", "workspace", "packed", "weights.packed"}
    change(lstm, name, lambda p: p + (8 if own else 4))
    text = rf"{name} is not aligned, expected a multiple of {ALIGNMENT if own else 8} bytes"
    lstm.refused(function, INVALID_ARGUMENT, text)


def test_packed_weights_are_enough_without_a_tape(lstm: Prepared) -> None:
    lstm.weights.w_ih = lstm.weights.w_hh = lstm.weights.b_ih = lstm.weights.b_hh = None
    lstm.refused("forward", INVALID_ARGUMENT, "weights.w_ih is null")
    lstm.desc.train, lstm.tape = 0, None
    assert [lstm(f) for f in ("query", "forward", "step")] == [OK] * 3
    assert lstm.sizes.forward_workspace <= len(lstm.work.bytes)


# --- tapes and packed weights of something else


def spoilt(field: str, value: Any) -> Any:
    def apply(desc: Desc) -> None:
        setattr(desc, field, value)

    shown = value if isinstance(value, (int, bytes)) else list(value)
    return pytest.param(apply, id=f"{field}={shown}")


@pytest.mark.parametrize(
    "spoil",
    [
        spoilt("steps", 3),
        spoilt("batch", 2),
        spoilt("input_size", 4),
        spoilt("hidden_size", 6),
        spoilt("reverse", 1),
        spoilt("dtype", 0),
        spoilt("activation", b"relu"),
        spoilt("lengths", (c_ssize_t * 3)(4, 4, 3)),
    ],
)
def test_a_tape_of_another_descriptor(library: Any, spoil: Any) -> None:
    p = Prepared(library, problem(RNN, SHAPE))
    spoil(p.desc)
    p.refused("backward", MISMATCH, "tape is not of this desc and instruction set, expected")


def test_a_tape_of_another_cell_or_of_other_lengths(library: Any) -> None:
    lstm, gru = (Prepared(library, problem(cell, SHAPE, OPTIONS[4])) for cell in (LSTM, GRU))
    lstm.tape, gru.tape = gru.tape, lstm.tape
    for prepared in (lstm, gru):
        prepared.refused("backward", MISMATCH, "tape is not of this desc")
    lengths = lstm.desc.lengths
    as_many = (c_ssize_t * 3)(*[lengths[i] for i in (1, 2, 0)])
    lstm.tape, lstm.desc.lengths = lstm.call.tape.address, as_many
    lstm.refused("backward", MISMATCH, "tape is not of this desc")


def test_memory_that_was_never_a_tape(lstm: Prepared) -> None:
    lstm.tape = lstm.call.memory(lstm.sizes.tape).address
    lstm.refused("backward", MISMATCH, "tape is not of this desc")
    lstm.weights.packed = lstm.call.memory(lstm.sizes.packed).address
    for function in ("forward", "step"):
        lstm.refused(function, MISMATCH, "weights.packed was not packed for this cell")
    lstm.desc.train = 0
    lstm.refused("backward", INVALID_ARGUMENT, "desc.train is 0")


@pytest.mark.parametrize(("field", "value"), [("dtype", 0), ("input_size", 4), ("hidden_size", 6)])
def test_packed_weights_of_another_descriptor(lstm: Prepared, field: str, value: int) -> None:
    setattr(lstm.desc, field, value)
    for function in ("forward", "step"):
        lstm.refused(function, MISMATCH, "weights.packed was not packed for this cell")


@pytest.fixture
def two_isas(library: Any) -> Iterator[tuple[bytes, bytes]]:
    names = [name.encode() for name in _core.isas()]
    here = [name for name in names if library.bptt_set_isa(name) == OK]
    library.bptt_set_isa(None)
    if len(here) < 2:
        pytest.skip("this CPU runs the kernels of one instruction set")
    yield here[0], here[1]
    library.bptt_set_isa(None)


def test_tapes_and_packed_weights_of_another_instruction_set(
    library: Any, two_isas: tuple[bytes, bytes]
) -> None:
    first, second = two_isas
    assert library.bptt_set_isa(first) == OK
    lstm = Prepared(library, problem(LSTM, SHAPE))
    assert library.bptt_set_isa(second) == OK
    assert library.bptt_isa() == second
    lstm.refused("backward", MISMATCH, "tape is not of this desc and instruction set")
    lstm.refused("step", MISMATCH, "weights.packed was not packed for")
    assert library.bptt_set_isa(b"") == OK
    assert library.bptt_isa() == first
    assert [lstm(f) for f in ("backward", "step")] == [OK] * 2


def test_an_instruction_set_that_is_not_here(library: Any) -> None:
    before = library.bptt_isa()
    assert library.bptt_set_isa(b"mmx") == UNSUPPORTED
    text = b"bptt_set_isa: name is 'mmx', expected an instruction set that runs here"
    assert library.bptt_last_error() == text
    assert library.bptt_isa() == before


# --- clipping and optimisers


@pytest.mark.parametrize(
    ("clip", "text"),
    [
        (StepClip(3, 0, 1.0), "clip.kind is 3, expected"),
        (StepClip(-1, 0, 1.0), "clip.kind is -1, expected"),
        (StepClip(1, 3, 1.0), "clip.target is 3, expected h, gates or, of lstm, c"),
        (StepClip(1, 1, 1.0), "clip.target is 1, expected"),
        (StepClip(1, 0, 0.0), "clip.bound is not positive"),
        (StepClip(2, 0, -1.0), "clip.bound is not positive"),
        (StepClip(2, 0, float("nan")), "clip.bound is not positive"),
    ],
)
def test_clipping_inside(gru: Prepared, clip: StepClip, text: str) -> None:
    gru.clip = clip
    gru.refused("backward", INVALID_ARGUMENT, text)


def test_a_clip_of_kind_none_is_not_looked_at(gru: Prepared) -> None:
    gru.clip = StepClip(0, 9, float("nan"))
    assert gru("backward") == OK
