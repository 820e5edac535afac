"""`deploy/Dockerfile`: it is linted, copies what is there, and its pip commands, run against a stand-in of pip, take the
versions of `requirements.txt`. No image is built: that needs Docker and a network.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FILE = ROOT / "deploy" / "Dockerfile"
LINES = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)).splitlines()
RUNS = [line.removeprefix("RUN ") for line in LINES if line.startswith("RUN ")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIP = '#!/bin/bash\necho "$@"\nfor word in "$@"; do [[ $word == *.txt ]] && sed "s/^/$word: /" "$word"; done; true\n'


def arguments(name: str) -> str:
    """The default of a build argument."""
    return next(line.partition("=")[2] for line in LINES if line.startswith(f"ARG {name}="))


def test_it_is_linted() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint comes with the dev extra")
    found = subprocess.run([hadolint, FILE], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_what_it_copies_is_there_and_nothing_else_is_sent() -> None:
    copied = {word for line in LINES if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert copied == {"requirements.txt", "pyproject.toml", "README.md", "LICENSE", "search_spaces", "tune_btxrd"}
    assert all((ROOT / name).exists() for name in copied)
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*" and {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")} == copied
    assert all(fnmatch.fnmatch("x/__pycache__", rule) for rule in rules[1:] if not rule.startswith("!"))


def installed(tmp_path: Path, **given: str) -> str:
    """What the stand-in of pip is told by the RUN lines that call it: its words, and the files that it would read."""
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").write_text(PIP)
    (tmp_path / "bin" / "pip").chmod(0o755)
    values = {name: arguments(name) for name in ("DEVICE", "CPU_INDEX", "EXTRAS")} | given
    environment = {**os.environ, **values, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    told = ""
    for command in (line for line in RUNS if "pip install" in line):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told += done.stdout
    return told


def test_pip_takes_the_versions_of_the_requirements(tmp_path: Path) -> None:
    told = installed(tmp_path)
    torch = re.findall(r"^torch\.txt: (\S+)", told, flags=re.MULTILINE)
    pinned = [line.split()[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()]
    assert torch == [line for line in pinned if line.startswith("torch")] and len(torch) == 2
    calls = [line for line in told.splitlines() if line.startswith("install ")]
    assert "/whl/cpu" in calls[0] and calls[1].endswith("-r requirements.txt") and "/whl/" not in calls[1]
    assert calls[2].endswith("-c requirements.txt -c extras.txt .[dicom,volumes]")
    extras = {line.split("==")[0] for line in re.findall(r"^extras\.txt: (\S+)$", told, flags=re.MULTILINE)}
    wanted = {re.match(r"[\w.-]+", item)[0] for name in ("dicom", "volumes", "mlflow") for item in extra(name)}
    assert wanted <= extras


def extra(name: str) -> list[str]:
    found: list[str] = PROJECT["optional-dependencies"][name]
    return found


def test_cuda_takes_the_build_of_pypi_and_another_device_is_refused(tmp_path: Path) -> None:
    assert "/whl/" not in installed(tmp_path, DEVICE="cuda")
    with pytest.raises(AssertionError, match="DEVICE is cpu or cuda, but got tpu"):
        (again := tmp_path / "again").mkdir()
        installed(again, DEVICE="tpu")


def test_its_python_is_ours() -> None:
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert int(low) <= int(arguments("PYTHON").partition(".")[2]) < int(high)
    assert set(arguments("EXTRAS").split(",")) <= set(PROJECT["optional-dependencies"])
