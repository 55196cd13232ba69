# SPDX-License-Identifier: MIT
"""`bptt.torch.Layer`: every layer as a module, with gradients by finite differences."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import bptt
import bptt.torch
from support.compare import assert_close

T, B, I, H = 5, 3, 4, 3
DOUBLE: dict[str, Any] = {"dtype": "float64", "seed": 0}
LAYERS: dict[str, Any] = {
    "lstm": lambda: bptt.LSTM(I, H, 2, bidirectional=True, **DOUBLE),
    "layer norm": lambda: bptt.LSTM(I, H, layer_norm=True, **DOUBLE),
    "layer norm of gru": lambda: bptt.GRU(I, H, layer_norm=True, **DOUBLE),
    "peepholes": lambda: bptt.LSTM(I, H, peepholes=True, **DOUBLE),
    "coupled": lambda: bptt.LSTM(I, H, forget_gate="coupled", **DOUBLE),
    "projected": lambda: bptt.LSTM(I, H, 2, proj_size=2, **DOUBLE),
    "zoneout": lambda: bptt.LSTM(I, H, 2, zoneout=(0.3, 0.2), **DOUBLE),
    "dropout": lambda: bptt.GRU(I, H, 2, dropout=0.3, recurrent_dropout=0.2, **DOUBLE),
    "leaky": lambda: bptt.RNN(I, H, leak=0.3, batch_first=True, **DOUBLE),
    "reset before": lambda: bptt.GRU(I, H, reset_after=False, bias=False, **DOUBLE),
    "mgu": lambda: bptt.MGU(I, H, residual=True, num_layers=2, **DOUBLE),
    "slstm": lambda: bptt.SLSTM(I, H, **DOUBLE),
    "dilated": lambda: bptt.RNN(I, H, 2, dilation=[1, 2], **DOUBLE),
    "attention": lambda: bptt.Attention(I, **DOUBLE),
    "dot attention": lambda: bptt.Attention(I, "dot", dtype="float64"),
    "linear": lambda: bptt.Linear(I, H, activation="tanh", **DOUBLE),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def inputs_of(module: Any) -> list[Any]:
    """x, and the states or the query, as leaves."""
    made = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> Any:
        return torch.randn(*shape, dtype=torch.float64, generator=made).requires_grad_()

    layer = module.layer
    if isinstance(layer, bptt.Linear):
        return [leaf(T, B, I)]
    if isinstance(layer, bptt.Attention):
        return [leaf(T, B, I), leaf(B, I)]
    x = leaf(B, T, I) if layer.batch_first else leaf(T, B, I)
    with torch.no_grad():
        _, final = module(x)
    states = final if isinstance(final, tuple) else (final,)
    return [x, *(leaf(*state.shape) for state in states)]


def flat(results: Any) -> tuple[Any, ...]:
    if not isinstance(results, tuple):
        return (results,)
    y, state = results
    return (y, *(state if isinstance(state, tuple) else (state,)))


def run(module: Any, inputs: Any, **more: Any) -> tuple[Any, ...]:
    x, *states = inputs
    state = tuple(states) if len(states) > 1 else states[0] if states else None
    torch.manual_seed(5)
    return flat(module(x, state, **more))


def gradients(module: Any, inputs: Any, **more: Any) -> dict[str, Any]:
    """Results, and the gradients of a random loss."""
    results = run(module, inputs, **more)
    made = torch.Generator().manual_seed(2)
    loss = sum((r * torch.randn(r.shape, generator=made)).sum() for r in results)
    leaves = {**{f"input {k}": t for k, t in enumerate(inputs)}, **dict(module.named_parameters())}
    leaves = {n: t for n, t in leaves.items() if t.requires_grad}
    grads = torch.autograd.grad(loss, list(leaves.values()))
    found = {f"result {k}": r.detach().numpy() for k, r in enumerate(results)}
    return found | {f"d {n}": d.numpy() for n, d in zip(leaves, grads)}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@every_layer
def test_gradients_are_those_of_finite_differences(name: str, training: bool) -> None:
    module = bptt.torch.Layer(LAYERS[name]()).train(training)
    inputs = inputs_of(module)
    count = len(inputs)

    def results(*tensors: Any) -> tuple[Any, ...]:
        return run(module, tensors[:count])

    assert torch.autograd.gradcheck(results, (*inputs, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("what", ["lengths", "resets", "both"])
def test_lengths_and_resets(what: str) -> None:
    module = bptt.torch.Layer(LAYERS["lstm"]())
    inputs = inputs_of(module)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2, 1] = resets[0, 0] = resets[4, 2] = True
    given = {"lengths": torch.tensor([5, 2, 4]), "resets": resets}
    given = {n: v for n, v in given.items() if what in (n, "both")}

    def results(*tensors: Any) -> tuple[Any, ...]:
        return run(module, tensors[:3], **given)

    assert torch.autograd.gradcheck(results, (*inputs, *module.parameters()), fast_mode=True)


@every_layer
def test_evaluation_is_a_call_of_the_layer(name: str) -> None:
    layer = LAYERS[name]()
    module = bptt.torch.Layer(layer).eval()
    inputs = inputs_of(module)
    x, *states = [t.detach().numpy() for t in inputs]
    given = [tuple(states)] if len(states) > 1 else states
    want = flat(layer(x, *given))
    for got in (run(module, inputs), run(module.requires_grad_(False), [t.data for t in inputs])):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.detach().numpy(), b)


def test_embedding() -> None:
    module = bptt.torch.Layer(bptt.Embedding(6, 3, seed=0))
    theirs = torch.nn.Embedding(6, 3)
    theirs.load_state_dict(module.state_dict())
    indices = torch.tensor([[1, 2], [1, 5]])
    for one in (module, theirs):
        one(indices).square().sum().backward()
    assert torch.equal(module(indices), theirs(indices))
    assert torch.equal(module.weight.grad, theirs.weight.grad)


def test_a_plain_layer_is_pytorchs() -> None:
    module = bptt.torch.Layer(LAYERS["lstm"]())
    theirs = torch.nn.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    theirs.load_state_dict(module.state_dict())
    module.load_state_dict(theirs.state_dict())
    inputs = inputs_of(module)
    assert_close(gradients(module, inputs), gradients(theirs, inputs), 1e-12)
    lengths = torch.tensor([2, 5, 4])
    data = pack_padded_sequence(inputs[0], lengths, enforce_sorted=False)
    got, want = (m(data, tuple(inputs[1:])) for m in (module, theirs))
    assert torch.equal(got[0].sorted_indices, want[0].sorted_indices)
    for a, b in zip(got[1], want[1]):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(*(pad_packed_sequence(y)[0] for y, _ in (got, want)))


# --- memory ---------------------------------------------------------------------------------------


def test_memory_is_that_of_the_layer() -> None:
    layer = LAYERS["layer norm"]()
    module = bptt.torch.Layer(layer)
    x = torch.ones(T, B, I, dtype=torch.float64)
    before = {n: a.copy() for n, a in layer.parameters.items()}
    module(x)[0].square().sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    for n, p in module.named_parameters():
        np.testing.assert_array_equal(layer.parameters[n], p.detach().numpy())
        np.testing.assert_allclose(before[n] - 0.1 * p.grad.numpy(), layer.parameters[n])
    assert module.layer is layer
    np.testing.assert_array_equal(module(x)[0].detach().numpy(), layer(x)[0])
    layer.load(before)
    np.testing.assert_array_equal(module.weight_ih_l0.detach().numpy(), before["weight_ih_l0"])


def test_copies_have_memory_of_their_own() -> None:
    module = bptt.torch.Layer(LAYERS["zoneout"]())
    inputs = inputs_of(module)
    want = gradients(module, inputs)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [
        copy.deepcopy(module), pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]  # fmt: skip
    with torch.no_grad():
        module.weight_ih_l0.zero_()
    for other in copies:
        assert_close(gradients(other, inputs), want, 0)
        with torch.no_grad():
            other.bias_ih_l0.fill_(3)
        assert (other.layer.parameters["bias_ih_l0"] == 3).all()
        assert not (module.layer.parameters["bias_ih_l0"] == 3).any()


def test_parameters_that_move() -> None:
    module = bptt.torch.Layer(LAYERS["mgu"]())
    inputs = inputs_of(module)
    want = gradients(module, inputs)
    module.share_memory()
    assert module.weight_ih_l0.is_shared()
    assert_close(gradients(module, inputs), want, 0)
    assert module.layer.parameters["weight_ih_l0"].ctypes.data == module.weight_ih_l0.data_ptr()
    module.weight_hh_l0.data = module.weight_hh_l0.data.t().contiguous().t()
    assert_close(gradients(module, inputs), want, 0)
    module.float()
    assert module(inputs[0])[0].dtype is torch.float32
    assert module.layer.dtype == module.layer.structure.dtype == np.float32
    got = gradients(module, inputs)
    assert_close({n: got[n] for n in want}, want, 1e-5)
    module.half()
    with pytest.raises(TypeError, match=r"input has dtype torch\.float16, expected tensors of flo"):
        module(inputs[0])


class Count(torch.nn.Module):
    calls = 0

    def forward(self, weight: Any) -> Any:
        self.calls += 1
        return weight


def test_a_parametrization() -> None:
    module = bptt.torch.Layer(LAYERS["peepholes"]())
    inputs = inputs_of(module)
    want = gradients(module, inputs)
    count = Count()
    torch.nn.utils.parametrize.register_parametrization(module, "bias_ih_l0", count)
    count.calls = 0
    module(inputs[0])
    assert count.calls == 1
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    got = gradients(module, inputs)
    assert_close(
        {n: got[n] for n in want if n in got}, {n: want[n] for n in want if n in got}, 1e-12
    )
    assert "d parametrizations.weight_hh_l0.original0" in got


class Features(Dataset[Any]):
    def __init__(self, module: Any) -> None:
        self.module = module

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> Any:
        x = torch.full((T, 1, I), float(k), dtype=torch.float64, requires_grad=True)
        y, _ = self.module(x)
        y.sum().backward()
        return y.detach(), x.grad


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe here")
def test_in_workers_of_a_data_loader() -> None:
    data = Features(bptt.torch.Layer(LAYERS["layer norm"]()))
    want = [data[k] for k in range(4)]  # also starts the threads of this process
    loader = DataLoader(data, None, num_workers=2, multiprocessing_context="fork")
    for got, (y, dx) in zip(loader, want, strict=True):
        assert torch.equal(got[0], y)
        assert torch.equal(got[1], dx)


# --- autograd -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer norm", "slstm", "attention", "linear"])
def test_changes_between_forward_and_backward_are_seen(name: str) -> None:
    module = bptt.torch.Layer(LAYERS[name]())
    inputs = inputs_of(module)
    shared = 1 if name == "attention" else 0
    changes: list[Any] = [
        lambda x, results: x.add_(1),
        lambda x, results: next(module.parameters()).mul_(2),
        lambda x, results: results[shared].add_(1),
    ]
    for change in changes:
        x = inputs[0].detach().clone().requires_grad_()
        results = run(module, [x, *inputs[1:]])
        loss = sum(r.sum() for r in results)
        with torch.no_grad():
            change(x, results)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_results_that_no_tape_refers_to_may_change() -> None:
    module = bptt.torch.Layer(LAYERS["lstm"]())
    inputs = inputs_of(module)
    want = gradients(module, inputs)["d input 0"]
    results = run(module, inputs)
    made = torch.Generator().manual_seed(2)
    loss = sum((r * torch.randn(r.shape, generator=made)).sum() for r in results)
    for result in results:
        result.detach().zero_()
    np.testing.assert_array_equal(torch.autograd.grad(loss, inputs[0])[0].numpy(), want)


def test_backward_twice_only_with_retain_graph() -> None:
    module = bptt.torch.Layer(LAYERS["mgu"]())
    x = inputs_of(module)[0]
    loss = module(x)[0].sum()
    first, second = (torch.autograd.grad(loss, x, retain_graph=k)[0] for k in (True, False))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_only_the_gradients_that_are_needed() -> None:
    layer = LAYERS["layer norm"]()
    layer.frozen = {"weight_ih_l0", "gain_c_l0"}
    module = bptt.torch.Layer(layer)
    assert not module.weight_ih_l0.requires_grad
    inputs = inputs_of(module)
    want = gradients(bptt.torch.Layer(LAYERS["layer norm"]()), inputs)
    inputs[0].requires_grad_(False)
    got = gradients(module, inputs)
    left = {"d weight_ih_l0", "d gain_c_l0", "d input 0"}
    assert want.keys() - got.keys() == left
    assert_close(got, {n: want[n] for n in want if n not in left}, 0)


def test_random_masks_are_those_of_pytorchs_generator() -> None:
    module = bptt.torch.Layer(LAYERS["zoneout"]())
    x = inputs_of(module)[0]
    torch.manual_seed(1)
    first, second = module(x)[0], module(x)[0]
    torch.manual_seed(1)
    assert torch.equal(module(x)[0], first)
    assert not torch.equal(first, second)
    module.eval()
    state = torch.get_rng_state()
    assert torch.equal(module(x)[0], module(x)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_checkpoints_and_hooks_that_copy() -> None:
    """The random masks of the second forward pass are those of the first."""
    module = bptt.torch.Layer(LAYERS["dropout"]())
    inputs = inputs_of(module)
    want = gradients(module, inputs)
    again: Any = lambda *tensors: checkpoint(module, *tensors, use_reentrant=False)  # noqa: E731
    again.named_parameters = module.named_parameters
    assert_close(gradients(again, inputs), want, 0)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        assert_close(gradients(module, inputs), want, 0)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
def test_what_has_no_derivative_says_so() -> None:
    module = bptt.torch.Layer(LAYERS["mgu"]())
    x = inputs_of(module)[0]
    (d,) = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d.sum().backward()
    with pytest.raises(NotImplementedError, match=r"Layer: a transform of torch\.func runs it"):
        torch.func.vmap(lambda x: module(x)[0])(x[None])
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(x, x)
        with pytest.raises((NotImplementedError, RuntimeError), match="jvp"):
            module(dual)


def test_between_compiled_graphs() -> None:
    layer = bptt.torch.Layer(LAYERS["linear"]())
    model = torch.nn.Sequential(torch.nn.Linear(I, I).double(), layer)
    x = torch.ones(T, B, I, dtype=torch.float64)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(x), model(x))
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(model, backend="eager", fullgraph=True)(x)


def test_autocast() -> None:
    module = bptt.torch.Layer(bptt.MGU(I, H, seed=0))
    before = torch.nn.Linear(I, I)
    x = torch.ones(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(before(x))
    assert y.dtype is torch.float32
    y.sum().backward()
    assert before.weight.grad.abs().sum() > 0


# --- options of the backward pass -----------------------------------------------------------------


def test_step_clip_cut_and_trace() -> None:
    layer = LAYERS["peepholes"]()
    module = bptt.torch.Layer(layer, step_clip=("norm", 0.1), cut=3, trace=True)
    assert repr(module).endswith("dtype='float64'), step_clip=('norm', 0.1), cut=3, trace=True)")
    x = inputs_of(module)[0]
    y, (_, c) = module(x)
    (y.sum() + 2 * c.sum()).backward()
    tape = layer.forward(x.detach().numpy())[2]
    want = layer.backward(
        tape, np.ones(y.shape), (None, np.full(c.shape, 2.0)), step_clip=("norm", 0.1), cut=3,
        trace=True,
    )  # fmt: skip
    np.testing.assert_array_equal(x.grad.numpy(), want.x)
    np.testing.assert_array_equal(module.trace.cells[0].dh, want.trace.cells[0].dh)
    module.trace = None
    module(x, trace=False)[0].sum().backward()
    assert module.trace is None


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: bptt.torch.Layer(torch.nn.GRU(2, 3)), TypeError, "layer is GRU.2, 3., expected"),
        (
            lambda m: bptt.torch.Layer(bptt.Linear(2, 3), cut=3),
            TypeError,
            "Layer: cut is 3 with Linear, expected None",
        ),
        (
            lambda m: bptt.torch.Layer(bptt.MGU(2, 3), step_clip=("norm", -1)),
            ValueError,
            "Layer: step_clip",
        ),
        (lambda m: m(torch.ones(2, 3)), ValueError, r"MGU: x has shape \(2, 3\), expected \(T, B"),
        (lambda m: m([[1.0]]), TypeError, r"Layer: x is \[\[1\.0\]\] with MGU, expected a te"),
        (
            lambda m: m(torch.ones(2, 1, 4, device="meta")),
            TypeError,
            "Layer: a tensor is on meta, expected tensors of float32 or float64 on the CPU",
        ),
        (lambda m: m(torch.ones(2, 1, 4), trace="most"), ValueError, "Layer: trace"),
        (lambda m: m(torch.ones(2, 1, 4), lengths=[3]), ValueError, "MGU: lengths"),
        (
            lambda m: bptt.torch.Layer(bptt.Linear(4, 3))(torch.ones(4), lengths=[1]),
            TypeError,
            r"Layer: lengths is \[1\] with Linear, expected None",
        ),
        (
            lambda m: m(pack_padded_sequence(torch.ones(2, 1, 4), [2]), lengths=[2]),
            TypeError,
            r"Layer: lengths is \[2\] with a PackedSequence, expected None",
        ),
    ],
)
def test_refusals(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(bptt.torch.Layer(bptt.MGU(4, 3, seed=0)))
