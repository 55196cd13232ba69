# SPDX-License-Identifier: MIT
"""Run the seeds and variants of every experiment in separate processes, and keep each result.

A run is one seed of one variant. Its result is written when it ends, so an interruption loses only
the runs in progress, and the next start skips the runs that the file already has.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import bptt

NAMES = [
    "temporal_order_1997",
    "adding_1997",
    "reber_1997",
    "temporal_order_2013",
    "adding_2015",
    "copy_2018",
]
RESULTS = Path(__file__).parents[1] / "results" / "papers"

Settings = dict[str, Any]
Result = dict[str, Any]


class Row(NamedTuple):
    """The texts of a table's row for one variant."""

    setting: str
    published: str
    measured: str


class Experiment(NamedTuple):
    """An experiment of a script: ``run(seed, **settings)`` for each of its variants."""

    name: str  # the name of the script and of its file of results
    run: Callable[..., Result]
    row: Callable[[Settings, list[Result]], Row]
    variants: list[Settings]
    seeds: int
    quick: list[Settings]  # the same within seconds, on a smaller task


class Run(NamedTuple):
    experiment: str
    settings: Settings
    seed: int


def load(name: str) -> Experiment:
    experiment: Experiment = importlib.import_module(f"benchmarks.papers.{name}").EXPERIMENT
    return experiment


def read(folder: Path, name: str) -> list[Result]:
    """Read the runs so far: settings, seed, CPU seconds and the result of the script."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text("ascii"))["runs"] if path.exists() else []


def of_variant(runs: list[Result], settings: Settings) -> list[Result]:
    return [run for run in runs if run["settings"] == settings]


def spread(runs: list[Result], key: str) -> str:
    """Mean and range of the known values."""
    values = [run[key] for run in runs if run[key] is not None]
    if len(set(values)) < 2:
        return f"{values[0]:,}" if values else "none"
    mean = sum(values) / len(values)
    return f"{mean:,.0f} ({min(values):,} to {max(values):,})"


def write(folder: Path, name: str, runs: list[Result]) -> None:
    """Write one line per run; the new file replaces the old one only when complete."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(run, allow_nan=False) for run in runs)
    new = folder / f"{name}.json.new"
    new.write_text(f'{{"runs": [\n{lines}\n]}}\n', "ascii")
    new.replace(folder / f"{name}.json")


def compute(run: Run) -> Result:
    """Run in a separate process on one thread; `seconds` is CPU time."""
    bptt.set_num_threads(1)
    start = time.process_time()
    result = load(run.experiment).run(run.seed, **run.settings)
    seconds = round(time.process_time() - start, 1)
    return {"settings": run.settings, "seed": run.seed, "seconds": seconds, **result}


def missing(experiment: Experiment, seeds: int, quick: bool, done: list[Result]) -> list[Run]:
    """List the missing runs seed by seed, so that an interruption leaves balanced results."""
    known = [(r["settings"], r["seed"]) for r in done]
    every = [
        (settings, seed)
        for seed in range(seeds)
        for settings in (experiment.quick if quick else experiment.variants)
    ]
    return [Run(experiment.name, *one) for one in every if one not in known]


def in_processes(runs: list[Run], jobs: int) -> Iterator[tuple[Run, Result]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(compute, run): run for run in runs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def shown(result: Result) -> str:
    """Describe a run in one line, without its curves."""
    values = {k: v for k, v in result.items() if k != "settings" and not isinstance(v, list)}
    return "  ".join(f"{k} {v}" for k, v in {**result["settings"], **values}.items())


def progress(total: int) -> tuple[Callable[[str], Any], Callable[[], Any]]:
    """Return functions that print a line and count a run, with a bar if tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return print, lambda: None
    bar = tqdm(total=total, unit="run", smoothing=0)
    return bar.write, bar.update


def main(names: list[str], arguments: list[str] | None = None) -> None:
    """Run the command line of one script, or of all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers")
    parser.add_argument("--quick", action="store_true", help="seconds instead of an hour")
    parser.add_argument("--seeds", type=int, help="instead of each experiment's own number")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--results", type=Path, help="folder of the JSON files")
    if len(names) > 1:
        parser.add_argument("only", nargs="*", metavar="experiment", help=", ".join(names))
    given = parser.parse_args(arguments)
    if unknown := set(getattr(given, "only", [])) - set(names):
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}")
    names = getattr(given, "only", None) or names
    # A quick run is not a measurement, so it is kept only on request.
    folder = given.results or (None if given.quick else RESULTS)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

    done = {name: read(folder, name) if folder else [] for name in names}
    runs: list[Run] = []
    for name in names:
        experiment = load(name)
        seeds = given.seeds or (1 if given.quick else experiment.seeds)
        runs += missing(experiment, seeds, given.quick, done[name])
    say, bar = progress(len(runs))
    for run, result in in_processes(runs, given.jobs):
        say(f"{run.experiment}: {shown(result)}")
        bar()
        if folder:
            done[run.experiment].append(result)
            write(folder, run.experiment, done[run.experiment])
