# SPDX-License-Identifier: MIT
"""The command ``bptt`` (also ``python -m bptt``).

Exit codes: 0 done, 1 a result missed its goal, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import sdk
from ._core import __version__
from ._words import printable
from .config import show_config

__all__ = ["main"]

# Except info, each is a module with add_arguments(parser) and run(args) -> int, imported on use.
COMMANDS = {
    "info": "print the version, the kernels in use and the number of threads",
    "fit": "train a model on a file of data: classify, regress, forecast or write text",
    "predict": "run a trained model on a file of data",
    "generate": "write a text by a model that was trained on one",
    "convert": "write the layers of a model's file in another format",
    "demo": "train on four tasks, print the results and draw a picture",
    "bench": "time the core against its NumPy reference and other libraries",
    "export": "write a saved model as a C header or as RTNeural's JSON",
    "flow": "report where the gradient of a saved model goes, on a batch of data",
}

# The modules of commands that are named like no room.
MODULES = {name: f"command.{name}" for name in ("fit", "predict", "generate", "convert")}

# Options for programs that embed bptt.
SDK = {
    sdk.includes: "print the compiler option for the C and C++ headers",
    sdk.libs: "print the library to link, and its dependencies",
    sdk.cmakedir: "print the folder of the package for CMake",
    sdk.pkgconfigdir: "print the folder of the package for pkg-config",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {message} (see {self.prog} --help)") + "\n")


def _main_parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<8} {text}" for name, text in COMMANDS.items()]
    parser = _Parser(
        prog="bptt",
        usage="bptt [-h] [--version] COMMAND [OPTIONS]",
        description="Exact backpropagation through time on CPUs.",
        epilog="\n".join(["commands:", *lines, "", "'bptt COMMAND --help' shows its options."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    for find, text in SDK.items():
        option = f"--{find.__name__}"
        parser.add_argument(option, action="append_const", const=find, dest="sdk", help=text)
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    return parser


def _run(argv: Sequence[str]) -> int:
    first = next((i for i, word in enumerate(argv) if not word.startswith("-")), len(argv))
    parser = _main_parser()
    args = parser.parse_args(argv[: first + 1])
    if args.version:
        print(f"bptt {__version__}")
        return 0
    if args.sdk:
        print(*(find() for find in args.sdk))
        return 0
    if args.command is None:
        parser.error(f"no command given, expected one of {', '.join(COMMANDS)}")
    text = COMMANDS[args.command]
    options = _Parser(
        prog=f"bptt {args.command}",
        description=f"{text[0].upper()}{text[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if args.command == "info":
        options.parse_args(argv[first + 1 :])
        print(show_config())
        return 0
    module = importlib.import_module(f".{MODULES.get(args.command, args.command)}", __package__)
    module.add_arguments(options)
    return int(module.run(options.parse_args(argv[first + 1 :])) or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (``sys.argv[1:]`` if omitted) and return the exit code."""
    try:
        if sys.stdout is None:
            raise ValueError("standard output is closed, expected an open file or terminal")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # file names may have any bytes
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has ended
        _close_output()
        return 0
    except (OSError, ValueError) as error:
        _close_output()
        return _say(_in_words(error), 2)
    except MemoryError as error:
        return _say(f"out of memory: {error}" if str(error) else "out of memory", 2)


def _in_words(error: Exception) -> str:
    """The message of an error; of the system's, the file and what is wrong, without a number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    files = [
        os.fsdecode(f) for f in (error.filename, error.filename2) if isinstance(f, (str, bytes))
    ]
    return ": ".join([*map(repr, files), error.strerror])


def _say(text: str, code: int) -> int:
    """Print an error in one line, and return the exit code."""
    if sys.stderr is not None:  # print would use standard output instead
        print(printable(f"bptt: {text}"), file=sys.stderr)
    return code


def _close_output() -> None:
    """Flush standard output, or discard its buffer: Python would flush it again at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
