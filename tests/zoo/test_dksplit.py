# SPDX-License-Identifier: MIT
"""dksplit, which cuts names of domains into words: three BiLSTMs with weights of 8 bits in ONNX.

Loading turns the weights into real numbers. ONNX Runtime rounds x and h to 8 bits as well, at each
step, and so differs by some percent; in nodes of float32 with the same weights it agrees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
bptt_onnx = pytest.importorskip("bptt.onnx")
TOLERANCE_OF_8_BITS = 0.02
LAST = "/lstm/LSTM_2_output_0"
NAMES = ["thequickbrownfox", "openlearningsite", "neuralnetworks24", "backpropagation1"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def run(model: Any, x: Array) -> list[Array]:
    """The outputs of the last LSTM, (T, 2, B, H), and of the model."""
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info(LAST, kind, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run([LAST, "emissions"], {"chars": x}))


def in_float32(model: Any) -> Any:
    """The model with an LSTM of float32 in place of each DynamicQuantizeLSTM."""
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DynamicQuantizeLSTM":
            continue
        for name, scale, zero in (
            (node.input[1], *node.input[8:10]),
            (node.input[2], *node.input[10:12]),
        ):
            s, z = (arrays[n].astype(np.float32)[:, None, None] for n in (scale, zero))
            real = ((arrays[name] - z) * s).swapaxes(1, 2)
            model.graph.initializer.append(onnx.numpy_helper.from_array(real, f"{name}_real"))
        inputs = [node.input[0], *(f"{name}_real" for name in node.input[1:3]), *node.input[3:7]]
        node.op_type, node.domain = "LSTM", ""
        del node.input[:]
        node.input.extend(inputs)
    return model


def test_dksplit(tmp_path: Path) -> None:
    path = file_of("dksplit", "dksplit/models/dksplit-int8.onnx", tmp_path)
    model = bptt.load_model(path)

    x = np.array([[CHARACTERS.index(c) + 2 for c in name] for name in NAMES])
    got = model(x)["emissions"]
    _, want = run(onnx.load(path), x)
    assert_outputs("dksplit, in 8 bits", got, want, TOLERANCE_OF_8_BITS)
    assert (got.argmax(-1) == want.argmax(-1)).all()


def test_lstms(tmp_path: Path) -> None:
    path = file_of("dksplit", "dksplit/models/dksplit-int8.onnx", tmp_path)
    layers = bptt_onnx.load_layers(path)

    model = onnx.load(path)
    a = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zero = a["embedding.weight_zero_point"].astype(np.float32)
    embedding = (a["embedding.weight_quantized"] - zero) * a["embedding.weight_scale"]
    x = np.array([[CHARACTERS.index(c) + 2 for c in name] for name in NAMES])
    y = embedding[x.T]
    for layer in layers.values():
        y, _ = layer(y)
    last, _ = run(in_float32(model), x)
    assert_outputs("dksplit, in float32", y, np.concatenate(list(last.swapaxes(0, 1)), -1))
