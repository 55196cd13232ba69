# SPDX-License-Identifier: MIT
"""``bptt generate``: a trained language model writes on after a prompt."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from .._arguments import whole
from .._words import printable
from ..models import LanguageModel, load
from .outcome import in_one_line, print_json

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

DESCRIPTION = """\
Write on after a prompt, by a model that 'bptt fit --task text' has trained."""
EPILOG = """\
examples:
  bptt generate hamlet.npz --prompt "To be"
  bptt generate hamlet.npz --prompt "To be" --length 500 --temperature 0.7 --seed 1

Exit code: 0 done; 2 wrong use; 130 interrupted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bptt generate`` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add = parser.add_argument
    add("model", help="a model of 'bptt fit --task text', or of LanguageModel.save")
    add("--prompt", required=True, metavar="TEXT", help="the beginning, which is printed too")
    add("--length", type=whole(0), default=200, metavar="N",
        help="characters or words to write (default 200)")  # fmt: skip
    add("--temperature", type=float, default=1.0, metavar="X",
        help="below 1 for likelier text, 0 for the likeliest (default 1)")  # fmt: skip
    add("--top-k", type=whole(1), metavar="K", help="draw from the K likeliest alone")
    add("--seed", type=whole(0), help="seed of the draws (default: a new one each time)")
    add("--json", action="store_true", help="print JSON, at the end")


def run(args: argparse.Namespace) -> int:
    """Print the text, as it is written.

    Raises
    ------
    ValueError
        If the file has no language model, or an option is wrong.
    OSError
        If the file cannot be read.
    """
    with in_one_line():
        model = load(args.model)
        if not isinstance(model, LanguageModel):
            raise ValueError(
                f"generate: {printable(args.model)} has a {type(model).__name__}, which 'bptt "
                "predict' runs"
            )
        pieces = islice(
            model.stream(
                args.prompt, temperature=args.temperature, top_k=args.top_k, seed=args.seed
            ),
            args.length,
        )
    if args.json:
        print_json({"prompt": args.prompt, "text": "".join(pieces)})
        return 0
    print(args.prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    return 0
