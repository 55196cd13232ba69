# SPDX-License-Identifier: MIT
"""Random rows of layers, options and calls: the bits of the chain by hand, and right gradients."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest

import bptt
from support.compare import assert_close, error, same_bits
from support.rows import Row, arrays_of, by_hand, random_like, random_row

SEEDS = range(60)


def bits(a: Any, b: Any) -> None:
    same_bits(arrays_of(a), arrays_of(b))


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_and_gradients_have_the_bits_of_the_chain(seed: int) -> None:
    row = random_row(seed)
    rng, layers = row.rng, copy.deepcopy(row.layers)
    model = bptt.Sequential(*row.layers)
    for _ in range(2):  # the second call has the second masks
        y, finals, tapes, backward = by_hand(row, layers)
        got, tape = model.forward(*row.call)
        bits([got, tape.state], [y, finals])
    bits(
        model.state_dict(),
        bptt.optim.join(**{str(k): v.state_dict() for k, v in enumerate(layers)}),
    )
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    dstates = [random_like(rng, one) for one in finals] if rng.random() < 0.5 else None
    how: dict[str, Any] = {} if rng.random() < 0.6 else {"step_clip": ("norm", 0.5)}
    trace = {"trace": True} if rng.random() < 0.5 else {}
    params, dstate, dx, traces = backward(dy, dstates, **how, **trace)
    grads = model.backward(tape, dy, dstates, **how, **trace)
    bits([grads.params, grads.state, grads.x], [params, dstate, dx])
    cells = grads.trace.cells if grads.trace else []
    bits([one.dh for one in cells], [one.dh for one in traces])
    names = [name for name in model.parameters if rng.random() < 0.4]
    some = model.backward(tape, dy, dstates, grads=names, **how)
    bits(some.params, backward_of_all(row, layers, tapes, dy, dstates, how, names))
    assert (some.x, some.state) == (None, None)
    only = model.backward(tape, dy, dstates, grads=["params"], **how)
    bits([only.params, only.x], [params, None])
    target = rng.standard_normal(y.shape)
    timed = row.lengths is not None and not any(
        isinstance(of, (bptt.Last, bptt.MeanPool, bptt.Attention)) for of in layers
    )
    more = {"lengths": row.lengths, "batch_first": model.batch_first} if timed else {}
    y, _, _, backward = by_hand(row, layers)
    value, dy = bptt.mse(y, target, **more)
    x, *others = row.call
    found = model.loss_and_grads(
        x, target, bptt.mse, **dict(zip(("state", "lengths", "resets"), others))
    )
    bits(found, (value, backward(dy)[0]))


def backward_of_all(
    row: Row, layers: Any, tapes: Any, dy: Any, dstates: Any, how: Any, names: Any
) -> dict[str, Any]:
    """The gradients of `names`, also of those that are frozen."""
    frozen = [layer.frozen for layer in layers]
    for layer in layers:
        layer.frozen = ()
    found, d, left = dict[str, Any](), dy, list(dstates or [])
    turned = any(getattr(of, "batch_first", False) for of in layers)
    for k in range(len(layers) - 1, -1, -1):
        layer = layers[k]
        if hasattr(layer, "structure"):
            g = layer.backward(tapes[k], d, left.pop() if left else None, **how)
        else:
            g = layer.backward(tapes[k], d)
        d = g.x.swapaxes(0, 1) if isinstance(layer, bptt.Attention) and turned else g.x
        found |= {f"{k}.{name}": array for name, array in g.params.items()}
    for layer, names_of in zip(layers, frozen):
        layer.frozen = names_of
    return {name: found[name] for name in found if name in names}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_call_for_inference_has_the_bits_of_the_chain(seed: int) -> None:
    row = random_row(seed)
    y, states, turned, both, reverse = row.x, iter(row.state or []), False, False, False
    for layer in row.layers:
        if hasattr(layer, "structure"):
            y, _ = layer(y, next(states, None), row.lengths, row.resets)
            turned, both, reverse = layer.batch_first, layer.bidirectional, layer.reverse
        elif isinstance(layer, bptt.Last):
            y = layer(y, row.lengths, batch_first=turned, bidirectional=both, reverse=reverse)
        elif isinstance(layer, bptt.MeanPool):
            y = layer(y, row.lengths, batch_first=turned)
        elif isinstance(layer, bptt.Attention):
            y = layer(y.swapaxes(0, 1) if turned else y, lengths=row.lengths)[0]
        else:
            y = layer(y)
            if isinstance(layer, bptt.Linear):
                both = reverse = False
    bits(bptt.Sequential(*row.layers)(*row.call), y)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_are_those_of_finite_differences(seed: int) -> None:
    row = random_row(seed, "float64", smooth=True)
    rng, model = row.rng, bptt.Sequential(*row.layers)
    model.frozen = ()
    masks = {n: a for n, a in model.state_dict().items() if n.endswith("masks")}
    y, tape = model.forward(*row.call)
    dy = rng.standard_normal(y.shape)
    dstates = [random_like(rng, one) for one in tape.state]
    grads = model.backward(tape, dy, dstates)
    directions = {n: rng.standard_normal(a.shape) for n, a in model.parameters.items()}
    takes_ids = grads.x is None
    dx = 0 if takes_ids else rng.standard_normal(row.x.shape)
    states = None if row.state is None else [
        random_like(rng, g) if one is not None else None for one, g in zip(row.state, grads.state)
    ]  # fmt: skip
    start = {n: a.copy() for n, a in model.parameters.items()}

    def loss(step: float) -> float:
        model.load_state_dict({n: a + step * directions[n] for n, a in start.items()} | masks)
        x = row.x if takes_ids else row.x + step * dx
        state = None if row.state is None else [
            None if one is None else moved(one, d, step) for one, d in zip(row.state, states or [])
        ]  # fmt: skip
        out, its = model.forward(x, state, row.lengths, row.resets)
        return float((out * dy).sum()) + inner(its.state, dstates)

    terms = [float((directions[n] * g).sum()) for n, g in grads.params.items()]
    terms.append(0.0 if takes_ids else float((dx * grads.x).sum()))
    if row.state is not None:
        terms += [inner([d], [g]) for d, g in zip(states or [], grads.state) if d is not None]
    errors = []
    for h in (1e-4, 1e-5, 1e-6):  # normalisation over few units bends sharply
        found = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
        errors.append(abs(sum(terms) - found))
    assert min(errors) < 1e-7 * max(1.0, sum(map(abs, terms)))


def moved(value: Any, direction: Any, step: float) -> Any:
    if isinstance(value, tuple):
        return tuple(a + step * b for a, b in zip(value, direction))
    return value + step * direction


def inner(a: Any, b: Any) -> float:
    parts = [arrays_of(a), arrays_of(b)]
    return sum(float((parts[0][k] * parts[1][k]).sum()) for k in parts[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_holds_the_row(seed: int, tmp_path: Path) -> None:
    row = random_row(seed)
    model = bptt.Sequential(*row.layers)
    model.forward(*row.call)
    model.save(tmp_path / "row.npz")
    again = bptt.load_model(tmp_path / "row.npz")
    assert repr(again) == repr(model)
    assert again.frozen == model.frozen
    bits(again.state_dict(), model.state_dict())
    bits(again.forward(*row.call)[0], model.forward(*row.call)[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_is_the_model_so_far_however_it_is_cut(seed: int) -> None:
    row = random_row(seed)
    model = bptt.Sequential(*row.layers)
    x = row.x.swapaxes(0, 1) if model.batch_first else row.x
    T, B = x.shape[:2]
    cells = [of for of in row.layers if hasattr(of, "structure")]
    if any(of.bidirectional or of.reverse or max(of.dilations) > 1 or of.skip for of in cells):
        with pytest.raises(ValueError, match=r"^Sequential\.stream: layer \d, \w+: the layer "):
            model.stream(B)
        return
    stream, pieces = model.stream(B, row.state), model.stream(B, row.state)
    steps = [stream.step(x_t) for x_t in x]
    cuts = sorted({0, T, *row.rng.integers(0, T + 1, 2)})
    for a, b in itertools.pairwise(cuts):
        y = pieces.process(x[a:b].swapaxes(0, 1) if model.batch_first else x[a:b])
        y = y.swapaxes(0, 1) if model.batch_first else y
        bits([*y], steps[a:b])
    bits(pieces.state, stream.state)
    pools = any(isinstance(of, (bptt.Last, bptt.MeanPool, bptt.Attention)) for of in row.layers)
    for t, y in enumerate(steps):
        so_far = x[: t + 1].swapaxes(0, 1) if model.batch_first else x[: t + 1]
        want = model(so_far, row.state)
        last = want if pools else (want[:, -1] if model.batch_first else want[-1])
        assert y.dtype == last.dtype
        assert error(y, last) < (1e-12 if row.dtype == "float64" else 1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_to_the_start_sum_up_to_the_whole_gradient(seed: int) -> None:
    row = random_row(seed, "float64")
    model, cells = (
        bptt.Sequential(*row.layers),
        [of for of in row.layers if hasattr(of, "structure")],
    )
    pools = any(isinstance(of, (bptt.Last, bptt.MeanPool, bptt.Attention)) for of in row.layers)
    ends = [of.bidirectional or of.reverse or of.skip > min(of.dilations) for of in cells]
    if pools or not cells or any(ends):
        with pytest.raises(ValueError, match=r"^tbptt: "):
            bptt.tbptt(model, row.x, 1, 1)
        return
    if any(of.mask_counter for of in row.layers):  # each piece has masks of its own
        return
    axis, T = int(model.batch_first), row.x.shape[int(model.batch_first)]
    y, tape = model.forward(*row.call)
    dy = row.rng.standard_normal(y.shape)
    want = model.backward(tape, dy)
    x, *others = row.call
    k1 = int(row.rng.integers(1, T + 2))
    total: dict[str, Any] = {}
    for chunk in bptt.tbptt(
        model, x, k1, max(k1, T), **dict(zip(("state", "lengths", "resets"), others))
    ):
        piece = dy[:, chunk.steps] if axis else dy[chunk.steps]
        assert error(chunk.y, y[:, chunk.steps] if axis else y[chunk.steps]) < 1e-12
        grads = chunk.backward(piece)
        total = {n: total.get(n, 0) + g for n, g in grads.params.items()}
    assert_close(total, want.params, 1e-10)
    for a, b in zip(arrays_of(chunk.state).values(), arrays_of(tape.state).values(), strict=True):
        assert error(a, b) < 1e-12
