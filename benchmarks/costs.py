# SPDX-License-Identifier: MIT
"""Costs beyond `bptt bench`: ragged batches, odd sizes, float64, threads, calls, traces, memory.

    python -m benchmarks.costs                     # print all tables, in about twelve minutes
    python -m benchmarks.costs ragged threads      # print two of them
    python -m benchmarks.costs --record            # also write them to the pages

Numbers are ratios of minima over interleaved repeats, in one process and, except for `threads`, on
one thread of one core. Tables that compare with PyTorch need ``pip install "bptt[torch]"``.
Recorded tables go to `benchmarks/results/costs/KIND.json`, named by the kind of machine. Pages show
each table of the machine that was measured last.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import bptt
from bptt.bench.measure import allowed_cores
from bptt.bench.report import count

from . import footprint
from .instructions import counts, needed
from .speed.__main__ import write_pages
from .speed.costs import Table, record

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
Run = Callable[[], Any]


def minima(runs: dict[str, Run], seconds: float = 3.0) -> dict[str, float]:
    """Return the smallest number of seconds of each run; runs alternate.

    Each is timed at its second call in turn: the first one brings its data back into the caches.
    """
    best = dict.fromkeys(runs, np.inf)
    for run in runs.values():
        run()
    end = time.perf_counter() + seconds * len(runs)
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        rounds += 1
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def arrays(cell: str, T: int, B: int, I: int, H: int, dtype: str) -> tuple[list[Any], Any]:
    rng = np.random.default_rng(0)
    gates = GATES[cell]

    def some(*shape: int) -> Any:
        return (0.1 * rng.standard_normal(shape)).astype(dtype)

    shapes = [(T, B, I), (gates * H, I), (gates * H, H), (gates * H,), (gates * H,)]
    return [some(*shape) for shape in shapes], some(T, B, H)


def training(cell: str, *shape: int, dtype: str = "float32", **options: Any) -> Run:
    inputs, dy = arrays(cell, *shape, dtype)
    forward, backward = (getattr(bptt, f"{cell}_{kind}") for kind in ("forward", "backward"))

    def run() -> Any:
        _, _, tape = forward(*inputs, threads=1, **options)
        return backward(tape, dy, threads=1)

    return run


def of_torch(cell: str, *shape: int, dtype: str = "float32", lengths: Any = None) -> Run:
    import torch

    torch.set_num_threads(1)
    inputs, dy = arrays(cell, *shape, dtype)
    layer = getattr(torch.nn, cell.upper())(shape[2], shape[3], dtype=getattr(torch, dtype))
    x, dy = torch.from_numpy(inputs[0]).requires_grad_(), torch.from_numpy(dy)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    unpack = torch.nn.utils.rnn.pad_packed_sequence

    def run() -> None:
        layer.zero_grad()
        x.grad = None
        if lengths is None:
            y, _ = layer(x)
        else:
            packed, _ = layer(pack(x, lengths, enforce_sorted=False))
            y, _ = unpack(packed, total_length=shape[0])
        y.backward(dy)

    return run


def ragged() -> Table:
    rows = []
    for shape in [
        (100, 32, 128, 128),
        (1000, 32, 128, 128),
        (1000, 32, 64, 128),
        (1000, 8, 16, 64),
    ]:
        T, B, *_ = shape
        lengths = np.random.default_rng(1).integers(1, T + 1, B)
        valid = lengths.sum() / (T * B)
        for cell in ("lstm", "gru"):
            runs = {"equal": training(cell, *shape)}
            runs["ragged"] = training(cell, *shape, lengths=lengths)
            times = minima(runs)
            packed = minima({"packed": of_torch(cell, *shape, lengths=lengths)}, 0.1)["packed"]
            rows.append(
                [", ".join(map(str, shape)), cell, f"{times['ragged'] * 1e3:.1f} ms"]
                + [f"{times['ragged'] / times['equal'] / valid:.2f}", f"{packed * 1e3:,.0f} ms"]
                + [f"{packed / times['ragged']:.0f}x"]
            )
    return Table(
        "Training with lengths uniform in 1..T; a valid step is one outside the padding",
        "T, B, I, H | cell | bptt | valid step / step at equal lengths | PyTorch packed | ratio",
        rows,
    )


def widths() -> Table:
    rows = []
    for cell in ("lstm", "gru", "rnn"):
        units = (96, 100, 112, 128, 130, 144, 192, 200, 208)
        best = minima({str(H): training(cell, 100, 32, H, H) for H in units}, 1.0)
        rate = {H: GATES[cell] * 2 * H * H / best[str(H)] for H in units}
        rows.append([cell] + [f"{rate[H] / rate[128]:.2f}" for H in units])
    return Table(
        "Operations a second of training, T, B = 100, 32 and I = H, relative to H = 128",
        "H | " + " | ".join(map(str, units)),
        rows,
    )


def float64() -> Table:
    rows = []
    for name, shape in {"small": (100, 16, 32, 64), "medium": (100, 32, 128, 128)}.items():
        for cell in GATES:
            runs = {"bptt": training(cell, *shape, dtype="float64")}
            runs["torch"] = of_torch(cell, *shape, dtype="float64")
            times = minima(runs)
            rows.append(
                [name, cell, f"{times['bptt'] * 1e3:.2f} ms", f"{times['torch'] * 1e3:.2f} ms"]
                + [f"{times['torch'] / times['bptt']:.2f}"]
            )
    return Table("Training in float64", "size | cell | bptt | PyTorch | ratio", rows)


def threads() -> Table:
    rows = []
    for cell in ("LSTM", "GRU", "RNN"):
        for B, H, layers, both in [(32, 128, 2, True), (1, 128, 2, True), (32, 128, 1, False)]:
            layer = getattr(bptt, cell)(H, H, layers, bidirectional=both, seed=0)
            x = np.random.default_rng(0).standard_normal((100, B, H)).astype("float32")
            dy = np.ones((100, B, H * (2 if both else 1)), "float32")

            def run(layer: Any, x: Any, dy: Any, count: int) -> Run:
                def train() -> None:
                    bptt.set_num_threads(count)
                    _, _, tape = layer.forward(x)
                    layer.backward(tape, dy)

                return train

            times = minima({str(n): run(layer, x, dy, n) for n in (1, 2)}, 2.0)
            rows.append(
                [cell, f"B = {B}, H = {H}, {count(layers, 'layer')}" + ", bidirectional" * both]
                + [f"{times[n] * 1e3:.2f} ms" for n in ("1", "2")]
                + [f"{times['1'] / times['2']:.2f}"]
            )
    return Table(
        "Training, T = 100, on one and two threads",
        "cell | layers | one thread | two | ratio",
        rows,
    )


def calls() -> Table:
    rows = []
    for cell in GATES:
        for H in (8, 32, 128, 512):
            inputs, _ = arrays(cell, 1, 1, H, H, "float32")
            forward = getattr(bptt, f"{cell}_forward")

            def many(keep_tape: bool, forward: Any = forward, inputs: Any = inputs) -> Run:
                def run() -> None:
                    for _ in range(100):
                        forward(*inputs, keep_tape=keep_tape)

                return run

            best = minima({"inference": many(False), "training": many(True)}, 0.5)
            rows.append([cell, str(H)] + [f"{best[k] * 1e4:.1f} us" for k in best])
    return Table("One call with T = B = 1, I = H", "cell | H | without a tape | with a tape", rows)


def layers() -> Table:
    """Compare the calls of a layer, of one direction and of two, with those of the function."""
    size = {"T": 8, "B": 1, "H": 16}
    T, B, H = size.values()
    rows = []
    for cell in GATES:
        kind = {"rnn": bptt.RNN, "lstm": bptt.LSTM, "gru": bptt.GRU}[cell]
        one, two = kind(H, H, seed=0), kind(H, H, bidirectional=True, seed=0)
        inputs, dy = arrays(cell, T, B, H, H, "float32")
        x, both = inputs[0], np.concatenate([dy, dy], axis=-1)
        stream = one.stream(B)
        forward, backward = (getattr(bptt, f"{cell}_{way}") for way in ("forward", "backward"))
        calls: dict[str, dict[str, Run]] = {
            "call": {
                "function": partial(forward, *inputs, keep_tape=False),
                "layer": partial(one, x),
                "bidirectional": partial(two, x),
                "stream": partial(stream.process, x),
            },
            "forward": {
                "function": partial(forward, *inputs),
                "layer": partial(one.forward, x),
                "bidirectional": partial(two.forward, x),
            },
            "backward": {
                "function": partial(backward, forward(*inputs)[2], dy),
                "layer": partial(one.backward, one.forward(x)[2], dy),
                "bidirectional": partial(two.backward, two.forward(x)[2], both),
            },
        }
        for what, runs in calls.items():
            best = minima({name: repeated(run, 100) for name, run in runs.items()}, 0.5)
            rows.append([cell, what] + [f"{seconds * 1e4:.1f} us" for seconds in best.values()])
            rows[-1] += [""] * (6 - len(rows[-1]))
    title = ", ".join(f"{name} = {value}" for name, value in size.items())
    return Table(
        f"Calls of a layer with {title} and I = H",
        "cell | what | function | layer | bidirectional | stream",
        rows,
    )


def sequential() -> Table:
    """Compare a `Sequential` with the same layers called by hand, in small calls."""
    T, B, V, H, C = 8, 1, 32, 16, 8
    ids = np.random.default_rng(0).integers(0, V, (T, B))
    dy = np.ones((B, C), "float32")
    row = (
        *(bptt.Embedding(V, H, seed=0), bptt.LSTM(H, H, seed=1), bptt.GRU(H, H, seed=2)),
        *(bptt.LayerNorm(H), bptt.Last(), bptt.Linear(H, C, seed=3)),
    )
    model, (embedding, lstm, gru, norm, last, head) = bptt.Sequential(*row), row

    def forward() -> tuple[Any, ...]:
        a, t_a = embedding.forward(ids)
        b, _, t_b = lstm.forward(a)
        c, _, t_c = gru.forward(b)
        d, t_d = norm.forward(c)
        e, t_e = last.forward(d)
        return (*head.forward(e), t_e, t_d, t_c, t_b, t_a)

    def backward(tapes: tuple[Any, ...]) -> list[Any]:
        grads, d = [], dy
        for layer, tape in zip(reversed(row), tapes):
            grads.append(layer.backward(tape, d))
            d = grads[-1].x
        return grads

    runs: dict[str, dict[str, Run]] = {
        "call": {
            "hand": lambda: head(last(norm(gru(lstm(embedding(ids))[0])[0]))),
            "model": partial(model, ids),
        },
        "forward": {"hand": forward, "model": partial(model.forward, ids)},
        "backward": {
            "hand": partial(backward, forward()[1:]),
            "model": partial(model.backward, model.forward(ids)[1], dy),
        },
    }
    rows = []
    for what, both in runs.items():
        best = minima({name: repeated(run, 10) for name, run in both.items()}, 2.0)
        hand, whole = (best[name] * 1e5 for name in ("hand", "model"))
        each = (whole - hand) / len(row)
        rows.append([what, f"{hand:.1f} us", f"{whole:.1f} us", f"{each:.2f} us"])
    return Table(
        f"A `Sequential` of {len(row)} layers beside the same calls by hand, T = {T}, B = {B}, "
        f"H = {H}",
        "what | by hand | Sequential | more for each layer",
        rows,
    )


def prepared() -> Table:
    """Compare `layer.prepare()`, and its weights of 8 bits, with calls of the layer, at B = 1."""
    rows = []
    cells = [(kind, 1, False, H) for kind in ("LSTM", "GRU", "RNN") for H in (256, 512, 1024)]
    for kind, num, both, H in [*cells, ("LSTM", 3, True, 384)]:
        layer = getattr(bptt, kind)(H, H, num, bidirectional=both, seed=0)
        packed, int8 = layer.prepare(), layer.prepare("int8")
        what = f"{kind}({H})" + f", {num} layers, bidirectional" * both
        for T in (1, 8, 100):
            x = np.random.default_rng(0).standard_normal((T, 1, H)).astype("float32")
            runs = {name: partial(f, x) for name, f in zip("lpi", (layer, packed, int8))}
            best = minima(runs, 1.0)
            y = layer(x)[0]
            rows.append(
                [what, str(T), f"{best['l'] * 1e3:.3f} ms", f"{best['l'] / best['p']:.2f}"]
                + [f"{best['l'] / best['i']:.2f}", f"{best['p'] / best['i']:.2f}"]
                + [f"{abs(int8(x)[0] - y).max() / abs(y).max():.1e}"]
            )
    return Table(
        "`layer.prepare()` at B = 1 and I = H: times of a layer's call, or of a prepared one, "
        "divided by those of prepared calls; and the largest error of y in int8, relative to max y",
        "layer | T | layer | layer / prepared | layer / int8 | prepared / int8 | error of int8",
        rows,
    )


def repeated(run: Run, times: int) -> Run:
    def many() -> None:
        for _ in range(times):
            run()

    return many


def calls_in_a_millisecond(run: Run) -> int:
    """At least one."""
    run()
    start = time.perf_counter()
    run()
    return max(1, round(1e-3 / (time.perf_counter() - start)))


def tracing() -> Table:
    """Compare `trace=True`, and a sample of `FlowMonitor` from it, with a plain training step."""
    rows = []
    for cell in ("LSTM", "GRU", "RNN"):
        for T, B, I, H in [(100, 16, 32, 64), (100, 32, 64, 128), (100, 64, 128, 256),
                           (1000, 8, 32, 64), (100, 1, 16, 32)]:  # fmt: skip
            layer = getattr(bptt, cell)(I, H, seed=0)
            x = np.random.default_rng(0).standard_normal((T, B, I)).astype("float32")
            dy = np.ones((T, B, H), "float32")
            monitor = bptt.FlowMonitor(on_alert=lambda alert: None)

            def step(
                trace: bool,
                sample: bool,
                layer: Any = layer,
                x: Any = x,
                dy: Any = dy,
                monitor: Any = monitor,
            ) -> Run:
                def run() -> None:
                    grads = layer.backward(layer.forward(x)[2], dy, trace=trace)
                    if sample:
                        monitor.update(0, grads.trace)

                return run

            runs = {"plain": (False, False), "trace": (True, False), "sample": (True, True)}
            n = calls_in_a_millisecond(step(False, False))
            best = minima({name: repeated(step(*what), n) for name, what in runs.items()}, 1.0)
            best = {name: seconds / n for name, seconds in best.items()}
            plain = best["plain"]
            rows.append(
                [
                    cell,
                    f"{T}, {B}, {I}, {H}",
                    f"{plain * 1e3:.2f} ms",
                    f"{(best['trace'] / plain - 1):.1%}",
                ]
                + [
                    f"{(best['sample'] - plain) * 1e3:.2f} ms",
                    f"{(best['sample'] / plain - 1) / 50:.2%}",
                ]
            )
    return Table(
        "Traces and samples of `FlowMonitor`",
        "cell | T, B, I, H | training step | trace | sample | share of 50 steps",
        rows,
    )


def instructions() -> Table:
    """Count the instructions of a step, with valgrind."""
    if not shutil.which("valgrind"):
        sys.exit("costs: instructions are counted by valgrind: apt-get install valgrind")
    rows = []
    for (cell, H, kind), found in counts().items():
        beside = found - round(needed(cell, H, kind))
        rows.append([cell, str(H), kind, f"{found:,}", f"{found - beside:,}", f"{beside:,}"])
    return Table(
        "Instructions of a step of the AVX2 kernels, B = 1 and I = 1",
        "cell | H | pass | instructions | products and equations | beside them",
        rows,
    )


def subnormals() -> Table:
    """A backward pass whose gradients lie around the smallest normal number."""
    rows = []
    for cell in GATES:
        row = [cell]
        for dtype in ("float32", "float64"):
            inputs, dy = arrays(cell, 200, 20, 2, 100, dtype)
            tape = getattr(bptt, f"{cell}_forward")(*inputs, threads=1)[2]
            backward = partial(getattr(bptt, f"{cell}_backward"), tape, threads=1)
            vanished = dy * np.finfo(dtype).tiny
            best = minima(
                {"healthy": partial(backward, dy), "vanished": partial(backward, vanished)}
            )
            row.append(f"{best['vanished'] / best['healthy']:.3f}")
        rows.append(row)
    return Table(
        "Time of a backward pass over a vanished gradient, relative to a healthy one, "
        "T, B, I, H = 200, 20, 2, 100",
        "cell | float32 | float64",
        rows,
    )


TABLES: dict[str, Callable[[], Table]] = {
    f.__name__: f
    for f in (
        *(
            ragged,
            widths,
            float64,
            threads,
            calls,
            layers,
            sequential,
            prepared,
            tracing,
            subnormals,
        ),
        instructions,
        *(footprint.memory, footprint.imports),
    )
}

SEVERAL = ("threads", "instructions")  # these use all cores


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"some of: {', '.join(TABLES)}")
    parser.add_argument("--record", action="store_true", help="also write them to the pages")
    args = parser.parse_args(arguments)
    for name in args.tables:
        if name not in TABLES:
            parser.error(f"there is no table {name!r}, expected some of: {', '.join(TABLES)}")
    cores = allowed_cores()
    for name in args.tables or TABLES:
        if cores:
            os.sched_setaffinity(0, cores if name in SEVERAL else cores[-1:])
        bptt.set_num_threads(1)  # `threads` sets others
        table = TABLES[name]()
        print(f"\n{table.title}\n\n{table.markdown()}", end="", flush=True)
        if args.record:
            record(name, table)
            write_pages()


if __name__ == "__main__":
    main(sys.argv[1:])
