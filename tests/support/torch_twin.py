# SPDX-License-Identifier: MIT
"""Every recurrence once more, in PyTorch: one sequence after the other, gradients by autograd.

Nothing is shared with the reference: history is a list that grows, options are read as the
papers write them, a gradient that is not to flow is one of a detached tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bptt.reference import clip_step
from support.problems import Problem, flat, named, state_of

ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    # F.hardsigmoid has a 1/6 of float32
    "hard_sigmoid": lambda a, slope=1 / 6, offset=0.5: torch.clamp(slope * a + offset, 0, 1),
    "identity": lambda a: a,
    "elu": F.elu,
    "softsign": F.softsign,
    "softplus": lambda a: F.softplus(a, threshold=700),
    "thresholded_relu": lambda a, threshold=1.0: F.threshold(a, threshold, 0),
    "scaled_tanh": lambda a, scale=1.0, factor=1.0: scale * torch.tanh(factor * a),
    "affine": lambda a, slope=1.0, offset=0.0: slope * a + offset,
}


def activation(option: Any) -> Any:
    """The function of a name, or of a tuple of a name and parameters."""
    name, *parameters = option if isinstance(option, tuple) else (option,)
    return lambda a: ACTIVATIONS[name](a, *parameters)


class Twin:
    """One cell with the tensors and options of a call."""

    def __init__(self, c: Problem, arrays: dict[str, Any], step_clip: Any) -> None:
        self.arrays, self.o, self.step_clip = arrays, c.options, step_clip
        self.step = getattr(self, c.cell)
        self.gates = {"rnn": 1, "gru": 3, "mgu": 2, "lstm1997": 3}.get(c.cell, 4)
        if self.o.get("forget_gate", "own") != "own":
            self.gates = 3
        self.H = len(arrays["w_ih"]) // self.gates
        self.act = activation(self.o.get("activation", "tanh"))
        self.gate = activation(self.o.get("gate_activation", "sigmoid"))
        self.activated: dict[str, Any] = {}  # of the last step, by gate
        self.seen: dict[tuple[int, int], tuple[Any, Any]] = {}  # of each step: states, activated

    def linear(self, side: str, v: Any) -> Any:
        w, b = self.arrays[f"w_{side}"], self.arrays[f"b_{side}"]
        if side == "hh" and self.o.get("heads", 1) > 1:
            size = w.shape[1]
            w = torch.cat([torch.block_diag(*rows.split(size)) for rows in w.split(self.H)])
        a = w @ v
        if "layer_norm" in self.arrays:
            gain = self.arrays["layer_norm"][side == "hh"]
            return F.layer_norm(a, a.shape, gain, b, 1e-5)
        return a if b is None else a + b

    def clip(self, a: Any, name: str = "preact_clip") -> Any:
        bound = self.o.get(name)
        return a if bound is None else torch.clamp(a, -bound, bound)

    def passing(self, a: Any, target: str) -> Any:
        """The same numbers, and a gradient that is clipped on its way back."""
        if self.step_clip is None or (*self.step_clip, "h")[2] != target or not a.requires_grad:
            return a
        a = a.clone()
        a.register_hook(lambda d: torch.tensor(clip_step(d.numpy(), self.step_clip[:2])))
        return a

    def sums(self, x: Any, u: Any) -> Any:
        return self.passing(self.linear("ih", x) + self.linear("hh", u), "gates").split(self.H)

    def sums_apart(self, x: Any, u: Any) -> Any:
        """The two halves of the last gate are sums of their own."""
        *xs, x_n = self.linear("ih", x).split(self.H)
        *hs, h_n = self.linear("hh", u).split(self.H)
        shared = [p + q for p, q in zip(xs, hs)]
        return self.passing(torch.cat([*shared, x_n, h_n]), "gates").split(self.H)

    def rnn(self, x: Any, u: Any, s: Any) -> Any:
        y = self.act(self.clip(self.sums(x, u)[0]))
        self.activated = {"h": y}
        leak = self.o.get("leak")
        leak = torch.from_numpy(leak) if isinstance(leak, np.ndarray) else leak
        return [y if leak is None else (1 - leak) * s[0] + leak * y]

    def lstm(self, x: Any, u: Any, s: Any) -> Any:
        forget = self.o.get("forget_gate", "own")
        i, *f, g, o = self.sums(x, u)
        c, p = s[1], self.arrays.get("peepholes")
        if p is not None:
            i = i + p[0] * c
            f = [f[0] + p[1] * c] if f else f
        i = self.gate(self.clip(i))
        keep = self.gate(self.clip(f[0])) if f else 1 - i if forget == "coupled" else 1
        g = self.act(self.clip(g))
        c = self.clip(keep * c + i * g, "cell_clip")
        o = self.gate(self.clip(o if p is None else o + p[-1] * c))
        self.activated = {"i": i, **({"f": keep} if f else {}), "g": g, "o": o}
        seen = c
        if "layer_norm" in self.arrays:
            seen = F.layer_norm(c, c.shape, *self.arrays["layer_norm"][2:], 1e-5)
        h = o * activation(self.o.get("output_activation", "tanh"))(seen)
        return [self.arrays["w_hr"] @ h if "w_hr" in self.arrays else h, c]

    def gru(self, x: Any, u: Any, s: Any) -> Any:
        r, z, x_n, h_n = self.sums_apart(x, u)
        r, z = self.gate(self.clip(r)), self.gate(self.clip(z))
        early = not self.o.get("reset_after", True)
        n = self.act(self.clip(x_n + (self.linear("hh", r * u)[-self.H :] if early else r * h_n)))
        self.activated = {"r": r, "z": z, "n": n}
        return [(1 - z) * n + z * s[0]]

    def mgu(self, x: Any, u: Any, s: Any) -> Any:
        f, x_n, h_n = self.sums_apart(x, u)
        f = torch.sigmoid(self.clip(f))
        n = torch.tanh(self.clip(x_n + f * h_n))
        self.activated = {"f": f, "n": n}
        return [(1 - f) * n + f * s[0]]

    def slstm(self, x: Any, u: Any, s: Any) -> Any:
        i, f, z, o = self.sums(x, u)
        _, c, n, m = s
        self.activated = {"f": torch.sigmoid(f), "z": torch.tanh(z), "o": torch.sigmoid(o)}
        log_f = F.logsigmoid(f)
        new_m = torch.where(n == 0, i, torch.maximum(log_f + m, i))
        i, f = torch.exp(i - new_m), torch.exp(log_f + m - new_m)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return [torch.sigmoid(o) * c / n, c, n, new_m]

    def lstm1997(self, x: Any, u: Any, s: Any) -> Any:
        i, o, g = (torch.sigmoid(a) for a in self.sums(x, torch.cat([u, *s[2:]]).detach()))
        self.activated = {"i": i, "o": o, "g": g}
        c = s[1] + i * (4 * g - 2)
        return [o * (2 * torch.sigmoid(c) - 1), c, i, o]

    def keep(self, t: int, b: int) -> list[Any]:
        """Zoneout of h and c."""
        z = self.o.get("zoneout", 0.0)
        pair = z if isinstance(z, tuple) else (z, 0.0)
        return [p if isinstance(p, float) else torch.tensor(p[t, b]) for p in pair]

    def sequence(self, b: int, steps: Any, state: list[Any], cut: int | None) -> Any:
        """Outputs by step, and the final states."""
        o, d, y, count = self.o, self.o.get("dilation", 1), {}, len(steps)
        history = (
            [[q[b] for q in state]] if d == 1 else [[q[j, b] for q in state] for j in range(d)]
        )
        for p, t in enumerate(steps):
            if o.get("resets") is not None and o["resets"][t, b]:
                history = [[torch.zeros_like(q) for q in history[-1]]] * d
            if cut is not None and (count - p) % cut == 0:
                history = [[q.detach() for q in entry] for entry in history]
            s = [self.passing(q, target) for q, target in zip(history[-d], "hc-+")]
            mask = o.get("h_mask")
            u = s[0] if mask is None else s[0] * torch.tensor(mask[b])
            new = self.step(self.arrays["x"][t, b], u, s)
            z_h, z_c = self.keep(t, b)
            zones = [z_h] + ([0.0] * 3 if len(new) == 1 else [z_c] * 3)
            if self.step == self.lstm1997:
                zones[2:] = [0.0, 0.0]
            if self.step == self.slstm:
                zones[3] = torch.where(s[2] == 0, 0.0, torch.as_tensor(zones[3], dtype=s[2].dtype))
            new = [mixed(z, q, a) for z, q, a in zip(zones, s, new)]
            k = o.get("skip", 0)
            if k and k <= len(history):
                new[0] = new[0] + history[-k][0]
            history.append(new)
            for state in new:
                if state.requires_grad:
                    state.retain_grad()
            self.seen[t, b] = new, self.activated
            y[t] = new[0]
        return y, history[-d:]


def mixed(z: Any, old: Any, new: Any) -> Any:
    """Without zoneout the state is what the cell made, not a copy of it."""
    return new if isinstance(z, float) and z == 0 else z * old + (1 - z) * new


def run(
    c: Problem, cut: int | None = None, step_clip: Any = None
) -> tuple[Twin, dict[str, Any], Any, list[Any]]:
    """Both passes: the cell, the leaves by name, y and the final states."""

    def leaf(a: Any) -> Any:
        return torch.tensor(a, dtype=torch.float64, requires_grad=True)

    arrays = {k: [None if a is None else leaf(a) for a in flat(v)] for k, v in c.arrays.items()}
    state = arrays["state"]
    twin = Twin(c, {k: state_of(v) for k, v in arrays.items()}, step_clip)
    T, B, P = c.dy.shape
    d, lengths = c.options.get("dilation", 1), c.options.get("lengths")
    y, finals = torch.zeros(T, B, P, dtype=torch.float64), []
    for b in range(B):
        steps = range(T if lengths is None else int(lengths[b]))
        steps = list(reversed(steps)) if c.options.get("reverse") else list(steps)
        ys, last = twin.sequence(b, steps, state, cut)
        for t, h in ys.items():
            y[t, b] = h
        finals.append(last)
    # The entries of a dilation come first, then the sequences.
    final = [
        torch.stack([torch.stack([f[j][q] for f in finals]) for j in range(d)])
        for q in range(len(state))
    ]
    final = [f[0] for f in final] if d == 1 else final
    loss = (y * torch.tensor(c.dy)).sum()
    for f, df in zip(final, flat(c.dstate)):
        loss = loss + (f * torch.tensor(df)).sum()
    loss.backward()
    return twin, arrays, y, final


def states(c: Problem, cut: int | None = None, step_clip: Any = None) -> dict[str, Any]:
    """Gradients of the states "h" and "c" after each step, (T, B, H), 0 in the padding.

    Of the gates, "gate ...", the outputs of their activations.
    """
    twin = run(c, cut, step_clip)[0]
    found: dict[str, Any] = {}
    for (t, b), (new, activated) in twin.seen.items():
        of_step = {"gate " + name: value.detach() for name, value in activated.items()}
        of_step |= {name: s.grad for name, s in zip("hc", new) if s.grad is not None}
        for name, value in of_step.items():
            whole = found.setdefault(name, np.zeros((*c.dy.shape[:2], len(value))))
            whole[t, b] = value.numpy()
    return found


def results(c: Problem, cut: int | None = None, step_clip: Any = None) -> dict[str, Any]:
    """Named as in `results`."""
    _, arrays, y, final = run(c, cut, step_clip)

    def number(a: Any) -> Any:
        return a.detach().numpy()

    def gradient(a: Any) -> Any:
        if a is None:
            return None
        return number(torch.zeros_like(a) if a.grad is None else a.grad)

    grads = {k: state_of([gradient(a) for a in v]) for k, v in arrays.items()}
    return named(number(y), state_of([number(f) for f in final]), grads)
