# SPDX-License-Identifier: MIT
"""The contents of a report, which text, pages and pictures render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._types import Array
from .advice import Advice
from .measure import CellFlow
from .verdict import KINDS

__all__ = ["ReportData"]


@dataclass(frozen=True, eq=False)
class ReportData:
    """The attributes of `FlowReport`."""

    cells: tuple[CellFlow, ...]
    verdicts: tuple[str, ...]
    advice: tuple[Advice, ...]
    norms: dict[str, float]
    value: float | None
    loss: str
    model: str
    dtype: np.dtype[Any]
    lengths: Array
    reading: str = ""

    @property
    def verdict(self) -> str:
        return min((v.split(":")[0] for v in self.verdicts), key=KINDS.index)
