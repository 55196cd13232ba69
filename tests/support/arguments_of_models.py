# SPDX-License-Identifier: MIT
"""The calls of `arguments` for models, simple layers and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import bptt
from support.arguments import ANY, MAYBE, MORE, SEED, WANTED, H, I, T, X, Y, call

B = X.shape[1]
FLAGS = dict.fromkeys(("batch_first", "bidirectional", "reverse"), "true")
FREE = "true minus big half nan inf zero_d wide shape list empty"  # of arrays of any shape


def model() -> Any:
    return bptt.Sequential(bptt.GRU(I, H, seed=0), bptt.Linear(H, 2, seed=1))


@call("Dropout", seed=SEED, p="")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.Dropout, {}


@call("LayerNorm", eps=MORE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.LayerNorm, {"size": H}


@call("Dropout.__call__", "Dropout.forward", x=FREE)
@call("LayerNorm.__call__", "LayerNorm.forward")
@call("Last.__call__", "Last.forward", "MeanPool.__call__", "MeanPool.forward", lengths=MAYBE,
      x="shape", **FLAGS)  # fmt: skip
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind, method = name.split(".")
    layer = bptt.LayerNorm(H) if kind == "LayerNorm" else getattr(bptt, kind)()
    return getattr(layer, method), {"x": Y}, kind


@call("LayerNorm.backward", "LayerWithoutParameters.backward", **WANTED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    kind = name.split(".")[0].replace("LayerWithoutParameters", "MeanPool")
    layer = bptt.LayerNorm(H) if kind == "LayerNorm" else getattr(bptt, kind)()
    y, tape = layer.forward(Y)
    return layer.backward, {"tape": tape, "dy": np.ones_like(y)}, kind


@call("last", lengths=MAYBE, y="shape", **FLAGS)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.last, {"y": Y}, "Last"


@call("softmax", logits=FREE, axis="minus")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.softmax, {"logits": Y}


@call("pad_sequences", sequences="wide shape ragged", value=f"{ANY} nan inf", batch_first="true")
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.pad_sequences, {"sequences": [np.ones((2, 3)), np.ones((1, 3))]}


@call(
    "minibatches", seed=SEED, target="none shape", batch_size="big", bucket="big",
    per_step="none true", shuffle="true", batch_first="true", x="ragged shape",
)  # fmt: skip
def _(_: Path, name: str) -> tuple[Any, ...]:
    return bptt.minibatches, {"x": [[1, 2], [3]], "target": [0, 1], "batch_size": 2}


@call("Sequential.__call__", "Sequential.forward", state=MAYBE, lengths=MAYBE, resets=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"x": X, "state": [None], "lengths": [T, 2], "resets": np.zeros((T, B), bool)}
    return getattr(model(), name.split(".")[1]), good, "Sequential"


@call("Sequential.backward", dy=MAYBE, dstate=MAYBE, step_clip=MAYBE, trace="none true", **WANTED)
def _(_: Path, name: str) -> tuple[Any, ...]:
    made = model()
    y, tape = made.forward(X)
    return made.backward, {"tape": tape, "dy": np.ones_like(y), "dstate": [None]}, "Sequential"


@call("Sequential.loss_and_grads", state=MAYBE, lengths=MAYBE, resets=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    good = {"x": X, "target": np.zeros((T, B, 2)), "loss": bptt.mse, "lengths": [T, 2]}
    return model().loss_and_grads, good, "Sequential", "mse"


@call("Sequential.stream", state=MAYBE)
def _(_: Path, name: str) -> tuple[Any, ...]:
    return model().stream, {"batch": B}, "Sequential.stream", "stream", "Sequential"


@call("Sequential.load_state_dict")
def _(_: Path, name: str) -> tuple[Any, ...]:
    made = model()
    return made.load_state_dict, {"state": made.state_dict()}, "Sequential"


@call("Sequential.save", path="text", metadata="none dict long_name other_name text_inside")
def _(folder: Path, name: str) -> tuple[Any, ...]:
    return model().save, {"path": folder / "model.npz", "metadata": {"a": "b"}}, "save"
