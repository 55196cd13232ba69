# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from bptt.io import load, load_metadata, save
from bptt.layers import LSTM


@pytest.fixture(params=["model.npz", "model.safetensors", "model", "model.v2"])
def path(request, tmp_path):
    if request.param.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    return tmp_path / request.param


def awkward_arrays():
    a = np.arange(24.0).reshape(4, 6)
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    return {
        "plain": a,
        "transposed": a.T,
        "fortran": np.asfortranarray(a),
        "strided": a[::2, 1::3],
        "reversed": a[::-1],
        "big-endian": a.astype(">f4"),
        "big-endian and transposed": a.astype(">i8").T,
        "broadcast": np.broadcast_to(np.float32(3), (2, 3)),
        "misaligned": np.frombuffer(b"x" + a.tobytes(), "f8", offset=1),
        "read-only": frozen,
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "bool": np.array([True, False]),
        "half": np.arange(3, dtype="f2"),
        "bytes": np.arange(3, dtype="u1"),
        "a.b/c.npy": np.arange(2),
        "a.b/c": np.arange(3),
        "file": np.arange(4),
        "allow_pickle": np.arange(5),
    }


def assert_same(loaded, arrays):
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("="), name
        assert loaded[name].flags.writeable, name
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)
        assert loaded[name].shape == array.shape, name


def test_every_layout_comes_back(path):
    arrays = awkward_arrays()
    save(path, arrays)
    assert os.listdir(path.parent) == [path.name]
    assert_same(load(path), arrays)
    assert load_metadata(path) == {}


def test_metadata_and_nothing_else(path):
    metadata = {"epoch": "7", "note": 'quotes " and \n lines, \u00e9', "": ""}
    save(path, {}, metadata)
    assert load(path) == {}
    assert load_metadata(path) == metadata
    save(os.fspath(path), {"w": np.ones(2)}, {"epoch": "8"})
    assert load_metadata(os.fspath(path)) == {"epoch": "8"}
    assert_same(load(path), {"w": np.ones(2)})


def test_names_choose_the_format(tmp_path):
    pytest.importorskip("safetensors")
    for name, is_zip in (
        ("a.npz", True), ("b.safetensors", False), ("c.SafeTensors", False), ("d", False),
        ("e.ckpt", True),
    ):  # fmt: skip
        save(tmp_path / name, {"w": np.ones(2)})
        assert zipfile.is_zipfile(tmp_path / name) == is_zip, name


def test_other_programs_read_and_write_the_same_files(tmp_path):
    arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.arange(3, dtype="f4")}
    save(tmp_path / "ours.npz", arrays)
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as archive:
        assert_same(dict(archive), arrays)
    for writer in (np.savez, np.savez_compressed):
        writer(tmp_path / "theirs.npz", **arrays)
        assert_same(load(tmp_path / "theirs.npz"), arrays)
    safetensors = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "ours.safetensors", arrays)
    assert_same(safetensors.load_file(tmp_path / "ours.safetensors"), arrays)
    safetensors.save_file(arrays, tmp_path / "theirs.safetensors", {"by": "them"})
    assert_same(load(tmp_path / "theirs.safetensors"), arrays)
    assert load_metadata(tmp_path / "theirs.safetensors") == {"by": "them"}


def test_a_layer_and_back(path):
    layer, other = LSTM(3, 4, 2, seed=0), LSTM(3, 4, 2, seed=1)
    save(path, layer.parameters)
    other.load(load(path))
    x = np.ones((5, 2, 3))
    np.testing.assert_array_equal(layer(x)[0], other(x)[0])


def test_equal_arrays_give_equal_files(path, monkeypatch):
    metadata = {str(k): "x" for k in range(9)}
    save(path, {"w": np.ones(2)}, metadata)
    first = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save(path, {"w": np.ones(2)}, metadata)
    assert path.read_bytes() == first


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be flushed elsewhere")
def test_content_reaches_the_disk_before_the_name_and_then_the_folder(path, monkeypatch):
    events = []

    def fsync(descriptor):
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else status.st_size)

    real = os.replace
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("rename"), real(*names)))
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    save(path, {"w": np.ones(1000)})
    assert events == [path.stat().st_size, "rename", "folder"]
    if before:
        assert os.listdir("/proc/self/fd") == before


def test_links_stay_links(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "real" / "file.npz")
    save(link, {"w": np.ones(2)})
    assert link.is_symlink()
    assert_same(load(tmp_path / "real" / "file.npz"), {"w": np.ones(2)})


def test_new_files_have_the_usual_permissions(tmp_path):
    save(tmp_path / "a.npz", {})
    (tmp_path / "b").touch()
    assert (tmp_path / "a.npz").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_without_safetensors(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    save(tmp_path / "a.safetensors", {"w": np.ones(2)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    save(tmp_path / "b", {"w": np.ones(2)})
    assert zipfile.is_zipfile(tmp_path / "b")
    assert_same(load(tmp_path / "b"), {"w": np.ones(2)})
    for call in (
        lambda: save(tmp_path / "c.safetensors", {}),
        lambda: load(tmp_path / "a.safetensors"),
    ):
        with pytest.raises(ImportError, match=re.escape('pip install "bptt[safetensors]"')):
            call()
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b"]


# --- damage -----------------------------------------------------------------------------------


def test_a_truncated_file_is_an_error_at_every_length(path):
    save(path, {"w": np.arange(20.0), "b": np.arange(3)}, {"a": "b"})
    content = path.read_bytes()
    for length in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=re.escape(f"load: {path} is damaged or not a")):
            load(path)


def test_a_flipped_bit_in_an_npz_never_changes_a_number(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"w": np.arange(20.0), "b": np.arange(3)}
    save(path, arrays)
    content = bytearray(path.read_bytes())
    refused = []
    for position in range(0, len(content), 3):
        content[position] ^= 4
        path.write_bytes(content)
        content[position] ^= 4
        try:
            loaded = load(path)
        except ValueError as error:
            refused.append(str(error))
        else:  # a byte that does not matter, or one of a name
            values = loaded.values()
            assert all(any(np.array_equal(v, a) for a in arrays.values()) for v in values)
    assert len(refused) > len(content) / 10
    assert all(str(path) in message for message in refused)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04" + bytes(100),
        bytes(1000),
        b"\xff" * 8 + b"{" + bytes(100),
        b"\x02" + bytes(7) + b"{}garbage",
    ],
    ids=lambda c: repr(c[:12]),
)
def test_garbage_is_an_error(tmp_path, content):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    for function in (load, load_metadata):
        message = f"{function.__name__}: {path} is damaged or not a safetensors or npz file"
        with pytest.raises(ValueError, match=re.escape(message)):
            function(path)


def test_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    with pytest.raises(OSError, match="no folder"):
        save(tmp_path / "no folder" / "a.npz", {})


ERRORS = [
    ({"w": np.array([None])}, None, TypeError, "save: arrays['w'] has dtype object, expected"),
    ({"w": np.array(["a"])}, None, TypeError, "save: arrays['w'] has dtype <U1, expected numbers"),
    ({"w": np.ones(2, complex)}, None, TypeError, "save: arrays['w'] has dtype complex128"),
    ({1: np.ones(2)}, None, TypeError, "save: arrays has the name 1, expected text"),
    ({"__metadata__": np.ones(2)}, None, ValueError, "save: arrays has the name '__metadata__'"),
    ({}, {"a": 1}, TypeError, "save: metadata has 'a': 1, expected text as name and value"),
]


@pytest.mark.parametrize(("arrays", "metadata", "error", "message"), ERRORS)
def test_bad_input_leaves_the_old_file(path, arrays, metadata, error, message):
    save(path, {"w": np.ones(2)})
    with pytest.raises(error, match=re.escape(message)):
        save(path, arrays, metadata)
    assert_same(load(path), {"w": np.ones(2)})
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failed_write_leaves_the_old_file_and_no_other(path, monkeypatch, broken, error):
    save(path, {"w": np.ones(2)})

    def fail(*args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(type(error)):
            save(path, {"w": np.zeros(2)})
    assert_same(load(path), {"w": np.ones(2)})
    assert os.listdir(path.parent) == [path.name]


# --- a process killed while it saves ----------------------------------------------------------

SAVER = """
import itertools, sys
import numpy as np
from bptt.io import save
for k in itertools.count():
    save(sys.argv[1], {name: np.full(100_000, k) for name in "abc"})
    if k == 0:
        print(flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["model.npz", "model.safetensors"])
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path, name):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    path, rng = tmp_path / name, random.Random(0)
    for killed in range(1, int(os.environ.get("BPTT_KILLS", 20)) + 1):
        process = subprocess.Popen([sys.executable, "-c", SAVER, path], stdout=subprocess.PIPE)
        with process:
            assert process.stdout.readline() == b"\n"  # one file is there, the next are on the way
            time.sleep(0.03 * rng.random())
            process.send_signal(signal.SIGKILL)
        arrays = load(path)
        assert arrays.keys() == set("abc")
        assert all(array.shape == (100_000,) for array in arrays.values())
        assert len({int(v) for array in arrays.values() for v in np.unique(array)}) == 1
        assert len(os.listdir(tmp_path)) <= 1 + killed  # at most the one that was being written
