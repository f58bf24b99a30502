"""Renews the locks: exact versions with hashes of all that is installed, for every supported Python and machine."""

import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from chalicelib.errors import ThermonetError
from ops.project import PROJECT

NAMES = ("bootstrap", "runtime", "dev", "cloud", "checkov")
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = (
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
)
_UV = Path(sys.executable).with_name("uv")
_HEADER = """\
# What Chalice packages: the exact versions of requirements/runtime.txt, without hashes. Made by `make lock`.
# `make setup` collects the wheels for Lambda here, with byte code, botocore's without the services that are not in use.
--find-links .local/lambda-wheels
"""


class LockError(ThermonetError):
    """No versions satisfy what is required, or one has no wheel for a supported Python on a supported machine."""


def renew_locks(folder: Path = PROJECT / "requirements") -> None:
    """Write the newest allowed versions into `requirements/*.txt` and `requirements.txt`; raises LockError."""
    for name in NAMES:
        print(f"locking {name}")
        # What is packaged is developed against.
        same = ["--constraint=runtime.txt"] if name == "dev" else []
        options = ["--universal", f"--python-version={PYTHON_VERSIONS[0]}", "--generate-hashes", "--upgrade"]
        options += ["--constraint=limits.in", *same, "--custom-compile-command=make lock", f"--output-file={name}.txt"]
        _uv(["compile", f"{name}.in", *options], folder)
    (folder.parent / "requirements.txt").write_text(pins(folder))
    for name, version, machine in product(NAMES, PYTHON_VERSIONS, MACHINES):
        _check_wheels(name, version, machine, folder)


def pins(folder: Path = PROJECT / "requirements") -> str:
    """Return what `requirements.txt` must say, which Chalice reads: it packages wheels that were made anew."""
    lock = (folder / "runtime.txt").read_text()
    return _HEADER + "".join(f"{pin}\n" for pin in re.findall(r"^[\w.-]+==.*?(?= \\$)", lock, re.MULTILINE))


def _check_wheels(name: str, version: str, machine: str, folder: Path) -> None:
    """See whether all of a lock can be installed there without building anything."""
    with tempfile.TemporaryDirectory() as target:
        where = [f"--python-version={version}", f"--python-platform={machine}", f"--target={target}"]
        _uv(["install", "--dry-run", "--no-build", "--require-hashes", *where, f"--requirement={name}.txt"], folder)


def _uv(arguments: list[str], folder: Path) -> None:
    finished = subprocess.run([_UV, "pip", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise LockError(f"uv pip {' '.join(arguments)}:\n{finished.stderr}")
