# SPDX-License-Identifier: MIT
"""Without PyTorch, `bptt.torch` says how to get it; with it, `bptt` does not import it."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_without_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    import bptt.torch\nexcept ImportError as error:\n    print(error)"
    )
    assert run(code) == (
        'bptt.torch: PyTorch is not installed; install it by pip install "bptt[torch]"'
    )
    assert run("import sys; sys.modules['torch'] = None; import bptt; print(bptt.GRU.__name__)")


def test_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, bptt; print([n for n in sys.modules if n.startswith(('torch', 'bptt.torch'))])"
    )
    assert run(code) == "[]"
