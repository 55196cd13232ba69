# SPDX-License-Identifier: MIT
"""Files made to do harm: each command ends in one short line, within bounds of time and memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import bptt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory and time")

ESCAPE = "\x1b]0;owned\x07\x1b[31m\n\u202e"
LSTM = dict(bptt.LSTM(3, 4, seed=0).parameters)
ROW = np.zeros((16, 4), np.float32)


def saved(**arrays):
    """A model file that has these parameters as well, or in place of its own."""
    header, data = {}, b""
    for name, value in {**LSTM, **arrays}.items():
        array = np.asarray(value, np.float32)
        entry = {"dtype": "F32", "shape": array.shape}
        header[name] = {**entry, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    return with_header(json.dumps(header).encode(), data)


def with_header(text, data=b""):
    return len(text).to_bytes(8, "little") + text + data


def empty_shapes(**shapes):
    """A model file whose arrays have no element, and a huge size beside it."""
    entries = {k: {"dtype": "F32", "shape": v, "data_offsets": [0, 0]} for k, v in shapes.items()}
    return with_header(json.dumps(entries).encode())


def npy(shape=(2,), descr="<f8", data=bytes(16)):
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + data


def archive(name, content, kind=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def claims(content, size):
    """An archive whose directory claims this unpacked size."""
    at = content.rindex(b"PK\x01\x02") + 24
    return content[:at] + size.to_bytes(4, "little") + content[at + 4 :]


def torch_file(value):
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(value(torch), buffer)
    return buffer.getvalue()


def nested(text):
    return b'{"in_shape": [null, null, 1], "layers": %s}' % text


FLOW, DATA = ["flow", "FILE", "--data", "x.npy"], ["flow", "m.npz", "--data", "FILE"]
LENGTHS = ["flow", "m.npz", "--data", "x.npy", "--lengths", "FILE"]
EXPORT = ["export", "FILE", "--c-header", "o.h"]
LAYERS = ["export", "FILE", "--json", "o.json", "--layers", "a"]

CASES = {
    "a 0-d projection": (FLOW, lambda: saved(weight_hr_l0=1)),
    "a 0-d projection to export": (EXPORT, lambda: saved(weight_hr_l0=1)),
    "a 3-d projection": (FLOW, lambda: saved(weight_hr_l0=np.ones((1, 1, 1)))),
    "a projection of no columns": (FLOW, lambda: saved(weight_hr_l0=np.ones((3, 0)))),
    "0-d weights": (FLOW, lambda: saved(weight_hh_l0=1)),
    "0-d input weights": (EXPORT, lambda: saved(weight_ih_l0=1)),
    "a 0-d bias": (FLOW, lambda: saved(bias_ih_l0=1)),
    "a 0-d weight of a dense layer": (LAYERS, lambda: saved(**{"a.weight": 1})),
    "layer 300,000": (FLOW, lambda: saved(weight_ih_l300000=ROW)),
    "layer 300,000 to export": (EXPORT, lambda: saved(weight_ih_l300000=ROW)),
    "layer 10^11": (FLOW, lambda: saved(weight_ih_l99999999999=ROW)),
    "a layer of 5,000 digits": (FLOW, lambda: saved(**{"weight_ih_l" + 5000 * "9": ROW})),
    "10,000 more names": (FLOW, lambda: saved(**{f"{k}.bias_hh_l0": 1 for k in range(10_000)})),
    "10,000 more layers": (FLOW, lambda: saved(**{f"bias_hh_l{k}": 1 for k in range(10_000)})),
    "10,000 names to export": (LAYERS, lambda: saved(**{f"{k}.w": 1 for k in range(10_000)})),
    "a name of 60,000 letters": (EXPORT, lambda: saved(**{"w" * 60_000: np.nan})),
    "escapes in a name": (EXPORT, lambda: saved(**{ESCAPE: np.nan})),
    "escapes in a prefix": (FLOW, lambda: saved(**{f"{ESCAPE}.weight_ih_l0": ROW})),
    "escapes in no name of ours": (FLOW, lambda: with_header(json.dumps(
        {ESCAPE: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode())),
    "escapes in a type": (FLOW, lambda: with_header(json.dumps(
        {ESCAPE: {"dtype": ESCAPE, "shape": [0], "data_offsets": [0, 0]}}).encode())),
    "two names that become one": (EXPORT, lambda: saved(**{f"a.{ESCAPE}": 1, f"a_{ESCAPE}": 1})),
    "2^50 inputs of no rows": (FLOW, lambda: empty_shapes(
        weight_ih_l0=[0, 2**50], weight_hh_l0=[0, 4])),
    "2^40 inputs of no rows": (
        [*FLOW, "--cell", "slstm"],
        lambda: empty_shapes(weight_ih_l0=[0, 2**40], weight_hh_l0=[0, 2**40]),
    ),
    "2^50 units of no inputs": (
        [*FLOW, "--cell", "lstm1997"],
        lambda: empty_shapes(weight_ih_l0=[2**50, 0], weight_hh_l0=[2**50, 0]),
    ),
    "a header of 2^63 bytes": (FLOW, lambda: (2**63).to_bytes(8, "little") + b"{}"),
    "a header of lists": (FLOW, lambda: with_header(b"{" + b"[" * 1_000_000)),
    "an integer of a million digits": (FLOW, lambda: with_header(b'{"w": %s}' % (b"9" * 10**6))),
    "an array of 43 TiB in an archive": (
        FLOW, lambda: archive("weight_ih_l0.npy", npy((43 << 37,)))),
    "a member of 4 GB": (FLOW, lambda: claims(archive("w.npy", npy()), 2**32 - 2)),
    "a member packed by bzip2": (FLOW, lambda: archive("w.npy", npy(), zipfile.ZIP_BZIP2)),
    "escapes in a member": (FLOW, lambda: archive(f"{ESCAPE}.npy", b"x")),
    "pickled objects": (FLOW, lambda: archive("w.npy", npy((1,), "|O", pickle.dumps(print)))),
    "an array of 43 TiB": (DATA, lambda: npy((43 << 37,))),
    "lengths of 43 TiB": (LENGTHS, lambda: npy((43 << 37,))),
    "an array of negative sizes": (DATA, lambda: npy((-2, -1))),
    "an array of objects": (DATA, lambda: npy((1,), "|O", pickle.dumps(print))),
    "an array of text": (DATA, lambda: npy((2, 1), "<U2")),
    "a header of parentheses": (DATA, lambda: b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535),
    "a header of minus signs": (DATA, lambda: b"\x93NUMPY\x01\x00\x00\x20" + b"-" * 0x2000),
    "a table of escapes": ([*DATA[:-1], "FILE.csv"], lambda: f"1,2\n3,{ESCAPE}".encode()),
    "a table with a NUL": ([*DATA[:-1], "FILE.csv"], lambda: b"1,2\n3,\0"),
    "a table of one long field": ([*DATA[:-1], "FILE.csv"], lambda: b"1\n" + b"x" * 10**6),
    "a table of nothing": ([*DATA[:-1], "FILE.csv"], lambda: b"\n\n"),
    "keys of a checkpoint": (FLOW, lambda: torch_file(
        lambda torch: {ESCAPE: {f"{ESCAPE}{'x' * 9999}": torch.ones(2)}, "epoch": 3})),
    "a tensor of one number, 2^40 times": (FLOW, lambda: torch_file(
        lambda torch: {"w": torch.ones(1).expand(2**40)})),
    "a module": (FLOW, lambda: torch_file(lambda torch: torch.nn.Linear(2, 2))),
    "JSON of lists": (["export", "FILE.json", "--c-header", "o.h"], lambda: b"[" * 10**6),
    "escapes in JSON": (
        ["export", "FILE.json", "--c-header", "o.h"],
        lambda: nested(json.dumps([{"type": ESCAPE, "shape": [None, None, 1]}]).encode()),
    ),
    "sizes in JSON": (
        ["export", "FILE.json", "--c-header", "o.h"],
        lambda: nested(b'[{"type": "lstm", "shape": [null, null, 1e15], "weights": [[], [], []]}]'),
    ),
}  # fmt: skip

CHILD = """
import contextlib, io, json, resource, sys
from bptt.cli import main
resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for line in sys.stdin:
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            code = main(json.loads(line))
        except SystemExit as done:
            code = done.code
        except BaseException as failure:
            code = repr(failure)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([code, error.getvalue(), used]), file=sys.__stderr__, flush=True)
"""


class Child:
    """A process with limits that runs one command after another."""

    def __init__(self, folder):
        options = {"cwd": folder, "text": True, "encoding": "utf-8", "errors": "surrogateescape"}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-c", CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def run(self, args):
        print(json.dumps(args), file=self.process.stdin, flush=True)
        line = self.process.stderr.readline()
        return json.loads(line) if line else ("the process ended", "", 0)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    np.save(folder / "x.npy", np.ones((20, 2, 3), np.float32))
    bptt.save(folder / "m.npz", LSTM)
    child = Child(folder)
    child.folder = folder
    with child.process:
        yield child
        child.process.stdin.close()


def ends_in_one_line(child, args, name):
    before = sorted(os.listdir(child.folder))
    code, error, memory = child.run(args)
    assert (code, error.count("\n"), error[-1:]) == (2, 1, "\n"), error[:2000]
    line = error[:-1]
    assert line.startswith("bptt: ")
    assert line.isprintable(), line
    assert len(line) < 300, line
    assert name in line
    assert "allow_pickle" not in line
    assert "weights_only=False" not in line
    assert memory < 2 << 20  # KiB: the most that this child ever had, with PyTorch in it
    assert sorted(os.listdir(child.folder)) == before
    return line


@pytest.mark.parametrize("what", CASES)
def test_a_hostile_file_is_one_short_line(what, child):
    args, make = CASES[what]
    name = next(arg for arg in args if arg.startswith("FILE"))
    (child.folder / name).write_bytes(make())
    ends_in_one_line(child, args, name)


@pytest.mark.parametrize("command", [FLOW, DATA, LENGTHS, EXPORT])
@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_what_has_no_end_is_not_read(command, name, child):
    if name == "pipe" and not (child.folder / name).exists():
        os.mkfifo(child.folder / name)
    args = [name if arg == "FILE" else arg for arg in command]
    assert "is no regular file, expected one" in ends_in_one_line(child, args, name)


@pytest.mark.parametrize("command", [FLOW, DATA, EXPORT, ["export", "m.npz", "--c-header", "FILE"]])
@pytest.mark.parametrize("name", [ESCAPE, "\udcff", "x\x9b31m"])
def test_names_of_files_are_escaped(command, name, child):
    if not sys.flags.utf8_mode and sys.getfilesystemencoding() != "utf-8":
        pytest.skip("such names have no meaning here")
    shown = name.encode("unicode_escape").decode()
    args = [f"{name}-none/x.h" if arg == "FILE" else arg for arg in command]
    assert shown[:4] in ends_in_one_line(child, args, "-none")


def test_a_wrong_option_is_escaped(child):
    assert "\\x1b" in ends_in_one_line_of_parser(child, [*FLOW, f"--{ESCAPE}"])


def ends_in_one_line_of_parser(child, args):
    code, error, _ = child.run(args)
    assert (code, error.count("\n")) == (2, 1)
    assert error[:-1].isprintable()
    return error
