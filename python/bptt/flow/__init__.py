# SPDX-License-Identifier: MIT
"""Where a gradient goes: a report on a model and a batch, and a monitor for training.

`needed_memory` measures how far back a trained model makes use of its inputs.

`bptt flow` is the report from the command line.
"""

from __future__ import annotations

from ..layers.from_weights import layer_of
from .advice import Advice
from .command import add_arguments, run
from .measure import CellFlow, Curve
from .monitor import Alert, FlowMonitor, FlowWarning
from .need import NeededMemory, needed_memory
from .report import FlowReport, gradient_flow

__all__ = [
    "Advice",
    "Alert",
    "CellFlow",
    "Curve",
    "FlowMonitor",
    "FlowReport",
    "FlowWarning",
    "NeededMemory",
    "add_arguments",
    "gradient_flow",
    "layer_of",
    "needed_memory",
    "run",
]
