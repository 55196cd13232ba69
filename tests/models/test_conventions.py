# SPDX-License-Identifier: MIT
"""`SequenceClassifier` and `SequenceRegressor` by the conventions of scikit-learn."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from bptt.models import SequenceClassifier, SequenceRegressor

N, F = 24, 3
QUICK = {"hidden_size": 5, "epochs": 2, "batch_size": 7, "lr": 0.02}
RNG = np.random.default_rng(0)
X, Y = [RNG.normal(3, 2, (RNG.integers(1, 8), F)) for _ in range(N)], np.array(["b", "a", "c"] * 8)

DOES_NOT_APPLY = {
    "check_sample_weight_equivalence_on_dense_data": "the sequences of a batch are drawn at random"
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_scikit_learn_accepts_them(kind: Any) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    estimator = kind(hidden_size=8, epochs=40, lr=0.03, batch_size=16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Estimator \w+ does not inherit", UserWarning)
        results = checks.check_estimator(
            estimator, on_fail=None, on_skip=None, expected_failed_checks=DOES_NOT_APPLY
        )
    # Some are skipped without pandas or SCIPY_ARRAY_API.
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    assert sum(r["status"] == "passed" for r in results) > 50
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == {*DOES_NOT_APPLY}


def test_clone_pipeline_and_grid_search() -> None:
    sklearn = pytest.importorskip("sklearn")
    model_selection = pytest.importorskip("sklearn.model_selection")
    pipeline = pytest.importorskip("sklearn.pipeline")
    model = SequenceClassifier(class_weight={"a": 2.0}, **QUICK).fit(X, Y)
    twin = sklearn.base.clone(model)
    assert twin.get_params() == model.get_params()
    assert "model_" not in vars(twin)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        twin.predict(X)
    assert (sklearn.base.is_classifier(model), sklearn.base.is_regressor(model)) == (True, False)
    assert sklearn.base.is_regressor(SequenceRegressor())

    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler()
    table = np.random.default_rng(0).normal(size=(N, 6))
    chain = pipeline.make_pipeline(scaler, SequenceClassifier(**QUICK)).fit(table, Y)
    assert chain.predict(table).shape == (N,)
    search = model_selection.GridSearchCV(
        SequenceClassifier(**QUICK), {"hidden_size": [3, 4], "cell": ["gru"]}, cv=2
    ).fit(np.random.default_rng(0).normal(size=(N, 6, 2)), Y)
    assert search.best_params_["cell"] == "gru"
    lists = model_selection.cross_val_score(SequenceClassifier(**QUICK), X, Y, cv=2)
    assert lists.shape == (2,)
    assert search.best_estimator_.model_.layers[0].hidden_size in (3, 4)


def test_neither_pandas_nor_scikit_learn_is_imported() -> None:
    code = (
        "import sys, numpy as np, bptt.models as m\n"
        "model = m.SequenceClassifier(hidden_size=2, epochs=1)\n"
        "model.fit(np.ones((4, 3)), [0, 1] * 2).predict(np.ones((1, 3)))\n"
        "try: m.SequenceClassifier().predict([[1]])\n"
        "except m.NotFittedError: pass\n"
        "print(sorted({'sklearn', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
