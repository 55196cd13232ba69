# SPDX-License-Identifier: MIT
"""The network of Hochreiter & Schmidhuber (1997): memory cell blocks, one layer of outputs.

The cells of a block share one input gate and one output gate, and every hidden unit (gates as well)
feeds every other. `bptt.lstm1997_forward` has a gate for each cell. The two agree exactly if the
gates of a block have copies of the same weights and only the first copy is fed back. So this module
keeps the paper's weights, copies them for the function, and sums the gradients of the copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import bptt

Array = NDArray[np.float64]
Lengths = NDArray[np.int64]


def sigmoid(a: Array) -> Array:
    return 0.5 * np.tanh(0.5 * a) + 0.5


class Network:
    """`blocks` blocks of `size` cells and logistic outputs, trained online by gradient descent.

    Parameters
    ----------
    inputs, blocks, size, outputs : int
    bound : float
        All weights are drawn from U(-bound, bound), biases as well.
    lr : float
    rng : numpy.random.Generator
    gates_only : bool
        Only gates have biases, instead of all hidden units and outputs.
    input_bias, output_bias : list of float, optional
        Biases of the blocks' input or output gates, instead of random ones.
    """

    def __init__(
        self, inputs: int, blocks: int, size: int, outputs: int, bound: float, lr: float,
        rng: np.random.Generator, gates_only: bool = False,
        input_bias: list[float] | None = None, output_bias: list[float] | None = None,
    ) -> None:  # fmt: skip
        cells = blocks * size
        units = 2 * blocks + cells  # input gates, output gates, cells
        self.inputs, self.cells, self.lr, self.gates_only = inputs, cells, lr, gates_only
        # Columns: inputs, a constant 1, cells, input gates, output gates.
        self.w = rng.uniform(-bound, bound, (units, inputs + 1 + units))
        self.out = rng.uniform(-bound, bound, (outputs, cells + 1))
        if gates_only:
            self.w[2 * blocks :, inputs] = 0
            self.out[:, -1] = 0
        if input_bias is not None:
            self.w[:blocks, inputs] = input_bias
        if output_bias is not None:
            self.w[blocks : 2 * blocks, inputs] = output_bias
        # Rows i, o, g of each cell come from its block; columns go to the first cell of each block.
        block = np.arange(cells) // size
        rows = np.concatenate([block, blocks + block, 2 * blocks + np.arange(cells)])
        self.rows = np.eye(units)[rows]
        first = np.arange(blocks) * size
        columns = np.concatenate([np.arange(cells), cells + first, 2 * cells + first])
        self.columns = np.eye(3 * cells)[columns]
        self.zeros = np.zeros((1, cells))

    @property
    def weights(self) -> int:
        """The number of learnt weights."""
        biases = self.cells + len(self.out) if self.gates_only else 0
        return self.w.size + self.out.size - biases

    def forward(
        self, x: Array, lengths: Lengths | None = None, keep_tape: bool = False
    ) -> tuple[Array, Any, Any]:
        """Run `bptt.lstm1997_forward` on x, of shape (T, B, inputs + 1) with a last column of 1."""
        w = self.rows @ self.w
        of_inputs, of_units = w[:, : self.inputs + 1], w[:, self.inputs + 1 :] @ self.columns
        return bptt.lstm1997_forward(x, of_inputs, of_units, lengths=lengths, keep_tape=keep_tape)

    def read(self, h: Array) -> Array:
        """Activations of the output units, which see cells only."""
        return sigmoid(h @ self.out[:, :-1].T + self.out[:, -1])

    def learn(self, x: Array, target: Array) -> Array:
        """Make one update for a sequence, x (T, 1, inputs + 1); return the outputs before it.

        `target` is (T, outputs), or (1, outputs) for the last step only. The error is
        E = sum (target - output)^2 / 2, with the truncated gradient of the paper.
        """
        y, state, tape = self.forward(x, keep_tape=True)
        h = y[:, 0] if len(target) > 1 else state[0]
        output = self.read(h)
        delta = (output - target) * output * (1 - output)
        dh = delta @ self.out[:, :-1]
        if len(target) > 1:
            grads = bptt.lstm1997_backward(tape, dh[:, None])
        else:
            grads = bptt.lstm1997_backward(tape, None, (dh, self.zeros, self.zeros, self.zeros))
        of_cells = np.concatenate([grads.w_ih, grads.w_hh @ self.columns.T], axis=1)
        gradient = self.rows.T @ of_cells
        self.out[:, :-1] -= self.lr * delta.T @ h
        if self.gates_only:
            gradient[-self.cells :, self.inputs] = 0
        else:
            self.out[:, -1] -= self.lr * delta.sum(axis=0)
        self.w -= self.lr * gradient
        return output


class Batch(NamedTuple):
    """Sequences with one target each, at the end."""

    x: Array  # (T, B, inputs + 1), the last column 1
    lengths: Lengths
    target: Array  # (B, outputs)


def learn_online(
    net: Network, draw: Callable[[int], Batch], tolerance: float, error: float, limit: int
) -> dict[str, Any]:
    """Train until the last 2000 sequences were right and their mean squared error is below `error`.

    A sequence is right if all outputs are within `tolerance` of its target. Returns the number of
    sequences until then, the number until 99 % of the last 2000 were right (None if never), and the
    number of wrong ones among 2560 fresh sequences.
    """
    right, squared = np.zeros(2000, bool), np.ones(2000)
    ninety_nine, n = None, 0
    for n in range(1, limit + 1):
        k = (n - 1) % 1000
        if k == 0:
            x, lengths, target = draw(1000)
            x = np.ascontiguousarray(x.transpose(1, 0, 2))[:, :, None]
        output = net.learn(x[k, : lengths[k]], target[k : k + 1])
        off = np.abs(output - target[k])
        right[n % 2000], squared[n % 2000] = off.max() < tolerance, (off * off).sum()
        if n % 10 == 0 and n >= 2000:
            if ninety_nine is None and right.mean() >= 0.99:
                ninety_nine = n
            if right.all() and squared.mean() < error:
                break
    solved = bool(right.all() and squared.mean() < error)
    test = draw(2560)
    off = np.abs(net.read(net.forward(test.x, test.lengths)[1][0]) - test.target)
    return {
        "solved": solved,
        "sequences": n if solved else None,
        "sequences_99": ninety_nine,
        "wrong_of_2560": int((off.max(axis=1) >= tolerance).sum()),
        "test_mse": float((off * off).mean()),
    }
