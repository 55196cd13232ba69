# SPDX-License-Identifier: MIT
"""The types of arguments and results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
State = Any  # h for cells with no other, the tuple (h, c) for LSTM, (h, c, n, m) for sLSTM
Seed = int | np.random.Generator | None
StepClip = tuple[str, float] | tuple[str, float, str]

Activation = str | tuple[Any, ...]  # a name, or a tuple of a name and its parameters

Maybe = ArrayLike | None
# Of a forward call: x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse.
Inputs = tuple[ArrayLike, ArrayLike, ArrayLike, Maybe, Maybe, State, Maybe, bool]
# How it is computed: threads, checkpoint, compute; for the core, bf16 in place of compute.
How = tuple[int | None, int | str | None, str | bool | None]
# How the gradient goes back: step_clip, cut, trace, threads, grads; and as the core takes it: kind,
# bound and target of the clip, cut, trace, threads, and a bit for each field of `Grads`.
Wanted = Iterable[str] | None  # names of gradients; None: all
Control = tuple[StepClip | None, int | None, bool | str | None, int | None, Wanted]
BackwardHow = tuple[str, float, str, int, int, int, int]
