# SPDX-License-Identifier: MIT
"""Pictures of the claims."""

from __future__ import annotations

import numpy as np


def draw(claims, folder):
    """Write vanishing.png, exploding.png and reach.png."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise SystemExit('pictures need matplotlib: pip install "bptt[plot]"') from None
    mpl.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"font.size": 10, "axes.spines.right": False, "axes.spines.top": False}
    for name, panels in (("vanishing", VANISHING), ("exploding", EXPLODING), ("reach", REACH)):
        rows = (len(panels) + 1) // 2
        figure, axes = plt.subplots(rows, 2, figsize=(10, 3.6 * rows), layout="constrained")
        for axis, panel in zip(axes.flat, panels):
            panel(axis, claims)
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)


def lines(axis, curves, title, x, y):
    for name, curve in curves.items():
        axis.semilogy(np.arange(len(curve)), np.where(curve > 0, curve, np.nan), label=name)
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.legend(frameon=False)


def relative(claim):
    return {name: c / c[1] for name, c in claim.curves.items()}


def digits(axis, claims):
    curves = claims["three_digits"].curves
    for name, marker, size in (("T = 100", ".", 5), ("T = 3", "o", 8)):
        share = curves[name]
        lag = np.arange(len(share))[::-1]
        axis.semilogy(lag, np.abs(share), marker, markersize=size, label=name, fillstyle="none")
    axis.set(title="Three digits: share of each step in dL/dw_in", ylabel="|share|")
    axis.set(xlabel="steps before the last", ylim=(1e-60, 30))
    axis.legend(frameon=False)


def torch_start(axis, claims):
    curves = claims["torch_rnn"].curves
    lines(axis, curves, "RNN(4, 16), PyTorch's initialisation", "lag (steps)", "|dL/dh|")
    axis.set_ylim(1e-60, 1e3)
    gone = int(np.flatnonzero(curves["float32"] == 0)[0])
    axis.axvline(gone, color="0.6", linewidth=0.8)
    axis.annotate(f"float32: exactly 0\nfrom lag {gone} on", (gone - 4, 1e-12), ha="right")


def losses(axis, claims):
    free, clipped = claims["training"].curves.values()
    axis.loglog(np.arange(1, len(free) + 1), free, "o", label=f"no clip: NaN at update {len(free)}")
    axis.loglog(np.arange(1, len(clipped) + 1), clipped, linewidth=0.8, label="norm clipped to 1")
    axis.axhline(1 / 6, color="0.6", linewidth=0.8)
    axis.annotate("always answering 1", (1.1, 0.19), color="0.4")
    axis.set(title="Adding problem, W_hh = 1.2 identity, ReLU", xlabel="update", ylabel="loss")
    axis.set_ylim(0.05, 5000)
    axis.legend(frameon=False, loc="upper right")


def rates(axis, claims):
    curves = claims["learning_rates"].curves
    lines(axis, curves, "No clip: W_hh = identity, ReLU", "update", "norm of the gradient")


def activations(axis, claims):
    curves = relative(claims["slopes"])
    lines(axis, curves, "Orthogonal W_hh, 64 units", "lag (steps)", "|dL/dh| relative to lag 1")


def first_weights(axis, claims):
    curves = relative(claims["starts"])
    lines(axis, curves, "Initial weights of a simple network", "lag (steps)", "relative to lag 1")
    axis.set_ylim(1e-30, 10)


def gates(axis, claims):
    curves = relative(claims["cells"])
    del curves["GRU, chrono to 300"]  # hides the curve of the LSTM
    lines(axis, curves, "Cells of 32 units", "lag (steps)", "|dL/d(state)| relative to lag 1")
    axis.set_ylim(1e-30, 10)
    axis.legend(frameon=False, fontsize=8, loc=(0.6, 0.57))


def paths(axis, claims):
    curves = {**claims["skips"].curves, "attention": claims["attention"].curves["attention"]}
    del curves["skip over 30 steps"]
    curves["last state"] = curves.pop("none")
    lines(axis, curves, "Direct paths of a simple network", "lag (steps)", "|dL/dx|")
    axis.set_ylim(1e-30, 1e3)


VANISHING = (digits, torch_start)
EXPLODING = (losses, rates)
REACH = (activations, first_weights, gates, paths)
