# SPDX-License-Identifier: MIT
"""Refusals of the C interface: the status, the text, and nothing touched."""

from __future__ import annotations

import ctypes
import threading
from ctypes import byref, c_ssize_t
from typing import Any

import pytest

from support import toolchain
from support.embedded import INVALID_ARGUMENT, OK, TOO_LARGE, WRONG_SIZE, Desc, Prepared, Sizes
from support.problems import CELLS, OPTIONS, problem

RNN, LSTM, GRU = CELLS[0], CELLS[-2], CELLS[-1]
SHAPE = (4, 3, 5, 7)


@pytest.fixture(scope="module")
def library() -> Any:
    return toolchain.shared_library()


@pytest.fixture
def lstm(library: Any) -> Prepared:
    return Prepared(library, problem(LSTM, SHAPE, OPTIONS[4]))


@pytest.fixture
def gru(library: Any) -> Prepared:
    return Prepared(library, problem(GRU, SHAPE, OPTIONS[0], "float32"))


FUNCTIONS = ("query", "pack", "forward", "backward", "step")


def test_what_is_right_is_accepted(lstm: Prepared, gru: Prepared) -> None:
    """Every refusal below is then caused by the one thing that is wrong."""
    assert [prepared(f) for prepared in (lstm, gru) for f in FUNCTIONS] == [OK] * 10


# --- the descriptor


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("cell", None, r"desc.cell is '\(null\)', expected rnn, lstm or gru"),
        ("cell", b"LSTM", "desc.cell is 'LSTM', expected rnn, lstm or gru"),
        ("cell", b"lstm_own_forget", "desc.cell is 'lstm_own_forget', expected"),
        ("cell", b"x" * 10_000, "desc.cell is 'xxxx"),
        ("activation", b"relu", "desc.activation is 'relu', expected tanh, or rnn for the cell"),
        ("dtype", 2, "desc.dtype is 2, expected BPTT_FLOAT32 or BPTT_FLOAT64"),
        ("dtype", -1, "desc.dtype is -1, expected"),
        ("batch", -1, "desc.batch is -1, expected 0 or more"),
        ("input_size", -(2**63), "desc.input_size is -9223372036854775808, expected 0 or more"),
        ("hidden_size", 0, "desc.hidden_size is 0, expected 1 or more"),
    ],
)
def test_fields_of_the_descriptor(
    lstm: Prepared, function: str, field: str, value: Any, text: str
) -> None:
    setattr(lstm.desc, field, value)
    lstm.refused(function, INVALID_ARGUMENT, text)


@pytest.mark.parametrize("function", FUNCTIONS[:-1])
def test_steps_and_lengths(lstm: Prepared, function: str) -> None:
    for wrong in (-1, 5):
        lstm.desc.lengths = (c_ssize_t * 3)(4, 0, wrong)
        text = rf"desc.lengths\[2\] is {wrong}, expected 0..steps = 0..4"
        lstm.refused(function, INVALID_ARGUMENT, text)
    for field in ("steps", "threads"):
        setattr(lstm.desc, field, -1)
        text = f"desc.{field} is -1, expected 0 or more"
        lstm.refused(function, INVALID_ARGUMENT, text)
        setattr(lstm.desc, field, 4)


def test_a_step_does_not_look_at_what_is_for_sequences(lstm: Prepared) -> None:
    lstm.desc.steps, lstm.desc.train, lstm.desc.reverse, lstm.desc.threads = -1, 7, 1, 2**31 - 1
    lstm.desc.lengths = (c_ssize_t * 3)(-1, 2**62, 9)
    assert lstm("step") == OK


def test_activations_of_an_rnn(library: Any) -> None:
    rnn = Prepared(library, problem(RNN, SHAPE))
    rnn.desc.activation = b"Tanh"
    rnn.refused("forward", INVALID_ARGUMENT, "desc.activation is 'Tanh', expected tanh, relu, ")
    for name in (None, b"tanh", b"relu", b"leaky_relu", b"sigmoid", b"identity", b"hard_sigmoid"):
        rnn.desc.activation = name
        assert rnn("forward") == OK


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "sizes",
    [
        {"input_size": 2**62},
        {"hidden_size": 2**62},
        {"batch": 2**62},
        {"hidden_size": 2**31, "input_size": 2**31},
        {"batch": 2**40, "hidden_size": 2**20},
    ],
    ids=str,
)
def test_sizes_that_cannot_be_addressed(
    lstm: Prepared, function: str, sizes: dict[str, int]
) -> None:
    lstm.desc.lengths = None
    for name, value in sizes.items():
        setattr(lstm.desc, name, value)
    lstm.refused(function, TOO_LARGE, "steps, batch, input_size, hidden_size are .* cannot be")


def test_so_many_steps_that_they_cannot_be_addressed(lstm: Prepared) -> None:
    for steps in (2**62, 2**50):
        lstm.desc.steps = steps
        lstm.refused("query", TOO_LARGE, f"are {steps}, 3, 5, 7, expected fewer")


def test_sizes_of_more_than_four_gibibytes(library: Any) -> None:
    """The sum is made in 64 bits and at once: no loop goes through the steps."""
    sizes, desc = Sizes(ctypes.sizeof(Sizes)), Desc(ctypes.sizeof(Desc), b"lstm", None, 1, 1)
    desc.batch, desc.input_size, desc.hidden_size = 3, 2, 8
    kept = []
    for desc.steps in (10**6, 2 * 10**6, 10**12, 2 * 10**12):
        assert library.bptt_query(byref(desc), byref(sizes)) == OK
        kept.append(sizes.tape)
    assert (kept[3] - kept[2]) == 10**6 * (kept[1] - kept[0]) >= 10**12 * 3 * 8 * 4 * 8


# --- sizes of structs


def test_an_older_program_with_a_smaller_descriptor(gru: Prepared) -> None:
    """A descriptor from before `threads` existed: the bytes after it are not read."""
    gru.desc.threads, gru.desc.parallel_for = -5, 1
    gru.desc.struct_size = Desc.threads.offset
    assert [gru(f) for f in FUNCTIONS] == [OK] * 5
    gru.desc.struct_size = Desc.hidden_size.offset
    gru.refused("query", INVALID_ARGUMENT, "desc.hidden_size is 0")


def test_a_newer_program_with_a_larger_descriptor(gru: Prepared) -> None:
    class Newer(ctypes.Structure):
        _fields_ = [("known", Desc), ("more", ctypes.c_ubyte * 24)]

    newer = Newer(gru.desc)
    newer.known.struct_size = ctypes.sizeof(Newer)
    gru.desc = newer.known
    assert [gru(f) for f in FUNCTIONS] == [OK] * 5
    newer.more[23] = 1
    size = ctypes.sizeof(Desc)
    for function in FUNCTIONS:
        gru.refused(function, WRONG_SIZE, f"desc.struct_size is {size + 24}, expected {size}")


@pytest.mark.parametrize("size", [0, 1, 7, 76, 4097, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_size_that_was_never_set(gru: Prepared, size: int) -> None:
    gru.desc.struct_size = size
    for function in FUNCTIONS:
        gru.refused(function, WRONG_SIZE, "desc.struct_size is ")


@pytest.mark.parametrize("size", [0, 40, 52, 4097, 2**63, 2**64 - 1])
def test_sizes_whose_own_size_was_never_set(gru: Prepared, size: int) -> None:
    before = bytes(gru.sizes)[8:]
    gru.sizes.struct_size = size
    signed = ctypes.c_ssize_t(size).value
    gru.refused("query", WRONG_SIZE, f"sizes.struct_size is {signed}, expected 48")
    assert bytes(gru.sizes)[8:] == before


def test_a_newer_program_with_more_sizes(gru: Prepared) -> None:
    """A name that the library does not know takes no memory."""

    class Newer(ctypes.Structure):
        _fields_ = [("known", Sizes), ("more", ctypes.c_size_t * 2), ("behind", ctypes.c_size_t)]

    newer = Newer(Sizes(Newer.behind.offset), (7, 7), 7)
    want = bytes(gru.sizes)[8:]
    gru.sizes = newer.known
    assert gru("query") == OK
    assert newer.known.struct_size == Newer.behind.offset
    assert bytes(newer.known)[8:] == want
    assert (*newer.more, newer.behind) == (0, 0, 7)


# --- texts


def test_texts_of_statuses(library: Any) -> None:
    texts = [library.bptt_status_string(status) for status in range(-1, 7)]
    assert texts[0] == texts[-1] == b"unknown status"
    assert len(set(texts)) == 7
    assert all(texts)


def test_each_thread_has_its_own_last_error(library: Any) -> None:
    library.bptt_set_isa(b"mine")
    seen: list[bytes] = []

    def other() -> None:
        seen.append(library.bptt_last_error())
        library.bptt_set_isa(b"other")
        seen.append(library.bptt_last_error())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen[0] == b""
    assert b"'other'" in seen[1]
    assert b"'mine'" in library.bptt_last_error()


def test_a_call_that_succeeds_keeps_the_last_error(library: Any) -> None:
    library.bptt_set_isa(b"mine")
    assert library.bptt_set_isa(None) == OK
    assert b"'mine'" in library.bptt_last_error()
