# SPDX-License-Identifier: MIT
"""How far a gradient can reach
============================

Jacobians of untrained networks, and how fast their products shrink or grow with the lag.

||dh_T/dh_k||, the spectral norm of a Jacobian, is the largest factor by which a gradient at the
last step can be multiplied on its way to step k. For RNNs whose w_hh is orthogonal times 0.9, 1 or
1.5, the table also has the bound (max |tanh'| sigma_max(w_hh))^(T-k). The horizon is the lag at
which the norm has fallen to 1 % of its value at lag 1; the exponent is the largest Lyapunov
exponent, in nats per step.
"""

import argparse

import numpy as np

import bptt

T, B, I, H = 201, 8, 4, 32
LAGS = np.arange(T)

parser = argparse.ArgumentParser(description="How far a gradient can reach")
parser.add_argument("--plot", metavar="FILE", help="save a picture (needs bptt[plot])")
parser.add_argument("--quick", action="store_true", help="one sequence instead of eight")
args = parser.parse_args()
x = np.random.default_rng(0).standard_normal((T, 1 if args.quick else B, I))


def measured(layer):
    """The mean log norm by lag over the sequences, the horizon and the exponent."""
    _, _, tape = layer.forward(x)
    logs = bptt.jacobian_norms(tape.cells[0], log=True).mean(axis=1)
    exponent = bptt.lyapunov_spectrum(tape.cells[0], 1, warmup=50).mean()
    return logs[::-1], bptt.memory_horizon(np.exp(logs)), exponent


def rnn(scale):
    layer = bptt.RNN(I, H, dtype="float64", seed=1)
    bptt.init.orthogonal(layer.parameters["weight_hh_l0"], 1, gain=scale)
    return layer


def lstm(forget):
    layer = bptt.LSTM(I, H, dtype="float64", seed=1)
    bptt.init.forget_bias(layer, forget)
    return layer


scaled = {f"{scale:.1f} orthogonal": rnn(scale) for scale in (0.9, 1.0, 1.5)}
cells = {
    "RNN, usual start": bptt.RNN(I, H, dtype="float64", seed=1),
    "GRU, usual start": bptt.GRU(I, H, dtype="float64", seed=1),
    "LSTM, usual start": bptt.LSTM(I, H, dtype="float64", seed=1),
    "LSTM, forget bias 1": lstm(1.0),
    "LSTM, forget bias 3": lstm(3.0),
}
found = {name: measured(layer) for name, layer in {**scaled, **cells}.items()}
bounds = {
    name: bptt.decay_bound(layer.parameters["weight_hh_l0"], "tanh", LAGS)
    for name, layer in scaled.items()
}
print(f"{'':20} {'lag 50':>8} {'bound':>8} {'horizon':>8} {'exponent':>9}")
for name, (logs, horizon, exponent) in found.items():
    bound = f"{bounds[name][50]:8.0e}" if name in bounds else f"{'-':>8}"
    print(f"{name:20} {np.exp(logs[50]):8.0e} {bound} {horizon:8.1f} {exponent:9.3f}")

if args.plot:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, bound in bounds.items():
        (line,) = left.semilogy(LAGS, np.exp(found[name][0]), label=f"w_hh = {name}")
        left.semilogy(LAGS, bound, "--", color=line.get_color(), lw=0.9)
    left.set(title="RNN, tanh: measured, and its bound (dashed)", ylim=(1e-30, 1e20))
    for name in cells:
        right.semilogy(LAGS, np.exp(found[name][0]), label=f"{name}: horizon {found[name][1]:.0f}")
    right.set(title="Untrained cells", ylim=(1e-30, 1e20), xlim=left.get_xlim())
    for axes in (left, right):
        axes.set(xlabel="lag $T - k$, steps", ylabel=r"$\|dh_T/dh_k\|_2$")
        axes.legend(loc="upper right")
    figure.savefig(args.plot, dpi=120)
