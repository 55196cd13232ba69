# SPDX-License-Identifier: MIT
"""Write the tables and pictures of docs/papers.md from the results.

    python -m benchmarks.papers.report

A table stands between ``<!-- papers NAME -->`` and ``<!-- /papers -->``. Pictures need matplotlib.
"""

from __future__ import annotations

import re
from pathlib import Path

from .runs import RESULTS, Experiment, Result, load, of_variant, read

PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
BLOCK = re.compile(r"(<!-- papers (\w+) -->\n).*?(<!-- /papers -->)", re.DOTALL)


def seeds(runs: list[Result]) -> str:
    numbers = sorted(run["seed"] for run in runs)
    if numbers == list(range(len(numbers))):
        return f"0-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    return ", ".join(map(str, numbers))


def table(experiment: Experiment, runs: list[Result]) -> str:
    if not runs:
        return "Not run yet.\n"
    lines = [
        "| | published | measured | seeds | CPU time of a run |",
        "|---|---|---|---|---|",
    ]
    for settings in experiment.variants:
        if own := of_variant(runs, settings):
            seconds = sum(run["seconds"] for run in own) / len(own)
            cells = [*experiment.row(settings, own), seeds(own), f"{seconds:.3g} s"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def update(page: str, folder: Path = RESULTS) -> str:
    """Return the page with every table written again."""

    def filled(block: re.Match[str]) -> str:
        start, name, end = block.groups()
        return f"{start}\n{table(load(name), read(folder, name))}\n{end}"

    return BLOCK.sub(filled, page)


def main() -> None:
    from .pictures import PICTURES

    PAGE.write_text(update(PAGE.read_text("ascii")), "ascii")
    for name, draw in PICTURES.items():
        draw(RESULTS).savefig(PAGE.with_name(f"papers-{name}.png"))


if __name__ == "__main__":
    main()
