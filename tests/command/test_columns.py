# SPDX-License-Identifier: MIT
"""Which columns of a table ``bptt fit`` and ``predict`` read as what."""

from __future__ import annotations

import json

import pytest

from bptt.command.data import Columns, read_sequences

ROWS = ["a,label,rec", *(f"{k / 7},{'no' if k < 6 else 'yes'},r{k // 3}" for k in range(12))]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("\n".join(ROWS))
    return path


def test_the_target_is_the_last_column_that_is_no_group(table):
    data = read_sequences("fit", table, Columns(group_column="rec"), numbers=False)
    assert (data.columns.target, data.columns.inputs) == ("label", ["a"])
    assert data.y.tolist() == ["no", "no", "yes", "yes"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns("label", "rec", None, ["a", "label"]), "fit: --inputs has 'label', expected no t"),
        (Columns("label", "rec", None, ["rec"]), "fit: --inputs has 'rec', expected no target and"),
        (Columns("rec", "rec"), "fit: --target is 'rec', expected another than --group-column"),
    ],
)
def test_a_column_has_one_part(table, columns, message):
    with pytest.raises(ValueError, match=message):
        read_sequences("fit", table, columns, numbers=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "its columns are nested too deeply"),
        ("null", r"its columns has None, expected \['target'"),
        ('{"a": 1}', r"its columns has \['a'\], expected \['target'"),
        (json.dumps({**Columns()._asdict(), "inputs": "xy"}), "its inputs are not a list"),
        (json.dumps({**Columns()._asdict(), "target": 3}), "names that are not text"),
    ],
    ids=["deep", "null", "other", "inputs", "target"],
)
def test_damaged_columns_of_a_model_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Columns.from_json(text)
