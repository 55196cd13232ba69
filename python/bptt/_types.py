# SPDX-License-Identifier: MIT
"""The types of arguments and results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = Any  # h for cells with no other, the tuple (h, c) for LSTM, (h, c, n, m) for sLSTM
Seed = int | np.random.Generator | None
StepClip = tuple[str, float] | tuple[str, float, str]
