# SPDX-License-Identifier: MIT
"""`SequenceClassifier` and `SequenceRegressor`: inputs, training, bits, files."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.models import NotFittedError, SequenceClassifier, SequenceRegressor, load

N, F = 24, 3
QUICK = {"hidden_size": 5, "epochs": 2, "batch_size": 7, "lr": 0.02}


def ragged(n: int = N, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(3, 2, (rng.integers(1, 8), F)) for _ in range(n)]


X, Y = ragged(), np.array(["b", "a", "c"] * 8)
TEXTS = ["Good, very good!", "bad. very bad", "not good", "Not bad"] * 6


def same(a: Any, b: Any) -> None:
    """Do two estimators have the same weights?"""
    ours, theirs = (m.model_.state_dict() for m in (a, b))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


# --- what is trained ------------------------------------------------------------------------------


def test_it_is_the_model_and_the_training_written_by_hand() -> None:
    estimator = SequenceClassifier(
        cell="gru", num_layers=2, dropout=0.3, pooling="mean", seed=4, **QUICK
    )
    estimator.fit(X, Y)
    steps = np.concatenate(X)
    x = [((one - steps.mean(0)) / steps.std(0)).astype("f4") for one in X]
    seeds = [int(s) for s in np.random.SeedSequence(4).generate_state(6)]
    model = bptt.Sequential(
        bptt.GRU(F, 5, num_layers=2, dropout=0.3, seed=seeds[0]), bptt.MeanPool(),
        bptt.Dropout(0.3, seed=seeds[1]), bptt.Linear(5, 3, seed=seeds[2]),
    )  # fmt: skip
    target = np.searchsorted(["a", "b", "c"], Y)
    history = bptt.fit(
        model, (x, target), loss=bptt.cross_entropy, epochs=2, batch_size=7, lr=0.02,
        schedule="cosine", seed=4,
    )  # fmt: skip
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(estimator.model_.state_dict()[name], array, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(estimator.history_.best.loss, history.best.loss, rtol=1e-6)
    padded, lengths = bptt.pad_sequences(x)
    want = bptt.softmax(model(padded, lengths=lengths))
    np.testing.assert_allclose(estimator.predict_proba(X), want, rtol=1e-4)
    np.testing.assert_array_equal(estimator.classes_, ["a", "b", "c"])
    np.testing.assert_array_equal(
        estimator.predict(X), estimator.classes_[estimator.predict_proba(X).argmax(1)]
    )
    assert estimator.score(X, Y) == np.mean(estimator.predict(X) == Y)


def test_the_regressor_estimates_in_the_units_of_its_targets() -> None:
    y = np.array([1000 + 50 * len(one) for one in X])
    estimator = SequenceRegressor(hidden_size=8, epochs=150, lr=0.02, batch_size=8).fit(X, y)
    assert estimator.score(X, y) > 0.98
    assert np.abs(estimator.predict(X) - y).max() < 50
    both = SequenceRegressor(**QUICK).fit(X, np.stack([y, -y], 1))
    assert both.predict(X[:4]).shape == (4, 2)
    assert SequenceRegressor(**QUICK).fit(X, y[:, None]).predict(X[:4]).shape == (4, 1)


def test_r2_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y, weight = rng.normal(5, 2, (N, 2)), rng.random(N)
    estimator = SequenceRegressor(**QUICK).fit(X, y)
    want = metrics.r2_score(y, estimator.predict(X), sample_weight=weight)
    np.testing.assert_allclose(estimator.score(X, y, weight), want)
    same_y = np.full((N, 2), 3.0)
    assert estimator.score(X, same_y) == metrics.r2_score(same_y, estimator.predict(X))


def test_a_sequence_of_weight_0_teaches_nothing() -> None:
    wrong, weight = Y.copy(), np.ones(N)
    wrong[::4], weight[::4] = "a", 0
    assert (wrong != Y).any()
    same(*(SequenceClassifier(**QUICK).fit(X, y, sample_weight=weight) for y in (wrong, Y)))


def test_weights_of_classes() -> None:
    y = np.array([0] * 18 + [1] * 6)
    options = QUICK | {"batch_size": N}
    balanced = SequenceClassifier(class_weight="balanced", **options).fit(X, y)
    by_hand = SequenceClassifier(class_weight={0: 24 / 2 / 18, 1: 24 / 2 / 6}, **options)
    same(balanced, by_hand.fit(X, y))
    weights = np.where(y, 24 / 2 / 6, 24 / 2 / 18)
    same(balanced, SequenceClassifier(**options).fit(X, y, sample_weight=weights))
    assert balanced.history_.epochs[0].loss != pytest.approx(
        SequenceClassifier(**options).fit(X, y).history_.epochs[0].loss, rel=1e-6
    )


def test_validation_holds_out_whole_groups_and_keeps_the_best() -> None:
    groups = np.arange(N) // 6
    estimator = SequenceClassifier(**QUICK | {"epochs": 30}, validation=0.25, patience=2, seed=1)
    estimator.fit(X, Y, groups=groups)
    history = estimator.history_
    assert history.stopped
    assert len(history) < 30
    assert history.best.number == len(history) - 2
    scores = [
        np.mean(estimator.predict([X[k] for k in np.flatnonzero(groups == g)]) == Y[groups == g])
        for g in range(4)
    ]
    assert history.best.metric in scores  # the accuracy of one group, not of single sequences


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_all_networks_train(pooling: str, bidirectional: bool) -> None:
    for cell in ("rnn", "lstm", "mgu", "slstm"):
        estimator = SequenceClassifier(
            cell=cell, pooling=pooling, bidirectional=bidirectional, **QUICK
        )
        assert estimator.fit(X, Y).predict_proba(X).shape == (N, 3)


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu", "slstm"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("hidden_size", [7, 33])
def test_a_stream_has_the_bits_of_the_whole_sequence(
    cell: str, pooling: str, hidden_size: int
) -> None:
    x = ragged(9, seed=2)
    options = QUICK | {"cell": cell, "pooling": pooling, "hidden_size": hidden_size, "dropout": 0.1}
    for estimator, y in (
        (SequenceClassifier(num_layers=2, **options), Y[:9]),
        (SequenceRegressor(**options), np.arange(9.0)),
    ):
        estimator.fit(x, y)
        classifies = isinstance(estimator, SequenceClassifier)
        predict = estimator.predict_proba if classifies else estimator.predict
        whole, stream = predict(x), estimator.stream()
        for k, one in enumerate(x):
            np.testing.assert_array_equal(predict([one])[0], whole[k])
            for t, x_t in enumerate(one):
                now = stream.step(x_t)
                if k == 1:
                    np.testing.assert_array_equal(now, predict([one[: t + 1]])[0])
            np.testing.assert_array_equal(now, whole[k])
            stream.reset()


def test_a_stream_of_attention_predicts_the_same_to_rounding() -> None:
    weighted = SequenceRegressor(pooling="attention", **QUICK).fit(X, range(N))
    stream = weighted.stream()
    for t in range(len(X[0])):
        now = stream.step(X[0][t])
        np.testing.assert_allclose(now, weighted.predict([X[0][: t + 1]])[0], rtol=1e-5)


def test_a_stream_of_tokens() -> None:
    estimator = SequenceClassifier(**QUICK).fit(TEXTS, Y)
    stream = estimator.stream()
    for token in ["not", "seen", "good"]:
        p = stream.step(token)
    np.testing.assert_array_equal(p, estimator.predict_proba(["Not SEEN good"])[0])
    with pytest.raises(TypeError, match=r"^SequenceStream.step: x is 3, expected a token"):
        stream.step(3)
    assert repr(stream) == "SequenceStream of Vocabulary(8 tokens)"


def test_what_cannot_be_streamed() -> None:
    two = SequenceClassifier(bidirectional=True, **QUICK).fit(X, Y)
    with pytest.raises(ValueError, match=r"^SequenceClassifier.stream: bidirectional is True, exp"):
        two.stream()
    stream = SequenceRegressor(**QUICK).fit(X, range(N)).stream()
    with pytest.raises(ValueError, match=r"x has shape \(2,\), expected \(F,\) = \(3,\)"):
        stream.step([1, 2])
    with pytest.raises(ValueError, match=r"x has NaN or inf at \[2\]"):
        stream.step([1, 2, np.nan])
    assert repr(stream) == "SequenceStream of 3 features"


# --- inputs ---------------------------------------------------------------------------------------


def test_arrays_lists_and_tables_are_the_same_sequences() -> None:
    values = np.random.default_rng(1).normal(2, 3, (N, 6, 1))
    forms = [values, [*values], [one[:, 0] for one in values], values[:, :, 0],
             values[:, :, 0].tolist(), tuple(values), values.astype(object)]  # fmt: skip
    estimators = [SequenceClassifier(**QUICK).fit(form, Y) for form in forms]
    for estimator, form in zip(estimators, forms):
        same(estimator, estimators[0])
        want = estimators[0].predict_proba(values)
        np.testing.assert_array_equal(estimator.predict_proba(form), want)
    assert [e.n_features_in_ for e in estimators] == [1, 1, 1, 6, 6, 1, 1]
    estimators[3].predict([np.ones(9)])  # a list may have other lengths
    with pytest.raises(ValueError, match="X has 5 features, but SequenceClassifier is expecting 6"):
        estimators[3].predict(np.ones((2, 5)))


def test_a_frame_has_a_row_for_each_step() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.concatenate(X), columns=["u", "v", "w"])
    frame["take"] = np.repeat([f"take {-k}" for k in range(N)], list(map(len, X)))
    frame["name"] = np.repeat(Y, list(map(len, X)))
    mixed = frame.sort_index(key=lambda k: (k * 7) % 5, kind="stable")  # steps stay in their order
    order = [f"take {-k}" for k in range(N)]
    options = QUICK | {"group_column": "take"}
    want = SequenceClassifier(**QUICK).fit(X, Y)

    by_column = SequenceClassifier(**options).fit(frame, "name")
    same(by_column, want)
    np.testing.assert_array_equal(by_column.predict(frame), want.predict(X))
    np.testing.assert_array_equal(by_column.predict(frame[["take", "w", "v", "u"]]),
                                  want.predict(X))  # fmt: skip
    assert by_column.score(frame, "name") == want.score(X, Y)
    assert by_column.feature_names_in_.tolist() == ["u", "v", "w"]

    series = pandas.Series(Y, index=order).sort_index()  # in another order than the frame
    inputs = frame[["u", "v", "w", "take"]]
    same(SequenceClassifier(**options).fit(inputs, series), want)
    same(SequenceClassifier(**options).fit(inputs, Y), want)
    groups = SequenceClassifier(**options, validation=0.3).fit(frame, "name", groups="name")
    assert {0.0, 1.0} >= {round(e.metric, 9) for e in groups.history_.epochs}

    first = list(dict.fromkeys(mixed["take"]))
    predicted = by_column.predict_proba(mixed)
    rows = [np.flatnonzero(mixed["take"] == take) for take in first]
    values = mixed[["u", "v", "w"]].to_numpy()
    np.testing.assert_array_equal(predicted, want.predict_proba([values[r] for r in rows]))


def test_refusals_of_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"u": [1.0, 2, 3, 4], "take": [0, 0, 1, 1], "y": ["a", "a", "b", "b"]})
    model = SequenceClassifier(group_column="take", **QUICK).fit(frame, "y")
    cases = [
        (lambda: model.fit(frame, "z"), "expected also ['z']"),
        (lambda: model.score(frame, "z"), "y is 'z', expected a column of X"),
        (lambda: model.fit(frame.assign(y=list("abbb")), "y"), "X['y'] has another value in row 1"),
        (lambda: model.fit(frame.drop(columns="take"), "y"), "expected also 'take'"),
        (lambda: model.fit(frame.assign(take=[0, None, 1, 1]), "y"), "X['take'] is missing in row"),
        (lambda: model.fit(frame[["u", "take"]], pandas.Series(["a", "b"], index=[0, 2])),
         "y has the index [0, 2], expected each 'take' once"),
        (lambda: model.predict(frame[["take"]]), "expected also ['u']"),
        (lambda: model.fit(frame[["take", "y"]], "y"), "X has no column besides 'take'"),
        (lambda: model.fit(frame.assign(u=list("abcd")), "y"), "X['u'] has no numbers"),
        (lambda: model.fit(np.ones((2, 3)), [0, 1]), "expected a frame of pandas with the column"),
        (lambda: model.fit(frame, "y", groups=[1, 2, 3]), "groups has shape (3,), expected an ent"),
    ]  # fmt: skip
    for call, expected in cases:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert expected in str(caught.value)
        assert str(caught.value).startswith("SequenceClassifier.")
    table = SequenceClassifier(**QUICK).fit(frame[["u", "take"]], [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"X has columns \['take', 'u'\], expected those of fit"):
        table.predict(frame[["take", "u"]])


def test_texts_and_lists_of_tokens() -> None:
    y = [1, 0, 0, 1] * 6
    model = SequenceClassifier(hidden_size=8, epochs=40, lr=0.03, batch_size=8).fit(TEXTS, y)
    assert model.vocabulary_.tokens == ("<unk>", "bad", "good", "not", "very", "!", ",", ".")
    assert model.score(TEXTS, y) == 1
    lists = [["good", ",", "very", "good", "!"], ["bad", ".", "very", "bad"], ["not", "good"],
             ["not", "bad"]] * 6  # fmt: skip
    same(SequenceClassifier(hidden_size=8, epochs=40, lr=0.03, batch_size=8).fit(lists, y), model)
    unknown, other = model.predict_proba(["good word", "good thing"])
    np.testing.assert_array_equal(unknown, other)
    assert model.predict_proba([""]).shape == (1, 2)  # no step at all
    letters = SequenceClassifier(tokens="characters", **QUICK).fit(TEXTS, y)
    assert "G" in letters.vocabulary_
    rare = SequenceClassifier(min_count=7, vocabulary_size=3, **QUICK).fit(np.array(TEXTS), y)
    assert rare.vocabulary_.tokens == ("<unk>", "bad", "good")
    assert not hasattr(model, "n_features_in_")
    for wrong, expected in {
        "a text": "X is 'a text', expected a list of texts",
        ("a", 3): "X[1] is 3, expected text",
        (("a",), (1,)): "X[1] is (1,), expected text",
    }.items():
        with pytest.raises(TypeError) as caught:
            model.fit(wrong, y[:2])
        assert expected in str(caught.value)
    with pytest.raises(TypeError, match="X holds numbers, expected texts, as in fit"):
        model.predict([[1, 2]])
    with pytest.raises(TypeError, match="X holds text, expected numbers, as in fit"):
        SequenceClassifier(**QUICK).fit(X, Y).predict(["a"])


def test_vectors_of_tokens_begin_small() -> None:
    model = SequenceClassifier(tokens="characters", epochs=1, lr=0.0).fit(TEXTS, [1, 0, 0, 1] * 6)
    vectors = model.model_.parameters["0.weight"]
    assert vectors.dtype == np.float32
    assert vectors.std() == pytest.approx(0.1, rel=0.2)


def test_a_constant_feature_and_large_values() -> None:
    x = np.random.default_rng(0).normal(1e6, 1e-2, (N, 5, 2))
    x[:, :, 1] = 7.3
    model = SequenceRegressor(hidden_size=8, epochs=60, lr=0.02).fit(x, x[:, -1, 0])
    assert model.inputs_.scale[1] == 1
    assert model.score(x, x[:, -1, 0]) > 0.9


CASES = {
    "y is None": ((X, None), "requires y to be passed, but the target y is None"),
    "too few targets": ((X, Y[:-1]), "y has shape (23,), expected an entry for each of the 24"),
    "targets in rows": ((X, np.ones((N, 2))), "y has shape (24, 2), expected (n,)"),
    "numbers": ((X, np.arange(N) + 0.5), "y has 0.5, expected classes. Unknown label type: cont"),
    "no target": ((X, [np.nan] * N), "y has nan, expected classes. y contains NaN"),
    "a name": ((X, "y"), "y is 'y', expected an entry for each sequence, or, with group_column"),
    "no sequence": (([], []), "X has no sequences, expected one or more"),
    "one axis": ((np.ones(4), [0] * 4), "X has shape (4,), expected (n, T) or (n, T, F)"),
    "four axes": ((np.ones((4, 3, 2, 1)), [0] * 4), "X has shape (4, 3, 2, 1), expected (n, T)"),
    "features differ": (([np.ones((2, 3)), np.ones((2, 4))], [0, 1]), "X[1] has shape (2, 4)"),
    "infinity": (([[1.0], [np.inf]], [0, 1]), "X[1] has NaN or inf at [0], expected finite"),
    "bytes": (([b"a", b"b"], [0, 1]), "X[0] has dtype"),
    "a number": ((3, [0]), "X is array(3), expected an entry for each sequence"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES)
def test_refusals_of_data(data: Any, expected: str) -> None:
    model = SequenceClassifier(**QUICK).fit(X, Y)
    before = model.predict_proba(X)
    with pytest.raises((TypeError, ValueError)) as caught:
        model.fit(*data)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("SequenceClassifier.fit: ")
    np.testing.assert_array_equal(model.predict_proba(X), before)


ARGUMENTS = {
    "cell": ("gated", "cell is 'gated', expected one of"),
    "hidden_size": (0, "hidden_size is 0, expected 1 or more"),
    "num_layers": (1.0, "num_layers is 1.0, expected a whole number"),
    "bidirectional": (1, "bidirectional is 1, expected True or False"),
    "pooling": ("max", "pooling is 'max', expected one of"),
    "dropout": (2, "dropout is 2, expected a probability"),
    "tokens": ("letters", "tokens is 'letters', expected one of"),
    "embedding_size": (0, "embedding_size is 0, expected 1 or more"),
    "min_count": (0, "min_count is 0, expected 1 or more"),
    "vocabulary_size": (1, "vocabulary_size is 1, expected 2 or more"),
    "seed": (-1, "seed is -1, expected 0 or more"),
    "class_weight": ({"d": 1}, "class_weight has ['d'], expected some of ['a', 'b', 'c']"),
    "epochs": (0, "epochs is 0, expected 1 or more"),
    "lr": (-1.0, "lr is -1"),
    "validation": (1.5, "validation is 1.5, expected a fraction"),
    "patience": (3, "patience is given, expected validation with it"),
    "schedule": ("linear", "schedule is 'linear'"),
}


@pytest.mark.parametrize(("name", "case"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_refusals_of_arguments(name: str, case: Any) -> None:
    value, expected = case
    model = SequenceClassifier(**QUICK | {name: value})  # the constructor stores, fit checks
    with pytest.raises((TypeError, ValueError)) as caught:
        model.fit(X, Y)
    assert expected in str(caught.value)
    assert "model_" not in vars(model)


def test_refusals_of_weights() -> None:
    model = SequenceClassifier(**QUICK)
    for weight, expected in [
        (np.zeros(N), "not every weight zero"), (np.ones((N, 2)), "has shape (24, 2), expected"),
        (-np.ones(N), "has values -1..-1"), (np.ones(3), "an entry for each of the 24 sequences"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="sample_weight") as caught:
            model.fit(X, Y, sample_weight=weight)
        assert expected in str(caught.value)


def test_before_fit() -> None:
    model = SequenceClassifier()
    for call in (
        lambda: model.predict(X), lambda: model.predict_proba(X), lambda: model.score(X, Y),
        model.stream, lambda: model.n_features_in_, lambda: model.vocabulary_,
    ):  # fmt: skip
        with pytest.raises((NotFittedError, ValueError), match="not fitted, expected Sequence"):
            call()
    assert not hasattr(model, "n_features_in_")
    with pytest.raises(ValueError, match=r"^SequenceClassifier.predict: X has no sequences"):
        SequenceClassifier(**QUICK).fit(X, Y).predict([])


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_saved_models_predict_the_same_bits(suffix: str, tmp_path: Any) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path, numbers = tmp_path / f"m.{suffix}", np.arange(N) * 1.5
    for model, x in (
        (SequenceClassifier(**QUICK, dropout=0.2, class_weight={"a": 2.0}).fit(X, Y), X),
        (SequenceClassifier(**QUICK, tokens="characters", pooling="attention").fit(TEXTS, Y),
         TEXTS),
        (SequenceRegressor(**QUICK, bidirectional=True, validation=0.3).fit(X, numbers), X),
    ):  # fmt: skip
        model.save(path)
        again = load(path)
        assert type(again) is type(model)
        assert again.get_params() == model.get_params()
        assert repr(again.history_) == repr(model.history_)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        copied = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(copied.predict(x), model.predict(x))
        again.fit(x, Y if isinstance(model, SequenceClassifier) else numbers)
        same(again, model)


def test_parts_that_do_not_fit_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "m.npz"
    for change in (
        lambda m: vars(m).update(classes_=np.array(["a", "b"])),
        lambda m: vars(m).update(model_=bptt.Sequential(*m.model_.layers[:1])),
        lambda m: vars(m).update(
            inputs_=SequenceClassifier(**QUICK).fit([x[:, :2] for x in X], Y).inputs_
        ),
        lambda m: vars(m).update(inputs_=SequenceClassifier(**QUICK).fit(TEXTS, Y).inputs_),
    ):
        model = SequenceClassifier(**QUICK).fit(X, Y)
        change(model)
        model.save(path)
        with pytest.raises(ValueError, match=r"^models.load: .*m.npz is damaged: "):
            load(path)


def test_an_interrupted_training_goes_on(tmp_path: Any) -> None:
    options = QUICK | {"epochs": 4, "validation": 0.25}
    want = SequenceClassifier(**options).fit(X, Y)
    SequenceClassifier(**options).fit(X, Y, checkpoint=tmp_path / "state.npz")
    again = SequenceClassifier(**options).fit(X, Y, checkpoint=tmp_path / "state.npz")
    same(again, want)
