# SPDX-License-Identifier: MIT
"""The rules of the code base that a machine can check."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import bptt
from bptt import _core
from support.paths import ROOT
from support.toolchain import needs

SOURCES = [
    path
    for folder in ("cpp", "python", "tests", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyi", ".cpp", ".hpp", ".inl", ".h"}
]
CPP = [path for path in SOURCES if ROOT / "cpp" in path.parents]
BUILD = [ROOT / "CMakeLists.txt", ROOT / "cpp" / "CMakeLists.txt", ROOT / "pyproject.toml"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_lists_are_not_empty() -> None:
    assert len(CPP) > 15
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_source_file(path: Path) -> None:
    lines = path.read_text("ascii").splitlines()
    assert len(lines) <= 500
    if path.suffix != ".pyi":
        assert "SPDX-License-Identifier: MIT" in lines[0]


@pytest.mark.parametrize("path", CPP, ids=name_of)
def test_no_python_below_cpp(path: Path) -> None:
    assert not re.search(r"pybind11|Python\.h|\bPy(Object|Err|_)", path.read_text())


@pytest.mark.parametrize("path", BUILD, ids=name_of)
def test_no_flag_that_changes_the_machine_or_the_numbers(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"-march=native|-Ofast|-f(fast-math|finite-math-only|associative)", text)


def test_versions_are_equal() -> None:
    assert bptt.__version__ == _core.__version__
    assert f'version = "{bptt.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {bptt.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "python/bptt/reference").glob("*.py")), ids=name_of)
def test_reference_never_imports_the_core(path: Path) -> None:
    imports = re.findall(r"^ *(?:from|import) (\S+)", path.read_text(), re.MULTILINE)
    own = {f".{other.stem}" for other in path.parent.glob("*.py")}
    allowed = {"__future__", "collections.abc", "types", "typing", "numpy"}
    ground = {"_types", "_cells", "_grads", "trace.full", "trace.paths", "trace.trace"}
    allowed |= {f"..{module}" for module in ground}
    assert imports
    assert set(imports) - own <= allowed


@pytest.mark.parametrize("header", sorted((ROOT / "cpp/include/bptt").glob("*.hpp")), ids=name_of)
def test_public_headers_stand_alone(header: Path, tmp_path: Path) -> None:
    needs("c++")
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "bptt/{header.name}"\n')
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion"]
    command += ["-Werror", "-I", str(ROOT / "cpp/include"), str(source)]
    subprocess.run(command, check=True, timeout=120)


TARGETS = (ROOT / "cpp" / "src" / "targets" / "targets.inc").read_text()
KERNELS = [
    pytest.param(*kernels, marks=pytest.mark.slow if kernels[1] in ("others", "duals") else ())
    for kernels in re.findall(r"^BPTT_KERNELS\((\w+), (\w+),", TARGETS, re.MULTILINE)
    if kernels[0] in _core.compiled_isas()
]
DEFINES = {"others": ["-DBPTT_OTHERS"], "duals": ["-DBPTT_DUAL"], "int8": ["-DBPTT_INT8"]}


def flags_of(isa: str) -> list[str]:
    """The flags of CMake for an instruction set, but for the optimisation."""
    cmake = (ROOT / "cpp" / "CMakeLists.txt").read_text()
    march = re.search(rf"bptt_add_(?:plain|object)\({isa}(?: {isa} -O\w)? ?(.*)\)", cmake)
    assert march
    return [option for option in march[1].split() if not option.startswith("-O")]


HEADERS = [path for path in SOURCES if path.suffix in {".hpp", ".inl", ".h"}]
BF16 = [path for path in HEADERS if path.name.startswith("bf16_")]
OTHERS = [path for path in HEADERS if path not in CPP]
ALONE = {
    "core": [path for path in HEADERS if path in CPP and path not in BF16],
    "bf16": BF16 if "avx512bf16" in _core.compiled_isas() else [],
    "binding": [path for path in OTHERS if path.parent.name == "src"],
    "tests": [path for path in OTHERS if path.parent == ROOT / "tests" / "cpp"],
}


@pytest.mark.parametrize(
    "group", [pytest.param(g, marks=pytest.mark.slow if g == "binding" else ()) for g in ALONE]
)
def test_every_cpp_file_can_be_opened_alone(group: str) -> None:
    """An editor that runs clang shows no error in those that are not compiled alone either."""
    needs("clang++")
    if not ALONE[group]:
        pytest.skip("no instructions for bfloat16 here")
    command = ["clang++", "-std=c++17", "-fsyntax-only", "-x", "c++-header"]
    command += flags_of("avx512bf16") if group == "bf16" else []
    for folder in ("cpp/src", "cpp/include", "tests/cpp"):
        command += ["-I", str(ROOT / folder)]
    if group == "binding":
        for name in ("pybind11", "numpy"):
            command += ["-I", pytest.importorskip(name).get_include()]
        command += ["-I", sysconfig.get_path("include")]
    command += map(str, ALONE[group])
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("isa", "part"), KERNELS)
def test_a_kernel_object_exports_one_symbol_and_runs_nothing_at_load(
    isa: str, part: str, tmp_path: Path
) -> None:
    """A weak symbol would be merged over instruction sets; an initialiser would run on any CPU."""
    needs("c++", "nm")
    output = tmp_path / "kernel.o"
    # -O0 keeps every function that optimisation would inline away.
    command = ["c++", "-std=c++17", "-O0", *flags_of(isa), "-fno-exceptions", "-fno-rtti"]
    command += ["-I", str(ROOT / "cpp/src"), *DEFINES.get(part, [])]
    source = ROOT / "cpp" / "src" / "targets" / f"{isa}.cpp"
    subprocess.run([*command, "-c", str(source), "-o", str(output)], check=True, timeout=300)
    symbols = subprocess.run(
        ["nm", "-C", str(output)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    kinds = [line[17:].split(" ", 1) for line in symbols if not line.startswith(" " * 18 + "U")]
    exported = [name for kind, name in kinds if kind.isupper() and kind != "U"]
    weak = [name for kind, name in kinds if kind in "WVuvw"]
    assert exported == [f"bptt::core::{isa}::{part}"]
    assert not weak
    sections = subprocess.run(
        ["objdump", "-h", str(output)], check=True, capture_output=True, text=True
    ).stdout
    assert ".init_array" not in sections
    assert ".ctors" not in sections


def test_import_leaves_subnormal_numbers_alone() -> None:
    code = "import numpy as np; import bptt; print(np.float32(1e-40) * np.float32(0.5) > 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "True", result.stderr


def test_import_brings_no_optional_package() -> None:
    code = (
        "import sys, bptt; names = ('matplotlib', 'tqdm', 'rich', 'safetensors', 'torch', 'jax');"
        "print([n for n in names if n in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
