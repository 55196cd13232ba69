# SPDX-License-Identifier: MIT
"""Results belong to a kind of machine: an architecture with an instruction set."""

import itertools
import re

import pytest

import bptt
from bptt.bench import machine
from bptt.bench.machine import architecture, describe, kind


def cpu(vendor, family, model):
    return {"vendor_id": vendor, "cpu family": str(family), "model": str(model)}


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (cpu("AuthenticAMD", 25, 1), "AMD Zen 3"),  # EPYC 7003
        (cpu("AuthenticAMD", 25, 33), "AMD Zen 3"),  # Ryzen 5000
        (cpu("AuthenticAMD", 25, 17), "AMD Zen 4"),  # EPYC 9004
        (cpu("AuthenticAMD", 25, 97), "AMD Zen 4"),  # Ryzen 7000
        (cpu("AuthenticAMD", 23, 49), "AMD Zen 2"),
        (cpu("GenuineIntel", 6, 143), "Intel Sapphire Rapids"),
        (cpu("GenuineIntel", 6, 106), "Intel Ice Lake"),
        (cpu("GenuineIntel", 6, 999), "GenuineIntel family 6 model 999"),
        (cpu("Other", 25, 1), "Other family 25 model 1"),
        ({"model name": "A CPU"}, "A CPU"),
    ],
)
def test_architecture(cpuinfo, name):
    assert architecture(cpuinfo) == name


def test_no_processor_has_two_architectures():
    for table in machine._ARCHITECTURES.values():
        ranges = sorted(r for found in table.values() for r in found)
        assert all(low <= high for low, high in ranges)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))


def test_the_instruction_set_belongs_to_the_kind():
    zen4 = {"architecture": "AMD Zen 4"}
    assert kind({**zen4, "isa": "avx512bf16"}) == "amd-zen-4-avx512bf16"
    assert kind({**zen4, "isa": "avx2"}) == "amd-zen-4-avx2"
    assert kind({"architecture": "A (R) CPU @ 3", "isa": "neon"}) == "a-r-cpu-3-neon"


def test_this_machine():
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", kind(describe()))
    assert describe()["cpu"]
    assert describe()["caches"].count(",") == 2
    assert describe()["best_isa"] == bptt.show_config()["isas"][0]


def test_a_system_without_cpuinfo(monkeypatch):
    monkeypatch.setattr(machine, "_cpuinfo", dict)
    found = describe()
    assert found["cpu"] == found["architecture"] != ""
