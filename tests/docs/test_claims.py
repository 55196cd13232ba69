# SPDX-License-Identifier: MIT
"""The numbers of docs/vanishing_and_exploding.md, measured again, and their statements."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import bptt
import claims
from claims.table import horizon
from support.paths import ROOT
from vanishing_and_exploding import write

SCRIPT = ROOT / "examples" / "vanishing_and_exploding.py"
PAGE = (ROOT / "docs" / "vanishing_and_exploding.md").read_text("utf-8")

# Where training in float32 makes large differences of small ones, as between instruction sets.
CHAOTIC = {"training": 0.2}


@pytest.fixture(scope="module")
def measured():
    return {claim.__name__: claim() for claim in claims.CLAIMS}


def test_the_script_runs_alone_and_prints_every_table(tmp_path):
    command = [sys.executable, "-W", "error", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    for claim in claims.CLAIMS:
        assert f"{claim.__name__}: {claim.__doc__}\n\n| " in done.stdout


@pytest.mark.parametrize("name", [claim.__name__ for claim in claims.CLAIMS])
def test_the_page_has_the_numbers(measured, name):
    found = re.search(rf"<!-- claim {name} -->\n(.*?)\n<!-- /claim -->", PAGE, re.DOTALL)
    assert found
    there, here = (text.split() for text in (found[1], measured[name].markdown()))
    assert len(there) == len(here)
    for a, b in zip(there, here):
        try:
            assert float(b) == pytest.approx(float(a), rel=CHAOTIC.get(name, 0.02), nan_ok=True)
        except ValueError:
            assert a == b


def test_marks_are_those_of_the_claims():
    marks = re.findall(r"<!-- claim (\w+) -->", PAGE)
    assert sorted(marks) == sorted(claim.__name__ for claim in claims.CLAIMS)


def test_writing_the_page_changes_nothing_but_numbers(measured, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    write(page, measured.values())
    text = page.read_text("utf-8")
    assert [line[:9] for line in text.splitlines()] == [line[:9] for line in PAGE.splitlines()]
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == set(re.findall(r"\]\((\w+\.png)\)", PAGE))


def test_powers_of_nine_tenths(measured):
    for T in (10, 50):
        product = 1.0
        for _ in range(T):
            product *= 0.9
        assert measured["powers"][f"0.9^{T}", "dL/dh_0 by BPTT"] == f"{product:.12f}"
    assert measured["powers"]["0.9^10", "dL/dh_0 by BPTT"].startswith("0.34867844")
    assert measured["powers"]["0.9^50", "dL/dh_0 by BPTT"].startswith("0.0051537752")


def test_shares_of_three_digits(measured):
    claim = measured["three_digits"]
    assert 0.05 < claim[3, "first"] < 0.1
    assert 0 < abs(claim[100, "first"]) < 1e-50
    for shares in claim.curves.values():
        assert shares.sum() == pytest.approx(1, abs=1e-12)
    # the term of each step by the formula of the articles, one sequence at a time
    x, target, _ = bptt.tasks.three_digits(3)
    terms = np.zeros(3)
    for digits, label in zip(x[:, :, 0].T.astype(float), target.astype(float)):
        states = [0.0]
        for digit in digits:
            states.append(np.tanh(0.7 * digit + 0.4 * states[-1]))
        for t in range(3):
            later = np.prod([(1 - states[j + 1] ** 2) * 0.4 for j in range(t + 1, 3)])
            own = (1 - states[t + 1] ** 2) * digits[t]
            terms[t] += 2 / 4 * (0.2 * states[3] - label) * 0.2 * later * own
    np.testing.assert_allclose(claim.curves["T = 3"], terms / terms.sum(), rtol=1e-12)
    assert claim[3, "loss after 2000 updates"] < 0.01
    assert claim[100, "loss after 2000 updates"] > 0.2


def test_a_healthy_weight_gradient_with_nothing_behind_it(measured):
    claim = measured["torch_rnn"]
    assert claim["norm of dL/dW_hh", "least"] > 10
    assert claim["norm of dL/dh_0", "median"] == 0
    assert claim["norm of dL/dh_0", "most"] < 1e-25
    assert claim["norm of dL/dh_0", "exactly 0"] > 70


def test_the_same_in_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    rnn, x = torch.nn.RNN(4, 16), torch.randn(200, 8, 4)
    h0 = torch.zeros(1, 8, 16, requires_grad=True)
    rnn(x, h0)[0][-1].sum().backward()
    own = bptt.RNN(4, 16)
    own.load({name: p.detach().numpy() for name, p in rnn.named_parameters()})
    _, h, tape = own.forward(x.numpy())
    grads = own.backward(tape, dstate=np.ones_like(h))
    norms = np.linalg.norm(grads.params["weight_hh_l0"]), float(rnn.weight_hh_l0.grad.norm())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    assert norms[0] > 10
    assert not h0.grad.any()
    assert not grads.state.any()


def test_slopes_of_the_activations(measured):
    claim = measured["slopes"]
    assert 0 < claim["tanh", "smallest slope"] < claim["tanh", "largest"] <= 1
    for name, least in (("relu", 0), ("leaky_relu", 0.01)):
        assert claim[name, "smallest slope"] == pytest.approx(least)
        assert claim[name, "largest"] == pytest.approx(1)
        assert claim[name, "distinct slopes"] == 2
    for w_h in (0.9, 1.0, 1.1):
        row = measured["relu_slope"]
        assert row[w_h, "dh_100/dh_0"] == pytest.approx(w_h**100, rel=1e-12)
        assert row[w_h, "product of the 100 slopes"] == pytest.approx(1, rel=1e-12)


def test_overflow_and_the_clip_inside_bptt(measured):
    claim = measured["overflow"]
    first, gradient = "first h that is not finite", "largest dL/dh_0"
    assert claim["200 steps", gradient] == pytest.approx(1.5**200, rel=1e-5)
    assert claim["240 steps", first] == "none"
    assert np.isnan(claim["240 steps", gradient])
    assert claim["240 steps, step_clip", gradient] == pytest.approx(1 / np.sqrt(8))
    assert np.isfinite(claim["240 steps, step_clip", "largest dL/dW_hh"])
    # 2e-20 1.5^t is more than float32 holds
    step = int(np.ceil(np.log(float(np.finfo(np.float32).max) / 2e-20) / np.log(1.5)))
    assert claim["480 steps", first] in (f"step {step - 1}", f"step {step}")


def test_training_with_and_without_a_clip(measured):
    free, clipped = measured["training"].curves.values()
    assert len(free) < 5
    assert np.isnan(free[-1])
    assert len(clipped) == 1000
    assert clipped[0] == free[0] > 100
    assert np.mean(clipped[-100:]) < 0.2


def test_a_clip_of_values_turns_and_one_of_the_norm_does_not(measured):
    for row in measured["angles"].rows:
        assert row[1] == 0
        assert row[2] > 5
    assert [row[2] for row in measured["angles"].rows] == sorted(
        row[2] for row in measured["angles"].rows
    )


def test_a_high_learning_rate_amplifies(measured):
    rows = measured["learning_rates"].rows
    assert len({row[1] for row in rows}) == 1
    largest = [row[2] for row in rows]
    assert largest == sorted(largest)
    assert largest[-1] > 1e15 * largest[0]


def test_starts_and_cells(measured):
    starts, cells = measured["starts"], measured["cells"]
    assert starts["PyTorch's initialisation", "memory horizon"] < 10
    assert 80 < starts["0.95 orthogonal", "memory horizon"] < 100  # log(0.01) / log(0.95) = 89.8
    assert starts["orthogonal", "memory horizon"] == np.inf
    assert starts["identity, ReLU (IRNN)", "left at lag 100"] > 0.5
    horizons = [cells[name, "memory horizon"] for name in ("RNN", "GRU", "LSTM")]
    assert horizons == sorted(horizons)
    assert horizons[-1] < 15 < cells["LSTM, forget bias 1", "memory horizon"] < 50
    for name in ("LSTM, forget bias 5", "LSTM, chrono to 300", "GRU, chrono to 300"):
        assert cells[name, "memory horizon"] == np.inf


def test_direct_paths(measured):
    skips, depth, attention = (measured[name] for name in ("skips", "depth", "attention"))
    assert skips["none", "lag 120"] < 1e-25
    assert skips["skip over 10 steps", "lag 120"] > 0.1
    assert depth["residual", "norm of dL/dx"] > 1e4 * depth["plain", "norm of dL/dx"]
    assert attention["last state", "lag 299"] < 1e-60
    assert attention["attention", "lag 299"] > 1e-3


def test_horizon_of_a_known_decay():
    assert horizon(0.9 ** np.arange(100)) == pytest.approx(1 + np.log(0.01) / np.log(0.9))
    assert horizon(np.ones(10)) == np.inf
    assert horizon(np.array([1, 1, 0.5, 0, 0])) == 2
