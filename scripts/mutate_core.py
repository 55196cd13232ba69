# SPDX-License-Identifier: MIT
"""Mutate the gradients of the C++ cells, build each mutant, and expect tests of the core to fail.

    python scripts/mutate_core.py [--every N]

The first build takes minutes, each mutant about one: only the kernels of the last instruction set
are compiled again, which the tests then run on. --every N takes each N-th mutant. The source tree
is not touched: a copy is built in a temporary folder. Exit code 1 and a list if a mutant survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bptt

ROOT = Path(__file__).parents[1]
ISA = bptt.show_config()["isas"][-1]
SWAPS = {" * ": " + ", " + ": " - ", " - ": " + "}


def mutants(text: str) -> Iterator[tuple[str, str]]:
    """(label, source) with one operator or one number of a backward function changed."""
    start = text.index("static void backward")
    for match in re.finditer(r"//.*| [*+-] |\bV\(([01])\)|\bk\[(\d)\]", text[start:]):
        old = match.group()
        if old.startswith("//"):
            continue
        if old in SWAPS:
            new = SWAPS[old]
        elif old.startswith("V("):
            new = f"V({1 - int(match.group(1))})"
        else:
            new = f"(V(0.9) * {old})"
        at = start + match.start()
        line = text[:at].count("\n") + 1
        yield (
            f"line {line}: {old.strip()} -> {new.strip()}",
            text[:at] + new + text[at + len(old) :],
        )


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BPTT_ISA": ISA, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(folder / "install")
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def configure(folder: Path) -> None:
    pybind11 = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    definitions = {
        "SKBUILD_PROJECT_VERSION": bptt.__version__,
        "pybind11_DIR": pybind11.strip(),
        "Python_EXECUTABLE": sys.executable,
    }
    options = [f"-D{name}={value}" for name, value in definitions.items()]
    result = run("cmake", "-S", ".", "-B", "build", *options, folder=folder)
    assert result.returncode == 0, result.stderr


def compile(folder: Path, *targets: str) -> None:
    options = [option for target in targets for option in ("--target", target)]
    jobs = str(os.cpu_count() or 1)
    result = run("cmake", "--build", "build", "--parallel", jobs, *options, folder=folder)
    assert result.returncode == 0, result.stdout + result.stderr


def build(folder: Path) -> None:
    compile(folder)
    library = next((folder / "build").glob("_core*.so"))
    shutil.copy(library, folder / "install" / "bptt" / library.name)


def build_mutant(folder: Path, cell: Path, mutant: str) -> None:
    """Compile it for one instruction set; to the others the file is as old as it was."""
    before, text = cell.stat(), cell.read_text()
    cell.write_text(mutant)
    compile(folder, f"bptt_{ISA}", f"bptt_{ISA}_others")
    cell.write_text(text)
    os.utime(cell, ns=(before.st_atime_ns, before.st_mtime_ns))
    build(folder)


# An editable installation would come before the mutant's folder.
RUN_TESTS = """
import sys
sys.meta_path = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
import bptt, pytest
if not bptt.__file__.startswith(sys.argv[1]):
    sys.exit(3)
options = ["-q", "-x", "-n0", "-p", "no:cacheprovider"]
files = ["tests/functional/test_core.py", "tests/functional/test_recurrences.py"]
sys.exit(pytest.main([*options, *files]))
"""


def caught(folder: Path) -> bool:
    result = run(sys.executable, "-c", RUN_TESTS, str(folder), folder=folder)
    # Below 0: killed by a signal, as a mutant may write where it must not.
    assert result.returncode <= 1, result.stdout + result.stderr
    return result.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, metavar="N")
    every = parser.parse_args().every
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("cpp", "python", "tests", "CMakeLists.txt", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / "install").mkdir()
        shutil.copytree(folder / "python" / "bptt", folder / "install" / "bptt")
        configure(folder)
        build(folder)
        first = run(sys.executable, "-c", RUN_TESTS, str(folder), folder=folder)
        assert first.returncode == 0, first.stdout[-2000:] + first.stderr
        survivors, count = [], 0
        for cell in sorted((folder / "cpp/src/cells").glob("*.inl")):
            text = cell.read_text()
            if "static void backward" not in text:
                continue
            for number, (label, mutant) in enumerate(mutants(text)):
                if number % every:
                    continue
                build_mutant(folder, cell, mutant)
                count += 1
                verdict = "caught" if caught(folder) else "SURVIVED"
                print(f"{cell.name}, {label}: {verdict}", flush=True)
                if verdict != "caught":
                    survivors.append(f"{cell.name}, {label}")
    print(f"{count} mutants, {len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
