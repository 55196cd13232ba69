# SPDX-License-Identifier: MIT
"""Saved layers: all of a layer comes back, or is refused by name."""

from __future__ import annotations

import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import cli, load_model

T, B, SIZE, HIDDEN = 9, 3, 4, 8
X = np.random.default_rng(0).standard_normal((T, B, SIZE))

# What shapes tell, by cell; and what they do not, which is given again.
SHAPES: dict[str, list[dict[str, Any]]] = {
    "rnn": [{}, {"layer_norm": True}],
    "lstm": [
        {},
        {"proj_size": 5},
        {"peepholes": True},
        {"layer_norm": True},
        {"proj_size": 3, "peepholes": True, "layer_norm": True},
    ],
    "gru": [{}, {"layer_norm": True}],
    "mgu": [{}, {"layer_norm": True}],
    "slstm": [{}, {"heads": 2}, {"heads": 8, "layer_norm": True}, {"layer_norm": True}],
    "lstm1997": [{}],
}
COMMON: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]
STATED: dict[str, list[dict[str, Any]]] = {
    "rnn": [
        *({"activation": a} for a in ("relu", "leaky_relu", "sigmoid", "identity")),
        {"leak": 0.3},
        {"leak": (0.3, 0.4, 0.5, 0.6) * 2, "activation": ("elu", 0.5)},
        {"preact_clip": 0.5},
    ],
    "lstm": [
        {"forget_gate": "coupled"},
        {"forget_gate": "none", "peepholes": True},
        {"forget_gate": "coupled", "proj_size": 5, "layer_norm": True},
        {"gate_activation": "hard_sigmoid", "activation": "relu", "output_activation": "identity"},
        {"cell_clip": 0.1, "preact_clip": 0.5},
    ],
    "gru": [
        {"reset_after": False},
        {"gate_activation": "hard_sigmoid"},
        {"activation": "relu"},
        {"preact_clip": 0.5},
    ],
    "mgu": [{"preact_clip": 0.5}],
    "slstm": [{"heads": 4}],
    "lstm1997": [],
}
EVERY: list[dict[str, Any]] = [
    {"dilation": 2},
    {"dilation": (1, 2), "num_layers": 2},
    {"skip": 3},
    {"num_layers": 2, "residual": True},
    {"zoneout": 0.3},
    {"batch_first": True},
    {"reverse": True},
]
LEARNT = {"learn_state": True, "num_layers": 2, "bidirectional": True}
SEEN = {"num_layers", "bidirectional", "bias", "proj_size", "peepholes", "layer_norm", "heads"}
SEEN |= {"learn_state"}
CLASSES = {"rnn": bptt.RNN, "lstm": bptt.LSTM, "gru": bptt.GRU, "mgu": bptt.MGU,
           "slstm": bptt.SLSTM, "lstm1997": bptt.LSTM1997}  # fmt: skip
CASES = [
    (cell, {**common, **own})
    for cell, shapes in SHAPES.items()
    for own in shapes
    for common in COMMON
] + [(cell, how) for cell in SHAPES for how in [*STATED[cell], *EVERY]]
CASES += [(cell, LEARNT) for cell in ("rnn", "lstm", "gru", "mgu")]


def made(cell: str, how: dict[str, Any], dtype: str = "float32") -> Any:
    layer = CLASSES[cell](SIZE, HIDDEN, dtype=dtype, seed=1, **how)
    rng = np.random.default_rng(2)
    for name, array in layer.parameters.items():  # nothing is as it starts
        if name.startswith(("gain", "bias_c", "h0", "c0")):
            array += rng.uniform(-0.5, 0.5, array.shape).astype(array.dtype)
    return layer


def outputs(layer: Any) -> list[np.ndarray]:
    y, state = layer(X.swapaxes(0, 1) if layer.batch_first else X)
    return [y, *(state if isinstance(state, tuple) else [state])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("cell", "how"), CASES, ids=str)
def test_every_layer_comes_back_from_its_file(tmp_path, cell, how, dtype):
    layer = made(cell, how, dtype)
    path = tmp_path / "model.npz"
    bptt.save(path, {f"net.{name}": a for name, a in layer.parameters.items()})
    stated = {name: value for name, value in how.items() if name not in SEEN}
    for source in (path, layer.parameters, bptt.load(path)):
        again = load_model(source, cell=cell, **stated)
        assert repr(again) == repr(layer)
        assert again.parameters.keys() == layer.parameters.keys()
        for a, b in zip(outputs(again), outputs(layer)):
            np.testing.assert_array_equal(a, b, strict=True)
    if cell in ("rnn", "lstm", "gru", "mgu") and "forget_gate" not in how:  # told by the gates
        told = load_model(path, **stated)
        assert repr(told) == repr(layer)


def test_no_option_of_a_constructor_is_left_out():
    """A new option must be added above, or known to need no place in a file of weights."""
    training = {"dropout", "recurrent_dropout", "variational_dropout", "seed", "compute", "dtype"}
    for cell, kind in CLASSES.items():
        known = set(inspect.signature(kind).parameters) - {"input_size", "hidden_size"} - training
        tried = {name for c, how in CASES if c == cell for name in how}
        assert known == tried, cell


@pytest.mark.parametrize("cell", CLASSES)
def test_each_array_is_used_or_named(cell):
    """Every array is left out once, and one that does not belong is added."""
    widest = {"rnn": {"layer_norm": True}, "gru": {"layer_norm": True}, "mgu": {"layer_norm": True},
              "lstm": {"layer_norm": True, "peepholes": True, "proj_size": 5},
              "slstm": {"layer_norm": True, "heads": 2}, "lstm1997": {}}[cell]  # fmt: skip
    arrays = made(cell, {"num_layers": 2, "bidirectional": True, **widest}).parameters
    for name in arrays:
        left = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(ValueError, match=r"_l[01]") as error:
            load_model(left, cell=cell)
        assert name in str(error.value)
    for extra in ("gain_q_l0", "weight_ch_l1_reverse", "gain_c_l2", "bias_c_l7", "weight_hr_l0"):
        if extra not in arrays:
            for prefix in ("", "net."):
                more = {prefix + k: v for k, v in {**arrays, extra: np.ones((5, HIDDEN))}.items()}
                with pytest.raises(ValueError, match=r"load_model|arrays has"):
                    load_model(more, cell=cell)
                with pytest.raises(ValueError, match=r"load_model|arrays has"):
                    load_model(more, "net" if prefix else "", cell=cell)


def test_other_layers_of_the_file_are_no_matter():
    lstm, head = bptt.LSTM(SIZE, HIDDEN, seed=0), bptt.Linear(HIDDEN, 2, seed=0)
    for arrays in (
        {**lstm.parameters, **head.parameters},
        {**{f"a.{k}": v for k, v in lstm.parameters.items()}, "b.weight_l0": np.ones(3)},
    ):
        np.testing.assert_array_equal(outputs(load_model(arrays))[0], outputs(lstm)[0])


GATES_3 = bptt.LSTM(SIZE, HIDDEN, forget_gate="coupled", peepholes=True, seed=0).parameters
PLAIN = bptt.LSTM(SIZE, HIDDEN, seed=0).parameters


@pytest.mark.parametrize(
    ("model", "how", "error", "words"),
    [
        (GATES_3, {}, ValueError, "3 gates, expected forget_gate='coupled' or 'none' to be given"),
        (PLAIN, {"layer_norm": True}, ValueError, "missing names ['gain_ih_l0'"),
        (PLAIN, {"foo": 1}, TypeError, "load_model: LSTM has no option 'foo'"),
        ({**PLAIN, 3: np.ones(2)}, {}, TypeError, "source has the name 3, expected"),
        ({**PLAIN, "weight_ih_l300000": np.ones(2)}, {}, ValueError, "have no weight_hh_l1,"),
        ({**PLAIN, "weight_ih_l99999999999": np.ones(2)}, {}, ValueError, "'weight_ih_l99999999999'"),  # noqa: E501
        ({**PLAIN, "weight_hr_l0": np.float32(1)}, {}, ValueError, "weight_hr has shape ()"),
        ({**PLAIN, "weight_ih_l0": np.ones((0, 10**9), np.float32)}, {}, ValueError,
         "weight_ih_l0 has shape (0, 1000000000), expected (G*H, I) with G*H = 32"),
        ({**PLAIN, "weight_hh_l1": np.float32(1)}, {}, ValueError,
         "weight_hh_l1 has shape (), expected that of weight_hh_l0, (32, 8)"),
        ({**PLAIN, "bias_ih_l0": np.ma.masked_equal(PLAIN["bias_ih_l0"], 0)}, {}, TypeError,
         "source['bias_ih_l0'] is a masked array"),
    ],
)  # fmt: skip
def test_refusals(model, how, error, words):
    with pytest.raises(error, match=re.escape(words)):
        load_model(model, **how)


def test_the_command_reports_on_the_layer_that_was_saved(tmp_path, capsys):
    lstm = made("lstm", {"layer_norm": True})
    lstm.parameters["gain_hh_l0"][...] = 3
    bptt.save(tmp_path / "m.npz", lstm.parameters)
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    assert cli.main(["flow", str(tmp_path / "m.npz"), "--data", str(tmp_path / "x.npy")]) == 0
    lines = capsys.readouterr().out.rstrip("\n").splitlines()
    assert lines.pop(1).startswith("x of shape")  # what a file leaves open
    assert lines == str(bptt.gradient_flow(lstm, X)).splitlines()
    # RTNeural has no such layer; the header has every array.
    for option in ("--json", "--c-header"):
        target = tmp_path / f"out{option}"
        code = cli.main(["export", str(tmp_path / "m.npz"), option, str(target), "--layers", ""][
            : 4 + 2 * (option == "--json")])  # fmt: skip
        assert (code == 0) == (option == "--c-header")
    assert "has layer_norm=True, expected False" in capsys.readouterr().err
    text = (tmp_path / "out--c-header").read_text()
    assert all(f"{name}[" in text for name in lstm.parameters)


def test_masks_of_a_torch_module_in_training_are_those_of_the_seed():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.LSTM(SIZE, HIDDEN, 2, dropout=0.5)
    before = torch.random.get_rng_state()
    first, second = (bptt.gradient_flow(module, X, seed=3) for _ in range(2))
    assert str(first) == str(second)
    assert first.norms == second.norms
    assert bptt.gradient_flow(module, X, seed=4).norms != first.norms
    # By hand: the masks of a layer of that seed.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = bptt.LSTM(SIZE, HIDDEN, 2, dropout=0.5, seed=3)
    layer.load({k: v.detach().numpy() for k, v in module.state_dict().items()})
    assert bptt.gradient_flow(layer, X, seed=3).norms == first.norms
    assert torch.equal(torch.random.get_rng_state(), before)
    module.eval()
    assert bptt.gradient_flow(module, X, seed=3).norms != first.norms


def test_a_forget_gate_tells_an_lstm():
    lstm = bptt.LSTM(SIZE, HIDDEN, forget_gate="coupled", seed=0)
    found = bptt.load_model(lstm.parameters, forget_gate="coupled")
    np.testing.assert_array_equal(found(X)[0], lstm(X)[0])
