# SPDX-License-Identifier: MIT
from __future__ import annotations

import copy

import numpy as np
import pytest

from bptt import functional
from bptt.derivatives.gradcheck import gradcheck
from bptt.layers import GRU, LSTM, RNN
from support.compare import DTYPES, TOLERANCE, TOLERANCE_OF_TORCH, error
from support.problems import flat

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def normal(rng, *shape):
    return rng.standard_normal(shape)


def random_state(layer, B, rng, dtype="float64"):
    shape = (layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size)
    drawn = tuple(normal(rng, *shape).astype(dtype) for _ in range(2))
    return drawn if type(layer) is LSTM else drawn[0]


# --- PyTorch ----------------------------------------------------------------------------------


def torch_results(torch, layer, x, state, lengths, dy, dstate, batch_first):
    """y, final state and all gradients of torch.nn's layer with the same weights, in float64."""
    options = {} if type(layer) is not RNN else {"nonlinearity": layer.activation}
    net = getattr(torch.nn, type(layer).__name__)(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias,
        batch_first=batch_first, bidirectional=layer.bidirectional, dtype=torch.float64, **options,
    )  # fmt: skip
    weights = {k: torch.tensor(v, dtype=torch.float64) for k, v in layer.parameters.items()}
    net.load_state_dict(weights)

    def tensor(array):
        return torch.tensor(array, dtype=torch.float64, requires_grad=True)

    tx = tensor(x)
    tstate = None if state is None else tuple(map(tensor, flat(state)))
    given = tstate if tstate is None or type(layer) is LSTM else tstate[0]
    if lengths is None:
        ty, final = net(tx, given)
    else:
        pack = torch.nn.utils.rnn
        packed = pack.pack_padded_sequence(tx, lengths, batch_first, enforce_sorted=False)
        packed, final = net(packed, given)
        T = x.shape[1 if batch_first else 0]
        ty, _ = pack.pad_packed_sequence(packed, batch_first, total_length=T)
    loss = (ty * torch.tensor(dy)).sum()
    loss = loss + sum((f * torch.tensor(d)).sum() for f, d in zip(flat(final), flat(dstate)))
    loss.backward()
    results = {"y": ty, "x": tx.grad} | {k: p.grad for k, p in net.named_parameters()}
    results |= {f"final{i}": part for i, part in enumerate(flat(final))}
    results |= {f"state{i}": part.grad for i, part in enumerate(tstate or ())}
    return {k: v.detach().numpy() for k, v in results.items()}


def random_case(cell, seed):
    rng = np.random.default_rng(seed)
    T, B, I, H = rng.integers(4, 10), rng.integers(1, 6), rng.integers(1, 8), rng.integers(1, 20)
    options = {
        "num_layers": int(rng.integers(1, 4)),
        "bias": rng.random() < 0.7,
        "batch_first": rng.random() < 0.5,
        "bidirectional": rng.random() < 0.5,
    }
    if cell == "rnn":
        options["activation"] = ("tanh", "relu")[seed % 2]
    lengths = rng.integers(1, T + 1, B) if rng.random() < 0.6 else None
    return rng, int(T), int(B), int(I), int(H), options, lengths


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cell", CELLS)
def test_layers_give_torchs_numbers(cell, seed, dtype):
    torch = pytest.importorskip("torch")
    rng, T, B, I, H, options, lengths = random_case(cell, seed)
    layer = CELLS[cell](I, H, dtype=dtype, seed=seed, **options)
    swap = options["batch_first"]
    x = normal(rng, *((B, T, I) if swap else (T, B, I))).astype(dtype)
    dy = normal(rng, *x.shape[:2], H * (1 + layer.bidirectional)).astype(dtype)
    state = random_state(layer, B, rng, dtype) if rng.random() < 0.7 else None
    dstate = random_state(layer, B, rng, dtype)

    y, final, tape = layer.forward(x, state, lengths)
    grads = layer.backward(tape, dy, dstate)
    ours = {"y": y, "x": grads.x} | grads.params
    ours |= {f"final{i}": part for i, part in enumerate(flat(final))}
    ours |= {f"state{i}": part for i, part in enumerate(flat(grads.state))}

    theirs = torch_results(torch, layer, x, state, lengths, dy, dstate, swap)
    assert theirs.keys() - ours.keys() == set()
    for name, expected in theirs.items():
        assert ours[name].dtype == dtype, name
        assert error(ours[name], expected) <= TOLERANCE_OF_TORCH[dtype], name


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_torch_state_dict_loads_and_init_has_torchs_names_shapes_and_range(name):
    torch = pytest.importorskip("torch")
    net = getattr(torch.nn, name)(3, 16, 2, bidirectional=True)
    layer = CELLS[name.lower()](3, 16, 2, bidirectional=True, seed=0)
    theirs = {k: v.numpy() for k, v in net.state_dict().items()}
    assert list(layer.parameters) == list(theirs)
    for key, array in layer.parameters.items():
        assert array.shape == theirs[key].shape
        assert 0.15 < np.abs(array).max() <= 0.25  # U(-1/sqrt(16), 1/sqrt(16))
    layer.load(theirs)
    x = np.random.default_rng(1).standard_normal((5, 2, 3), np.float32)
    expected = net(torch.tensor(x))[0].detach().numpy()
    assert error(layer(x)[0], expected) <= TOLERANCE["float32"]


# --- gradients of what PyTorch has not --------------------------------------------------------


@pytest.mark.parametrize(
    "activation", ["tanh", "relu", "leaky_relu", "sigmoid", "identity", "gru", "lstm"]
)
@pytest.mark.parametrize("batch_first", [False, True])
def test_gradients_agree_with_differences(activation, batch_first):
    rng = np.random.default_rng(3)
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    if activation in CELLS:
        layer = CELLS[activation](2, 3, dtype="float64", seed=1, **options)
    else:
        layer = RNN(2, 3, activation=activation, dtype="float64", seed=1, **options)
    x, state = normal(rng, *((3, 5, 2) if batch_first else (5, 3, 2))), random_state(layer, 3, rng)

    def forward(x, state):
        return layer.forward(x, state, lengths=[2, 0, 5])

    gradcheck(forward, layer.backward, {"x": x, "state": state}, layer.parameters, rtol=1e-7)


def test_step_clip_acts_in_every_layer_and_direction():
    rng = np.random.default_rng(0)
    layer = GRU(3, 4, 2, bidirectional=True, dtype="float64", seed=0)
    x, dy = normal(rng, 6, 2, 3), normal(rng, 6, 2, 8)
    p, clip = layer.parameters, ("norm", 0.3)

    def weights(layer_index, reverse):
        suffix = f"_l{layer_index}" + "_reverse" * reverse
        return [p[k + suffix] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    below = [functional.gru_forward(x, *weights(0, r), reverse=r) for r in (False, True)]
    middle = np.concatenate([y for y, _, _ in below], -1)
    above = [functional.gru_forward(middle, *weights(1, r), reverse=r) for r in (False, True)]
    expected = {}
    dmiddle = 0
    for r, (_, _, tape) in enumerate(above):
        g = functional.gru_backward(tape, dy[..., 4 * r : 4 * r + 4], step_clip=clip)
        expected["weight_hh_l1" + "_reverse" * r] = g.w_hh
        dmiddle = dmiddle + g.x
    for r, (_, _, tape) in enumerate(below):
        g = functional.gru_backward(tape, dmiddle[..., 4 * r : 4 * r + 4], step_clip=clip)
        expected["weight_hh_l0" + "_reverse" * r] = g.w_hh

    tape = layer.forward(x)[2]
    clipped, free = (layer.backward(tape, dy, step_clip=c).params for c in (clip, None))
    for name, value in expected.items():
        assert error(clipped[name], value) <= 1e-13, name
        assert not np.allclose(clipped[name], free[name], rtol=1e-3)


# --- sequences of different lengths -----------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_does_not_depend_on_its_batch(cell):
    rng = np.random.default_rng(5)
    layer = CELLS[cell](3, 5, 2, bidirectional=True, dtype="float64", seed=2)
    lengths, T = [4, 0, 7, 1], 7
    x, dy = normal(rng, T, 4, 3), normal(rng, T, 4, 10)
    state, dstate = random_state(layer, 4, rng), random_state(layer, 4, rng)
    for b, n in enumerate(lengths):  # padding is never read
        x[n:, b] = dy[n:, b] = np.nan
    y, final, tape = layer.forward(x, state, lengths)
    grads = layer.backward(tape, dy, dstate)
    total = dict.fromkeys(grads.params, 0)
    for b, n in enumerate(lengths):
        pick = [tuple(p[:, b : b + 1] for p in flat(s)) for s in (state, dstate)]
        one_state, one_dstate = pick if cell == "lstm" else (s[0] for s in pick)
        one_y, one_final, one_tape = layer.forward(x[:n, b : b + 1], one_state)
        one = layer.backward(one_tape, dy[:n, b : b + 1], one_dstate)
        assert np.all(y[n:, b] == 0)
        assert np.all(grads.x[n:, b] == 0)
        np.testing.assert_allclose(y[:n, b], one_y[:, 0], atol=1e-13)
        np.testing.assert_allclose(grads.x[:n, b], one.x[:, 0], atol=1e-13)
        for a, e in zip(flat(final) + flat(grads.state), flat(one_final) + flat(one.state)):
            np.testing.assert_allclose(a[:, b], e[:, 0], atol=1e-13)
        total = {k: total[k] + v for k, v in one.params.items()}
    for name, value in total.items():
        assert error(grads.params[name], value) <= TOLERANCE["float64"], name


@pytest.mark.parametrize("cell", CELLS)
def test_pieces_of_a_sequence_give_the_whole(cell):
    rng = np.random.default_rng(6)
    layer = CELLS[cell](3, 5, 2, dtype="float64", seed=2)
    x = normal(rng, 8, 2, 3)
    y, final = layer(x)
    first, state = layer(x[:3])
    second, state = layer(x[3:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), y, atol=1e-14)
    for a, b in zip(flat(state), flat(final)):
        np.testing.assert_allclose(a, b, atol=1e-14)


@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_in_nothing_out(cell, T, B):
    layer = CELLS[cell](3, 5, 2, bidirectional=True, seed=0)
    state = random_state(layer, B, np.random.default_rng(0))
    y, final, tape = layer.forward(np.zeros((T, B, 3)), state, lengths=[0] * B)
    grads = layer.backward(tape, np.zeros_like(y), final)
    assert y.shape == (T, B, 10)
    assert grads.x.shape == (T, B, 3)
    assert all(np.all(g == 0) for g in grads.params.values())
    for a, b, c in zip(flat(state), flat(final), flat(grads.state)):
        np.testing.assert_array_equal(a.astype(np.float32), b)
        np.testing.assert_array_equal(b, c)


def test_gradients_may_be_left_out():
    layer = LSTM(3, 4, 2, dtype="float64", seed=0)
    x = normal(np.random.default_rng(0), 5, 2, 3)
    y, (h, c), tape = layer.forward(x)
    nothing = layer.backward(tape)
    assert np.all(nothing.x == 0)
    assert all(np.all(g == 0) for g in nothing.params.values())
    half = layer.backward(tape, dstate=(h, None))
    full = layer.backward(tape, np.zeros_like(y), (h, np.zeros_like(c)))
    np.testing.assert_array_equal(half.x, full.x)
    assert np.any(half.x != 0)


# --- dropout ----------------------------------------------------------------------------------


def test_dropout_is_seeded_and_only_in_training():
    x = np.ones((6, 4, 3))
    a, b, other = (GRU(3, 50, 2, dropout=0.3, seed=s) for s in (7, 7, 8))
    runs = [a.forward(x)[0], a.forward(x)[0]]
    np.testing.assert_array_equal(runs[0], b.forward(x)[0])
    np.testing.assert_array_equal(runs[1], b.forward(x)[0])
    assert not np.array_equal(*runs)
    assert not np.array_equal(a.forward(x)[2].masks, other.forward(x)[2].masks)
    plain = GRU(3, 50, 2, seed=7)
    np.testing.assert_array_equal(a(x)[0], plain(x)[0])
    (mask,) = a.forward(x)[2].masks
    np.testing.assert_allclose(np.unique(mask), [0, 1 / 0.7], rtol=1e-6)
    assert mask.dtype == np.float32
    assert 0.2 < np.mean(mask == 0) < 0.4


def test_full_dropout_silences_the_input_of_the_second_layer():
    layer = RNN(3, 4, 2, dropout=1.0, seed=0)
    y, _, tape = layer.forward(np.ones((5, 2, 3)))
    silent = RNN(4, 4, seed=0)
    silent.load({k.replace("_l1", "_l0"): v for k, v in layer.parameters.items() if "_l1" in k})
    np.testing.assert_array_equal(y, silent(np.zeros((5, 2, 4)))[0])
    assert np.all(layer.backward(tape, np.ones_like(y)).params["weight_ih_l0"] == 0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_gradients_agree_with_differences(bidirectional):
    layer = LSTM(2, 3, 3, dropout=0.5, bidirectional=bidirectional, dtype="float64", seed=4)
    x = normal(np.random.default_rng(0), 4, 2, 2)

    def forward(x):  # copies start from the same generator, so they draw the same masks
        return copy.deepcopy(layer).forward(x)

    def backward(tape, dy, dstate):
        assert all(0 < np.mean(mask == 0) < 1 for mask in tape.masks)
        return tape.layer.backward(tape, dy, dstate)

    gradcheck(forward, backward, {"x": x}, layer.parameters, rtol=1e-7)


def test_dropout_without_a_second_layer_warns():
    with pytest.warns(UserWarning, match="between layers"):
        RNN(2, 3, dropout=0.5)
