# SPDX-License-Identifier: MIT
"""The pictures of docs/papers.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .runs import Result, load, of_variant, read

BLUE, ORANGE, GREEN, RED, GREY = "#1f6fb4", "#e07b00", "#2a9d4a", "#c0392b", "#777777"
PURPLE = "#8e44ad"
COLORS = {"RNN": GREY, "IRNN": ORANGE, "LSTM": BLUE, "LSTM, chrono": PURPLE, "GRU": GREEN}


def canvas(width: float, height: float, panels: int) -> tuple[Figure, Any]:
    figure = Figure((width, height), dpi=120, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def found(runs: list[Result], key: str) -> list[float]:
    return [run[key] for run in runs if run[key] is not None]


def lstm_1997(folder: Path) -> Figure:
    """Draw the number of sequences that each run needed, and the published mean."""
    figure, (order, adding, reber) = canvas(15, 4.8, 3)

    runs = read(folder, "temporal_order_1997")
    needed = [n / 1000 for n in found(runs, "sequences")]
    order.hist(needed, bins=25, color=BLUE)
    order.axvline(31.39, color=RED, label="published mean, 31,390")
    order.axvline(sum(needed) / len(needed), color=BLUE, linestyle="--", label="measured mean")
    order.set(
        title=f"6a, temporal order: {len(needed)} of {len(runs)} runs stop",
        xlabel="thousand sequences until the stopping rule holds",
        ylabel="runs",
    )

    runs = sorted(read(folder, "adding_1997"), key=lambda run: run["seed"])
    for key, color, label in (
        ("sequences_99", GREEN, "99 % of the last 2000 right"),
        ("sequences", BLUE, "the paper's rule: all 2000 right"),
    ):
        points = [(run[key] / 1000, run["seed"]) for run in runs if run[key] is not None]
        adding.scatter(*zip(*points), color=color, label=label)
    adding.axvline(74, color=RED, label="published mean, 74,000")
    adding.set(
        title=f"4, adding: {len(found(runs, 'sequences'))} of {len(runs)} runs stop",
        xlabel="thousand sequences", ylabel="seed", xlim=(0, None),
    )  # fmt: skip
    adding.set_yticks([run["seed"] for run in runs])
    adding.set_ylim(-0.7, len(runs) + 2.5)

    experiment, runs = load("reber_1997"), read(folder, "reber_1997")
    names = []
    for row, settings in enumerate(experiment.variants):
        own = of_variant(runs, settings)
        names.append(experiment.row(settings, own)[0].replace(", ", "\n", 1))
        for key, color, marker in (("strings_inner", GREEN, "x"), ("strings", BLUE, "o")):
            points = found(own, key)
            reber.scatter(points, [row] * len(points), color=color, marker=marker)
    published = [39_740, 21_730, 14_060, 9_500, 8_440]
    reber.scatter(published, range(5), color=RED, marker="D", label="published mean, all symbols")
    reber.scatter([], [], color=BLUE, label="all symbols right")
    reber.scatter([], [], color=GREEN, marker="x", label="all right but the one to remember")
    reber.set(title="1, embedded Reber grammar", xlabel="strings", xscale="log")
    reber.set_yticks(range(len(names)), names)
    reber.set_ylim(len(names) - 0.5, -2.6)

    for panel in (order, adding, reber):
        panel.legend(fontsize=8, loc="upper right")
    return figure


def temporal_order_2013(folder: Path) -> Figure:
    """Draw success rates by length, updates needed, and errors far beyond the trained lengths."""
    runs = read(folder, "temporal_order_2013")
    fixed = [r for r in runs if r["settings"]["shortest"] == r["settings"]["longest"]]
    trained = [r for r in runs if r not in fixed]
    panels = 3 if trained else 2
    figure, (rates, needed, *general) = canvas(4.4 * panels, 3.8, panels)
    styles = {
        "sgd": ("SGD", GREY, "s"),
        "clip": ("SGD, clipping", BLUE, "o"),
        "omega": ("SGD, clipping, Omega", ORANGE, "D"),
    }
    lengths = sorted({r["settings"]["shortest"] for r in fixed})
    for shift, (method, (label, color, marker)) in enumerate(styles.items(), -1):
        style = {"color": color, "marker": marker, "label": label, "alpha": 0.8}
        own = [r for r in fixed if r["settings"]["method"] == method]
        if not own:
            continue
        by_length = {
            T: [r["solved"] for r in own if r["settings"]["shortest"] == T] for T in lengths
        }
        rate = {T: sum(solved) / len(solved) for T, solved in by_length.items() if solved}
        rates.plot(list(rate), list(rate.values()), **style)
        solved = [r for r in own if r["solved"]]
        x = [r["settings"]["shortest"] + 0.6 * shift for r in solved]
        needed.scatter(x, [r["updates"] for r in solved], **style)
    rates.set(title="Success rate", xlabel="length T", ylabel="share of seeds", ylim=(-0.05, 1.05))
    needed.set(title="Runs that succeed", xlabel="length T", ylabel="updates", yscale="log")
    for panel in (rates, needed):
        panel.set_xticks(lengths)
        panel.legend(fontsize=8)

    for panel in general:
        generalisation(panel, trained)
    return figure


def generalisation(panel: Any, trained: list[Result]) -> None:
    for run in trained:
        settings, percent = run["settings"], [100 * error for error in run["errors"]]
        shortest, longest = settings["shortest"], settings["longest"]
        color = BLUE if settings.get("sparse") else ORANGE
        label = f"trained on {shortest} to {longest}" if run["seed"] == 0 else None
        panel.plot(settings["tested"], percent, color=color, marker="D", alpha=0.8, label=label)
        if label:
            panel.axvspan(shortest, longest, color=color, alpha=0.12)
    panel.axhline(75, color=RED, linestyle="--", label="guessing")
    panel.set(
        title="Other lengths than in training, Omega",
        xlabel="length T", ylabel="wrong answers, %", xscale="log",
    )  # fmt: skip
    panel.legend(fontsize=8, loc="lower right")


def curves(folder: Path) -> Figure:
    """Draw the losses of adding (2015) and copying (2018), and their baselines."""
    figure, (adding, copying) = canvas(12, 4.2, 2)
    for panel, name, key, colors in (
        (adding, "adding_2015", "cell", COLORS),
        (copying, "copy_2018", "start", {"standard": BLUE, "chrono": PURPLE}),
    ):
        labelled = set()
        for run in read(folder, name):
            kind = run["settings"][key]
            label = None if kind in labelled else kind
            panel.plot(*zip(*run["curve"]), color=colors[kind], label=label, linewidth=1.2)
            labelled.add(kind)
        panel.set(xlabel="updates")
    adding.axhline(1 / 6, color=RED, linestyle="--", label="always 1: 0.1667")
    adding.set(title="Adding, T = 200", ylabel="mean squared error, test", yscale="log")
    baseline = read(folder, "copy_2018")[0]["baseline"]
    copying.axhline(baseline, color=RED, linestyle="--", label=f"no memory: {baseline:.4f}")
    copying.set(title="Copy memory, T = 100", ylabel="cross-entropy, nats a step", ylim=(0, 0.5))
    for panel in (adding, copying):
        panel.legend(fontsize=8)
    return figure


PICTURES: dict[str, Callable[[Path], Figure]] = {
    "1997": lstm_1997,
    "2013": temporal_order_2013,
    "curves": curves,
}
