# SPDX-License-Identifier: MIT
"""The modules under torch.func, torch.compile, torch.export and other tracers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
import torch._dynamo
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap
from torch.nn.utils.rnn import pack_padded_sequence

import bptt.torch
from support.torch_modules import KINDS, B, I, T, twins

every_kind = pytest.mark.parametrize("kind", KINDS)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
N = 3  # of vmap


def close(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def pair(kind: str, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], Any]:
    theirs, ours = twins(kind, dtype=torch.float64, **options)
    weights = {name: p.detach() for name, p in ours.named_parameters()}
    return theirs, ours, weights, torch.randn(T, B, I, dtype=torch.float64)


def loss_of(module: Any) -> Any:
    def loss(weights: Any, x: Any) -> Any:
        y, final = functional_call(module, weights, (x,))
        return y.pow(2).sum() + (final[1] if isinstance(final, tuple) else final).sin().sum()

    return loss


# --- torch.func -----------------------------------------------------------------------------------


@every_option
@every_kind
def test_grad_and_vjp(kind: str, options: dict[str, Any]) -> None:
    theirs, ours, weights, x = pair(kind, options)
    close(grad(loss_of(ours), (0, 1))(weights, x), grad(loss_of(theirs), (0, 1))(weights, x))
    (y, pull), (z, other) = (vjp(lambda x, m=m: m(x)[0], x) for m in (ours, theirs))
    close(y, z)
    close(pull(torch.ones_like(y)), other(torch.ones_like(y)))
    assert ours.backend == "bptt"


@every_option
@every_kind
def test_vmap(kind: str, options: dict[str, Any]) -> None:
    theirs, ours, weights, _ = pair(kind, options)
    xs = torch.randn(2, N, T, I, dtype=torch.float64)
    want = torch.stack([theirs(x)[0] for x in xs.unbind(1)])
    close(vmap(lambda x: ours(x)[0], in_dims=1)(xs), want)
    each = [grad(loss_of(theirs))(weights, x) for x in xs.unbind(1)]
    got = vmap(grad(loss_of(ours)), in_dims=(None, 1))(weights, xs)
    close(got, {name: torch.stack([d[name] for d in each]) for name in weights})
    whole = grad(lambda w: vmap(lambda x: loss_of(ours)(w, x), in_dims=1)(xs).sum())(weights)
    close(whole, {name: sum(d[name] for d in each) for name in weights})


@every_kind
def test_vmap_over_weights_and_nested(kind: str) -> None:
    theirs, ours, weights, x = pair(kind, {})
    many = {name: torch.stack([w, 2 * w]) for name, w in weights.items()}

    def both(module: Any) -> Any:
        inner = vmap(lambda w, x: functional_call(module, w, (x,))[0], in_dims=(0, None))
        return vmap(lambda x: inner(many, x))

    xs = torch.stack([x, -x, 3 * x])
    want = torch.stack([
        torch.stack([
            functional_call(theirs, {n: w[k] for n, w in many.items()}, (x,))[0] for k in range(2)
        ])
        for x in xs
    ])  # fmt: skip
    close(both(ours)(xs), want)
    small = x[:2, :1]
    close(*(jacrev(lambda x, m=m: m(x)[0])(small) for m in (ours, theirs)))
    found = vmap(jacrev(lambda x: ours(x)[0][-1]))(torch.stack([small, -small]))
    close(found, torch.stack([jacrev(lambda x: theirs(x)[0][-1])(s) for s in (small, -small)]))


# Each makes a function of x and weights of a loss.
SECOND: dict[str, Any] = {
    "jvp": lambda f: lambda x, w: jvp(f, (x, w), (x, w)),
    "jvp of grad": lambda f: lambda x, w: jvp(grad(f, (0, 1)), (x, w), (x, w)),
    "grad of grad": lambda f: grad(lambda x, w: square(grad(f, (0, 1))(x, w)), (0, 1)),
    "hessian": hessian,
    "jacrev of jacrev": lambda f: jacrev(jacrev(f)),
    "vmap of hessian": lambda f: lambda x, w: vmap(lambda a: hessian(f)(a * x, w))(FACTORS),
    "vmap of jvp": lambda f: lambda x, w: vmap(lambda a: jvp(f, (a * x, w), (x, w)))(FACTORS),
}
FACTORS = torch.tensor([1.0, -0.7], dtype=torch.float64)


def square(tree: Any) -> Any:
    return sum(leaf.pow(2).sum() for leaf in torch.utils._pytree.tree_leaves(tree))


def by_steps(module: Any) -> Any:
    """PyTorch's equations without its fused operators, some of which no transform takes."""

    def loss(x: Any, w: Any) -> Any:
        h = x.new_zeros(x.shape[1], module.hidden_size)
        c, total = h, x.new_zeros(())
        for step in x:
            a, b = (
                v @ w[f"weight_{n}_l0"].T + w[f"bias_{n}_l0"] for v, n in ((step, "ih"), (h, "hh"))
            )
            if module.mode == "LSTM":
                i, f, g, o = (a + b).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            elif module.mode == "GRU":
                (ar, az, an), (br, bz, bn) = a.chunk(3, -1), b.chunk(3, -1)
                z = (az + bz).sigmoid()
                h = (1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * h
            else:
                h = (a + b).tanh()
            total = total + h.pow(2).sum()
        return total + (c if module.mode == "LSTM" else h).sin().sum()

    return loss


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND.keys())
@every_kind
def test_forward_mode_and_second_derivatives(kind: str, second: Any) -> None:
    _, ours, weights, x = pair(kind, {})
    x = x[:3, :2]
    loss = loss_of(ours)
    close(second(lambda x, w: loss(w, x))(x, weights), second(by_steps(ours))(x, weights))
    assert ours.backend == "bptt"


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
def test_second_derivatives_with_more() -> None:
    """As those of autograd."""
    _, ours, _, x = pair("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 3})
    x, lengths = x[:4], torch.tensor([2, 4, 1])
    for more in ({"lengths": lengths}, {"resets": torch.rand(4, B) < 0.4}):

        def loss(x: Any, more: Any = more) -> Any:
            y, (h, c) = ours(x, **more)
            return y.pow(3).sum() + h.sin().sum() + c.cos().sum()

        want = torch.autograd.functional.hessian(loss, x)
        close(hessian(loss)(x), want)
        close(jvp(loss, (x,), (x,))[1], (grad(loss)(x) * x).sum())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
def test_derivatives_that_are_refused() -> None:
    _, ours, _, x = pair("GRU", {})
    x = x[:2]

    def total(y: Any) -> Any:
        return y.pow(2).sum()

    def loss(x: Any) -> Any:
        return total(ours(x)[0])

    with pytest.raises(NotImplementedError, match="a derivative of a tangent"):
        grad(lambda x: total(grad(lambda x: total(grad(loss)(x)))(x)))(x)
    with pytest.raises(NotImplementedError, match="a derivative of a tangent"):
        jvp(lambda x: jvp(grad(loss), (x,), (x,))[1], (x,), (x,))
    for outer in (lambda f: grad(f)(x), lambda f: jvp(f, (x,), (x,))):
        with pytest.raises(NotImplementedError, match="a derivative of a tangent"):
            outer(lambda x: jvp(loss, (x,), (x,))[1])
    ours.step_clip = "norm", 1.0
    with pytest.raises(NotImplementedError, match="step_clip or cut is given"):
        grad(lambda x: total(grad(loss)(x)))(x)


def test_tapes_of_nested_vmaps() -> None:
    """Of as many elements, so that one tape could be taken for another."""
    _, ours, _, _ = pair("RNN", {})
    xs = torch.randn(2, 1, 1, I, dtype=torch.float64)
    found = vmap(jacrev(lambda x: ours(x)[0][-1, -1, :2]))(xs)
    close(found, torch.stack([jacrev(lambda x: ours(x)[0][-1, -1, :2])(x) for x in xs]))


def test_extras_in_a_transform() -> None:
    _, ours, _, x = pair("GRU", {"batch_first": True})
    x = x.transpose(0, 1)
    resets = torch.rand(B, T) < 0.4
    for more in ({"lengths": torch.tensor([2, 6, 3])}, {"resets": resets}):
        x = x.detach().requires_grad_()
        (want,) = torch.autograd.grad(ours(x, **more)[0].sum(), x)
        close(grad(lambda x, more=more: ours(x, **more)[0].sum())(x.detach()), want)
    with pytest.raises(NotImplementedError, match="GRU: trace is True inside"):
        grad(lambda x: ours(x, trace=True)[0].sum())(x.detach())


def test_limits_in_a_transform() -> None:
    for more in ({"step_clip": ("norm", 1e-2)}, {"cut": 2}):
        gru = bptt.torch.GRU(I, 5, dtype=torch.float64, **more)
        x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
        (want,) = torch.autograd.grad(gru(x)[0].sum(), x)
        close(grad(lambda x, gru=gru: gru(x)[0].sum())(x.detach()), want)


def test_packed_sequence_in_a_transform() -> None:
    _, ours, _, x = pair("LSTM", {"num_layers": 2})  # PyTorch's own is refused there
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 2]))

    def loss(data: Any) -> Any:
        return ours(packed._replace(data=data))[0].data.pow(2).sum()

    data = packed.data.requires_grad_()
    (want,) = torch.autograd.grad(loss(data), data)
    close(grad(loss)(data.detach()), want)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_dropout_in_vmap(randomness: str) -> None:
    _, ours, _, x = pair("GRU", {"num_layers": 2, "dropout": 0.5})
    ys = vmap(lambda x: ours(x)[0], randomness=randomness)(torch.stack([x, x]))
    assert torch.equal(ys[0], ys[1]) == (randomness == "same")


# --- compilers ------------------------------------------------------------------------------------


@pytest.fixture
def compiler() -> Iterator[None]:
    """With no program of an earlier test, as there is a limit for each module."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("dynamic", [False, True])
@every_option
@every_kind
def test_compile(kind: str, options: dict[str, Any], dynamic: bool, compiler: None) -> None:
    theirs, ours, _, _ = pair(kind, options)
    compiled = torch.compile(ours, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for steps in (4, 6, 7):
        x = torch.randn(steps, B, I, dtype=torch.float64, requires_grad=True)
        found = []
        for module in (compiled, theirs):
            y, final = module(x)
            loss = (2 * y).relu().pow(2).sum() + (final[0] if kind == "LSTM" else final).sum()
            found.append(torch.autograd.grad(loss, [x, *module.parameters()]))
        close(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@every_kind
def test_compile_without_a_gradient(kind: str, compiler: None) -> None:
    """Of nothing, then of x alone."""
    theirs, ours, _, x = pair(kind, {"num_layers": 2})
    model = torch.nn.Sequential(ours)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        close(compiled(x), theirs(x))
    model.requires_grad_(False)
    close(compiled(x), theirs(x))
    x.requires_grad_()
    found = [torch.autograd.grad(m(x)[0].pow(2).sum(), x) for m in (compiled, theirs)]
    close(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compile_still_refuses_modules_of_pytorch(compiler: None) -> None:
    """Which would become one graph of all steps."""
    both = torch.nn.ModuleList([bptt.torch.LSTM(I, 5), torch.nn.LSTM(5, 5)])
    compiled = torch.compile(
        lambda x: both[1](both[0](x)[0])[0], fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(torch._dynamo.exc.Unsupported, match="does not support RNN, GRU, or LSTM"):
        compiled(torch.randn(T, B, I))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compile_of_a_swapped_model_and_a_subclass(compiler: None) -> None:
    class Own(bptt.torch.GRU):
        def forward(self, input: Any, hx: Any = None, **more: Any) -> Any:
            y, h = super().forward(input, hx, **more)
            return 2 * y, h

    theirs = torch.nn.Sequential(torch.nn.GRU(I, 5))
    swapped, own = copy.deepcopy(theirs), torch.nn.Sequential(Own(I, 5))
    bptt.torch.accelerate(swapped)
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(T, B, I)
    y, h = theirs(x)
    for model, want in ((swapped, (y, h)), (own, (2 * y, h))):
        torch.testing.assert_close(
            torch.compile(model, fullgraph=True, backend="aot_eager")(x), want
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@every_kind
def test_compile_by_inductor(kind: str, compiler: None) -> None:
    theirs, ours, _, x = pair(kind, {"num_layers": 2})
    x.requires_grad_()
    found = []
    for module in (ours, theirs):

        def step(x: torch.Tensor, module: torch.nn.Module = module) -> torch.Tensor:
            return (module(x)[0] * 2).relu_().pow(2)

        run = torch.compile(step, fullgraph=True) if module is ours else step
        found.append(torch.autograd.grad(run(x).sum(), [x, *module.parameters()]))
    close(*found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compile_with_extras(compiler: None) -> None:
    _, ours, _, x = pair("GRU", {})
    lengths, resets = torch.tensor([2, 6, 3]), torch.rand(T, B) < 0.4
    step = torch.compile(
        lambda x: (ours(x, lengths=lengths)[0], ours(x, resets=resets)[0]),
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    close(step(x), (ours(x, lengths=lengths)[0], ours(x, resets=resets)[0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compile_in_autocast(compiler: None) -> None:
    lstm, x = bptt.torch.LSTM(I, 5), torch.randn(T, B, I)
    with torch.autocast("cpu", torch.bfloat16):
        want, _ = lstm(x)
        got, _ = torch.compile(lstm, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(got, want)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
def test_compile_packed_sequence(compiler: None) -> None:
    _, ours, _, x = pair("LSTM", {"num_layers": 2})
    packed = pack_padded_sequence(x, torch.tensor([6, 4, 2]))
    hx = torch.randn(2, 2, B, 5, dtype=torch.float64).unbind()
    compiled = torch.compile(
        lambda d: ours(packed._replace(data=d), hx)[0].data, backend="aot_eager"
    )
    close(compiled(packed.data), ours(packed, hx)[0].data)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("strict", [False, True])
@every_option
@every_kind
def test_export(kind: str, options: dict[str, Any], strict: bool) -> None:
    _, ours, _, x = pair(kind, options)
    T_dim = torch.export.Dim("T", min=2, max=50)
    axis = 1 if ours.batch_first else 0
    program = torch.export.export(
        ours, (x,), dynamic_shapes=({axis: T_dim}, None)[:1], strict=strict
    )
    text = str(program.graph_module.print_readable(print_output=False))
    assert "bptt.recurrence" in text
    longer = torch.cat([x, x], axis)
    close(program.module()(longer), ours(longer))


@every_kind
def test_fx_tracer(kind: str) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    _, ours, _, x = pair(kind, {})
    graph = make_fx(lambda x: ours(x)[0])(x)
    assert "bptt.recurrence" in graph.code
    close(graph(2 * x), ours(2 * x)[0])
