# SPDX-License-Identifier: MIT
"""Reports on the gradient of a recurrent model, and a monitor for training.

`gradient_flow` reports on a model and a batch, as ``bptt flow`` does on the command line;
`FlowMonitor` samples the gradient during training; `needed_memory` measures how far back a trained
model uses its inputs.
"""

from __future__ import annotations

from .advice import Advice
from .command import add_arguments, run
from .curves import Curve
from .measure import CellFlow
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
    "needed_memory",
    "run",
]
