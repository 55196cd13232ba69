# SPDX-License-Identifier: MIT
"""Three digits: backpropagation through time by hand
==================================================

Three weights, and every number visible.

Sequences of three binary digits; the answer is the first digit. One neuron reads them::

    O_t = tanh(x_t w_in + O_{t-1} w_h),   answer = w_out O_3

dL/dw_in is a sum over time steps. The term of step 1 is the long-term dependency, the term of the
last step the short-term one. With 100 digits the first term vanishes, and nothing is learnt.
"""

import sys

import numpy as np

import bptt

shares = {}


def train(T, updates, rate=0.5):
    x, target, baseline = bptt.tasks.three_digits(T, seed=0)
    x, target = x.astype(np.float64), target.astype(np.float64)
    w_in, w_h, w_out = 0.7, 0.4, 0.2

    for update in range(updates + 1):
        _, h, tape = bptt.rnn_forward(x, [[w_in]], [[w_h]])
        answer = w_out * h[:, 0]
        loss, danswer = bptt.losses.mse(answer, target)

        # The loss depends on the final state alone: dL/dO_T = dL/danswer * w_out.
        grads = bptt.rnn_backward(tape, dstate=danswer[:, None] * w_out)

        # With a_t the argument of tanh, grads.x is dL/da_t * w_in, and step t adds dL/da_t * x_t.
        terms = (grads.x * x).sum(axis=(1, 2)) / w_in
        assert np.isclose(terms.sum(), grads.w_ih[0, 0])

        if update in (0, 1, 10, 100, updates):
            print(f"{update:5}  loss {loss:.4f}  dL/dw_in {terms.sum():9.1e}", end="  ")
            print(f"of which step 1: {terms[0]:8.1e}, step {T}: {terms[-1]:8.1e}")

        w_in -= rate * grads.w_ih[0, 0]
        w_h -= rate * grads.w_hh[0, 0]
        w_out -= rate * (danswer @ h[:, 0])

    shares[T] = terms / terms.sum()
    print(f"       answers {answer.round(2)} for {target}; answering 1/2 costs {baseline}\n")


# %%
print("three digits: 101 -> 1, 001 -> 0, 000 -> 0, 111 -> 1")
train(T=3, updates=2000)
print("a hundred digits, the same first three")
train(T=100, updates=2000)

if "--plot" in sys.argv:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for T, share in shares.items():
        axes.semilogy(np.arange(T)[::-1], np.abs(share), ".", label=f"{T} digits, trained")
    axes.set(xlabel="steps before the last", ylabel="share in dL/dw_in")
    axes.legend(frameon=False)
    figure.savefig(sys.argv[-1], dpi=120)
