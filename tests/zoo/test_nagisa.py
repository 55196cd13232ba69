# SPDX-License-Identifier: MIT
"""The BiLSTMs of nagisa, which cuts and tags Japanese text, against its compiled kernels."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest

import bptt
from bptt._types import Array
from support.zoo import assert_outputs, file_of, module_of
from support.zoo_formats import dynet_arrays

BUILDERS = {"birnn": "words", "birnn_1": "parts of speech", "birnn_2": "characters"}


def test_nagisa(tmp_path: Path) -> None:
    path = file_of("nagisa", "nagisa/data/nagisa_v001.model", tmp_path)
    a = dynet_arrays(path.read_text("ascii"))
    loader = module_of("nagisa", ["nagisa/dynet_loader.py"], tmp_path)
    theirs = loader.load_dynet_text_model(str(path))
    pytest.importorskip("six")  # which the kernels import
    kernels = f"nagisa_utils{sysconfig.get_config_var('EXT_SUFFIX')}"
    transduce = module_of("nagisa", [kernels], tmp_path).birnn_transduce

    for builder, purpose in BUILDERS.items():
        names = [f"/{builder}/vanilla-lstm-builder{k}/_{n}" for k in ("", "_1") for n in range(3)]
        forward, backward = (
            bptt.layer_from_arrays("lstm", *(a[n] for n in side), gates="ifoc", forget_bias=1)
            for side in (names[:3], names[3:])
        )
        x = np.random.default_rng(0).normal(size=(60, forward.input_size)).astype(np.float32)
        got = np.concatenate([forward(x[:, None])[0], backward(x[::-1, None])[0][::-1]], -1)[:, 0]
        want = transduce(x, *(array for k in (0, 3) for array in
                              arranged(*(theirs[n][1] for n in names[k : k + 3]))))  # fmt: skip
        assert_outputs(f"nagisa, {purpose}", got, want)


def arranged(w_x: Array, w_h: Array, b: Array) -> tuple[Array, Array, Array]:
    """As nagisa hands them to its kernels: transposed, with 1 added to the forget gate's bias."""
    H = w_h.shape[1]
    b = b.copy()
    b[H : 2 * H] += np.float32(1)
    return np.ascontiguousarray(w_x.T), b, np.ascontiguousarray(w_h.T)
