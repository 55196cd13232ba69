# SPDX-License-Identifier: MIT
"""One step of any cell, with the products that deliver its sums; and the gradient of that.

Here is all that is not element by element: the products with the weights, their normalisation, the
projection of h. `loop` knows of time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._types import Array
from .activations import Normal, activated, normalised, normalised_grad
from .cells import Cell, Gates, Options, Saved, States
from .rounding import rounded_operand, rounded_weights
from .trace import changed, seen_of


class Network(NamedTuple):
    """A cell, its options and its parameters."""

    cell: Cell
    o: Options
    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None
    int8: bool = False  # are the operands of products rounded?

    def rounded(self) -> Network:
        """The network that `layer.prepare("int8")` computes with."""
        w_ih, w_hh = rounded_weights(self.w_ih), rounded_weights(self.w_hh)
        return self._replace(w_ih=w_ih, w_hh=w_hh, int8=True)

    def operand(self, v: Array) -> Array:
        return rounded_operand(v) if self.int8 else v

    @property
    def gates(self) -> int:
        return len(self.cell.kind.activations(forget_gate=self.o.forget_gate))

    @property
    def units(self) -> int:
        return len(self.w_ih) // self.gates

    @property
    def sizes(self) -> list[int]:
        """Of the states: h is as long as the projection's rows."""
        h = self.units if self.o.w_hr is None else len(self.o.w_hr)
        return [h, *[self.units] * (self.cell.states - 1)]

    @property
    def w_blocks(self) -> Array:
        """w_hh as the product takes it: with heads, zero where a unit sees another head."""
        return block_diagonal(self.w_hh, self.o.heads)

    @property
    def w_n(self) -> Array:
        """Of w_hh the rows that make a GRU's h_n = w_n (r u) + b_n where the reset comes first."""
        return self.w_hh[2 * self.units :]

    @property
    def parameters(self) -> dict[str, Array]:
        """By name, those that are given."""
        norm = zip(("g_ih", "g_hh", "g_c", "b_c"), self.o.layer_norm or ())
        named = {"w_ih": self.w_ih, "w_hh": self.w_hh, "b_ih": self.b_ih, "b_hh": self.b_hh}
        named |= {"peepholes": self.o.peepholes, "w_hr": self.o.w_hr, **dict(norm)}
        return {name: a for name, a in named.items() if a is not None}

    @property
    def gains(self) -> tuple[Any, Any]:
        norm = self.o.layer_norm
        return (None, None) if norm is None else (norm[0], norm[1])


def block_diagonal(w: Array, heads: int) -> Array:
    """(rows, H / heads) to (rows, H): row u of a gate stands for unit u."""
    if heads == 1:
        return w
    size = w.shape[1]
    head = np.arange(len(w)) // size % heads
    seen = head[:, None] == np.arange(heads * size) // size
    return np.where(seen, np.tile(w, heads), 0)


def blocks(dw: Array, heads: int) -> Array:
    """The transpose of `block_diagonal`."""
    if heads == 1:
        return dw
    size = dw.shape[1] // heads
    ones = block_diagonal(np.ones((len(dw), size)), heads)
    return np.asarray((dw * ones).reshape(len(dw), heads, size).sum(1))


# --- one product: a = w v, or LN(w v) * gain; and b


def product(v: Array, w: Array, b: Array | None, gain: Any) -> tuple[Array, Normal | None]:
    a, normal = v @ w.T, None
    if gain is not None:
        normal = normalised(a)
        a = normal.value * gain
    return (a if b is None else a + b), normal


def product_grad(
    d: Array, v: Array, w: Array, gain: Any, normal: Normal | None
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients of v, w, b and gain."""
    db, dgain = d.sum(0), None
    if normal is not None:
        dgain = (d * normal.value).sum(0)
        d = normalised_grad(d * gain, normal)
    return d @ w, d.T @ v, db, dgain


# --- clipping of the gradient between steps

StepClip = tuple[str, float] | tuple[str, float, str] | None


def clip_step(dh: Array, step_clip: tuple[str, float] | None) -> Array:
    """Bound the gradient passed back one step: each element, or each sequence's Euclidean norm.

    By norm, a gradient that is not finite stays as it is.
    """
    if step_clip is None:
        return dh
    kind, bound = step_clip
    if kind == "value":
        return np.clip(dh, -bound, bound)
    # Relative to the largest element, as squares could overflow.
    largest = np.fmax(np.abs(dh).max(axis=-1, keepdims=True), np.finfo(dh.dtype).tiny)
    scaled = dh / largest
    norm = largest * np.sqrt((scaled * scaled).sum(axis=-1, keepdims=True))
    return np.asarray(dh / np.fmax(norm / bound, 1))


def clip_of(step_clip: StepClip, target: str) -> tuple[str, float] | None:
    """What `clip_step` is to do with this target."""
    if step_clip is None or (*step_clip, "h")[2] != target:
        return None
    return step_clip[0], step_clip[1]


def clip_sums(
    net: Network, gx: Gates, gh: Gates, step_clip: tuple[str, float] | None
) -> tuple[Gates, Gates]:
    """The same for all sums of a step together; one that x and h share counts once."""
    if step_clip is None:
        return gx, gh
    split = net.cell.split_gate if net.o.reset_after else None
    sums = gx if split is None else [*gx, gh[split]]
    sums = np.split(clip_step(np.concatenate(sums, -1), step_clip), len(sums), -1)
    gx = sums[: net.gates]
    return gx, [sums[-1] if k == split else d for k, d in enumerate(gx)]


# --- one step


def step(net: Network, x: Array, s: States) -> tuple[States, Saved]:
    """The states after a step from those before it."""
    cell, o = net.cell, net.o
    named = dict(zip(cell.kind.states, s))
    u = np.concatenate([named[name] for name in cell.kind.operand], -1)
    u = u if o.h_mask is None else u * o.h_mask
    gain_ih, gain_hh = net.gains
    ax, normal_x = product(net.operand(x), net.w_ih, net.b_ih, gain_ih)
    ah, normal_h = product(net.operand(u), net.w_blocks, net.b_hh, gain_hh)
    x_gates, h_gates = (np.split(a, net.gates, axis=-1) for a in (ax, ah))
    if not o.reset_after:
        r = activated(o.gate_activation, x_gates[0] + h_gates[0], o.preact_clip)
        h_gates[2] = h_gates[2] + ((r.value - 1) * u) @ net.w_n.T
    new, saved = cell.step(x_gates, h_gates, s, o)
    saved |= {"u": u, "normal_x": normal_x, "normal_h": normal_h, "h": new[0]}
    if o.w_hr is not None:  # Sak et al. (2014)
        new = (new[0] @ o.w_hr.T, *new[1:])
    return new, saved


def step_grad(
    net: Network, x: Array, s: States, k: Saved, ds: Gates, on: Array, step_clip: StepClip
) -> tuple[list[Array], dict[str, Any]]:
    """Gradients of the states before the step, and by name of x and the parameters; and as "seen"
    what a trace shows.

    Only rows that are ``on`` count.
    """
    cell, o, grads = net.cell, net.o, {}
    if o.w_hr is not None:
        grads["w_hr"] = ds[0].T @ k["h"]
        ds = [ds[0] @ o.w_hr, *ds[1:]]
    gx, gh, direct, extra = cell.grad(ds, k, s, o)
    dc = extra.pop("c", None)
    grads |= {name: np.where(on, d, 0).sum(-2) for name, d in extra.items()}
    if not o.reset_after:
        dr = (gh[2] @ net.w_n) * k["u"] * k["r"].slope
        gx, gh = [gx[0] + dr, *gx[1:]], [gh[0] + dr, *gh[1:]]
    sums = np.concatenate([*gx, *gh], -1)
    gx, gh = clip_sums(net, gx, gh, clip_of(step_clip, "gates"))
    dax, dah = (np.where(on, np.concatenate(g, -1), 0) for g in (gx, gh))
    clipped = changed(sums, np.concatenate([*gx, *gh], -1))
    grads["seen"] = seen_of(k, dc, dax, dah, clipped)
    gain_ih, gain_hh = net.gains
    found = product_grad(dax, x, net.w_ih, gain_ih, k["normal_x"])
    grads |= dict(zip(("x", "w_ih", "b_ih", "g_ih"), found))
    du, dw, grads["b_hh"], grads["g_hh"] = product_grad(
        dah, k["u"], net.w_blocks, gain_hh, k["normal_h"]
    )
    if not o.reset_after:
        dn, off = dah[:, 2 * net.units :], k["r"].value - 1
        du = du + off * (dn @ net.w_n)
        dw[2 * net.units :] += dn.T @ (off * k["u"])
    grads["w_hh"] = blocks(dw, o.heads)
    du = du if o.h_mask is None else du * o.h_mask
    passed = list(direct)
    if not cell.kind.truncated:
        passed[0] = passed[0] + du
    return passed, grads
