# SPDX-License-Identifier: MIT
"""The verdict names the libraries that are ahead, and says how much is certain."""

import pytest

from bptt.bench.report import figures
from bptt.bench.verdict import behind, best_rival, verdict


def sampled(ms, probe=100.0):
    return {"seconds": [1e-3 * ms] * 3, "cpu": [1.0] * 3, "probe": [probe] * 3}


def result(point="tiny", mode="training", threads=1, **ms):
    """A result; a library with a negative time is disturbed."""
    peers = {name: sampled(abs(t), 100.0 if t > 0 else 50.0) for name, t in ms.items()}
    return {"cell": "rnn", "point": point, "pass": mode, "threads": threads, "peers": peers}


@pytest.mark.parametrize(
    ("peers", "best", "ahead"),
    [
        ({"torch": 12, "onednn": 11}, ("onednn", 1.1, False), None),
        ({"torch": 12, "onednn": 9.8}, ("onednn", 0.98, False), None),
        ({"torch": 9, "onednn": 9.6}, ("torch", 0.9, False), ("torch", 0.9, False)),
        # A disturbed library is no proof, but does not hide another one that is ahead.
        ({"torch": -8, "onednn": 11}, ("torch", 0.8, True), None),
        ({"torch": -8, "onednn": 9}, ("torch", 0.8, True), ("onednn", 0.9, False)),
        # Other ways of calling bptt, and bfloat16, are no rivals in float32.
        ({"torch": 12, "bptt_bf16": 5, "torch_bf16": 4}, ("torch", 1.2, False), None),
        ({"bptt_bf16": 5}, None, None),
        ({"bptt_prepared": 5, "onednn_packed": 6, "onednn": 11}, ("onednn", 1.1, False), None),
    ],
)
def test_best_and_behind(peers, best, ahead):
    by_peer = figures([result(bptt=10, **peers)])[0]
    for found, expected in ((best_rival(by_peer), best), (behind(by_peer), ahead)):
        assert found == (expected and (expected[0], pytest.approx(expected[1]), expected[2]))


def test_the_lines():
    calm = {"bptt": 10, "torch": 9, "jax": 20}
    text = verdict(
        [
            result("tiny", bptt=10, torch=15),
            result("small", **calm),
            result("small", "inference", 2, bptt=10, torch=-9),
            result("small", "inference", 1, bptt=10, torch=20),
        ]
    )
    _, *lines = text.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["cell", "pass", "threads", "tiny", "small"],
        ["rnn", "training", "1", "1.50", "0.900!"],
        ["rnn", "inference", "2", "0.900*"],
        ["rnn", "inference", "1", "2.00"],
    ]
    assert lines[4:] == [
        "Of 4 cases, 3 are certain (no *); in 1 of these bptt is behind by more than 3% (!):",
        "  rnn small training, 1 thread: 0.900 torch",
    ]


def test_nothing_to_compare_with_has_no_verdict():
    assert verdict([result(bptt=10)]) == ""


def test_nowhere_behind():
    last = verdict([result(bptt=10, torch=10)]).splitlines()[-1]
    assert last.endswith("1 are certain (no *); in 0 of these bptt is behind by more than 3% (!)")
