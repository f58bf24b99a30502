"""Builds what is deployed: a stage's package with `chalice package`, and the ZIP of the function for dead letters."""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.project import LOCAL_FOLDER, NO_AWS_FILES, PROJECT, REGION
from ops.wheels import PackagingError, Platform, appearing_whole, build_wheels, digest_of, pip_environment, run

_PACKAGES_KEPT = 6
# Chalice's own name of the code, by which it takes what is built already.
_CODE = "*-python*.zip"

_TRIAGE_SOURCE = Path(__file__).with_name("dead_letter_triage.py")
# The earliest that a ZIP file can hold.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """A built deployment package: the zip file with the code and the SAM template that refers to it."""

    folder: Path

    @property
    def zip_path(self) -> Path:
        """The code and every dependency."""
        return self.folder / "deployment.zip"

    @property
    def template_path(self) -> Path:
        """The SAM template as Chalice wrote it."""
        return self.folder / "sam.json"


def build_package(stage: str, platform: Platform = Platform.LAMBDA) -> Package:
    """Build the package of a stage, or find it built from the same sources; raises PackagingError."""
    sources, packages = list(_sources()), LOCAL_FOLDER / "packages"
    with _one_at_a_time(packages):
        wheels = build_wheels(platform)
        fingerprint = _fingerprint(sources, wheels)
        folder = packages / f"{stage}-{fingerprint}"
        if not folder.exists():
            # The stages differ in their templates only.
            code = next(packages.glob(f"*-{fingerprint}/{_CODE}"), None)
            with appearing_whole(folder) as unfinished:
                _run_chalice(stage, sources, wheels, unfinished, code)
            _forget_old(packages)
    return Package(folder)


def make_sources_readable() -> None:
    """Let everybody read the sources in this checkout, whose modes `chalice deploy` packages, as Lambda must."""
    for source in _sources():
        source.chmod(source.stat().st_mode | 0o444)


def build_triage(target: Path = PROJECT / "infra" / "dead_letter_triage.zip") -> Path:
    """Build the ZIP of the function for dead letters, where Terraform looks for it, and return its path.

    The same source gives the same bytes, so Terraform sees a change only in a changed one.
    """
    member = zipfile.ZipInfo(_TRIAGE_SOURCE.name, _ZIP_EPOCH)
    member.external_attr = 0o644 << 16
    target.parent.mkdir(parents=True, exist_ok=True)
    # Stored, for no two versions of zlib need to compress alike.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, _TRIAGE_SOURCE.read_bytes())
    return target


def _run_chalice(stage: str, sources: Iterable[Path], wheels: Path, output: Path, code: Path | None) -> None:
    """Package a copy of the sources, or their template beside built code: no byte code, and no two builds meet."""
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".build-") as name:
        copy = Path(name)
        for source in sources:
            target = copy / source.relative_to(PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)
        deployments = copy / ".chalice" / "deployments"
        deployments.mkdir()
        if code:
            os.link(code, deployments / code.name)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PIP_", "PYTHON"))
        }
        environment |= {"AWS_DEFAULT_REGION": REGION, "PYTHONDONTWRITEBYTECODE": "1"}
        # It would ask the network for credentials, of which packaging needs none.
        environment |= {"AWS_EC2_METADATA_DISABLED": "true"}
        environment |= NO_AWS_FILES | pip_environment(wheels)
        chalice = Path(sys.executable).with_name("chalice")
        output_text = run([str(chalice), "package", "--stage", stage, str(output)], cwd=copy, env=environment)
        for built in deployments.glob(_CODE):
            os.link(output / "deployment.zip", output / built.name)
    # Chalice goes on without a dependency that it finds no wheel for, and Lambda then fails at import.
    if "Could not install dependencies" in output_text:
        raise PackagingError(output_text)


def _sources() -> Iterator[Path]:
    yield PROJECT / "app.py"
    yield PROJECT / "requirements.txt"
    yield from sorted((PROJECT / ".chalice").glob("*.json"))
    for folder in ("chalicelib", "vendor"):
        for path in sorted((PROJECT / folder).rglob("*")):
            # Finder leaves files of its own, which begin with a dot.
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                yield path


def _fingerprint(sources: Iterable[Path], wheels: Path) -> str:
    contents = [sys.version.encode(), Path(__file__).read_bytes(), wheels.name.encode()]
    for source in sources:
        contents += [str(source.relative_to(PROJECT)).encode(), source.read_bytes()]
    return digest_of(contents)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let whoever builds the same in this moment finish first, who may have built what is wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old(packages: Path) -> None:
    finished = [folder for folder in packages.iterdir() if not folder.name.startswith(".")]
    finished.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in finished[_PACKAGES_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
