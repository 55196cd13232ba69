# SPDX-License-Identifier: MIT
"""Arguments of any type, shape and layout: the numbers that plain copies of them give, or a
ValueError or TypeError that names the function. For atheris; see scripts/fuzz."""

from __future__ import annotations

import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["bptt"]):
    import numpy as np

    import bptt

GATES = {"rnn": 1, "lstm": 4, "gru": 3, "mgu": 2, "slstm": 4}
DTYPES = ["f4", "f8", "f2", ">f4", ">f8", "i4", "?", "u1", "g", "c16", "O", "U3", "M8[s]"]
LAYOUTS = ("C", "F", "strided", "reversed", "misaligned", "broadcast", "list", "masked", "subclass")


class Subclass(np.ndarray):
    pass


def laid_out(values: Any, layout: str) -> Any:
    """The same values, otherwise in memory."""
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "strided" and values.ndim:
        return np.repeat(values, 2, -1)[..., ::2]
    if layout == "reversed" and values.ndim:
        return values[..., ::-1].copy()[..., ::-1]
    if layout == "misaligned" and values.dtype.kind != "O":
        return np.frombuffer(b"x" + values.tobytes(), values.dtype, offset=1).reshape(values.shape)
    if layout == "broadcast" and values.ndim:
        return np.broadcast_to(values[:1], values.shape)
    if layout == "list":
        return values.tolist()
    if layout == "masked":
        return np.ma.masked_array(values)
    return values.view(Subclass) if layout == "subclass" else values


def argument(data: atheris.FuzzedDataProvider, shape: tuple[int, ...], usual: str) -> Any:
    rarely = data.ConsumeIntInRange(0, 15)
    dtype = usual
    if rarely == 15:
        shape = tuple(data.ConsumeIntInRange(0, 4) for _ in range(data.ConsumeIntInRange(0, 5)))
    elif rarely > 12:
        dtype = data.PickValueInList(DTYPES)
    elif rarely == 0:
        return data.PickValueInList([None, "text", 1.5, [], {}, [[1], [2, 3]], float("nan")])
    seed = data.ConsumeIntInRange(0, 255)
    values = np.random.default_rng(seed).integers(-3, 4, shape).astype(float) / 4
    return laid_out(values.astype(dtype), data.PickValueInList(list(LAYOUTS)))


def plain(value: Any, dtype: Any) -> Any:
    return None if value is None else np.array(value, dtype, order="C")


def one(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    cell = data.PickValueInList(list(GATES))
    T, B, I, H = (data.ConsumeIntInRange(0, most) for most in (5, 4, 4, 9))
    rows, usual = GATES[cell] * H, data.PickValueInList(["f4", "f8"])
    shapes = [(T, B, I), (rows, I), (rows, H), (rows,), (rows,)]
    given = [argument(data, shape, usual) for shape in shapes]
    if data.ConsumeBool():
        given[3:] = [None, None]
    lengths = argument(data, (B,), "i8") if data.ConsumeBool() else None
    forward = getattr(bptt, f"{cell}_forward")
    backward = getattr(bptt, f"{cell}_backward")
    try:
        y, _, tape = forward(*given, lengths=lengths)
        dy = argument(data, y.shape, usual)
        grads = backward(tape, dy)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(cell):
            raise RuntimeError(f"the error does not name the function: {error}") from error
        return
    copies = [plain(value, y.dtype) for value in given]
    again, _, tape = forward(*copies, lengths=plain(lengths, np.int64))
    assert again.tobytes() == y.tobytes()
    for a, b in zip(backward(tape, plain(dy, y.dtype))[:5], grads[:5]):
        assert (a is None and b is None) or a.tobytes() == b.tobytes()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
