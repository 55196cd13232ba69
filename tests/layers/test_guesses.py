# SPDX-License-Identifier: MIT
"""What a user of PyTorch tries first gets an answer."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import load_model
from bptt._guesses import RENAMED

LSTM = bptt.LSTM(2, 3, seed=0)
X = np.ones((4, 1, 2))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("weight_ih_l0", "LSTM has no attribute weight_ih_l0, expected parameters['weight_ih_l0']"),
        ("train", "expected forward(x) for training, and layer(x) for inference"),
        ("eval", "expected forward(x) for training, and layer(x) for inference"),
        ("cuda", "expected none: everything is computed on the CPU"),
        ("zero_grad", "expected none: backward returns new gradients"),
        ("named_parameters", "expected parameters.items()"),
        ("to", "expected dtype='float32' or 'float64' in the constructor"),
        ("flatten_parameters", "expected none: parameters are NumPy arrays, which prepare() packs"),
        ("compile", "expected prepare(), for calls with packed weights"),
        ("quantize", "expected prepare('int8')"),
        ("no_such_name", "LSTM has no attribute 'no_such_name'"),
    ],
)
def test_an_attribute_of_theirs(name: str, text: str) -> None:
    assert not hasattr(LSTM, name)
    with pytest.raises(AttributeError, match=re.escape(text)) as info:
        getattr(LSTM, name)
    assert info.value.name == name


def test_attributes_of_other_layers_and_copies() -> None:
    with pytest.raises(AttributeError, match=re.escape("Linear has no attribute weight, expected")):
        _ = bptt.Linear(2, 3).weight  # type: ignore[attr-defined]
    for twin in (copy.copy(LSTM), copy.deepcopy(LSTM), pickle.loads(pickle.dumps(LSTM))):
        assert np.array_equal(twin(X)[0], LSTM(X)[0])
    with pytest.raises(AttributeError, match="no attribute '__array__'"):
        LSTM.__getattr__("__array__")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind",
    [
        bptt.LSTM,
        bptt.Linear,
        bptt.Embedding,
        bptt.Dropout,
        bptt.SGD,
        bptt.Adam,
        bptt.models.SequenceClassifier,
        bptt.models.Forecaster,
    ],
)
def test_a_new_name_is_an_argument(kind: type[Any]) -> None:
    known = inspect.signature(kind).parameters
    for name in (n for n in RENAMED if n not in known):
        with pytest.raises(TypeError, match=f"{kind.__name__}: {name} is given, expected ") as info:
            kind(**{name: 1})
        new = re.search(r"expected (\w+), its name in bptt$", str(info.value))
        assert new is None or new[1] in known
    child = type("Child", (bptt.Linear,), {})
    with pytest.raises(TypeError, match="Child: units is given, expected out_features, its name"):
        child(3, units=4)


def test_names_of_the_package_and_of_optimisers() -> None:
    for name, text in (
        (
            "CosineAnnealingLR",
            "module 'bptt' has no attribute 'CosineAnnealingLR', expected bptt.C",
        ),
        ("no_such_name", "module 'bptt' has no attribute 'no_such_name'"),
    ):
        with pytest.raises(AttributeError, match=re.escape(text)) as info:
            getattr(bptt, name)
        assert (info.value.name, info.value.obj) == (name, bptt)
    program = "import bptt; print(hasattr(bptt, 'onnx')); bptt.onnx"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False\n"
    assert done.stderr.endswith("no attribute 'onnx', expected 'import bptt.onnx' first\n")
    adam: Any = bptt.Adam({})
    for name, text in (("zero_grad", "none: backward"), ("param_groups", "groups, and lr for all")):
        with pytest.raises(
            AttributeError, match=f"Adam has no attribute '{name}', expected {text}"
        ):
            getattr(adam, name)
    with pytest.raises(AttributeError, match=r"Adam has no attribute 'quantize'$"):
        _ = adam.quantize


def test_an_error_in_a_property_is_its_own() -> None:
    wrong = property(lambda self: self.no_such_name)
    for layer in (
        type("Child", (bptt.Linear,), {"warm": wrong})(2, 3),
        type("Child", (bptt.SGD,), {"warm": wrong})({}),
    ):
        with pytest.raises(AttributeError, match="Child has no attribute 'no_such_name'"):
            _ = layer.warm


GUESSES: list[tuple[Callable[..., Any], str]] = [
    (
        lambda: bptt.RNN(3, 4, nonlinearity="relu"),
        "RNN: nonlinearity is given, expected activation",
    ),
    (
        lambda: bptt.GRU(3, 4, device="cuda"),
        "GRU: device is given, expected no such argument: everything",
    ),
    (lambda: bptt.Linear(3, 4, device="cpu"), "Linear: device is given, expected no such argument"),
    (lambda: bptt.LSTM(input_size=3, units=4), "LSTM: units is given, expected hidden_size"),
    (lambda: LSTM.forward(X, training=False), "LSTM: training is given, expected forward(x) for"),
    (lambda: LSTM(X, training=False), "LSTM: training is given, expected forward(x) for training"),
    (lambda: LSTM(X, hx=None), "LSTM: hx is given, expected state, its name in bptt"),
    (
        lambda: bptt.CosineAnnealing(LSTM, 10),
        "CosineAnnealing: optimizer is of type LSTM, expected",
    ),
    (
        lambda: bptt.CosineAnnealing(bptt.Adam({}), T_max=10),
        "CosineAnnealing: T_max is given, expected t_max",
    ),
    (lambda: bptt.Linear(3, units=4), "Linear: units is given, expected out_features, its name"),
    (lambda: bptt.Embedding(input_dim=3), "Embedding: input_dim is given, expected num_embeddings"),
    (lambda: bptt.LSTM(3, 4, use_bias=False), "LSTM: use_bias is given, expected bias, its name"),
    (lambda: bptt.LSTM(3, 4, stateful=True), "expected no such argument: pass the state that a"),
    (lambda: LSTM(X, length=[1]), "LSTM: length is given, expected some of ['x', 'state', 'leng"),
    (lambda: bptt.Adam({}, learning_rate=1), "Adam: learning_rate is given, expected lr, its name"),
    (
        lambda: bptt.AdamW({}, beta_1=0.9),
        "AdamW: beta_1 is given, expected betas, its name in bptt",
    ),
    (lambda: bptt.SGD({}, clipnorm=1), "expected no such argument: bptt.clip_grad_norm"),
    (
        lambda: bptt.models.SequenceClassifier(n_epochs=3),
        "SequenceClassifier: n_epochs is given, expected epochs, its name in bptt",
    ),
    (
        lambda: bptt.models.Forecaster(12, 24, random_state=0),
        "Forecaster: random_state is given, expected seed, its name in bptt",
    ),
    (lambda: bptt.Linear(3, 4, "tanh"), "Linear: bias is 'tanh', expected True or False"),
]  # type: ignore


@pytest.mark.parametrize(("call", "text"), GUESSES, ids=[text for _, text in GUESSES])
def test_an_argument_of_theirs(call: Callable[..., Any], text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        call()


def test_other_unknown_arguments_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        TypeError, match=r"LSTM: colour is given, expected some of \['input_size', "
    ):
        bptt.LSTM(2, 3, colour="red")  # type: ignore[call-arg]
    assert list(inspect.signature(bptt.LSTM).parameters)[:3] == [
        "input_size",
        "hidden_size",
        "num_layers",
    ]
    with pytest.warns(UserWarning, match="num_layers is 1") as caught:
        bptt.LSTM(2, 3, dropout=0.5)
    assert caught[0].filename == __file__


def test_parameters_of_a_cell_by_its_own_names() -> None:
    state = {k.removesuffix("_l0"): v for k, v in LSTM.state_dict().items()}
    twin = bptt.LSTM(2, 3, seed=1)
    twin.load(state)
    assert np.array_equal(twin(X)[0], LSTM(X)[0])
    assert np.array_equal(load_model(state)(X)[0], LSTM(X)[0])
    with pytest.raises(ValueError, match="missing names"):
        bptt.LSTM(2, 3, num_layers=2).load(state)


def test_names_of_any_length_are_cut_in_messages() -> None:
    with pytest.raises(ValueError, match=re.escape("(70002 characters)")) as info:
        LSTM.load({"n" * 70_000: np.ones(3)})
    assert len(str(info.value)) < 500


# --- PyTorch itself


def test_a_module_and_numbers_in_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(2, 3)
    with pytest.raises(
        TypeError, match=re.escape("LSTM: arrays is of type LSTM, expected a dict of")
    ) as info:
        LSTM.load(module)
    assert str(info.value).endswith("pass .state_dict()")
    twin = bptt.LSTM(2, 3, seed=1)
    twin.load(module.bfloat16().state_dict())
    for name, value in module.state_dict().items():
        assert np.array_equal(twin.parameters[name], value.float().numpy())
    assert np.array_equal(load_model(module)(X)[0], twin(X)[0])
    cell = torch.nn.LSTMCell(2, 3)
    twin.load(cell.state_dict())
    assert np.array_equal(twin.parameters["weight_hh_l0"], cell.weight_hh.detach().numpy())


def test_a_model_around_one_layer_is_that_layer() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(2, 3), "out": torch.nn.Linear(3, 1)})
    report = bptt.gradient_flow(model, X)  # of the one recurrent layer in it
    assert report.norms == bptt.gradient_flow(model["encoder"], X).norms
    model["decoder"] = torch.nn.GRU(2, 3)
    text = "gradient_flow: name is missing, expected one of ['encoder', 'decoder']"
    with pytest.raises(ValueError, match=re.escape(text)):
        bptt.gradient_flow(model, X)


@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.02, 1.0])
def test_eps_of_a_plateau_is_pytorchs(eps: float) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.zeros(1, requires_grad=True)
    theirs = torch.optim.SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=0, factor=0.5, eps=eps)
    ours = bptt.SGD({"w": np.zeros(1)}, lr=0.1)
    plateau = bptt.ReduceLROnPlateau(ours, patience=0, factor=0.5, eps=eps)
    for _ in range(40):
        schedule.step(1.0)
        plateau.step(1.0)
        assert ours.lr == theirs.param_groups[0]["lr"]
    assert (ours.lr < 0.1) == (eps < 0.05)
