# SPDX-License-Identifier: MIT
"""A trained model as a C program: the bits of its stream, step by step."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
import bptt.models
from bptt import cli
from bptt.models.calendar import phases
from support.toolchain import needs, needs_installed_package, options, run

STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
C89, CPP = ["cc", "-std=c89"], ["c++", "-std=c++17"]
# Reads "r" for a reset, or "s" and an x; writes every y.
MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
#include "model.h"
int main(int count, char** words) {
    X x[INPUTS];
    Y y[MODEL_OUTPUTS];
    model_state* s;
    int next;
    if (count > 1 && bptt_set_isa(words[1]) != BPTT_OK) return 2;
    s = (model_state*)malloc(model_bytes());
    if (!s || model_start(s) != BPTT_OK) return 3;
    while ((next = getchar()) != EOF) {
        if (next == 'r') {
            model_reset(s);
            continue;
        }
        if (fread(x, sizeof x, 1, stdin) != 1) return 4;
        if (model_step(s, GIVEN, y) != BPTT_OK) {
            puts("refused");
            continue;
        }
        fwrite(y, sizeof y, 1, stdout);
    }
    free(s);
    return 0;
}
"""
V, E, H = 7, 5, 9


sdk_options = functools.cache(lambda: options("includes", "libs"))


def wide(kind: Any, *sizes: int, **options: Any) -> Any:
    return kind(*sizes, dtype="float64", **options)


MODELS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: bptt.Sequential(bptt.LSTM(E, H, seed=1), bptt.Linear(H, 3, seed=2)),
    "classifier": lambda: bptt.Sequential(
        bptt.Embedding(V, E, seed=0), bptt.Dropout(0.3, seed=0),
        bptt.LSTM(E, H, 2, seed=1, learn_state=True, dropout=0.1), bptt.LayerNorm(H), bptt.Last(),
        bptt.Linear(H, 4, seed=2, activation="softmax"),
    ),
    "residual": lambda: bptt.Sequential(
        bptt.LayerNorm(E), bptt.GRU(E, E, 3, seed=1, residual=True, batch_first=True),
        bptt.MeanPool(), bptt.Linear(E, 17, seed=2, activation="elu"),
        bptt.Linear(17, 1, seed=3, bias=False, activation="sigmoid"),
    ),
    "wide": lambda: bptt.Sequential(
        wide(bptt.Linear, E, 33, seed=0, activation="relu"),
        wide(bptt.RNN, 33, H, seed=1, activation="leaky_relu", bias=False),
        wide(bptt.GRU, H, H, seed=2, learn_state=True), wide(bptt.LayerNorm, H, eps=1e-3),
        bptt.MeanPool(), wide(bptt.Linear, H, 5, seed=3, activation="tanh"),
    ),
    "tanh": lambda: bptt.Sequential(bptt.RNN(E, H, seed=1), bptt.Last()),
    "no state": lambda: bptt.Sequential(bptt.Embedding(V, E, seed=1), bptt.MeanPool()),
    "ids alone": lambda: bptt.Sequential(wide(bptt.Embedding, V, E, seed=1)),
}  # fmt: skip


def made(name: str) -> Any:
    """A model whose parameters are all different from their first values."""
    model, rng = MODELS[name](), np.random.default_rng(5)
    for array in model.parameters.values():
        array += 0.3 * rng.standard_normal(array.shape)
    return model


def inputs_of(model: Any, steps: int) -> Any:
    rng = np.random.default_rng(6)
    if isinstance(model.layers[0], bptt.Embedding):
        return rng.integers(0, V, steps).astype(np.intc)
    return (3 * rng.standard_normal((steps, E))).astype(model.dtype)


def build(folder: Path, model: Any, x: Any, y: Any, *compiler: str, **more: Any) -> Path:
    """Write the header and compile the program."""
    needs_installed_package()
    needs(compiler[0])
    bptt.save_c_header(folder / "model.h", model)
    source = folder / ("main.cpp" if "++" in compiler[0] else "main.c")
    source.write_text(MAIN)
    ctype = {"int32": "int", "float32": "float", "float64": "double"}
    given = "x[0]" if x.dtype == np.intc else "x"
    run(
        *compiler, *STRICT, source, f"-I{folder}", f"-DX={ctype[x.dtype.name]}",
        f"-DY={ctype[y.dtype.name]}", f"-DINPUTS={x[0].size}", f"-DGIVEN={given}",
        *sdk_options(), "-o", folder / "main",
    )  # fmt: skip
    return folder / "main"


def answers(program: Path, commands: list[Any], *words: str) -> bytes:
    content = b"".join(b"r" if one is None else b"s" + one.tobytes() for one in commands)
    done = subprocess.run([program, *words], input=content, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def commands_for(x: Any) -> list[Any]:
    """All steps, with resets after 30 and 31 of them and at the end."""
    return [*x[:30], None, x[30], None, None, *x[31:], None, x[0]]


def streamed(stream: Any, commands: list[Any]) -> bytes:
    out = []
    for one in commands:
        if one is None:
            stream.reset()
        else:
            out.append(stream.step(one[None]).tobytes())
    return b"".join(out)


@pytest.mark.parametrize("name", MODELS)
def test_the_program_has_the_bits_of_the_stream(name: str, tmp_path: Path) -> None:
    model = made(name)
    commands, stream = commands_for(inputs_of(model, 200)), model.stream()
    want = streamed(stream, commands)
    program = build(
        tmp_path, model, commands[0][None], stream.step(commands[0][None]), *C89, *CHECKED
    )
    assert answers(program, commands) == want
    assert len(set(np.frombuffer(want, np.uint8))) > 100  # no constant


def test_every_instruction_set_has_the_bits_of_the_stream(isa: str, tmp_path: Path) -> None:
    model = made("wide")
    commands = commands_for(inputs_of(model, 60))
    stream = model.stream()
    y = stream.step(commands[0][None])
    program = build(tmp_path, model, commands[0][None], y, *CPP)
    stream.reset()
    assert answers(program, commands, isa) == streamed(stream, commands)


def test_a_stream_of_several_sequences_has_the_same_bits(tmp_path: Path) -> None:
    model = made("classifier")
    x = inputs_of(model, 90).reshape(30, 3)
    stream = model.stream(3)
    want = np.array([stream.step(ids) for ids in x])
    program = build(tmp_path, model, x[:, 0], want, *C89)
    for b in range(3):
        assert answers(program, [*x[:, b]]) == want[:, b].tobytes()


def test_a_saved_model_gives_the_same_header(tmp_path: Path) -> None:
    model = made("residual")
    model.save(tmp_path / "model.npz")
    bptt.save_c_header(tmp_path / "a.h", model, "amp")
    bptt.save_c_header(tmp_path / "b.h", tmp_path / "model.npz", "amp")
    assert (tmp_path / "a.h").read_text() == (tmp_path / "b.h").read_text()


@pytest.mark.parametrize("compiler", ["clang", "clang++"])
def test_other_compilers_accept_it(compiler: str, tmp_path: Path) -> None:
    language = ["-std=c++11"] if compiler == "clang++" else ["-std=c89"]
    for name in ("classifier", "no state"):
        model = made(name)
        x = inputs_of(model, 40)
        stream = model.stream()
        want = streamed(stream, [*x])
        y = stream.step(x[:1])
        # Fused multiply-adds, where the target has them, are none of the header's.
        program = build(tmp_path, model, x, y, compiler, *language, "-O2", "-ffp-contract=fast")
        assert answers(program, [*x]) == want


def test_an_id_outside_the_embedding_is_refused(tmp_path: Path) -> None:
    model = made("classifier")
    x = np.array([3, -1, V, 2**31 - 1, 2], np.intc)
    stream = model.stream()
    first, second = stream.step(x[:1]), stream.step(x[4:])
    program = build(tmp_path, model, x, first, *C89, *CHECKED)
    assert answers(program, [*x]) == first.tobytes() + 3 * b"refused\n" + second.tobytes()


REFUSED: list[tuple[Callable[[], list[Any]], str]] = [
    (lambda: [bptt.GRU(E, H, bidirectional=True)], "layer 0, GRU: the layer is bidirectional"),
    (lambda: [bptt.GRU(E, H, reverse=True)], "layer 0, GRU: the layer has reverse=True"),
    (lambda: [bptt.GRU(E, H, dilation=2)], "layer 0, GRU: the layer has dilation 2"),
    (lambda: [bptt.GRU(E, H, skip=1)], "layer 0, GRU: the layer has skip 1"),
    (lambda: [bptt.GRU(E, H), bptt.Attention(H)], "layer 1, Attention, has no function in C, exp"),
    (lambda: [bptt.Dropout(), bptt.MGU(E, H)], "layer 1, MGU, has no function in C, expected RNN"),
    (lambda: [bptt.LSTM(E, H, peepholes=True)], "layer 0, LSTM has peepholes=True, expected Fal"),
    (lambda: [bptt.LSTM(E, H, proj_size=2)], "layer 0, LSTM has proj_size=2, expected 0"),
    (lambda: [bptt.LSTM(E, H, zoneout=(0.1, 0.1))], "layer 0, LSTM has zoneout="),
    (lambda: [bptt.LSTM(E, H, activation="relu")], "layer 0, LSTM has activation='relu'"),
    (lambda: [bptt.GRU(E, H, reset_after=False)], "layer 0, GRU has reset_after=False"),
    (lambda: [bptt.RNN(E, H, activation="softsign")], "layer 0, RNN has activation='softsign'"),
    (lambda: [bptt.RNN(E, H, leak=0.5)], "layer 0, RNN has leak=0.5"),
    (lambda: [bptt.LSTM(E, H, compute="bf16_if_available")], "layer 0, LSTM, has compute='bf16"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_what_c_cannot_run_is_refused(
    layers: Callable[[], list[Any]], message: str, tmp_path: Path
) -> None:
    model = bptt.Sequential(*layers())
    with pytest.raises(ValueError, match=r"^save_c_header: layer ") as caught:
        bptt.save_c_header(tmp_path / "model.h", model)
    assert str(caught.value).startswith(f"save_c_header: {message}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    bptt.save_c_header(tmp_path / "model.h", dict(model.state_dict()))  # the weights alone


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = made("lstm")
    model.parameters["1.bias"][1] = np.nan
    with pytest.raises(ValueError, match=r"model\['1\.bias'\]"):
        bptt.save_c_header(tmp_path / "model.h", model)
    assert not list(tmp_path.iterdir())


# --- estimators


RNG = np.random.default_rng(0)
WAVE = 20 + 3 * np.sin(np.arange(150) * 2 * np.pi / 12) + 0.1 * RNG.standard_normal(150)
DAYS = np.datetime64("2024-01-01") + np.arange(150)
FAST = {"hidden_size": 8, "epochs": 2, "progress": False}


def sequences(features: int) -> list[Any]:
    return [5 + 2 * RNG.standard_normal((RNG.integers(4, 9), features)) for _ in range(40)]


def classifier(**options: Any) -> Any:
    names = np.array(["one", 'two "??=\\ \u00e9\n', "three"])
    return bptt.models.SequenceClassifier(**FAST, **options).fit(
        sequences(2), names[np.arange(40) % 3]
    )


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "last": classifier,
    "mean": lambda: classifier(pooling="mean", cell="gru", num_layers=2, dropout=0.1),
    "two targets": lambda: bptt.models.SequenceRegressor(**FAST).fit(
        sequences(3), 1e3 * RNG.standard_normal((40, 2))
    ),
    "one target": lambda: bptt.models.SequenceRegressor(**FAST, cell="rnn").fit(
        sequences(1), 7 + RNG.standard_normal(40)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_has_the_bits_of_its_stream(name: str, tmp_path: Path) -> None:
    model = ESTIMATORS[name]()
    model.save(tmp_path / "estimator.npz")
    x = 5 + 2 * RNG.standard_normal((60, model.n_features_in_))
    stream = model.stream()
    want = np.array([stream.step(row) for row in x])
    program = build(tmp_path, tmp_path / "estimator.npz", x, want, *C89, *CHECKED)
    assert answers(program, [*x]) == want.tobytes()
    predict = model.predict_proba if hasattr(model, "classes_") else model.predict
    assert want[8].tobytes() == predict([x[:9]])[0].tobytes()


def test_the_names_of_classes_and_tokens_are_tables(tmp_path: Path) -> None:
    model = bptt.models.SequenceClassifier(**FAST, min_count=1, embedding_size=3).fit(
        ["ein gut\u00e9s Wort", "kein ?? Wort"] * 8, [3, 5] * 8
    )
    bptt.save_c_header(tmp_path / "model.h", model)
    program = tmp_path / "main.c"
    needs_installed_package()
    needs("cc")
    program.write_text(
        '#include <stdio.h>\n#include "model.h"\nint main(void) {\n    int k;\n'
        "    for (k = 0; k < MODEL_IDS; ++k) puts(model_tokens[k]);\n"
        "    for (k = 0; k < MODEL_OUTPUTS; ++k) puts(model_classes[k]);\n    return 0;\n}\n"
    )
    run(*C89, *STRICT, program, *sdk_options(), "-o", tmp_path / "main")
    assert run(tmp_path / "main").splitlines() == [*model.vocabulary_.tokens, "3", "5"]
    other = classifier()
    bptt.save_c_header(tmp_path / "model.h", other)
    program.write_text(
        '#include <stdio.h>\n#include "model.h"\nint main(void) {\n    int k;\n'
        "    for (k = 0; k < MODEL_OUTPUTS; ++k) puts(model_classes[k]);\n    return 0;\n}\n"
    )
    run(*C89, *STRICT, program, *sdk_options(), "-o", tmp_path / "main")
    assert run(tmp_path / "main") == "\n".join([*other.classes_, ""])


KNOWN = RNG.standard_normal((160, 2))
FORECASTERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "season": ({"season": 12, "steps": 30}, {}),
    "dates": ({"season": 7, "quantiles": (0.25, 0.5)}, {"dates": DAYS}),
    "inputs": ({}, {"dates": DAYS, "inputs": KNOWN}),
}


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_forecaster_has_the_bits_of_its_stream(name: str, tmp_path: Path) -> None:
    options, data = FORECASTERS[name]
    model = bptt.models.Forecaster(**{"steps": 4, "window": 24, **options}, **FAST).fit(
        WAVE, **data
    )
    features, streams = model.features_, [model.stream(), model.stream()]
    steps, commands, want = features.steps, list[Any](), list[Any]()
    for stream in streams:  # the second after a reset
        for t in range(100):
            date = DAYS[t] if "dates" in data else None
            known = KNOWN[t + 1 : t + 1 + steps] if "inputs" in data else None
            y = stream.step(WAVE[t], known, date)
            assert (y is None) == (t < features.lead)
            others = [] if date is None else phases(DAYS[t : t + 1], features.cycles)[0]
            commands.append(np.array([WAVE[t], *others, *(() if known is None else known.T.flat)]))
            if y is not None:
                want.append(y)
        commands.append(None)
    assert len({y.tobytes() for y in want}) == len(want) // 2
    model.save(tmp_path / "forecaster.npz")
    again = bptt.models.load(tmp_path / "forecaster.npz")
    program = build(tmp_path, again, np.array(commands[:1]), want[0], *C89, *CHECKED)
    skipped = answers(program, commands)
    # The first values give no forecast: the program writes what y was before.
    rows = np.frombuffer(skipped).reshape(200, -1)
    kept = [*range(features.lead, 100), *range(100 + features.lead, 200)]
    assert rows[kept].tobytes() == np.array(want).tobytes()


TEXT = "the cat sat on the mat, and the dog sat on the log. " * 8
LANGUAGE: dict[str, dict[str, Any]] = {
    "characters": {"tokens": "characters"},
    "words": {"tokens": "words", "cell": "gru", "num_layers": 2, "dropout": 0.2},
    "rnn": {"tokens": "words", "cell": "rnn", "vocabulary_size": 6},
}


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_model_has_the_bits_of_its_stream(name: str, tmp_path: Path) -> None:
    model = bptt.models.LanguageModel(
        **FAST, **LANGUAGE[name], window=16, embedding_size=5, batch_size=4
    ).fit(TEXT)  # fmt: skip
    model.save(tmp_path / "language.npz")
    known = model.vocabulary_
    tokens = model._tokens("test", "text", TEXT)[:40]
    ids = known.encode(tokens).astype(np.intc)
    stream = model.model_.stream()
    want = np.array([stream.step(ids[t : t + 1])[0] for t in range(len(ids))])
    program = build(tmp_path, tmp_path / "language.npz", ids, want[:1], *C89, *CHECKED)
    assert answers(program, [*ids]) == want.tobytes()
    assert f"#define MODEL_IDS {len(known)}\n" in (tmp_path / "model.h").read_text()
    # The likeliest token, again and again, is what the model writes.
    written: list[Any] = [*ids]
    for _ in range(9):
        logits = np.frombuffer(answers(program, written), np.float32).reshape(len(written), -1)
        written.append(np.intc(1 + logits[-1, 1:].argmax()))
    new = known.decode(np.array(written[len(ids) :]))
    prompt = ("" if name == "characters" else " ").join(tokens)
    text = model.generate(prompt, length=9, temperature=0)
    assert text.replace(" ", "") == "".join(new).replace(" ", "")


def test_the_stream_of_a_forecaster_begins_as_it_predicts() -> None:
    model = bptt.models.Forecaster(steps=3, window=20, season=12, **FAST).fit(WAVE)
    stream = model.stream()
    for value in WAVE[-32:]:
        y = stream.step(value)
    np.testing.assert_allclose(y, model.predict_quantiles(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"ForecastStream\.step: value has NaN"):
        stream.step(np.nan)
    with pytest.raises(ValueError, match=r"inputs has shape \(1, 2\), expected"):
        stream.step(1.0, [[1, 2]])
    with pytest.raises(ValueError, match=r"number is 1, expected"):
        model.stream(1)


def test_estimators_that_c_cannot_run_are_refused(tmp_path: Path) -> None:
    several = bptt.models.Forecaster(steps=3, window=20, **FAST).fit([WAVE, 2 * WAVE])
    with pytest.raises(ValueError, match="has the units of 2 series, expected a Forecaster of on"):
        bptt.save_c_header(tmp_path / "model.h", several)
    with pytest.raises(ValueError, match="layer 0, LSTM: the layer is bidirectional"):
        bptt.save_c_header(tmp_path / "model.h", classifier(bidirectional=True))
    with pytest.raises(ValueError, match="layer 1, Attention, has no function in C, expec"):
        bptt.save_c_header(tmp_path / "model.h", classifier(pooling="attention"))
    with pytest.raises(bptt.models.NotFittedError, match="expected Sequence"):
        bptt.save_c_header(tmp_path / "model.h", bptt.models.SequenceClassifier())
    assert not list(tmp_path.iterdir())


# --- the command


def test_the_command_writes_what_the_function_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"model": made("classifier"), "estimator": classifier()}
    for name, model in files.items():
        model.save(tmp_path / f"{name}.npz")
        bptt.save_c_header(tmp_path / "a.h", model, "amp")
        command = ["export", f"{tmp_path / name}.npz", "--c-header", str(tmp_path / "b.h")]
        assert cli.main([*command, "--name", "amp"]) == 0
        assert (tmp_path / "a.h").read_text() == (tmp_path / "b.h").read_text()
        assert cli.main([*command, "--cell", "lstm"]) == 2
        assert "--cell is given, expected none: the file has a whole" in capsys.readouterr().err
    assert cli.main([*command[:2], "--json", str(tmp_path / "a.json")]) == 2
    assert "--json has an estimator, expected a model without" in capsys.readouterr().err
    made("lstm").save(tmp_path / "model.npz")
    command = ["export", f"{tmp_path / 'model.npz'}", "--json", str(tmp_path / "a.json")]
    assert cli.main(command) == 0
    lstm, linear = bptt.load_rtneural(tmp_path / "a.json")
    assert (lstm.hidden_size, linear.out_features) == (H, 3)


def test_the_command_refuses_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.npz"
    bptt.Sequential(bptt.GRU(E, H, bidirectional=True)).save(path)
    assert cli.main(["export", str(path), "--c-header", str(tmp_path / "a.h")]) == 2
    error = capsys.readouterr().err
    assert "layer 0, GRU: the layer is bidirectional, expected one direction (in " in error
    assert error.count("\n") == 1
    content = bptt.load(path)
    bptt.save(path, content, {"bptt.Sequential": "{}", "bptt.models": "[]"})
    assert cli.main(["export", str(path), "--c-header", str(tmp_path / "a.h")]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]
