# SPDX-License-Identifier: MIT
"""Explosion: how clips stop it, and how learning rates amplify it."""

from __future__ import annotations

import numpy as np

import bptt

from .table import Claim, norm


def growing(w_h, T, scale, **how):
    """Run 8 ReLU neurons that multiply their state by w_h at each step; L = sum of h_T."""
    x = np.full((T, 1, 1), scale, np.float32)
    w_ih, w_hh = np.ones((8, 1), np.float32), w_h * np.eye(8, dtype=np.float32)
    _, h, tape = bptt.rnn_forward(x, w_ih, w_hh, activation="relu")
    with np.errstate(all="ignore"):
        grads = bptt.rnn_backward(tape, dstate=np.ones_like(h), **how)
    return tape, h, grads


def overflow() -> Claim:
    """float32 (up to 3.4e38): w_h = 1.5 over 200, 240 and 480 steps with inputs of 1e-20."""
    rows = []
    for T, how in ((200, {}), (240, {}), (240, {"step_clip": ("norm", 1.0)}), (480, {})):
        tape, h, grads = growing(1.5, T, 1e-20, **how)
        first = bptt.find_nonfinite(tape)
        rows.append(
            (
                f"{T} steps" + ", step_clip" * bool(how),
                float(h.max()),
                "none" if first is None else f"step {first.step}",
                float(np.abs(grads.state).max()),
                float(np.abs(grads.w_hh).max()),
            )
        )
    head = ("", "largest h", "first h that is not finite", "largest dL/dh_0", "largest dL/dW_hh")
    return Claim("overflow", head, rows)


def model(w_h, dtype="float64"):
    """A ReLU network of 16 neurons, W_hh = w_h times the identity, and a readout."""
    rnn = bptt.RNN(2, 16, activation="relu", dtype=dtype, seed=0)
    bptt.init.irnn(rnn)
    rnn.parameters["weight_hh_l0"] *= w_h
    return rnn, bptt.Linear(16, 1, dtype=dtype, seed=1)


def gradients(rnn, readout, x, target):
    _, h, tape = rnn.forward(x)
    prediction, readout_tape = readout.forward(h[0])
    loss, d = bptt.mse(prediction[:, 0], target)
    last = readout.backward(readout_tape, d[:, None])
    return loss, bptt.optim.join(
        rnn=rnn.backward(tape, dstate=last.x[None]).params, readout=last.params
    )


def train(rnn, readout, updates, lr, max_norm=np.inf, T=50):
    """Losses and norms of gradient descent on the adding problem, until one is not finite."""
    rng, losses, norms = np.random.default_rng(0), [], []
    both = bptt.optim.join(rnn=rnn.parameters, readout=readout.parameters)
    optimiser = bptt.SGD(both, lr=lr)
    for _ in range(updates):
        with np.errstate(all="ignore"):
            loss, grads = gradients(rnn, readout, *bptt.tasks.adding(T, 32, rng)[:2])
            losses.append(loss)
            norms.append(norm(list(grads.values())))
        if not (np.isfinite(loss) and np.isfinite(norms[-1])):
            break
        bptt.clip_grad_norm(grads, max_norm)
        optimiser.step(grads)
    return np.array(losses), np.array(norms)


def training() -> Claim:
    """Adding problem, 30 steps, W_hh = 1.2 times the identity: 1000 updates in float32."""
    rows, curves = [], {}
    for name, bound in (("no clip", np.inf), ("clip_grad_norm(grads, 1)", 1.0)):
        losses, norms = train(*model(1.2, "float32"), updates=1000, lr=0.01, max_norm=bound, T=30)
        ended = "all" if len(losses) == 1000 else f"{len(losses)}, then {losses[-1]:g}"
        rows.append((name, ended, float(norms[0]), float(np.mean(losses[-100:]))))
        curves[name] = losses
    head = ("", "updates", "first norm of the gradient", "mean loss of the last 100")
    return Claim("training", head, rows, curves)


def angle(a, b) -> float:
    """Degrees between two dicts of gradients, each as one vector."""
    a, b = (np.concatenate([np.ravel(v) for v in g.values()]).astype(np.float64) for g in (a, b))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.degrees(2 * np.arctan2(np.linalg.norm(a - b), np.linalg.norm(a + b))))


def angles() -> Claim:
    """Degrees by which a clip turns a gradient of the network in `training`."""
    true = gradients(*model(1.2), *bptt.tasks.adding(30, 32, seed=0)[:2])[1]
    rows = []
    for share in (0.5, 0.1, 0.01):
        by_norm, by_value = ({name: g.copy() for name, g in true.items()} for _ in range(2))
        bptt.clip_grad_norm(by_norm, share * norm(list(true.values())))
        bptt.clip_grad_value(by_value, share * max(np.abs(g).max() for g in true.values()))
        turned = (round(angle(true, clipped), 1) for clipped in (by_norm, by_value))
        rows.append((f"{share:.0%}", *turned))
    head = ("bound, of the norm or of the largest element", "clip_grad_norm", "clip_grad_value")
    return Claim("angles", head, rows)


def learning_rates() -> Claim:
    """Adding problem, 50 steps, W_hh = the identity, no clip: at most 100 updates."""
    rows, curves = [], {}
    for lr in (1e-5, 1e-4, 1e-3, 1e-2):
        losses, norms = train(*model(1.0), updates=100, lr=lr)
        rows.append((f"{lr:g}", float(norms[0]), float(np.max(norms)), float(losses[-1])))
        curves[f"learning rate {lr:g}"] = norms
    head = ("learning rate", "first norm", "largest norm", "last loss")
    return Claim("learning_rates", head, rows, curves)
