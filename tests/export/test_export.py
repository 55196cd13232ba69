# SPDX-License-Identifier: MIT
"""Weights in a C header, compiled and read back; ``bptt export`` from end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import bptt
from support.toolchain import needs

WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
COMPILERS = {
    "c89": ["gcc", "-x", "c", "-std=c89"],
    "c++11": ["g++", "-x", "c++", "-std=c++11"],
    "c++17": ["g++", "-x", "c++", "-std=c++17"],
    "clang-c89": ["clang", "-x", "c", "-std=c89"],
}
# Not all that the header holds is used, which must not warn.
PROGRAM = """\
#include <stdio.h>
#include <string.h>
#include "model.h"
#include "model.h"
int main(void) {{
{body}
    return 0;
}}
"""


@pytest.fixture(params=COMPILERS)
def compiler(request):
    command = COMPILERS[request.param]
    needs(command[0])
    return [*command, *WARNINGS]


def bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes().hex()


def read_back(compiler, folder, names):
    """The bytes of each array, as hexadecimal digits."""
    lines = ["    const unsigned char *bytes; size_t k;"]
    for name in names:
        lines.append(f"    bytes = (const unsigned char *){name};")
        lines.append(f'    for (k = 0; k < sizeof {name}; ++k) printf("%02x", bytes[k]);')
        lines.append('    printf("\\n");')
    return run(compiler, folder, "\n".join(lines)).split()


def run(compiler, folder, body):
    (folder / "main.c").write_text(PROGRAM.format(body=body))
    binary = folder / "main"
    subprocess.run([*compiler, str(folder / "main.c"), "-o", str(binary)], check=True, timeout=300)
    return subprocess.run([binary], check=True, capture_output=True, text=True, timeout=60).stdout


def awkward(dtype):
    """Numbers at the ends of a type's range, and those with the most digits."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    special = [0.0, -0.0, 1.0, -1.0, 1e10, 0.1, 1 / 3, info.max, info.min, info.tiny]
    special += [info.smallest_subnormal, 5 * info.smallest_subnormal, np.nextafter(dtype(1), 2)]
    random = rng.standard_normal(500) * 10.0 ** rng.uniform(-30, 30, 500)
    return np.concatenate([np.array(special, dtype), random.astype(dtype)])


def test_numbers_are_read_back_to_the_same_bits(compiler, tmp_path):
    arrays = {"single": awkward(np.float32), "double": awkward(np.float64)}
    arrays["matrix"] = np.arange(12, dtype=np.float32).reshape(3, 4).T  # not in C order
    arrays["scalar"] = np.float32(2.5)
    arrays["half"] = np.array([0.1, 65504], np.float16)
    bptt.save_c_header(tmp_path / "model.h", arrays)
    found = read_back(compiler, tmp_path, [f"model_{name}" for name in arrays])
    arrays["half"] = arrays["half"].astype(np.float32)
    assert found == [bits(array) for array in arrays.values()]


def test_all_parts_of_a_model_and_their_sizes(compiler, tmp_path):
    lstm = bptt.LSTM(3, 5, 2, bidirectional=True, proj_size=2, seed=0)
    model = {"enc.lstm": lstm, "head": bptt.Linear(4, 1, activation="tanh", seed=1)}
    bptt.save_c_header(tmp_path / "model.h", model, "amp")
    keys = {f"enc.lstm.{k}": a for k, a in lstm.parameters.items()}
    keys |= {f"head.{k}": a for k, a in model["head"].parameters.items()}
    names = ["amp_" + key.replace(".", "_") for key in keys]
    assert read_back(compiler, tmp_path, names) == [bits(array) for array in keys.values()]
    sizes = {"GATES": 4, "INPUT_SIZE": 3, "HIDDEN_SIZE": 5, "NUM_LAYERS": 2, "DIRECTIONS": 2}
    macros = [f"AMP_ENC_LSTM_{name}" for name in [*sizes, "PROJ_SIZE"]]
    macros += [f"AMP_ENC_LSTM_WEIGHT_IH_L1_REVERSE_DIM{k}" for k in range(2)]
    macros += ["AMP_HEAD_WEIGHT_DIM0", "AMP_HEAD_WEIGHT_DIM1", "AMP_HEAD_BIAS_DIM0"]
    body = "\n".join(f'    printf("%d\\n", {macro});' for macro in macros)
    body += '\n    printf("%s\\n", AMP_ENC_LSTM_CELL);'
    expected = [*sizes.values(), 2, 20, 4, 1, 4, 1, "lstm"]
    assert run(compiler, tmp_path, body).split() == [str(value) for value in expected]
    assert "Linear(4, 1, activation='tanh')" in (tmp_path / "model.h").read_text()


@pytest.mark.parametrize("language", ["c89", "c++17"])
def test_arrays_are_read_only_data(language, tmp_path):
    command = [*COMPILERS[language], *WARNINGS]
    needs(command[0], "nm")
    bptt.save_c_header(tmp_path / "model.h", bptt.GRU(1, 2, seed=0))
    source, output = tmp_path / "use.c", tmp_path / "use.o"
    use = (
        '#include "model.h"\n%sfloat at(int k);\nfloat at(int k) { return model_weight_hh_l0[k]; }'
    )
    source.write_text(use % ('extern "C" ' if language == "c++17" else ""))
    subprocess.run([*command, "-c", str(source), "-o", str(output)], check=True, timeout=300)
    done = subprocess.run(["nm", str(output)], check=True, capture_output=True, text=True)
    kinds = {line.split()[-1]: line.split()[-2] for line in done.stdout.splitlines()}
    arrays = {name: kind for name, kind in kinds.items() if "weight_hh_l0" in name}
    assert list(arrays.values()) == ["r"]
    assert not set(kinds.values()) & set("dDbB")


def test_the_arrays_can_be_placed_otherwise(tmp_path):
    needs("g++")
    bptt.save_c_header(tmp_path / "model.h", bptt.GRU(1, 2, seed=0))
    body = '    printf("%d", (int)((size_t)model_bias_hh_l0 % 64));'
    define = "-DMODEL_CONST=alignas(64) static constexpr"
    assert run([*COMPILERS["c++17"], *WARNINGS, define], tmp_path, body) == "0"


CELLS = {
    "rnn": (lambda: bptt.RNN(2, 3), 1),
    "coupled": (lambda: bptt.LSTM(2, 3, forget_gate="coupled", layer_norm=True), 3),
    "mgu": (lambda: bptt.MGU(2, 3), 2),
    "slstm": (lambda: bptt.SLSTM(2, 4, heads=2), 4),
    "lstm1997": (lambda: bptt.LSTM1997(2, 3), 3),
}


@pytest.mark.parametrize("name", CELLS)
def test_any_cell_tells_its_sizes(name, tmp_path):
    make, gates = CELLS[name]
    layer = make()
    bptt.save_c_header(tmp_path / "model.h", layer)
    macros = dict(re.findall(r"#define MODEL_(\w+) (\S+)", (tmp_path / "model.h").read_text()))
    assert macros["CELL"] == f'"{"lstm" if name == "coupled" else name}"'
    assert (macros["GATES"], macros["HIDDEN_SIZE"]) == (str(gates), str(layer.hidden_size))
    assert {f"{key.upper()}_DIM0" for key in layer.parameters} <= set(macros)
    bptt.save_c_header(tmp_path / "arrays.h", layer.parameters, "model", cell=layer.structure.kind)
    again = re.findall(r"#define MODEL_(\w+) (\S+)", (tmp_path / "arrays.h").read_text())
    assert dict(again) == macros


def test_modules_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.ModuleDict({"rnn": torch.nn.GRU(2, 3), "head": torch.nn.Linear(3, 1)})
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    bptt.save_c_header(tmp_path / "one.h", module, "m")
    bptt.save_c_header(tmp_path / "two.h", arrays, "m")
    assert (tmp_path / "one.h").read_text() == (tmp_path / "two.h").read_text()


W = np.ones((2, 2), np.float32)
ERRORS = [
    ({"w": W * np.inf}, {}, ValueError, "model['w'] is inf at (0, 0), expected finite numbers"),
    ({"w": np.array([1, np.nan])}, {}, ValueError, "model['w'] is nan at (1,), expected finite"),
    ({"w": W.astype(int)}, {}, TypeError, "model['w'] has dtype int64, expected float32"),
    ({"w": W[:0]}, {}, ValueError, "model['w'] has shape (0, 2), expected no size of 0"),
    ({}, {}, ValueError, "model has no arrays, expected one or more"),
    (W, {}, TypeError, "model is of type ndarray, expected a layer, a dict of arrays or"),
    ({"a.b": W, "a_b": W}, {}, ValueError, "model has 'a_b' and 'a.b', which both become"),
    ({"A": W, "a": W}, {}, ValueError, "model has 'a' and 'A', which both become"),
    ({"const": W}, {"name": "M"}, None, ""),
    ({"CONST": W}, {"name": "M"}, ValueError, "model has 'CONST' and 'CONST', which both"),
    (
        {"w": W},
        {"name": "2nd"},
        ValueError,
        "name is '2nd', expected a C identifier, such as 'amp'",
    ),
    ({"w": W}, {"name": "a__b"}, ValueError, "name is 'a__b', expected a C identifier"),
    ({"w": W}, {"name": ""}, ValueError, "name is '', expected a C identifier"),
    (
        {"weight_ih_l0": W, "weight_hh_l0": W},
        {"cell": "cfc"},
        ValueError,
        "cell is 'cfc', expected one of ('rnn', 'lstm'",
    ),
    ({"weight_ih_l0": W}, {}, ValueError, "the weights have no matrix weight_hh_l0, expected one"),
]


@pytest.mark.parametrize(("model", "options", "error", "message"), ERRORS)
def test_bad_input_is_refused_and_nothing_is_written(model, options, error, message, tmp_path):
    if error is None:
        bptt.save_c_header(tmp_path / "model.h", model, **options)
        return
    with pytest.raises(error, match=re.escape(f"save_c_header: {message}")):
        bptt.save_c_header(tmp_path / "model.h", model, **options)
    assert not list(tmp_path.iterdir())


def test_names_of_files_and_of_arrays_become_identifiers(tmp_path):
    path = tmp_path / "my amp-2.v1.h"
    bptt.save_c_header(path, {"layers.0/*weight??/": W, "\u00fcber": W})
    text = path.read_text("ascii")
    assert "#ifndef MY_AMP_2_V1_H\n" in text
    assert re.findall(r"float (\w+)", text) == ["my_amp_2_v1_layers_0_weight", "my_amp_2_v1_ber"]


# --- the command line -----------------------------------------------------------------------------


def export(*args):
    command = [sys.executable, "-m", "bptt", "export", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def files(tmp_path):
    lstm, head = bptt.LSTM(1, 4, seed=0), bptt.Linear(4, 2, seed=1)
    join = bptt.optim.join(lstm=lstm.parameters, head=head.parameters)
    bptt.save(tmp_path / "model.npz", join)
    bptt.save(tmp_path / "gru.npz", bptt.GRU(2, 3, seed=0).parameters)
    return tmp_path


def test_from_a_file_to_a_header_and_json_and_back(files):
    done = export(
        files / "model.npz", "--c-header", files / "amp.h", "--json", files / "amp.json",
        "--layers", "lstm", "head:tanh",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "amp_lstm_weight_ih_l0[16]" in (files / "amp.h").read_text()
    lstm, head = bptt.load_rtneural(files / "amp.json")
    assert (repr(lstm).split("\n")[0], head.activation) == ("LSTM(1, 4)", "tanh")
    saved = bptt.load(files / "model.npz")
    np.testing.assert_array_equal(head.parameters["weight"], saved["head.weight"])
    np.testing.assert_array_equal(lstm.parameters["weight_hh_l0"], saved["lstm.weight_hh_l0"])
    done = export(files / "amp.json", "--c-header", files / "b.h", "--name", "back")
    assert done.returncode == 0, done.stderr
    assert "back_1_weight[8]" in (files / "b.h").read_text()


def test_one_recurrent_layer_needs_no_order(files):
    assert export(files / "gru.npz", "--json", files / "g.json").returncode == 0
    (entry,) = json.loads((files / "g.json").read_text())["layers"]
    assert entry["type"] == "gru"


MISUSE = [
    (["model.npz"], "nothing to write, expected --c-header FILE or --json FILE"),
    (["none.npz", "--c-header", "a.h"], "No such file"),
    (
        ["model.npz", "--c-header", "no/a.h"],
        "export: --c-header has the folder 'no', expected one that exists",
    ),
    (["model.npz", "--c-header", "a.h", "--name", "a b"], "name is 'a b', expected a C identifier"),
    (
        ["model.npz", "--json", "a.json"],
        "the layers lstm, head, expected all in --layers, in order",
    ),
    (["model.npz", "--json", "a.json", "--layers", "lstm"], "the layers head, expected all in"),
    (
        ["model.npz", "--json", "a.json", "--layers", "lstm", "tail"],
        "--layers has 'tail', expected",
    ),
    (["model.npz", "--json", "a.json", "--layers", "lstm:elu", "head"], "--layers has 'lstm', exp"),
    (
        ["model.npz", "--json", "a.json", "--layers", "lstm", "head:x"],
        "activation is 'x', expected",
    ),
    (
        ["model.npz", "--json", "a.json", "--layers", "head", "lstm"],
        "layers[1] has 1 inputs, expected 2",
    ),
    (["gru.npz", "--json", "a.json", "--cell", "mgu"], "expected"),
    (["bad.json", "--c-header", "a.h"], "is not JSON"),
    (["bad.json", "--json", "a.json"], "bad.json is RTNeural's JSON already, expected no --json"),
]


@pytest.mark.parametrize(("args", "message"), MISUSE)
def test_misuse_ends_in_one_line_and_writes_nothing(args, message, files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    (files / "bad.json").write_text("{")
    before = set(os.listdir(files))
    from bptt.cli import main

    assert main(["export", *args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert set(os.listdir(files)) == before
