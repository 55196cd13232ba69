# SPDX-License-Identifier: MIT
"""Estimators in files: the same after reading, and hostile files refused in a sentence."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest

import bptt
from bptt.models.base import Estimator, NotFittedError
from bptt.models.files import KEY, load
from bptt.models.vocabulary import Vocabulary
from bptt.training import Epoch, History


class Toy(Estimator):
    """Every kind of value that a file holds."""

    FITTED = {  # noqa: RUF012
        "model_": bptt.Sequential, "vocabulary_": Vocabulary, "history_": History,
        "days_": np.ndarray, "classes_": np.ndarray, "steps_": (int, type(None)),
    }  # fmt: skip

    def __init__(self, size: Any = 3, *, options: Any = (2, 3), weight: Any = None) -> None:
        self.size, self.options, self.weight = size, options, weight


def fitted(**arguments: Any) -> Toy:
    toy = Toy(**arguments)
    toy.model_ = bptt.Sequential(
        bptt.Embedding(4, 3, seed=0), bptt.GRU(3, 4, seed=0), bptt.Last(), bptt.Linear(4, 2, seed=1)
    )
    toy.vocabulary_ = Vocabulary.of([["a", "b", "c"]])
    toy.history_ = History([Epoch(1, 0.5, None, float("nan"), 0.1, 2.0, 0)], interrupted=True)
    toy.days_ = np.array(["2020-01-01", "NaT"], "datetime64[D]")
    toy.classes_, toy.steps_ = np.array(["u", "vv"]), np.int64(7)
    return toy


ARGUMENTS = {"options": [1, {"x": 2.5, 3: (True, None)}], "weight": np.arange(6.0).reshape(2, 3)}


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_everything_comes_back(suffix, tmp_path) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    toy, path = fitted(**ARGUMENTS), tmp_path / f"toy.{suffix}"
    toy.save(path)
    again = load(path)
    assert type(again) is Toy
    assert again.options == toy.options
    np.testing.assert_array_equal(again.weight, toy.weight)
    assert again.vocabulary_ == toy.vocabulary_
    assert repr(again.history_) == repr(toy.history_)
    assert (again.history_.interrupted, again.history_.stopped) == (True, False)
    assert again.days_.dtype == toy.days_.dtype
    np.testing.assert_array_equal(again.days_, toy.days_)
    np.testing.assert_array_equal(again.classes_, toy.classes_)
    assert again.steps_ == 7
    assert repr(again.model_) == repr(toy.model_)
    for name, array in toy.model_.state_dict().items():
        np.testing.assert_array_equal(again.model_.state_dict()[name], array)


def test_what_a_file_cannot_hold_is_refused_and_nothing_written(tmp_path) -> None:
    toy, path = fitted(options=object()), tmp_path / "toy.npz"
    with pytest.raises(TypeError, match=r"^save: options is <object .*expected numbers, text"):
        toy.save(path)
    with pytest.raises(NotFittedError, match=r"^Toy.save: the estimator is not fitted, expected"):
        Toy().save(path)
    assert not path.exists()


def changed(path: Any, change: Any) -> None:
    """Write the file again with other JSON."""
    arrays, metadata = bptt.load(path), bptt.load_metadata(path)
    content = json.loads(metadata[KEY])
    bptt.save(path, arrays, {KEY: json.dumps(change(content) or content)})


HOSTILE = {
    "another version": (lambda c: c.update(version=2), "it has format version 2, expected 1"),
    "no object": (lambda c: [c], "it has format version None, expected 1"),
    "another field": (lambda c: c.update(more=1), "the file has ['version', "),
    "another class": (lambda c: c.update(estimator="os.system"), "it holds 'os.system', expected"),
    "a base class": (lambda c: c.update(estimator="Estimator"), "it holds 'Estimator', expected"),
    "another argument": (lambda c: c["arguments"].update(x=1), "arguments has ['size', "),
    "a method": (lambda c: c["fitted"].update(save=1), "fitted has ["),
    "another type": (lambda c: c["fitted"].update(vocabulary_=3), "vocabulary_ is 3, expected"),
    "a kind": (lambda c: c["arguments"].update(size={"eval": "1"}), "it has {'eval': '1'}, expec"),
    "a bare list": (lambda c: c["arguments"].update(size=[1]), "it has [1], expected a value"),
    "no array": (lambda c: c["fitted"].update(days_={"array": "x"}), "it has no array 'x'"),
    "a dtype": (
        lambda c: c["fitted"].update(days_={"array": "days_", "dtype": "O"}),
        "days_ has dtype 'O', expected a date",
    ),
    "a large layer": (
        lambda c: c["fitted"]["model_"]["model"]["layers"][1]["arguments"].update(
            hidden_size=1 << 40
        ),
        "its model",
    ),
    "tokens twice": (
        lambda c: c["fitted"]["vocabulary_"]["fields"]["tokens"]["tuple"].append("a"),
        "different tokens",
    ),
    "a record": (lambda c: c["fitted"]["vocabulary_"].update(record="Path"), "it has a 'Path'"),
    "text in the history": (
        lambda c: c["fitted"]["history_"]["history"][0].__setitem__(0, "1"),
        "its history has '1', expected numbers",
    ),
}


@pytest.mark.parametrize(("change", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(change, expected, tmp_path) -> None:
    path = tmp_path / "toy.npz"
    fitted().save(path)
    changed(path, change)
    with pytest.raises(ValueError, match=r"^models.load: .*toy.npz is damaged: ") as caught:
        load(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path) -> None:
    path = tmp_path / "x.npz"
    bptt.save(path, {"a": np.zeros(2)})
    with pytest.raises(ValueError, match="holds no estimator, expected a file that its save"):
        load(path)
    bptt.save(path, {"a": np.zeros(2)}, {KEY: "{"})
    with pytest.raises(ValueError, match="is damaged: Expecting property name"):
        load(path)
    bptt.save(path, {"a": np.zeros(2)}, {KEY: "[" * 100_000})
    with pytest.raises(ValueError, match="has a list in too many lists"):
        load(path)
    path.write_bytes(pickle.dumps(Toy()))
    with pytest.raises(ValueError, match="is a pickle, which runs code"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


def test_arguments_by_name() -> None:
    toy = Toy(5)
    assert toy.get_params() == {"size": 5, "options": (2, 3), "weight": None}
    assert toy.set_params(options=None).options is None
    assert repr(toy) == "Toy(size=5, options=None)"
    assert repr(Toy(weight=np.ones(2))) == "Toy(weight=array([1., 1.]))"
    with pytest.raises(ValueError, match=r"^Toy.set_params: params has \['sise'\], expected some"):
        toy.set_params(size=1, sise=2)
    assert toy.size == 5
