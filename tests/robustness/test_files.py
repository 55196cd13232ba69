# SPDX-License-Identifier: MIT
"""Formats of files: those that are read, to the last bit, and others, which are refused by name."""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

import bptt
from bptt import load_model
from bptt.io import load, load_metadata, save

LSTM = bptt.LSTM(3, 4, seed=0)


def safetensors(header, data=b""):
    """A file by hand: its header, as an object or as text, and its arrays."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


# --- safetensors ----------------------------------------------------------------------------------


def test_a_header_whose_length_looks_like_a_zip_archive(tmp_path):
    path = tmp_path / "m.safetensors"
    for size in (0x4B50, 0x14B50):  # b"PK", then 0 or 1
        header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        text = json.dumps(header).encode().ljust(size)
        path.write_bytes(safetensors(text, np.array([1, 2], "<f4").tobytes()))
        assert path.read_bytes()[:2] == b"PK"
        np.testing.assert_array_equal(load(path)["w"], [1, 2])
    for length in range(19_000, 19_280):
        save(path, {"w": np.ones(3)}, {"note": "x" * length})
        np.testing.assert_array_equal(load(path)["w"], np.ones(3))
        if path.read_bytes()[:2] == b"PK":
            break
    else:
        pytest.fail("no such header was written")


TYPES = {  # names in the file: the type of ml_dtypes, which has all numbers of 8 and 16 bits
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


@pytest.mark.parametrize("code", TYPES)
def test_floats_that_numpy_has_not_become_float32(code, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    bits = np.arange(1 << 16, dtype="<u2") if code == "BF16" else np.arange(256, dtype="u1")
    header = {"w": {"dtype": code, "shape": [2, bits.size // 2], "data_offsets": [0, bits.nbytes]}}
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors(header, bits.tobytes()))
    w = load(path)["w"]
    with np.errstate(all="ignore"):
        expected = bits.view(getattr(ml_dtypes, TYPES[code])).astype(np.float32).reshape(2, -1)
    assert w.dtype == np.float32
    np.testing.assert_array_equal(w, expected)
    assert np.array_equal(np.signbit(w), np.signbit(expected)) or np.isnan(w).any()


def test_a_model_that_torch_saved_in_bfloat16_and_float8(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    state = torch.nn.LSTM(3, 4).bfloat16().state_dict()
    library.save_file(state, tmp_path / "m.safetensors")
    for name, array in load(tmp_path / "m.safetensors").items():
        np.testing.assert_array_equal(array, state[name].float().numpy())
    assert load_model(tmp_path / "m.safetensors").dtype == np.float32
    small = {"w": torch.linspace(-3, 3, 50).to(torch.float8_e4m3fn)}
    library.save_file(small, tmp_path / "m8.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m8.safetensors")["w"], small["w"].float())


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
MALFORMED = {
    "no object": safetensors(b"{}", b"x"),
    "a list": safetensors(b"{" + b"[" * 100_000),
    "an entry that is none": safetensors({"w": 3}, bytes(8)),
    "no dtype": safetensors({"w": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "a negative size": safetensors({"w": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "two negative sizes": safetensors({"w": {**ENTRY, "shape": [-2, -1]}}, bytes(8)),
    "a fraction": safetensors({"w": {**ENTRY, "shape": [2.0]}}, bytes(8)),
    "too few bytes": safetensors({"w": ENTRY}, bytes(7)),
    "too many bytes": safetensors({"w": ENTRY}, bytes(9)),
    "a hole": safetensors({"w": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "an overlap": safetensors({"w": ENTRY, "v": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    "another size": safetensors({"w": {**ENTRY, "shape": [3]}}, bytes(8)),
    "a size beyond all": safetensors({"w": {**ENTRY, "shape": [2**62, 2**62]}}, bytes(8)),
    "metadata of numbers": safetensors({"__metadata__": {"a": 1}, "w": ENTRY}, bytes(8)),
    "an unknown type": safetensors({"w": {**ENTRY, "dtype": "F33"}}, bytes(8)),
    "a name twice": safetensors(b'{"w": %s, "w": %s}' % ((json.dumps(ENTRY).encode(),) * 2), b"x"),
    "no UTF-8": safetensors(b'{"\xff": 1}'),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_safetensors_refuses_is_refused(what, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(MALFORMED[what])
    with pytest.raises(ValueError, match=re.escape(f"load: {path} ")):
        load(path)
    library = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    with pytest.raises((ValueError, KeyError, library.SafetensorError)):
        numpy.load_file(path)


def test_empty_arrays_and_a_header_in_any_order(tmp_path):
    path = tmp_path / "m.safetensors"
    header = {
        "b": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    }
    path.write_bytes(safetensors(header, np.array([1, 2], "<f4").tobytes() + bytes(8)))
    arrays = load(path)
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items()} == {
        "a": ((2, 1), "float32"), "none": ((0, 3), "float32"), "b": ((1,), "int64"),
    }  # fmt: skip
    assert list(arrays) == ["a", "none", "b"]


def test_what_is_made_of_a_file_is_the_same_in_every_process(tmp_path):
    code = f"""
import hashlib, bptt
folder = {str(tmp_path)!r}
layer = bptt.LSTM(3, 4, 2, seed=0)
for name in ("m.safetensors", "m.npz"):
    path = f"{{folder}}/{{name}}"
    bptt.save(path, layer.parameters, {{str(k): "x" for k in range(9)}})
    bptt.save_c_header(folder + "/m.h", path)
    print(hashlib.sha256(open(folder + "/m.h", "rb").read()).hexdigest())
    print(*bptt.load(path))
"""
    command = [sys.executable, "-c", code]
    found = {subprocess.run(command, check=True, capture_output=True, text=True).stdout}
    for _ in range(2):
        found.add(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1
    lines = found.pop().splitlines()
    names = list(bptt.LSTM(3, 4, 2).parameters)
    assert lines[1] == " ".join(sorted(names))  # as the package safetensors orders them
    assert lines[3] == " ".join(names)


# --- npz ------------------------------------------------------------------------------------------


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", ".").replace("METADATA", "__metadata__"), content)
    return buffer.getvalue()


def npy(array, **header):
    """An array in npy format, whose header may say something else."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    if not header:
        return buffer.getvalue()
    buffer = io.BytesIO()
    said = {"descr": "<f8", "fortran_order": False, "shape": array.shape, **header}
    np.lib.format.write_array_header_1_0(buffer, said)
    return buffer.getvalue() + array.tobytes()


def test_any_order_of_bytes_and_axes(tmp_path):
    a = np.arange(6, dtype=">f4").reshape(2, 3)
    (tmp_path / "m.npz").write_bytes(archive(a__npy=npy(a), b__npy=npy(np.asfortranarray(a))))
    for array in load(tmp_path / "m.npz").values():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.flags.owndata
        np.testing.assert_array_equal(array, a)


NPZ = {
    "more than there is": (archive(w__npy=npy(np.ones(2), shape=(2**43,))), "states 8796093022208"),
    "less than there is": (archive(w__npy=npy(np.ones(2), shape=(1,))), "states 1 numbers of 8"),
    "negative sizes": (archive(w__npy=npy(np.ones(2), shape=(-2, -1))), "states the shape (-2"),
    "objects": (
        archive(w__npy=npy(np.ones(1), descr="|O")),
        "holds pickled Python objects, which are code, expected numbers",
    ),
    "raw bytes": (archive(w__npy=npy(np.ones(1), descr="|V8")), "holds raw bytes of dtype |V8"),
    "metadata": (archive(METADATA__npy=npy(np.zeros(2, "u1"))), "damaged or not a"),
}  # fmt: skip


@pytest.mark.parametrize("what", NPZ)
def test_an_archive_is_held_against_its_size(what, tmp_path):
    content, message = NPZ[what]
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(path)
    assert "allow_pickle" not in str(caught.value)
    assert str(caught.value).startswith(f"load: {path} ")


def test_a_name_twice_in_an_archive(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(archive(w=npy(np.ones(2)), w__npy=npy(np.zeros(2))))
    assert zipfile.ZipFile(path).namelist() == ["w", "w.npy"]
    with pytest.raises(ValueError, match=r"load: .* is a zip archive of other files"):
        load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("w.npy", npy(np.ones(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("w.npy", npy(np.zeros(2)))
    with pytest.raises(ValueError, match="it has w twice"):
        load(path)


# --- PyTorch --------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_of_torch(torch, zipped, tmp_path):
    module = torch.nn.LSTM(3, 4, 2).double()
    path = tmp_path / "m.pt"
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
    arrays = load(path)
    assert list(arrays) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert arrays[name].dtype == np.float64
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
    x = np.ones((5, 2, 3))
    expected = module(torch.tensor(x))[0].detach().numpy()
    np.testing.assert_allclose(load_model(path)(x)[0], expected, rtol=1e-12)
    assert load_metadata(path) == {}
    bptt.save_c_header(tmp_path / "m.h", path)
    assert "M_HIDDEN_SIZE 4" in (tmp_path / "m.h").read_text()


def test_other_tensors_of_torch(torch, tmp_path):
    tensors = {
        "bfloat16": torch.linspace(-1, 1, 7).bfloat16(),
        "half": torch.linspace(-1, 1, 7).half(),
        "float8": torch.linspace(-1, 1, 7).to(torch.float8_e5m2),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "bool": torch.tensor([True, False]),
    }
    torch.save(tensors, tmp_path / "m.pt")
    arrays = load(tmp_path / "m.pt")
    for name, tensor in tensors.items():
        expected = tensor.detach()
        if name in ("bfloat16", "float8"):
            expected = expected.float()
        assert arrays[name].dtype == expected.numpy().dtype, name
        np.testing.assert_array_equal(arrays[name], expected.numpy())


def test_a_checkpoint_names_its_keys_and_how_to_take_one(torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = torch.nn.GRU(3, 4)
    state = {"epoch": 3, "net": {"model": module.state_dict()}, "optimizer": {"state": {}}}
    torch.save(state, "ck.pt")
    with pytest.raises(ValueError, match=r"load: ck\.pt holds epoch, net, optimizer") as caught:
        load("ck.pt")
    line = str(caught.value).rpartition("expected a dict of tensors: ")[2]
    assert line == "bptt.save(new, torch.load(path, 'cpu', weights_only=True)['net']['model'])"
    exec(line, {"bptt": bptt, "torch": torch, "new": "new.npz", "path": "ck.pt"})
    np.testing.assert_array_equal(
        load("new.npz")["weight_hh_l0"], module.weight_hh_l0.detach().numpy()
    )


def test_what_torch_saved_and_is_no_state_dict(torch, tmp_path):
    path = tmp_path / "m.pt"
    cases = {
        "holds objects that could run code when they are read": torch.nn.Linear(2, 2),
        "holds a Tensor, expected a dict of tensors": torch.ones(2),
        "holds a list, expected a dict of tensors": [1],
        "states more numbers than the file holds": {"w": torch.ones(1).expand(2**40)},
    }
    for message, value in cases.items():
        torch.save(value, path)
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            load(path)
        assert str(caught.value).startswith(f"load: {path} ")
        assert "weights_only=False" not in str(caught.value)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is damaged or not a"):
        load(path)


def test_without_torch_the_two_lines_that_convert(torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = torch.nn.GRU(3, 4).state_dict()
    torch.save(state, "m.pth")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        words = re.escape(
            'load: m.pth is a file of torch.save, expected PyTorch (pip install "bptt['
        )
        with pytest.raises(ImportError, match=words) as caught:
            load("m.pth")
    lines = str(caught.value).rpartition("where PyTorch is installed: ")[2].split("; ")
    assert len(lines) == 2
    names = {"torch": torch, "numpy": np, "path": "m.pth", "new": "new.npz"}
    for line in lines:
        exec(line, names)
    assert load("new.npz").keys() == state.keys()


# --- other programs' files ------------------------------------------------------------------------


def hdf5():
    h5py = pytest.importorskip("h5py")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["w"] = np.ones(2)
    return buffer.getvalue()


def onnx():
    helper = pytest.importorskip("onnx").helper
    return helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()


def torchscript():
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


OTHERS = {
    "m.h5": (hdf5, "is an HDF5 file, such as Keras writes, expected safetensors or npz: bptt."),
    "m.weights": (hdf5, "is an HDF5 file"),
    "m.keras": (
        lambda: archive(metadata__json="{}", config__json="{}"),
        "is a model of Keras, expected safetensors or npz: bptt.load_model reads its layers",
    ),
    "m.onnx": (onnx, "is an ONNX graph, expected safetensors or npz: bptt.load_model"),
    "m.bin": (onnx, "is an ONNX graph"),
    "a.onnx": (lambda: b"\0" * 99, "is an ONNX graph"),
    "m.pkl": (lambda: pickle.dumps({"w": [1.0]}), "is a pickle, which runs code"),
    "m.dat": (lambda: pickle.dumps({"w": [1.0]}, 2), "is a pickle, which runs code"),
    "old.pkl": (lambda: pickle.dumps({"w": [1.0]}, 0), "is a pickle, which runs code"),
    "script.pt": (torchscript, "is a TorchScript program, expected arrays by name: torch"),
    "x.npy": (lambda: npy(np.ones(3)), "is one array in npy format, which numpy.load reads"),
    "x.csv": (lambda: b"a,b\n1,2\n", "is a table, which numpy.loadtxt reads"),
    "amp.json": (lambda: b' {"in_shape": []}', "is JSON, expected safetensors or npz"),
    "a.docx": (lambda: archive(word="x"), "is a zip archive of other files"),
    "empty.npz": (lambda: b"", "is damaged or not a safetensors or npz file"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_program_is_named(name, tmp_path):
    make, message = OTHERS[name]
    path = tmp_path / name
    path.write_bytes(make())
    for function in (load, load_metadata):
        with pytest.raises(ValueError, match=re.escape(f"{function.__name__}: {path} {message}")):
            function(path)


@pytest.mark.parametrize("path", [5, 0, True, None, b"", "", "a\0b"])
def test_what_is_no_path(path, tmp_path):
    for call in (
        lambda: load(path), lambda: load_metadata(path), lambda: save(path, {}),
        lambda: bptt.load_rtneural(path), lambda: bptt.save_rtneural(path, [LSTM]),
        lambda: bptt.save_c_header(path, LSTM, "m"),
    ):  # fmt: skip
        with pytest.raises(
            (TypeError, ValueError), match=r": path is .*, expected (a path|1..4096 characters)"
        ):
            call()
