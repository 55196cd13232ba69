# SPDX-License-Identifier: MIT
"""The cells: the equations of one step, from its sums on, with their gradient; and their table.

A cell is a pair of functions::

    step(x_gates, h_gates, state, options) -> (new_state, saved)
    grad(d_new_state, saved, state, options) -> (d_x_gates, d_h_gates, d_state, d_parameters)

on lists of (B, H) arrays, one per gate in the order that its step names. ``saved`` holds by name
what the gradient needs, each gate with its slope. ``d_parameters`` holds by name the gradients of
parameters that belong to units, not yet summed over the sequences: (..., B, H); and as "c" the
whole gradient of the new c, for the trace. Whatever is not element by element (products,
projection) is in `products`, and time in `loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS as KINDS
from .._cells import Cell as Kind
from .._types import Array
from .activations import (
    Gate,
    activated,
    clipped,
    log_sigmoid,
    normalised,
    normalised_grad,
    sigmoid,
    times_exp,
)

Gates = list[Array]
States = tuple[Array, ...]
Saved = dict[str, Any]
Step = tuple[States, Saved]
Gradient = tuple[Gates, Gates, States, dict[str, Array]]


# The options of all cells, as attributes; those that a call leaves out have their defaults.
Options = SimpleNamespace
DEFAULTS = {name: default for cell in KINDS.values() for name, default in cell.defaults.items()}


def options_of(cell: str, given: dict[str, Any]) -> Options:
    for name in given:
        if name not in KINDS[cell].options:
            raise TypeError(f"{cell}_forward() got an unexpected keyword argument {name!r}")
    o = Options(**DEFAULTS | given)
    if o.layer_norm is not None and not o.reset_after:
        raise ValueError(
            f"{cell}_forward: layer_norm is given with reset_after=False, expected reset_after=True"
        )
    return o


# --- cells with one state


def rnn_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Elman (1990): h' = act(x + h).

    With a leak a (Jaeger et al., 2007): h' = (1 - a) h + a act(x + h).
    """
    y = activated(o.activation, x[0] + h[0], o.preact_clip)
    new = y.value if o.leak is None else (1 - o.leak) * s[0] + o.leak * y.value
    return (new,), {"y": y}


def rnn_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    leak = 1.0 if o.leak is None else o.leak
    d = ds[0] * leak * k["y"].slope
    return [d], [d], ((1 - leak) * ds[0],), {}


def gru_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Cho et al. (2014); gates r z n.

    n = act(x_n + sig(r) h_n),   h' = (1 - sig(z)) n + sig(z) h.

    The reset is applied after the recurrent product (PyTorch, cuDNN); else it is already in h_n.
    """
    r = activated(o.gate_activation, x[0] + h[0], o.preact_clip)
    z = activated(o.gate_activation, x[1] + h[1], o.preact_clip)
    h_n = r.value * h[2] if o.reset_after else h[2]
    n = activated(o.activation, x[2] + h_n, o.preact_clip)
    new = (1 - z.value) * n.value + z.value * s[0]
    return (new,), {"r": r, "z": z, "n": n, "h_n": h[2]}


def gru_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    r, z, n = k["r"], k["z"], k["n"]
    dn = ds[0] * (1 - z.value) * n.slope
    dz = ds[0] * (s[0] - n.value) * z.slope
    passed = ds[0] * z.value
    if not o.reset_after:
        dr = np.zeros_like(dn)  # `products.step_grad` adds it
        return [dr, dz, dn], [dr, dz, dn], (passed,), {}
    dr = dn * k["h_n"] * r.slope
    return [dr, dz, dn], [dr, dz, dn * r.value], (passed,), {}


def mgu_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Zhou et al. (2016), forget gate applied after the recurrent product; gates f n.

    n = tanh(x_n + sig(f) h_n),   h' = (1 - sig(f)) n + sig(f) h.

    The last two f are as in Flax and as the GRU's z: an open gate keeps h. The paper has them
    the other way round, (1 - f) h + f n, so that the gate that opens h to n closes it to h'.
    """
    f = activated("sigmoid", x[0] + h[0], o.preact_clip)
    n = activated("tanh", x[1] + f.value * h[1], o.preact_clip)
    return (n.value + f.value * (s[0] - n.value),), {"f": f, "n": n, "h_n": h[1]}


def mgu_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    f, n = k["f"], k["n"]
    dn = ds[0] * (1 - f.value) * n.slope
    df = (ds[0] * (s[0] - n.value) + dn * k["h_n"]) * f.slope
    return [df, dn], [df, dn * f.value], (ds[0] * f.value,), {}


# --- cells with a memory beside h


def peep(o: Options, row: int, c: Array) -> Any:
    """Gers & Schmidhuber (2000): gates see the cell; rows as the gates, without g."""
    return 0 if o.peepholes is None else o.peepholes[row] * c


def lstm_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Hochreiter & Schmidhuber (1997), forget gate of Gers et al. (2000); gates i f g o.

    c' = sig(f) c + sig(i) act(g),   h' = sig(o) out(c').

    Without a forget gate of its own (gates i g o) f = 1 - sig(i) (coupled; Greff et al., 2017),
    or 1 (none). i and f may see c, o may see c' (peepholes). c' may be clipped; out may see it
    normalised, with gain and offset (Ba et al., 2016).
    """
    a = [p + q for p, q in zip(x, h)]
    c, gate, bound = s[1], o.gate_activation, o.preact_clip
    i = activated(gate, a[0] + peep(o, 0, c), bound)
    g = activated(o.activation, a[-2], bound)
    if o.forget_gate == "own":
        f = activated(gate, a[1] + peep(o, 1, c), bound)
    else:
        f = Gate(1 - i.value if o.forget_gate == "coupled" else np.ones_like(c), np.zeros_like(c))
    c, inside = clipped(f.value * c + i.value * g.value, o.cell_clip)
    o_gate = activated(gate, a[-1] + peep(o, -1, c), bound)
    saved: Saved = {"i": i, "f": f, "g": g, "o": o_gate, "c": c, "inside": inside}
    if o.layer_norm is None:
        out = activated(o.output_activation, c)
    else:
        _, _, gain, offset = o.layer_norm
        saved["normal"] = normalised(c)
        out = activated(o.output_activation, saved["normal"].value * gain + offset)
    saved["out"] = out
    return (o_gate.value * out.value, c), saved


def lstm_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    i, f, g, o_gate, out = (k[name] for name in ("i", "f", "g", "o", "out"))
    extra = {}
    do = ds[0] * out.value * o_gate.slope
    seen = ds[0] * o_gate.value * out.slope
    if o.layer_norm is not None:
        extra = {"g_c": seen * k["normal"].value, "b_c": seen}
        seen = normalised_grad(seen * o.layer_norm[2], k["normal"])
    extra["c"] = ds[1] + seen + peep(o, -1, do)
    dc = extra["c"] * k["inside"]
    di = dc * g.value * i.slope
    df = dc * s[1] * f.slope
    dg = dc * i.value * g.slope
    if o.forget_gate == "coupled":
        di = di - dc * s[1] * i.slope
    own = o.forget_gate == "own"
    passed = dc * f.value + peep(o, 0, di) + (peep(o, 1, df) if own else 0)
    if o.peepholes is not None:
        extra["peepholes"] = np.stack([di * s[1], *([df * s[1]] if own else []), do * k["c"]])
    d = [di, df, dg, do] if own else [di, dg, do]
    return d, d, (np.zeros_like(s[0]), passed), extra


def shown(I: Array, F: Array) -> Saved:
    """Gates i and f of an sLSTM, of their exponents."""
    return {"i": times_exp(1, I), "f": times_exp(1, np.where(F.real > 0, 0, F))}


def slstm_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Beck et al. (2024), xLSTM, with their stabiliser m; gates i f z o, states h c n m.

    m' = max(log sig(f) + m, i),   I = exp(i - m'),   F = exp(log sig(f) + m - m'),
    c' = F c + I tanh(z),   n' = F n + I,   h' = sig(o) c' / n'.

    Where n = 0, as in the state of zeros, there is nothing that m could scale: m' = i there, as in
    their code. F alone may be too large for a number then; it is shown as 1 at most.
    """
    i, a_f, a_z, a_o = (p + q for p, q in zip(x, h))
    z, o_gate = activated("tanh", a_z), activated("sigmoid", a_o)
    _, c, n, m = s
    kept = log_sigmoid(a_f) + m
    forget = (kept.real >= i.real) & (n.real != 0)
    m = np.where(forget, kept, i)
    I, F = i - m, kept - m  # the exponents of these
    c, n = times_exp(c, F) + times_exp(z.value, I), times_exp(n, F) + times_exp(1, I)
    out = c / n
    saved = {"I": I, "F": F, "z": z, "o": o_gate, "out": out, "n": n}
    saved |= {"forget": forget, "slope_f": sigmoid(-a_f), **shown(I, F)}
    return (o_gate.value * out, c, n, m), saved


def slstm_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    I, F, z, o_gate, out, n = (k[name] for name in ("I", "F", "z", "o", "out", "n"))
    dout = ds[0] * o_gate.value / n  # n may be tiny: never its square
    dc, dn = ds[1] + dout, ds[2] - dout * out
    do = ds[0] * out * o_gate.slope
    dz = times_exp(dc, I) * z.slope
    di = times_exp(dc * z.value + dn, I)
    dkept = times_exp(dc * s[1] + dn * s[2], F)
    dm = ds[3] - di - dkept  # m' stands in both exponents
    di = di + np.where(k["forget"], 0, dm)
    dkept = dkept + np.where(k["forget"], dm, 0)
    d = [di, dkept * k["slope_f"], dz, do]
    return d, d, (np.zeros_like(dc), times_exp(dc, F), times_exp(dn, F), dkept), {"c": dc}


def lstm1997_step(x: Gates, h: Gates, s: States, o: Options) -> Step:
    """Hochreiter & Schmidhuber (1997); gates i o g, states h c i o.

    c' = c + sig(i) (4 sig(g) - 2),   h' = sig(o) (2 sig(c') - 1).

    The recurrent product takes h and both gates' values, so these are states too.
    """
    i, o_gate, g = (activated("sigmoid", p + q) for p, q in zip(x, h))
    c = s[1] + i.value * (4 * g.value - 2)
    out = activated("sigmoid", c)
    new = (o_gate.value * (2 * out.value - 1), c, i.value, o_gate.value)
    return new, {"i": i, "o": o_gate, "g": g, "out": out}


def lstm1997_grad(ds: Gates, k: Saved, s: States, o: Options) -> Gradient:
    """Exact for the step itself; that nothing flows through the sums is `Cell.truncated`."""
    i, o_gate, g, out = (k[name] for name in ("i", "o", "g", "out"))
    dc = ds[1] + ds[0] * o_gate.value * 2 * out.slope
    di = (dc * (4 * g.value - 2) + ds[2]) * i.slope
    do = (ds[0] * (2 * out.value - 1) + ds[3]) * o_gate.slope
    dg = dc * i.value * 4 * g.slope
    zero = np.zeros_like(dc)
    return [di, do, dg], [di, do, dg], (zero, dc, zero, zero), {"c": dc}


# --- the table


class Cell(NamedTuple):
    """A cell and its equations.

    Attributes
    ----------
    zones : tuple of int or None
        For each state the part of `zoneout` that it takes: 0, the part of h; 1; or None.
    """

    kind: Kind
    step: Callable[..., Step]
    grad: Callable[..., Gradient]
    zones: tuple[int | None, ...] = (0,)

    @property
    def gates(self) -> int:
        return len(self.kind.gates)

    @property
    def states(self) -> int:
        return len(self.kind.states)

    @property
    def split_gate(self) -> int | None:
        """The number of the gate whose halves are sums of their own."""
        name = self.kind.split_gate
        return None if name is None else [*self.kind.gates].index(name)


CELLS = {
    "rnn": Cell(KINDS["rnn"], rnn_step, rnn_grad),
    "lstm": Cell(KINDS["lstm"], lstm_step, lstm_grad, zones=(0, 1)),
    "gru": Cell(KINDS["gru"], gru_step, gru_grad),
    "mgu": Cell(KINDS["mgu"], mgu_step, mgu_grad),
    # c, n and m are one memory: they are kept together or not at all.
    "slstm": Cell(KINDS["slstm"], slstm_step, slstm_grad, zones=(0, 1, 1, 1)),
    "lstm1997": Cell(KINDS["lstm1997"], lstm1997_step, lstm1997_grad, zones=(0, 1, None, None)),
}
