# SPDX-License-Identifier: MIT
"""`bptt.fit` beside the same loop written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt.training import Epoch, Step
from support.models import Chain

N, T = 23, 7


def sequences(n: int = N, ragged: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Sequences, and whether the first input is positive on average."""
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((rng.integers(1, T + 1) if ragged else T, 2)) for _ in range(n)]
    target = np.array([int(one[:, 0].sum() > 0) for one in x])
    return (x if ragged else np.array(x)), target


def batches(n: int, size: int, seed: int, epoch: int) -> Any:
    rng = np.random.default_rng((seed, epoch))
    return [b.samples for b in bptt.minibatches(np.zeros((n, 1)), None, size, seed=rng)]


def by_hand(
    model: Chain, x: Any, target: Any, held: Any, epochs: int, size: int, seed: int
) -> dict[str, list[float]]:
    """The whole of `fit` for equal lengths, with Adam, clipping, a cosine and validation."""
    adam = bptt.Adam(model.parameters, lr=0.02)
    steps = epochs * -(-len(x) // size)
    cosine = bptt.CosineAnnealing(adam, steps)
    history: dict[str, list[float]] = {"loss": [], "validation_loss": [], "lr": []}
    for epoch in range(epochs):
        losses = []
        for chosen in batches(len(x), size, seed, epoch):
            batch = np.ascontiguousarray(x[chosen].swapaxes(0, 1), np.float32)
            value, grads = model.loss_and_grads(batch, target[chosen], bptt.cross_entropy)
            bptt.clip_grad_norm(grads, 0.5)
            adam.step(grads)
            cosine.step()
            losses.append(value * len(chosen))
        history["loss"].append(sum(losses) / len(x))
        total = 0.0
        for start in range(0, len(held[0]), size):
            part = slice(start, start + size)
            y = model(np.ascontiguousarray(held[0][part].swapaxes(0, 1)))
            total += bptt.cross_entropy(y, held[1][part])[0] * len(y)
        history["validation_loss"].append(total / len(held[0]))
        history["lr"].append(adam.lr)
    return history


def test_it_is_the_loop_written_by_hand() -> None:
    (x, target), held = sequences(), sequences(9, seed=1)
    mine, twin = (Chain(dropout=0.3, num_layers=2, zoneout=0.1) for _ in range(2))
    want = by_hand(twin, x, target, held, 4, 5, 3)
    history = bptt.fit(
        mine, (x, target), loss=bptt.cross_entropy, epochs=4, batch_size=5, lr=0.02, clip=0.5,
        schedule="cosine", validation=held, seed=3,
    )  # fmt: skip
    for name, values in want.items():
        np.testing.assert_array_equal([getattr(e, name) for e in history.epochs], values)
    best = int(np.argmin(want["validation_loss"]))
    assert history.best is not None
    assert history.best.number == best + 1
    if best == 3:  # the last weights are the best
        for name, array in twin.parameters.items():
            np.testing.assert_array_equal(mine.parameters[name], array)
    assert [e.number for e in history.epochs] == [1, 2, 3, 4]
    assert all(e.seconds > 0 and e.nonfinite == 0 and e.metric is None for e in history.epochs)


def test_without_validation_it_ends_with_the_last_weights() -> None:
    x, target = sequences()
    mine, twin = Chain(), Chain()
    bptt.fit(
        mine, (x, target), loss=bptt.cross_entropy, epochs=3, batch_size=8, lr=0.02,
        clip=0.5, schedule="cosine", seed=7,
    )  # fmt: skip
    by_hand(twin, x, target, sequences(3, seed=1), 3, 8, 7)
    for name, array in twin.parameters.items():
        np.testing.assert_array_equal(mine.parameters[name], array)


@pytest.mark.parametrize("batch_first", [False, True])
def test_batches_of_different_lengths_are_padded(batch_first: bool) -> None:
    x, target = sequences(ragged=True)
    model = Chain(batch_first=batch_first)
    bptt.fit(model, (x, target), loss=bptt.cross_entropy, epochs=1, batch_size=10)
    seen = []
    assert sorted(len(lengths) for _, lengths in model.calls) == [3, 10, 10]
    for batch, lengths in model.calls:
        rows = batch if batch_first else batch.swapaxes(0, 1)
        assert rows.dtype == np.float32
        assert rows.shape == (len(lengths), max(lengths), 2)
        assert not any(row[n:].any() for row, n in zip(rows, lengths))
        seen += [row[:n] for row, n in zip(rows, lengths)]
    rng = np.random.default_rng((0, 0))
    order = [k for b in bptt.minibatches(x, None, 10, seed=rng) for k in b.samples]
    assert sorted(order) == [*range(N)]
    for k, one in zip(order, seen):
        np.testing.assert_array_equal(one, x[k].astype("f4"))


def masked_mse(y: Any, target: Any, lengths: Any = None) -> tuple[float, Any]:
    valid = np.ones(y.shape[:2], bool)
    if lengths is not None:
        valid = np.arange(len(y))[:, None] < lengths
    error = np.where(valid[:, :, None], y - target, 0).astype(y.dtype)
    n = valid.sum() * y.shape[-1]
    return float((error**2).sum() / n), error * (2 / n)


@pytest.mark.parametrize("ragged", [False, True])
def test_a_target_for_each_step(ragged: bool) -> None:
    """The loss of an epoch and of validation is the mean over all steps that are not padding."""
    x, _ = sequences(ragged=ragged)
    target = [np.cumsum(one, axis=0) for one in x]
    data = (x, target if ragged else np.array(target))
    seen: list[Any] = []

    def worst(prediction: Any, target: Any) -> float:
        seen.append((prediction, target))
        return float(np.abs(prediction - target).max())

    model = Chain(every=True)
    history = bptt.fit(
        model, data, loss=masked_mse, epochs=2, batch_size=4, validation=data, metric=worst,
        optimizer=bptt.SGD(model.parameters, 0.0),
    )  # fmt: skip
    outputs = [model(one[:, None])[:, 0] for one in x]
    errors = np.concatenate(outputs) - np.concatenate(target)
    for epoch in history.epochs:
        assert epoch.loss == pytest.approx((errors**2).mean(), rel=1e-5)
        assert epoch.validation_loss == pytest.approx((errors**2).mean(), rel=1e-5)
        assert epoch.metric == pytest.approx(np.abs(errors).max(), rel=1e-5)
    np.testing.assert_allclose(seen[0][0], np.concatenate(outputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen[0][1], np.concatenate(target).astype("f4"))


def test_indices_and_rows_of_targets() -> None:
    """A target with as many columns as there are steps is a row, not one number for each step."""
    x, _ = sequences()
    target = np.ones((N, T))
    model = Chain(outputs=T)
    bptt.fit(model, (x, target), loss=bptt.mse, epochs=1)

    class Ids(Chain):
        def __call__(self, x: Any, *, lengths: Any = None) -> Any:
            assert x.dtype == np.int64
            return super().__call__(np.eye(2)[x], lengths=lengths)

        def loss_and_grads(self, x: Any, *args: Any, **more: Any) -> Any:
            assert x.dtype == np.int64
            return super().loss_and_grads(np.eye(2)[x], *args, **more)

    ids = np.random.default_rng(0).integers(0, 2, (N, T))
    for data in (ids, [row[: 1 + k % T] for k, row in enumerate(ids)]):
        bptt.fit(Ids(), (data, np.arange(N) % 2), loss=bptt.cross_entropy, epochs=1)


# --- validation -----------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights() -> None:
    (x, target), held = sequences(), sequences(40, seed=1)
    held = (held[0], 1 - held[1])  # the more it learns, the worse

    kept: list[Any] = []
    model = Chain()

    class Keep:
        def on_epoch(self, epoch: Epoch) -> None:
            kept.append((epoch, model.state_dict()))

    history = bptt.fit(
        model, (x, target), loss=bptt.cross_entropy, epochs=60, lr=0.05, batch_size=4,
        validation=held, patience=3, callbacks=[Keep()],
    )  # fmt: skip
    losses = [epoch.validation_loss for epoch in history.epochs]
    best = int(np.argmin(losses))
    assert history.stopped
    assert not history.interrupted
    assert len(history) == best + 4 < 60
    assert history.best is history.epochs[best]
    assert [epoch for epoch, _ in kept] == history.epochs
    for name, array in kept[best][1].items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    assert any(np.any(kept[best][1][k] != a) for k, a in kept[-1][1].items())


def test_a_fraction_is_held_out_by_group() -> None:
    x, target = sequences(40)
    x[:, :, 0] = np.arange(40)[:, None]  # to know each sequence
    speakers = np.array(list("abcdefgh") * 5)
    seen: dict[str, set[int]] = {"train": set(), "held": set()}

    class Watch(Chain):
        def __call__(self, x: Any, *, lengths: Any = None) -> Any:
            if x.shape[1] > 1:  # not one of the checks before
                seen["held"] |= set(x[0, :, 0].astype(int))
            return super().__call__(x, lengths=lengths)

        def loss_and_grads(self, x: Any, *args: Any, **more: Any) -> Any:
            seen["train"] |= set(x[0, :, 0].astype(int))
            return super().loss_and_grads(x, *args, **more)

    for groups, held in ((None, 10), (speakers, 10), (list(speakers), 10)):
        seen = {"train": set(), "held": set()}
        bptt.fit(
            Watch(), (x, target), loss=bptt.cross_entropy, epochs=1, validation=0.25,
            groups=groups, seed=2,
        )  # fmt: skip
        assert len(seen["held"]) == held
        assert seen["held"] | seen["train"] == set(range(40))
        assert not seen["held"] & seen["train"]
        if groups is not None:
            of = [{speakers[k] for k in part} for part in seen.values()]
            assert not of[0] & of[1]
            assert len(of[1]) == 2


# --- schedules, clipping, values that are not finite ----------------------------------------------


def test_schedules_step_by_update_or_by_epoch() -> None:
    x, target = sequences()
    rates: list[float] = []

    class Rates:
        def on_batch(self, step: Step) -> None:
            rates.append(step.lr)

    def train(schedule: Any, **more: Any) -> Any:
        rates.clear()
        return bptt.fit(
            Chain(), (x, target), loss=bptt.cross_entropy, epochs=2, batch_size=8, lr=1.0,
            schedule=schedule, callbacks=[Rates()], **more,
        )  # fmt: skip

    steps: list[int] = []

    def halve(optimizer: Any, updates: int) -> Any:
        steps.append(updates)
        return bptt.StepLR(optimizer, 1, 0.5)

    train(halve)
    assert steps == [6]
    assert rates == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    train(lambda opt, n: bptt.ReduceLROnPlateau(opt, factor=0.5, patience=0), validation=0.2)
    assert rates[:3] == [1.0] * len(rates[:3])
    history = train("cosine")
    assert rates[0] == 1.0
    assert history.epochs[-1].lr == pytest.approx(0, abs=1e-15)


def test_auto_clip_remembers() -> None:
    x, target = sequences()
    auto = bptt.AutoClip(0.5)
    bptt.fit(Chain(), (x, target), loss=bptt.cross_entropy, epochs=2, batch_size=8, clip=auto)
    assert len(auto.history) == 6


def test_values_that_are_not_finite() -> None:
    x, target = sequences()
    x[3, 2, 1] = np.nan
    arguments: dict[str, Any] = {"loss": bptt.cross_entropy, "epochs": 1, "batch_size": 4}
    model = Chain()
    before = model.state_dict()
    with pytest.raises(
        FloatingPointError, match=r"^fit: the loss is nan at update \d in epoch 1, "
    ):
        bptt.fit(model, (x, target), lr=0.0, **arguments)
    for name, array in before.items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    for policy in ("skip", "zero"):
        history = bptt.fit(model, (x, target), nonfinite=policy, **arguments)
        assert history.epochs[0].nonfinite == 1
        assert np.isfinite(history.epochs[0].loss)
        assert all(np.isfinite(a).all() for a in model.parameters.values())
    x[:] = np.nan
    updated: list[Step] = []

    class Note:
        def on_batch(self, step: Step) -> None:
            updated.append(step)

    adam = bptt.Adam(model.parameters)
    history = bptt.fit(
        model, (x, target), nonfinite="skip", optimizer=adam, callbacks=[Note()], **arguments
    )
    assert adam.steps == 0
    assert len(updated) == history.epochs[0].nonfinite == 6
    assert np.isnan(history.epochs[0].loss)


def test_gradients_alone_that_are_not_finite() -> None:
    class Broken(Chain):
        def loss_and_grads(self, *args: Any, **more: Any) -> Any:
            value, grads = super().loss_and_grads(*args, **more)
            grads["readout.bias"][0] = np.inf
            return value, grads

    arguments: dict[str, Any] = {"loss": bptt.cross_entropy, "epochs": 1}
    with pytest.raises(FloatingPointError, match=r"^fit: at update 0 in epoch 1: clip_grad_norm: "):
        bptt.fit(Broken(), sequences(), **arguments)
    model, twin = Broken(), Broken()
    history = bptt.fit(model, sequences(), nonfinite="skip", **arguments)
    assert history.epochs[0].nonfinite == 1
    for name, array in twin.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], array)


# --- callbacks ------------------------------------------------------------------------------------


def test_callbacks_see_each_update_and_epoch() -> None:
    x, target = sequences()
    calls: list[Any] = []

    class Both:
        def on_batch(self, step: Step) -> None:
            calls.append(step)

        def on_epoch(self, epoch: Epoch) -> None:
            calls.append(epoch)

    history = bptt.fit(
        Chain(), (x, target), loss=bptt.cross_entropy, epochs=2, batch_size=12, callbacks=[Both()]
    )
    assert [type(c) for c in calls] == [Step, Step, Epoch] * 2
    steps = [c for c in calls if isinstance(c, Step)]
    assert [s.number for s in steps] == [0, 1, 2, 3]
    assert [s.epoch for s in steps] == [1, 1, 2, 2]
    assert all(s.norm > 0 for s in steps)
    sizes = [len(chosen) for chosen in batches(N, 12, 0, 0)]
    assert history.epochs[0].loss == (steps[0].loss * sizes[0] + steps[1].loss * sizes[1]) / N


def test_a_flow_monitor_is_a_callback() -> None:
    """Its samples are those of a loop by hand; the weights do not change a bit."""
    x, target = sequences()
    monitor = bptt.FlowMonitor(every=2, on_alert=lambda alert: None)
    arguments: dict[str, Any] = {"loss": bptt.cross_entropy, "epochs": 2, "batch_size": 12}
    model, twin = Chain(), Chain()
    bptt.fit(model, (x, target), callbacks=[monitor], **arguments)
    bptt.fit(twin, (x, target), **arguments)
    assert [record["step"] for record in monitor.records] == [0, 2]
    assert [record["cells"][0]["name"] for record in monitor.records] == ["layer 0"] * 2
    assert all(record["loss"] > 0 and record["norm"] > 0 for record in monitor.records)
    for name, array in twin.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], array)
    first = Chain()
    chosen = batches(N, 12, 0, 0)[0]
    y, tape = first.forward(x[chosen].swapaxes(0, 1))
    d = bptt.cross_entropy(y, target[chosen])[1]
    other = bptt.FlowMonitor(every=2, on_alert=lambda alert: None)
    other.update(0, first.backward(tape, d, trace=True).trace)
    assert monitor.records[0]["cells"] == other.records[0]["cells"]


# --- Sequential -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_row_of_layers_with_an_output_at_each_step(batch_first: bool) -> None:
    """Ids of different lengths; what is measured is what the model gives for each sequence."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 5, rng.integers(1, 9)) for _ in range(20)]
    target = [np.roll(one, 1) for one in ids]
    model = bptt.Sequential(
        bptt.Embedding(5, 4, seed=0),
        bptt.LSTM(4, 6, seed=1, batch_first=batch_first),
        bptt.Dropout(0.5, seed=2),
        bptt.Linear(6, 5, seed=3),
    )
    monitor = bptt.FlowMonitor(1, on_alert=lambda alert: None)
    adam = bptt.Adam(model.parameters, 0.03, groups=[{"params": "0.*", "lr": 0.0}])
    before = model.parameters["0.weight"].copy()
    history = bptt.fit(
        model, (ids, target), loss=bptt.cross_entropy, epochs=3, batch_size=6, optimizer=adam,
        validation=(ids, target), callbacks=[monitor],
        metric=lambda y, t: np.mean(y.argmax(1) == t),
    )  # fmt: skip
    np.testing.assert_array_equal(model.parameters["0.weight"], before)
    assert len(monitor.records) == 12
    axis = slice(None), None
    outputs = [model(x[axis[::-1] if batch_first else axis]).reshape(-1, 5) for x in ids]
    value, _ = bptt.cross_entropy(np.concatenate(outputs), np.concatenate(target))
    right = np.concatenate(outputs).argmax(1) == np.concatenate(target)
    best = history.best
    assert best is not None
    assert best.validation_loss == pytest.approx(value, rel=1e-5)
    assert best.metric == pytest.approx(right.mean())
    assert history.epochs[-1].loss < history.epochs[0].loss
