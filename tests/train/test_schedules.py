# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from bptt.optim import SGD
from bptt.schedules import CosineAnnealing, ReduceLROnPlateau, StepLR, WarmUp


def optimizer(lr=0.4):
    return SGD({"w": np.zeros(1)}, lr=lr)


def rates(schedule, metrics):
    result = [schedule.optimizer.lr]
    for metric in metrics:
        schedule.step(metric)
        result.append(schedule.optimizer.lr)
    return result


def torch_rates(make, metrics, needs_metric=False):
    torch = pytest.importorskip("torch")
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    result = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants opt.step() in between
        schedule = make(torch.optim.lr_scheduler, opt)
        result.append(opt.param_groups[0]["lr"])
        for metric in metrics:
            schedule.step(*([metric] if needs_metric else []))
            result.append(opt.param_groups[0]["lr"])
    return result


def test_step():
    expected = torch_rates(lambda s, opt: s.StepLR(opt, 3, gamma=0.5), range(10))
    assert rates(StepLR(optimizer(), 3, gamma=0.5), range(10)) == pytest.approx(expected)
    assert len(set(expected)) == 4


def test_cosine_also_beyond_its_end():
    expected = torch_rates(lambda s, opt: s.CosineAnnealingLR(opt, 7, eta_min=0.01), range(20))
    ours = rates(CosineAnnealing(optimizer(), 7, eta_min=0.01), range(20))
    assert ours == pytest.approx(expected, rel=1e-9)
    assert min(ours) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 0, "factor": 0.5, "cooldown": 3},
        {"patience": 1, "threshold": 0.2, "min_lr": 0.003},
        {"patience": 1, "mode": "max", "threshold": 0.05},
        {"patience": 0, "min_lr": 0.9},  # above the rate: must not raise it
    ],
)
def test_plateau(options):
    rng = np.random.default_rng(0)
    metrics = 1 + 3 * np.exp(-np.arange(40) / 6) + 0.1 * rng.random(40)
    metrics[[5, 20]] = np.nan
    expected = torch_rates(lambda s, opt: s.ReduceLROnPlateau(opt, **options), metrics, True)
    ours = rates(ReduceLROnPlateau(optimizer(), **options), metrics)
    # PyTorch leaves out changes below 1e-8
    assert ours == pytest.approx(expected, rel=1e-9, abs=1.1e-8)
    assert min(ours) < 0.1 or options.get("min_lr") == 0.9


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_sees_negative_metrics_that_stand_still(mode):
    ours = rates(ReduceLROnPlateau(optimizer(), mode, patience=2), [-1.0] * 6)
    assert ours == pytest.approx([0.4] * 4 + [0.04] * 3)


def test_plateau_without_a_threshold_asks_for_more_than_the_same():
    ours = rates(ReduceLROnPlateau(optimizer(), patience=2, threshold=0), [1.0] * 6)
    assert ours == pytest.approx([0.4] * 4 + [0.04] * 3)


@pytest.mark.parametrize("first", [-5.0, 5.0])
def test_plateau_rate_stays_while_negative_metrics_improve(first):
    metrics = first - np.arange(20.0)
    assert set(rates(ReduceLROnPlateau(optimizer(), patience=0), metrics)) == {0.4}


@pytest.mark.parametrize("start_factor", [0.0, 0.25])
def test_warm_up_alone(start_factor):
    if start_factor:
        expected = torch_rates(
            lambda s, opt: s.LinearLR(opt, start_factor, total_iters=4), range(8)
        )
    else:
        expected = [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4]
    assert rates(WarmUp(optimizer(), 4, start_factor), range(8)) == pytest.approx(expected)


def test_warm_up_starts_at_a_third_as_torchs():
    opt = optimizer()
    WarmUp(opt, 4)
    assert opt.lr == pytest.approx(0.4 / 3)


def test_warm_up_then_another():
    def theirs(s, opt):
        parts = [s.LinearLR(opt, 0.25, total_iters=4), s.CosineAnnealingLR(opt, 6)]
        return s.SequentialLR(opt, parts, milestones=[4])

    opt = optimizer()
    ours = WarmUp(opt, 4, 0.25, after=CosineAnnealing(opt, 6))
    assert rates(ours, range(10)) == pytest.approx(torch_rates(theirs, range(10)), abs=1e-12)


def test_warm_up_then_plateau_does_not_count_the_warm_up():
    opt = optimizer()
    schedule = WarmUp(opt, 3, 0.0, after=ReduceLROnPlateau(opt, patience=1))
    warm = [0, 0.4 / 3, 0.8 / 3, 0.4]
    assert rates(schedule, [1.0] * 7) == pytest.approx([*warm, 0.4, 0.4, 0.04, 0.04])


@pytest.mark.parametrize("kind", ["step", "cosine", "plateau", "warm-up", "warm-up plateau"])
def test_schedules_resume(kind):
    def make(opt):
        return {
            "step": lambda: StepLR(opt, 2),
            "cosine": lambda: CosineAnnealing(opt, 9),
            "plateau": lambda: ReduceLROnPlateau(opt, patience=1, cooldown=1),
            "warm-up": lambda: WarmUp(opt, 3),
            "warm-up plateau": lambda: WarmUp(opt, 3, after=ReduceLROnPlateau(opt, patience=1)),
        }[kind]()

    whole, first = make(optimizer()), make(optimizer())
    expected = rates(whole, [1.0] * 12)
    start = rates(first, [1.0] * 5)
    opt = optimizer()
    second = make(opt)
    opt.lr = first.optimizer.lr
    second.load_state_dict({k: np.array(v) for k, v in first.state_dict().items()})
    assert start + rates(second, [1.0] * 7)[1:] == expected
    assert len(set(expected)) > 2


def test_the_new_rate_reaches_the_optimiser():
    opt = optimizer(1.0)
    schedule = StepLR(opt, 1, gamma=0.5)
    for _ in range(2):
        opt.step({"w": np.ones(1)})
        schedule.step()
    assert opt.params["w"] == -1.5


ERRORS = [
    (lambda: StepLR(optimizer(), 0), ValueError, "StepLR: step_size is 0, expected 1.."),
    (lambda: StepLR(optimizer(), 1, -1), ValueError, "StepLR: gamma is -1, expected 0 or more"),
    (lambda: CosineAnnealing(optimizer(), 0), ValueError, "CosineAnnealing: t_max is 0, expected"),
    (lambda: CosineAnnealing(optimizer(), 1, -1), ValueError, "CosineAnnealing: eta_min is -1"),
    (lambda: WarmUp(optimizer(), 0), ValueError, "WarmUp: warmup_steps is 0, expected 1.."),
    (lambda: WarmUp(optimizer(), 1, 2), ValueError, "WarmUp: start_factor is 2, expected 0..1"),
    (
        lambda: WarmUp(optimizer(), 1, after=StepLR(optimizer(), 1)),
        ValueError,
        "WarmUp: after has another optimiser, expected a schedule of this one",
    ),
    (
        lambda: ReduceLROnPlateau(optimizer(), "low"),
        ValueError,
        "ReduceLROnPlateau: mode is 'low', expected one of ('min', 'max')",
    ),
    (
        lambda: ReduceLROnPlateau(optimizer(), factor=2),
        ValueError,
        "ReduceLROnPlateau: factor is 2, expected 0..1",
    ),
    (
        lambda: ReduceLROnPlateau(optimizer()).step(),
        TypeError,
        "ReduceLROnPlateau: metric is None, expected a number",
    ),
    (
        lambda: StepLR(optimizer(), 1).load_state_dict({"steps": 1}),
        ValueError,
        "StepLR.load_state_dict: state has names ['steps'], expected ['base_lr', 'lr', 'steps']",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
