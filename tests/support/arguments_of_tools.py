# SPDX-License-Identifier: MIT
"""The calls of `arguments` for training, initialisation, diagnostics and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import flow, init, jacobians, optim, regularise, tasks
from support.arguments import (
    ANY,
    BACKWARD,
    MAYBE,
    MORE,
    NAMED,
    SEED,
    STATE,
    STATES,
    H,
    I,
    T,
    X,
    Y,
    call,
    lstm,
)  # fmt: skip

# --- training -------------------------------------------------------------------------------------


def params() -> dict[str, Any]:
    return {"w": np.ones((2, 3)), "b": np.ones(3)}


OPTIMISERS = ("SGD", "Adam", "AdamW", "RMSprop")
RATES = {"lr": MORE, "weight_decay": MORE, "momentum": MORE, "alpha": "half", "eps": MORE}


@call(*OPTIMISERS, params=NAMED, groups="list", **RATES | {"alpha": ""})
def _(_: Path, name: str) -> tuple[Any, ...]:
    return getattr(bptt, name), {"params": params()}


@call("Optimizer.step", "Optimizer.load_state_dict")
def _(_: Path, name: str) -> tuple[Any, ...]:
    adam, kind = bptt.Adam(params()), name.split(".")[1]
    good = {"grads": params()} if kind == "step" else {"state": adam.state_dict()}
    return getattr(adam, kind), good, f"Adam.{kind}", "Adam"


@call("Layer.load_state_dict")
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = bptt.LSTM(I, H, 2, dropout=0.5, seed=0)
    return layer.load_state_dict, {"state": layer.state_dict()}, "LSTM.load_state_dict", "LSTM"


@call("AutoClip.load_state_dict", state="shape_inside")
def _(_: Path, name: str) -> tuple[Any, ...]:
    clip = bptt.AutoClip(history=[1.0, 2.0])
    return clip.load_state_dict, {"state": clip.state_dict()}


FIT = {"optimizer": MAYBE, "lr": f"{MAYBE} {MORE}", "schedule": MAYBE, "clip": "none big half inf"}
FIT |= {"validation": MAYBE, "groups": MAYBE, "patience": MAYBE, "metric": MAYBE}
FIT |= {"callbacks": "list dict generator", "checkpoint": "none text", "checkpoint_minutes": MORE}
FIT |= {"progress": "none true"}


@call("fit", **FIT)
def _(folder: Path, name: str) -> tuple[Any, ...]:
    model = bptt.Sequential(bptt.GRU(I, H, seed=0), bptt.Last(), bptt.Linear(H, 2, seed=1))
    good = {"data": (np.ones((8, T, I)), np.arange(8) % 2), "loss": bptt.cross_entropy}
    more = {"epochs": 1, "validation": 0.5, "callbacks": [bptt.FlowMonitor(on_alert=print)]}
    return bptt.fit, {"model": model, **good, **more}, "Sequential", "cross_entropy"


@call("History.plot", path=MAYBE)
def _(folder: Path, name: str) -> tuple[Any, ...]:
    pytest.importorskip("matplotlib")
    epoch = bptt.training.Epoch(1, 1.0, None, None, 0.1, 1.0, 0)
    return bptt.History([epoch]).plot, {"path": folder / "history.png"}


ANYTHING = "none text object complex ragged masked objects shape generator"
ANYTHING = " ".join(f"{kind}_inside" for kind in ANYTHING.split())


@call("optim.join", rnn=f"{NAMED} {ANYTHING}", out=f"{NAMED} {ANYTHING}")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return optim.join, {"rnn": params(), "out": params()}


@call("optim.split", joined=f"{NAMED} {ANYTHING}")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return optim.split, {"joined": optim.join(rnn=params())}


@call("StepLR", gamma=MORE, step_size="big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.StepLR, {"optimizer": bptt.Adam(params()), "step_size": 3}


@call("CosineAnnealing", t_max="big", eta_min=MORE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.CosineAnnealing, {"optimizer": bptt.Adam(params()), "t_max": 3}


PLATEAU = {"factor": "half", "patience": "big", "threshold": MORE, "cooldown": "big"}


@call("ReduceLROnPlateau", **PLATEAU | {"factor": ""}, min_lr=MORE, eps=MORE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.ReduceLROnPlateau, {"optimizer": bptt.Adam(params())}


@call("WarmUp", after=MAYBE, warmup_steps="big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.WarmUp, {"optimizer": bptt.Adam(params()), "warmup_steps": 3}


PLAIN = {"StepLR": {"step_size": 3}, "CosineAnnealing": {"t_max": 3}, "ReduceLROnPlateau": {}}


@call("Schedule.step", metric="minus big half inf nan zero_d")
def _(_: Path, name: str) -> tuple[Any, ...]:
    schedule = bptt.ReduceLROnPlateau(bptt.Adam(params()))
    return schedule.step, {"metric": 1.0}, "ReduceLROnPlateau"


@call("Schedule.load_state_dict")
def _(_: Path, name: str) -> tuple[Any, ...]:
    optimizer = bptt.Adam(params())
    schedule = bptt.WarmUp(optimizer, 3, after=bptt.ReduceLROnPlateau(optimizer))
    good = {"state": schedule.state_dict()}
    after = "ReduceLROnPlateau.load_state_dict"
    return schedule.load_state_dict, good, "WarmUp.load_state_dict", after


@call("AutoClip", quantile="", window="none big", history="list dict generator")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.AutoClip, {}


BOUND = "big half inf"


@call("clip_grad_norm", "clip_grad_value", grads=NAMED, max_norm=f"{BOUND} dict", bound=BOUND)
def _(_: Path, name: str) -> tuple[Any, ...]:
    other = {"max_norm": 1.0} if name == "clip_grad_norm" else {"bound": 1.0}
    return getattr(bptt, name), {"grads": params(), **other}


WEIGHTS = {"lengths": MAYBE, "mask": "none true", "batch_first": "true"}
WEIGHTS |= dict.fromkeys(("weight", "sample_weight"), "none true big half zero_d shape")


@call("mse", "binary_cross_entropy", **WEIGHTS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    first = "prediction" if name == "mse" else "logits"
    return getattr(bptt, name), {first: np.ones((2, 3)), "target": np.ones((2, 3))}


@call("cross_entropy", logits="shape", ignore_index="minus big", **WEIGHTS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.cross_entropy, {"logits": np.ones((2, 3)), "target": np.array([0, 2])}


@call("quantile_loss", quantiles="zero_d", **WEIGHTS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"prediction": np.ones((2, 3)), "target": np.ones(2), "quantiles": [0.1, 0.5, 0.9]}
    return bptt.losses.quantile_loss, good


@call("tbptt", state=STATES, lengths=MAYBE, resets=MAYBE, k2="big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"layer": lstm(), "x": X, "k1": 2, "k2": 3, "state": STATE, "lengths": [T, 2]}
    return bptt.tbptt, good, "LSTM"


@call("Chunk.backward", **BACKWARD)
def _(_: Path, name: str) -> tuple[Any, ...]:
    chunk = next(bptt.tbptt(lstm(), X, 2, 2))
    return chunk.backward, {"dy": Y[:2], "dstate": STATE}, "LSTM", "lstm_backward"


@call("gradcheck", params="none dict", seed=SEED, **dict.fromkeys(("eps", "rtol", "atol"), MORE))
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = bptt.RNN(2, 2, dtype="float64", seed=0)
    x = {"x": np.ones((2, 1, 2))}
    good = {"forward": layer.forward, "backward": layer.backward, "inputs": x}
    return bptt.gradcheck, {**good, "params": layer.parameters}, "RNN"


# --- starts, tasks --------------------------------------------------------------------------------

ONE_WEIGHT = {"rng": SEED, "gain": ANY, "scale": ANY, "std": MORE, "mean": ANY, "radius": MORE}


SHAPED = {**ONE_WEIGHT, "w": "shape"}


@call("init.normal", w="shape zero_d wide", **ONE_WEIGHT)
@call("init.xavier_uniform", "init.xavier_normal", "init.orthogonal", "init.identity", **SHAPED)
@call("init.spectral", "init.nearest_orthogonal", **ONE_WEIGHT)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return getattr(init, name.split(".")[1]), {"w": np.eye(4) + 1.0}


@call("init.chrono", "init.forget_bias", "init.irnn", value=ANY, t_max="big", rng=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind = name.split(".")[1]
    layer = bptt.RNN(I, H).parameters if kind == "irnn" else lstm().parameters
    more = {"chrono": {"t_max": 9.0}, "forget_bias": {"value": 1.0}, "irnn": {}}[kind]
    return getattr(init, kind), {"layer": layer, **more}


@call("tasks.adding", "tasks.copy_memory", "tasks.temporal_order", seed=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return getattr(tasks, name.split(".")[1]), {"T": 12, "batch": 2}


@call("tasks.three_digits", "tasks.embedded_reber", seed=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind = name.split(".")[1]
    return getattr(tasks, kind), {"T": 4} if kind == "three_digits" else {"batch": 2}


# --- diagnostics ----------------------------------------------------------------------------------

TAPES = ("jacobian", "singular_values", "jacobian_norms", "step_jacobians", "lyapunov_spectrum")


@call(*TAPES, t="minus none", k="minus", log="true", n=MAYBE)
@call("by_lag", dy=MAYBE, dstate=STATES, max_lag="none big")
@call("find_nonfinite")
def _(_: Path, name: str) -> tuple[Any, ...]:
    tape = lstm().forward(X)[2].cells[0]
    good: dict[str, Any] = {"tape": tape}
    if name in TAPES[:3]:
        good |= {"t": 3} | ({} if name == "jacobian_norms" else {"k": 1})
    if name == "by_lag":
        good |= {"dy": Y, "dstate": tuple(s[0] for s in STATE)}
    return getattr(bptt, name), good, "lstm_backward"


LAGS = f"{MORE} inf zero_d true list shape"


@call("spectral_radius")
@call("decay_bound", "memory_horizon", k=LAGS, norms="list shape", reverse="true")
def _(_: Path, name: str) -> tuple[Any, ...]:
    w = {"norms": np.ones(4)} if name == "memory_horizon" else {"w_hh": np.eye(3)}
    return getattr(jacobians, name), w


@call("per_sample_gradients")
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = lstm()
    grads = layer.backward(layer.forward(X)[2], Y, trace="full")
    assert grads.trace is not None
    return bptt.per_sample_gradients, {"trace": grads.trace.cells[0]}


@call("regularise.omega", dy=MAYBE, dstate=MAYBE, immediate="true")
def _(_: Path, name: str) -> tuple[Any, ...]:
    tape = bptt.RNN(I, H, seed=0).forward(X)[2]
    return regularise.omega, {"tape": tape, "dy": Y, "dstate": STATE[0]}, "RNN", "rnn_backward"


@call("regularise.flossing", rng=SEED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return regularise.flossing, {"tape": bptt.RNN(I, H, seed=0).forward(X)[2], "n": 2}


@call("gradient_flow", dy=MAYBE, lengths=MAYBE, needs="none big", seed="big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"model": lstm(), "x": X, "dy": Y, "lengths": [T, 2]}
    return bptt.gradient_flow, good, "LSTM"


@call("load_model", name="none empty", cell=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.load_model, {"source": lstm().parameters}, "LSTM"


@call("FlowMonitor", every="big", path="none text", on_alert=MAYBE, needs="none big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.FlowMonitor, {}


LOSS = f"{ANY} none nan inf zero_d"


@call("FlowMonitor.wants", "FlowMonitor.update", step="big", trace=MAYBE, loss=LOSS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer, monitor = lstm(), bptt.FlowMonitor(1, on_alert=str)
    trace = layer.backward(layer.forward(X)[2], Y, trace=True).trace
    kind = name.split(".")[1]
    good = {"step": 3} | ({} if kind == "wants" else {"trace": trace, "loss": 1.0})
    return getattr(monitor, kind), good


@call("flow.needed_memory", loss=MAYBE, lengths=MAYBE, seed="big")
def _(_: Path, name: str) -> tuple[Any, ...]:
    layer = lstm()
    good = {"model": lambda x, *lengths: layer(x, None, *lengths)[0], "x": X, "target": Y}
    return flow.needed_memory, {**good, "loss": bptt.mse}, "needed_memory", "LSTM", "mse"


@call("FlowReport.to_html", path="none text")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    return bptt.gradient_flow(lstm(), X).to_html, {"path": folder / "report.html"}


@call("set_num_threads")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.set_num_threads, {"threads": bptt.get_num_threads()}


# --- files ----------------------------------------------------------------------------------------


METADATA = "none dict text_inside long_name other_name"


@call("save", path="text", arrays="dict shape_inside other_name", metadata=METADATA)
def _(folder: Path, name: str) -> tuple[Any, ...]:
    path = folder / "a.npz"
    return bptt.save, {"path": path, "arrays": {"w": np.ones(2)}, "metadata": {"epoch": "3"}}


@call("load", "load_metadata")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    bptt.save(folder / "a.npz", {"w": np.ones(2)})
    return getattr(bptt, name), {"path": folder / "a.npz"}


@call(
    "save_c_header",
    path="text",
    model=NAMED.removeprefix("dict "),
    name="none text",
    cell=MAYBE,
)
def _(folder: Path, name: str) -> tuple[Any, ...]:
    return bptt.save_c_header, {"path": folder / "a.h", "model": lstm().parameters}, "load"


@call(
    "layer_from_arrays",
    bias="none",
    recurrent_bias="none",
    gates="none",
    kernel="shape",  # more inputs
    forget_bias="minus half big",
    peepholes="none",
    reverse="true",
)
def _(_: Path, name: str) -> tuple[Any, ...]:
    rows = np.ones((4 * H, 1))
    good = {
        "kind": "lstm", "kernel": np.ones((4 * H, I)), "recurrent": np.ones((4 * H, H)),
        "bias": rows[:, 0], "recurrent_bias": rows[:, 0], "peepholes": np.ones((3, H)),
    }  # fmt: skip
    return bptt.layer_from_arrays, good, "LSTM"


@call("save_keras")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    pytest.importorskip("h5py")
    return bptt.save_keras, {"path": folder / "a.keras", "layers": [lstm()]}


@call("save_rtneural", path="text")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    return bptt.save_rtneural, {"path": folder / "a.json", "layers": [lstm()]}


@call("load_rtneural")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    bptt.save_rtneural(folder / "a.json", [lstm()])
    return bptt.load_rtneural, {"path": folder / "a.json"}
