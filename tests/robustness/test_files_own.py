# SPDX-License-Identifier: MIT
"""Writing replaces files of its own kind, and others only with --force."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import bptt
from bptt._files.pictures import write_picture
from bptt.bench import command as bench
from bptt.cli import main

LSTM = bptt.LSTM(1, 3, seed=0)
X = np.random.default_rng(0).standard_normal((6, 2, 1)).astype(np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bptt.save("m.npz", LSTM.parameters)
    bptt.save("m.safetensors", LSTM.parameters)
    bptt.save_rtneural("m.json", [LSTM])
    np.save("x.npy", X)
    Path("train.py").write_text("import bptt\n")
    Path("notes.h").write_text("/* Weights of evidence, by hand */\n")
    Path("keras.json").write_text('{\n    "in_shape": [\n        null\n    ]\n}')
    Path("table.csv").write_text("a,b\n1,2\n")
    Path("page.html").write_text('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">')
    Path("photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    return tmp_path


def contents():
    return {p.name: p.read_bytes() for p in Path().iterdir()}


def refuses(call, name, *words):
    """The call raises and names the file, and none has changed."""
    before = contents()
    with pytest.raises(ValueError, match="not known to be") as caught:
        call()
    for word in (repr(name), "expected one or a new name", *words):
        assert word in str(caught.value)
    assert contents() == before


def fails(capsys, name, *args):
    """The command ends in one line that names the file, and none has changed."""
    before = contents()
    assert main([*args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in (repr(name), "not known to be", "or --force"):
        assert word in error
    assert contents() == before


# --- functions ------------------------------------------------------------------------------------

REPORT = bptt.gradient_flow(LSTM, X)
WRITERS = {
    "save": (lambda path: bptt.save(path, LSTM.parameters), {"m.npz", "m.safetensors"}),
    "save_c_header": (lambda path: bptt.save_c_header(path, LSTM, "m"), {"m.h"}),
    "save_rtneural": (lambda path: bptt.save_rtneural(path, [LSTM]), {"m.json"}),
    "FlowReport.to_html": (REPORT.to_html, {"m.html"}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_function_writes_over_its_own_kind_alone(name, here):
    if name == "FlowReport.to_html":
        pytest.importorskip("matplotlib")
    write, own = WRITERS[name]
    for file in own:
        write(file)
        first = Path(file).read_bytes()
        os.chmod(file, 0o640)
        write(file)
        assert Path(file).read_bytes() == first
        assert Path(file).stat().st_mode & 0o777 == 0o640
    others = sorted(set(os.listdir()) - own - ({"m.npz"} if name == "save" else set()))
    assert len(others) > 7
    for file in others:
        refuses(functools.partial(write, file), file, f"{name}: path has")


@pytest.mark.parametrize("name", WRITERS)
def test_a_new_or_empty_file_and_a_link_to_none(name, here):
    if name == "FlowReport.to_html":
        pytest.importorskip("matplotlib")
    write, _ = WRITERS[name]
    Path("empty").touch()
    os.symlink("target", "link")
    for file in ("new", "empty", "link"):
        write(file)
        assert Path(file).stat().st_size
    assert Path("link").is_symlink()
    assert Path("target").stat().st_size


def test_large_models_and_damaged_ones_are_told_by_their_ends(here):
    big = {"w": np.zeros(100_000), "v": np.zeros(100_000)}
    for name in ("big.npz", "big.safetensors", "big.v2"):
        bptt.save(name, big)
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[:-1000])  # the copy of a full disk
        bptt.save(name, big)
        assert Path(name).read_bytes() == content
    np.savez_compressed("theirs.npz", **big)
    bptt.save("theirs.npz", LSTM.parameters)
    assert bptt.load("theirs.npz").keys() == LSTM.parameters.keys()


def test_a_checkpoint_of_torch_is_not_replaced(here):
    torch = pytest.importorskip("torch")
    for zipped in (True, False):
        torch.save({"w": torch.ones(2)}, "m.pt", _use_new_zipfile_serialization=zipped)
        refuses(lambda: bptt.save("m.pt", LSTM.parameters), "m.pt")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs devices")
def test_what_is_no_file(here):
    for write, _ in WRITERS.values():
        for path in ("/dev/null", "."):
            with pytest.raises(
                ValueError, match=f"path has '{re.escape(path)}', which is not a reg"
            ):
                write(path)
    assert os.path.exists("/dev/null")


def test_a_missing_folder_is_named_and_no_temporary_file(here):
    for name, (write, _) in WRITERS.items():
        with pytest.raises(FileNotFoundError) as caught:
            write("no/such/folder/m.npz")
        assert str(caught.value) == (
            f"{name}: path has the folder 'no/such/folder', expected one that exists"
        )


@pytest.fixture
def stranger():
    """A user without root's rights, in a new folder."""
    folder = Path(tempfile.mkdtemp())
    if os.name != "posix":
        pytest.skip("permissions are others elsewhere")
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    os.seteuid(os.getuid())
    os.chmod(folder, 0o700)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_read_holds_the_new_file(stranger):
    path = stranger / "m.npz"
    bptt.save(path, {"w": np.zeros(2)})
    os.chmod(stranger, 0o333)
    bptt.save(path, {"w": np.ones(2)})  # raised after the file was replaced
    np.testing.assert_array_equal(bptt.load(path)["w"], np.ones(2))


def test_a_folder_that_cannot_be_written_is_an_error_that_names_the_file(stranger):
    path = stranger / "m.npz"
    os.chmod(stranger, 0o555)
    with pytest.raises(PermissionError) as caught:
        bptt.save(path, {"w": np.zeros(2)})
    assert caught.value.filename == str(path)
    assert os.listdir(stranger) == []


# --- commands -------------------------------------------------------------------------------------


def test_export_keeps_the_model_it_reads(here, capsys):
    os.mkdir("sub")
    os.symlink("../m.npz", "sub/link.h")
    os.link("m.npz", "hard.h")
    for target in ("m.npz", "./sub/../m.npz", str(here / "m.npz"), "sub/link.h", "hard.h"):
        before = Path("m.npz").read_bytes()
        for option in ("--c-header", "--json"):
            assert main(["export", "m.npz", option, target, "--name", "m"]) == 2
            error = capsys.readouterr().err
            assert f"export: {option} has {target!r}, not known to be" in error
            assert "or --force" in error
        assert Path("m.npz").read_bytes() == before
    os.unlink("sub/link.h")
    os.rmdir("sub")
    fails(capsys, "m.json", "export", "m.json", "--c-header", "m.json")
    for name in ("train.py", "notes.h", "table.csv"):
        fails(capsys, name, "export", "m.npz", "--c-header", name)
    fails(capsys, "keras.json", "export", "m.npz", "--json", "keras.json")
    fails(capsys, "notes.h", "export", "m.npz", "--json", "m.json", "--c-header", "notes.h")


def test_export_writes_over_its_own_and_with_force_over_all(here, capsys):
    both = ["export", "m.npz", "--c-header", "m.h", "--json", "m.json"]
    assert main(both) == 0
    first = contents()
    assert main(both) == 0
    assert contents() == first
    assert main(["export", "m.npz", "--c-header", "notes.h", "--force"]) == 0
    assert "NOTES_HIDDEN_SIZE 3" in Path("notes.h").read_text()
    assert main(["export", "m.npz", "--c-header", "m.h", "--json", "./m.h", "--force"]) == 2
    assert "--c-header and --json have the same file, expected two" in capsys.readouterr().err
    assert Path("m.h").read_bytes() == first["m.h"]


def test_flow_keeps_its_inputs_and_refuses_before_the_work(here, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    command = ["flow", "m.npz", "--data", "x.npy"]
    assert main([*command, "--html", "r.html", "--plot", "r.png"]) == 0
    capsys.readouterr()
    os.link("x.npy", "x.png")
    with monkeypatch.context() as patch:
        patch.setattr("bptt.flow.command.gradient_flow", lambda *a, **k: pytest.fail("work began"))
        for name in ("m.npz", "x.npy", "page.html", "r.png"):
            fails(capsys, name, *command, "--html", name)
        for name in ("x.png", "photo.png"):
            fails(capsys, name, *command, "--plot", name)
    assert main([*command, "--html", "r.html", "--plot", "r.png"]) == 0
    assert main([*command, "--html", "page.html", "--plot", "photo.png", "--force"]) == 0
    assert Path("page.html").read_bytes()[:999] == Path("r.html").read_bytes()[:999]
    assert len(Path("photo.png").read_bytes()) > 1000
    np.testing.assert_array_equal(np.load("x.png"), X)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "ps", "eps"])
def test_a_picture_says_who_made_it(here, suffix):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    path = Path(f"p.{suffix}")
    for k in range(2):
        axes.plot(np.random.default_rng(k).standard_normal(7000))
        write_picture("demo", "--out", path, figure, 100, False)
    figure.savefig(path)
    refuses(lambda: write_picture("demo", "--out", path, figure, 100, False), path.name, "--force")
    write_picture("demo", "--out", path, figure, 100, True)


def test_demo_refuses_before_the_work(here, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("bptt.demo.command.three_digits", lambda *a: pytest.fail("work began"))
    fails(capsys, "photo.png", "demo", "--quick", "--out", "photo.png")


def test_bench_refuses_before_the_work_and_knows_its_own(here, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    shutil.copy("photo.png", "photo-gru.png")
    monkeypatch.setattr(bench, "measure_all", lambda *a: pytest.fail("work began"))
    command = ["bench", "--points", "tiny", "--peers", "reference"]
    fails(capsys, "keras.json", *command, "--json", "keras.json")
    fails(capsys, "photo-gru.png", *command, "--cells", "gru", "--plot", "photo.png")
    report = {"date": "2026", "machine": {}, "fma_peak_gflops": {1: 2.0}, "results": []}
    Path("b.json").write_text(bench._to_json(report))
    assert bench.JSON.shows(Path("b.json").read_bytes())
