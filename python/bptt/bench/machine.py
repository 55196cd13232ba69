# SPDX-License-Identifier: MIT
"""The machine on which `bptt bench` runs, and the kind of machine to which its results belong."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..config import show_config

__all__ = ["architecture", "describe", "kind"]

# Processors by vendor and family, with ranges of models, as /proc/cpuinfo has them.
_ARCHITECTURES = {
    ("AuthenticAMD", 23): {"AMD Zen": [(0x00, 0x2F)], "AMD Zen 2": [(0x30, 0xFF)]},
    ("AuthenticAMD", 25): {
        "AMD Zen 3": [(0x00, 0x0F), (0x20, 0x5F)],
        "AMD Zen 4": [(0x10, 0x1F), (0x60, 0xAF)],
    },
    ("AuthenticAMD", 26): {"AMD Zen 5": [(0x00, 0x7F)]},
    ("GenuineIntel", 6): {
        "Intel Haswell": [(0x3C, 0x3C), (0x3F, 0x3F), (0x45, 0x46)],
        "Intel Broadwell": [(0x3D, 0x3D), (0x47, 0x47), (0x4F, 0x4F), (0x56, 0x56)],
        "Intel Skylake": [(0x4E, 0x4E), (0x55, 0x55), (0x5E, 0x5E)],
        "Intel Ice Lake": [(0x6A, 0x6A), (0x6C, 0x6C), (0x7D, 0x7E)],
        "Intel Alder Lake": [(0x97, 0x97), (0x9A, 0x9A)],
        "Intel Raptor Lake": [(0xB7, 0xB7), (0xBA, 0xBA), (0xBF, 0xBF)],
        "Intel Sapphire Rapids": [(0x8F, 0x8F)],
        "Intel Emerald Rapids": [(0xCF, 0xCF)],
        "Intel Granite Rapids": [(0xAD, 0xAE)],
    },
}


def architecture(cpuinfo: Mapping[str, str]) -> str:
    """The processor's architecture, from the fields of /proc/cpuinfo.

    A processor that is not in the table has its vendor and numbers, or failing these its name.
    """
    try:
        vendor, family, model = (cpuinfo[k] for k in ("vendor_id", "cpu family", "model"))
    except KeyError:
        return cpuinfo.get("model name") or platform.processor() or platform.machine()
    for name, ranges in _ARCHITECTURES.get((vendor, int(family)), {}).items():
        if any(low <= int(model) <= high for low, high in ranges):
            return name
    return f"{vendor} family {family} model {model}"


def kind(machine: Mapping[str, Any]) -> str:
    """The name of a kind of machine, from `describe`: architecture and instruction set.

    The instruction set belongs to it, since AVX2 kernels on a processor with AVX-512 run with
    other caches and other peers than on a processor without.
    """
    text = f"{machine['architecture']} {machine['isa']}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def describe() -> dict[str, Any]:
    """This machine, for the file of results."""
    cpuinfo, config = _cpuinfo(), show_config()
    return {
        "cpu": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "architecture": architecture(cpuinfo),
        "cores": os.cpu_count(),
        "isa": config["isa"],
        "best_isa": config["isas"][0],
        "caches": config["caches"],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _cpuinfo() -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo, if there is such a file."""
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
        return {name.strip(): value.strip() for name, value in pairs}
    return {}
