# SPDX-License-Identifier: MIT
"""bptt.h as any other language sees it: structs and functions by ctypes, no Python package."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Collection, Iterator
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_size_t, c_ssize_t
from ctypes import c_void_p as pointer
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.problems import Problem, flat

OK, INVALID_ARGUMENT, TOO_LARGE, WRONG_SIZE, MISMATCH, UNSUPPORTED = range(6)
ALIGNMENT = 64


class Desc(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("cell", c_char_p),
        ("activation", c_char_p),
        ("dtype", c_int),
        ("train", c_int),
        ("reverse", c_int),
        ("steps", c_ssize_t),
        ("batch", c_ssize_t),
        ("input_size", c_ssize_t),
        ("hidden_size", c_ssize_t),
        ("lengths", POINTER(c_ssize_t)),
        ("threads", c_int),
        ("parallel_for", pointer),
        ("parallel_context", pointer),
    ]


SIZES = ("packed", "tape", "forward_workspace", "backward_workspace", "step_workspace")


class Sizes(Structure):
    _fields_ = [(name, c_size_t) for name in ("struct_size", *SIZES)]


def of_pointers(name: str, fields: str) -> Any:
    return type(name, (Structure,), {"_fields_": [(field, pointer) for field in fields.split()]})


Weights = of_pointers("Weights", "w_ih w_hh b_ih b_hh packed")
Inputs = of_pointers("Inputs", "x h0 c0")
Outputs = of_pointers("Outputs", "y h_n c_n")
Cotangents = of_pointers("Cotangents", "dy dh_n dc_n")
Gradients = of_pointers("Gradients", "dx dw_ih dw_hh db_ih db_hh dh0 dc0")


class StepClip(Structure):
    _fields_ = [("kind", c_int), ("target", c_int), ("bound", c_double)]


FUNCTIONS: dict[str, list[Any]] = {
    "bptt_set_isa": [c_char_p],
    "bptt_query": [POINTER(Desc), POINTER(Sizes)],
    "bptt_pack": [POINTER(Desc), POINTER(Weights), pointer],
    "bptt_forward": [
        POINTER(Desc), POINTER(Weights), POINTER(Inputs), POINTER(Outputs), pointer, pointer,
    ],
    "bptt_backward": [
        POINTER(Desc), pointer, pointer, POINTER(Cotangents), POINTER(StepClip),
        POINTER(Gradients), pointer, pointer,
    ],
    "bptt_step": [POINTER(Desc), POINTER(Weights), pointer, pointer, pointer, pointer],
    "bptt_clip_grad_norm": [
        c_int, c_size_t, POINTER(pointer), POINTER(c_size_t), c_double, POINTER(c_double),
    ],
    "bptt_sgd": [c_int, c_size_t, pointer, pointer, pointer, c_double, c_double],
    "bptt_adam": [
        c_int, c_size_t, pointer, pointer, pointer, pointer, c_ssize_t, *[c_double] * 4,
    ],
}  # fmt: skip
TEXTS = ("bptt_isa", "bptt_last_error", "bptt_version")


def load(path: Path) -> Any:
    library = ctypes.CDLL(str(path))
    for name, arguments in FUNCTIONS.items():
        getattr(library, name).argtypes = arguments
        getattr(library, name).restype = c_int
    for name in TEXTS:
        getattr(library, name).restype = c_char_p
    library.bptt_status_string.restype = c_char_p
    return library


class Memory:
    """Aligned bytes between guards that must not change. All bits are 1, so numbers are NaN."""

    _around = 256

    def __init__(self, size: int, alignment: int = ALIGNMENT) -> None:
        self._all = np.full(size + 2 * self._around + ALIGNMENT, 0xFF, np.uint8)
        start = self._around + -(self._all.ctypes.data + self._around) % ALIGNMENT
        self.bytes = self._all[start : start + size]
        self._outside = (self._all[:start], self._all[start + size :])

    @property
    def address(self) -> int:
        return self.bytes.ctypes.data

    def check(self) -> None:
        assert all((part == 0xFF).all() for part in self._outside), "written beyond the end"


def array(like: Any) -> tuple[Any, Memory]:
    """A guarded copy, and its memory."""
    like = np.ascontiguousarray(like)
    memory = Memory(like.nbytes)
    copy = memory.bytes.view(like.dtype).reshape(like.shape)
    copy[...] = like
    return copy, memory


def address(value: Any) -> int | None:
    return None if value is None else value.ctypes.data


class Failure(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class How:
    """One of the ways to the same bits."""

    packed: bool = False
    stepped: bool = False
    in_place: bool = False  # the final state over the initial one
    threads: int = 0
    parallel: str | None = None  # a function of parallel.c


class Call:
    """A problem in the library's own memory; `results()` are named as in `problems.results`."""

    def __init__(
        self, library: Any, p: Problem, how: How | None = None, train: bool = True
    ) -> None:
        self.library, self.p, self.how = library, p, how or How()
        self.guarded: list[Memory] = []
        given = {name: self._copy(value) for name, value in p.arrays.items() if name != "state"}
        self.x = given["x"]
        self.state = [self._copy(s) for s in flat(p.arrays["state"])]
        self.dtype = self.x.dtype
        self.T, self.B, self.I = self.x.shape
        self.H = given["w_hh"].shape[1]
        self.given = given
        self.desc = self._describe(train)
        self.sizes = Sizes(ctypes.sizeof(Sizes))
        self.run("bptt_query", byref(self.desc), byref(self.sizes))
        self.weights = Weights(**{k: address(v) for k, v in given.items() if k != "x"})
        if self.how.packed:
            packed = self.memory(self.sizes.packed)
            self.run("bptt_pack", byref(self.desc), byref(self.weights), packed.address)
            self.weights.packed = packed.address

    def _describe(self, train: bool) -> Desc:
        p, how = self.p, self.how
        desc = Desc(ctypes.sizeof(Desc), p.cell.encode())
        if "activation" in p.options:
            desc.activation = p.options["activation"].encode()
        desc.dtype = int(self.dtype == np.float64)
        desc.train, desc.reverse = train, p.reverse
        desc.steps, desc.batch, desc.input_size, desc.hidden_size = self.T, self.B, self.I, self.H
        if p.lengths is not None:
            desc.lengths = (c_ssize_t * self.B)(*p.lengths.tolist())
        desc.threads = how.threads
        if how.parallel:
            desc.parallel_for = ctypes.cast(getattr(self.library, how.parallel), pointer)
        return desc

    def _copy(self, value: Any) -> Any:
        if value is None:
            return None
        copy, memory = array(value)
        self.guarded.append(memory)
        return copy

    def memory(self, size: int) -> Memory:
        self.guarded.append(Memory(size))
        return self.guarded[-1]

    def empty(self, *shape: int) -> Any:
        return self._copy(np.full(shape, np.nan, self.dtype))

    def run(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        for memory in self.guarded:
            memory.check()
        if status != OK:
            raise Failure(status, self.library.bptt_last_error().decode())

    def forward(self) -> dict[str, Any]:
        T, B, H = self.T, self.B, self.H
        self.y, self.final = self.empty(T, B, H), [self.empty(B, H) for _ in self.states()]
        if self.how.stepped:
            self._step()
            return self.outputs()
        self.tape = self.memory(self.sizes.tape)
        workspace = self.memory(self.sizes.forward_workspace)
        start = self._start_in_place() if self.how.in_place else self.state
        inputs = Inputs(self.x.ctypes.data, *map(address, start))
        outputs = Outputs(self.y.ctypes.data, *map(address, self.final))
        self.run(
            "bptt_forward", byref(self.desc), byref(self.weights), byref(inputs), byref(outputs),
            self.tape.address if self.desc.train else None, workspace.address,
        )  # fmt: skip
        return self.outputs()

    def _start_in_place(self) -> list[Any]:
        for now, start in zip(self.final, [*self.state, None, None]):
            now[...] = 0 if start is None else start
        return self.final

    def _step(self) -> None:
        workspace = self.memory(self.sizes.step_workspace)
        self._start_in_place()
        for t in range(self.T):
            self.run(
                "bptt_step", byref(self.desc), byref(self.weights), self.x[t].ctypes.data,
                *(address(s) for s in [*self.final, None][:2]), workspace.address,
            )  # fmt: skip
            self.y[t] = self.final[0]

    def states(self) -> Iterator[int]:
        return iter(range(2 if self.p.cell == "lstm" else 1))

    def outputs(self) -> dict[str, Any]:
        return {"y": self.y, **{f"state[{i}]": s for i, s in enumerate(self.final)}}

    def backward(self, without: Collection[str] = ()) -> dict[str, Any]:
        """`without`: the fields of bptt_gradients that are null."""
        p = self.p
        kept = self.tape.bytes.copy()
        cotangents = [self._copy(v) for v in [p.dy, *flat(p.dstate)]]
        shaped = {"x": self.x, **{k: v for k, v in self.given.items() if v is not None}}
        d = {f"d {name}": self.empty(*like.shape) for name, like in shaped.items()}
        d |= {f"d state[{i}]": self.empty(self.B, self.H) for i in self.states()}
        fields = {f"d{k}": address(d.get(f"d {k}")) for k in ("x", "w_ih", "w_hh", "b_ih", "b_hh")}
        fields |= {"dh0": address(d["d state[0]"]), "dc0": address(d.get("d state[1]"))}
        fields = {name: None if name in without else a for name, a in fields.items()}
        workspace = self.memory(self.sizes.backward_workspace)
        clip = None
        if p.step_clip:
            kind, bound, *target = p.step_clip
            kinds, targets = ("none", "value", "norm"), ("h", "c", "gates")
            which = targets.index(target[0]) if target else 0
            clip = byref(StepClip(kinds.index(kind), which, bound))
        self.run(
            "bptt_backward", byref(self.desc), self.x.ctypes.data, self.y.ctypes.data,
            byref(Cotangents(*map(address, cotangents))), clip, byref(Gradients(**fields)),
            self.tape.address, workspace.address,
        )  # fmt: skip
        assert (self.tape.bytes == kept).all(), "the tape has changed"
        return d

    def results(self) -> dict[str, Any]:
        out = {**self.forward(), **self.backward()}
        for name, value in self.given.items():
            assert value is None or (value == self.p.arrays[name]).all(), f"{name} has changed"
        return out


class Prepared:
    """Right arguments of every function, of which each test spoils one."""

    def __init__(self, library: Any, p: Problem) -> None:
        self.library = library
        call = self.call = Call(library, p, How(packed=True))
        self.desc, self.sizes, self.weights = call.desc, call.sizes, call.weights
        call.forward()
        call.backward()
        T, B, I, H = call.T, call.B, call.I, call.H
        self.packed = call.memory(self.sizes.packed).address
        self.tape = call.tape.address
        size = max(getattr(self.sizes, f"{part}_workspace") for part in ("forward", "backward"))
        self.work = call.memory(2 * max(size, self.sizes.step_workspace))
        self.workspace = self.work.address
        self.inputs = Inputs(call.x.ctypes.data, *map(address, call.state))
        self.y = call.y.ctypes.data
        self.outputs = Outputs(self.y, *map(address, call.final))
        self.cotangents = Cotangents(self.y, *map(address, call.final))
        rows = call.given["w_ih"].shape[0]
        shapes = [(T, B, I), (rows, I), (rows, H), (rows,), (rows,), (B, H), (B, H)]
        self.d = [call.empty(*shape) for shape in shapes]
        self.gradients = Gradients(*map(address, self.d))
        self.x = call.x.ctypes.data
        self.h, self.c = (call.final * 2)[0].ctypes.data, (call.final * 2)[1].ctypes.data
        self.clip = StepClip(1, 0, 1.0)

    def __call__(self, function: str) -> int:
        """Call, and return the status; a refusal must have changed the workspace alone."""
        arguments = {
            "query": (self.ref("desc"), self.ref("sizes")),
            "pack": (self.ref("desc"), self.ref("weights"), self.packed),
            "forward": (
                self.ref("desc"), self.ref("weights"), self.ref("inputs"), self.ref("outputs"),
                self.tape, self.workspace,
            ),
            "backward": (
                self.ref("desc"), self.x, self.y, self.ref("cotangents"), self.ref("clip"),
                self.ref("gradients"), self.tape, self.workspace,
            ),
            "step": (self.ref("desc"), self.ref("weights"), self.x, self.h, self.c, self.workspace),
        }[function]  # fmt: skip
        kept = [memory for memory in self.call.guarded if memory is not self.work]
        before = [memory.bytes.copy() for memory in kept]
        status = int(getattr(self.library, f"bptt_{function}")(*arguments))
        if status != OK:
            for memory, old in zip(kept, before):
                assert (memory.bytes == old).all()
        for memory in self.call.guarded:
            memory.check()
        return status

    def ref(self, name: str) -> Any:
        value = getattr(self, name)
        return None if value is None else byref(value)

    def refused(self, function: str, status: int, text: str) -> None:
        assert self(function) == status, self.message()
        assert re.match(f"bptt_{function}: .*{text}", self.message()), self.message()
        assert len(self.message()) < 192

    def message(self) -> str:
        return self.library.bptt_last_error().decode()
