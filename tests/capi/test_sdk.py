# SPDX-License-Identifier: MIT
"""Programs in C, C++ and Rust, built from what the installed package has and says."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core, cli, sdk
from support.toolchain import CONSUMER, PATH, ROOT, needs, needs_installed_package, options, run

PYTHON = sys.executable
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Wno-missing-field-initializers", "-Werror"]


@pytest.fixture(autouse=True)
def installed() -> None:
    needs_installed_package()


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C consumer, by the one command."""
    needs_installed_package()
    needs("cc")
    folder = tmp_path_factory.mktemp("train")
    shutil.copy(CONSUMER / "train.c", folder / "main.c")
    command = (
        f"cc -std=c89 -pedantic {' '.join(STRICT)} main.c $({PYTHON} -m bptt --includes) "
        f"$({PYTHON} -m bptt --libs) -o main"
    )
    run("sh", "-c", command, cwd=folder)
    return folder / "main"


# --- what the options print


def test_each_option_prints_a_place_that_exists() -> None:
    (include,), (library, *rest) = options("includes"), options("libs")
    assert include.startswith("-I")
    assert (Path(include[2:]) / "bptt.h").is_file()
    assert Path(library).is_file()
    assert rest == ([] if os.name == "nt" else ["-lm"])
    assert options("includes", "libs") == [include, library, *rest]
    assert (Path(*options("cmakedir")) / "bpttConfig.cmake").is_file()
    assert (Path(*options("pkgconfigdir")) / "bptt.pc").is_file()


def test_without_the_library_there_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sdk, "_folders", [str(tmp_path)])
    for option in (function.__name__ for function in cli.SDK):
        assert cli.main([f"--{option}"]) == 2
        message = capsys.readouterr().err
        assert re.fullmatch(r"bptt: the package in .* has no .*bptt.*pip install bptt\n", message)


def test_entry_points_name_folders_of_the_package() -> None:
    groups = {"cmake.root": "lib/cmake/bptt/bpttConfig.cmake", "pkg_config": "bptt.pc"}
    if Path(bptt.__file__).parents[1] != Path(sysconfig.get_path("platlib")):
        pytest.skip("bptt is not in site-packages")
    for group, file in groups.items():
        (entry,) = importlib.metadata.entry_points(group=group, name="bptt")
        folders = importlib.import_module(entry.value).__path__
        assert any((Path(folder) / file).is_file() for folder in folders)


# --- C: training with the same bits as Python


def numbers() -> Any:
    """The generator of train.c."""
    seed = 1
    while True:
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        yield ((seed >> 16) & 255) / 256 - 0.5


def train_in_python() -> tuple[list[tuple[float, float]], list[Any]]:
    T, B, I, H = 12, 3, 2, 5
    made = numbers()

    def make(*shape: int) -> Any:
        return np.array([next(made) for _ in range(int(np.prod(shape)))], "f").reshape(shape)

    x, target = make(T, B, I), make(T, B, H)
    p = {"w_ih": make(4 * H, I), "w_hh": make(4 * H, H), "b_ih": make(4 * H), "b_hh": make(4 * H)}
    adam, sgd = bptt.Adam(p, lr=0.05), bptt.SGD(p, lr=0.02, momentum=0.5)
    course = []
    for update in range(1, 21):
        y, _, tape = bptt.lstm_forward(x, *p.values())
        dy = y - target
        grads = bptt.lstm_backward(tape, dy)._asdict()
        gradients = {name: grads[name] for name in p}
        loss = 0.5 * np.sum(dy.astype(float) ** 2)
        course.append((loss, bptt.clip_grad_norm(gradients, 1e6)))
        (adam if update <= 10 else sgd).step(gradients)
    y, (h, c), _ = bptt.lstm_forward(x, *p.values())
    return course, [*p.items(), *2 * [("y", y), ("h_n", h), ("c_n", c)]]


def test_c_trains_and_predicts_as_python_does(isa: str, train: Path) -> None:
    lines = [line.split() for line in run(train, isa).splitlines()]
    course, values = train_in_python()
    printed = [(float(line[3]), float(line[5])) for line in lines[: len(course)]]
    np.testing.assert_allclose(printed, course, rtol=1e-12)
    assert printed[-1][0] < 0.75 * printed[0][0]
    for line, (name, want) in zip(lines[len(course) :], values, strict=True):
        got = np.array([int(word, 16) for word in line[1:]], np.uint32).view(np.float32)
        assert (line[0], got.tobytes()) == (name, want.tobytes())


def test_c_refuses_what_does_not_run_here(train: Path) -> None:
    done = subprocess.run([train, "mmx"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("bptt_set_isa: name is 'mmx', expected an instruction set")


def test_valgrind_finds_nothing(train: Path) -> None:
    needs("valgrind")
    for isa in set(_core.isas()) & {"sse42", "avx2"}:
        assert run("valgrind", "-q", "--error-exitcode=9", train, isa) == run(train, isa)


# --- other languages and build tools


def cmake(build: Path, *definitions: str) -> None:
    """The consumer, built with CMake."""
    needs("cmake", "cc", "c++")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=PATH) else []
    if not generator:
        needs("make")
    run("cmake", "-S", CONSUMER, "-B", build, *generator, *definitions)
    run("cmake", "--build", build)


def found_in(build: Path) -> Path:
    found = re.search("^bptt_DIR:.*=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE)
    assert found
    return Path(found[1])


def test_cmake_finds_the_package_where_it_is_told(train: Path, tmp_path: Path) -> None:
    """The package is found where it was moved to."""
    (folder,) = options("cmakedir")
    moved = tmp_path / "a place of its own"
    shutil.copytree(Path(folder).parents[1], moved / "lib")
    shutil.copytree(options("includes")[0][2:], moved / "include")
    for i, definition in enumerate([f"-Dbptt_DIR={folder}", f"-DCMAKE_PREFIX_PATH={moved}"]):
        build = tmp_path / f"build{i}"
        cmake(build, definition)
        assert found_in(build) == (Path(folder) if i == 0 else moved / "lib/cmake/bptt")
        assert run(build / "train") == run(train)
        assert run(build / "stream").startswith(f"{bptt.__version__} on ")


def in_site_packages() -> None:
    if not any(Path(folder).is_relative_to(sys.prefix) for folder in bptt.__path__):
        pytest.skip("bptt is not in this environment's site-packages")


def test_cmake_finds_the_package_of_the_active_environment(train: Path, tmp_path: Path) -> None:
    in_site_packages()
    cmake(tmp_path / "build")
    assert found_in(tmp_path / "build").is_relative_to(sys.prefix)
    assert run(tmp_path / "build" / "train") == run(train)


def test_a_package_of_scikit_build_core_finds_it(train: Path, tmp_path: Path) -> None:
    in_site_packages()
    needs("cmake", "cc", "c++")
    if not importlib.util.find_spec("scikit_build_core"):
        pytest.skip("no scikit-build-core")
    source = shutil.copytree(CONSUMER, tmp_path / "source")
    run(
        PYTHON, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target",
        tmp_path / "there", source, f"-Cbuild-dir={tmp_path / 'build'}",
    )  # fmt: skip
    assert found_in(tmp_path / "build") == Path(*options("cmakedir"))
    (program,) = (tmp_path / "there").glob("**/train")
    program.chmod(0o755)
    assert run(program) == run(train)


def test_pkg_config(train: Path, tmp_path: Path) -> None:
    needs("pkg-config", "cc")
    where = {"PKG_CONFIG_PATH": options("pkgconfigdir")[0]}
    assert run("pkg-config", "--modversion", "bptt", **where).strip() == bptt.__version__
    flags = run("pkg-config", "--cflags", "--libs", "bptt", **where).split()
    run("cc", CONSUMER / "train.c", *flags, "-o", tmp_path / "train")
    assert run(tmp_path / "train") == run(train)


MISTAKES = """\
moved: the same
no forward: bptt_query: desc.struct_size is 0, expected .*
another layer: bptt_backward: tape is not of this desc .*
another layer: bptt_backward: tape is not of this desc .*
outputs: bptt::Layer: pass.y has 1 numbers, expected 64
weights: bptt::Layer: weights.w_hh has 1 numbers, expected 64
stream of such: bptt::Layer: weights.w_hh has 1 numbers, expected 64
batch: bptt_query: desc.batch is -1, expected 0 or more
adam: bptt::Adam: parameters have another size than before
"""


def test_mistakes_in_cpp(tmp_path: Path) -> None:
    """Mistakes are refused; none reads or writes beyond an array."""
    needs("c++")
    run(
        "c++", "-std=c++17", "-pedantic", *STRICT, CONSUMER / "mistakes.cpp",
        *options("includes", "libs"), "-o", tmp_path / "mistakes",
    )  # fmt: skip
    assert re.fullmatch(MISTAKES, run(tmp_path / "mistakes"))


def test_rust(tmp_path: Path) -> None:
    needs("rustc")
    link = [word for option in options("libs") for word in ("-C", f"link-arg={option}")]
    run("rustc", "--edition", "2021", CONSUMER / "main.rs", *link, "-o", tmp_path / "main")
    words = run(tmp_path / "main").split()

    def made(*shape: int) -> Any:
        return (np.arange(np.prod(shape)) * 7 % 11 / 11.0 - 0.5).reshape(shape)

    _, (h, _), _ = bptt.lstm_forward(made(20, 2, 3), made(36, 3), made(36, 9))
    assert words == [struct.pack(">d", value).hex() for value in h.ravel()]


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_file")
    run(PYTHON, ROOT / "scripts" / "amalgamate", folder)
    return folder / "bptt_amalgamation.cpp"


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_one_file_beside_the_objects(compiler: str, one_file: Path) -> None:
    """No type of the one file has the name of another in bptt.hpp, which link-time optimisation
    would mix up."""
    needs(compiler)
    include = options("includes")
    run(compiler, "-std=c++17", "-fsyntax-only", "-w", *include, "-include", "bptt.hpp", one_file)


def test_one_file_refuses_options_that_break_its_promises(one_file: Path) -> None:
    needs("c++")
    command = ["c++", "-std=c++17", "-fsyntax-only", "-ffast-math", str(one_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode
    assert "compile this one file without -ffast-math" in done.stderr


# --- what the library promises of itself


def test_nothing_is_allocated_and_the_system_not_called(tmp_path: Path) -> None:
    """Checked over a million steps, and training; see quiet.c."""
    if sys.platform != "linux":
        pytest.skip("system calls are forbidden by Linux's seccomp")
    needs("cc")
    wrap = ",".join(f"--wrap={name}" for name in ("malloc", "calloc", "realloc", "free"))
    run(
        "cc", "-O1", *STRICT, CONSUMER / "quiet.c", *options("includes", "libs"), f"-Wl,{wrap}",
        "-o", tmp_path / "quiet",
    )  # fmt: skip
    found = re.fullmatch(
        "failed 0, allocations 0, system calls (none|not looked at)\n", run(tmp_path / "quiet")
    )
    assert found
    if found[1] != "none":
        pytest.skip("no allocations; this system does not let a program forbid itself system calls")


# Of C's library; of the compiler's, what the CPU is; how thread-local variables are found.
NEEDED = {"memcpy", "memmove", "memset", "memcmp", "strcmp", "strncpy", "fmax", "pow"}
NEEDED |= {"__cpu_model", "__tls_get_addr", "_GLOBAL_OFFSET_TABLE_"}


def symbols(*which: str) -> list[list[str]]:
    needs("nm")
    lines = run("nm", "-P", *which, options("libs")[0]).splitlines()
    return [line.split() for line in lines if line and not line.endswith(":")]


def test_the_library_needs_little() -> None:
    defined = {name for name, *_ in symbols("--defined-only", "--extern-only")}
    undefined = {name for name, *_ in symbols("--undefined-only")}
    assert "memcpy" in undefined
    assert undefined - defined <= NEEDED


def test_the_library_shares_no_function_with_others() -> None:
    """A shared one might be a template that was compiled for another instruction set."""
    found = symbols("--defined-only", "--extern-only")
    names = {name for name, *_ in found}
    public = {name for name in names if not name.startswith("_Z")}
    header = (Path(options("includes")[0][2:]) / "bptt.h").read_text()
    declared = set(re.findall(r"\b(bptt_\w+)\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    assert public == declared - {"bptt_parallel_for"}
    assert all("4bptt" in name for name in names - public)  # ours, or of types that are ours
