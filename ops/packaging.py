"""Builds what is deployed: a stage's package with `chalice package`, and the ZIP of the function for dead letters."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chalicelib.errors import ThermonetError
from ops.project import LOCAL_FOLDER, PROJECT, REGION

# The services of which the package keeps botocore's descriptions: those that the application has clients
# of, and sts for credentials. All of them would take 15 MB, more than half as much as the rest.
KEPT_SERVICES = frozenset({"dynamodb", "s3", "sns", "sqs", "ssm", "stepfunctions", "sts"})

# Chalice packages for the Python that it runs on. Lambda's 3.11 has glibc 2.26 on x86_64, later ones a later one.
_PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_GLIBC_MINORS = range(26, 16, -1)
_PACKAGES_KEPT = 6
_BUILD = "1lambda"
# Chalice's own name of the code, by which it takes what is built already.
_CODE = "*-python*.zip"

_TRIAGE_SOURCE = Path(__file__).with_name("dead_letter_triage.py")
# The earliest that a ZIP file can hold.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackagingError(ThermonetError):
    """The deployment package could not be built. The message has the output of the tool that failed."""


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


def build_package(stage: str) -> Package:
    """Build the package of a stage, or find it built from the same sources; raises PackagingError."""
    sources = list(_sources())
    packages, fingerprint = LOCAL_FOLDER / "packages", _fingerprint(sources)
    folder = packages / f"{stage}-{fingerprint}"
    with _one_at_a_time(packages):
        if not folder.exists():
            wheels = build_wheels()
            # The stages differ in their templates only.
            code = next(packages.glob(f"*-{fingerprint}/{_CODE}"), None)
            with _appearing_whole(folder) as unfinished:
                _run_chalice(stage, sources, wheels, unfinished, code)
            _forget_old(packages)
    return Package(folder)


def build_wheels(requirements: Path = PROJECT / "requirements.txt", local_folder: Path = LOCAL_FOLDER) -> Path:
    """Collect the wheels that Lambda can run into a folder, so that packaging needs no network after that.

    Returns the folder; raises PackagingError when a requirement has no wheel for Lambda.
    """
    folder = local_folder / "wheels" / _digest([requirements.read_bytes(), Path(__file__).read_bytes()])
    link = local_folder / "lambda-wheels"
    if not folder.exists():
        with _appearing_whole(folder) as unfinished:
            platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS]
            target = [f"--python-version={_PYTHON_VERSION}", "--implementation=cp", "--only-binary=:all:"]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", f"--requirement={requirements}"]
            _run([*pip, f"--dest={unfinished}", *target, *platforms, "--platform=manylinux2014_x86_64"])
            for wheel in list(unfinished.glob("*.whl")):
                # What was collected for earlier requirements is found again, and fits already.
                if f"-{_BUILD}-" not in wheel.name:
                    _fit_for_lambda(wheel)
    # requirements.txt names the link, so that a plain `chalice package` takes the same wheels.
    new_link = link.with_name(f".{link.name}-{os.getpid()}")
    new_link.symlink_to(folder.relative_to(local_folder))
    new_link.replace(link)
    return folder


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
        deployments = copy / ".chalice" / "deployments"
        deployments.mkdir()
        if code:
            os.link(code, deployments / code.name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PYTHON"))}
        environment |= {"AWS_DEFAULT_REGION": REGION, "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        chalice = Path(sys.executable).with_name("chalice")
        output_text = _run([str(chalice), "package", "--stage", stage, str(output)], cwd=copy, env=environment)
        for built in deployments.glob(_CODE):
            os.link(output / "deployment.zip", output / built.name)
    # Chalice goes on without a dependency that it finds no wheel for, and Lambda then fails at import.
    if "Could not install dependencies" in output_text:
        raise PackagingError(output_text)


def _fit_for_lambda(wheel: Path) -> None:
    """Replace a wheel by one with byte code, and without the descriptions of services that are not in use.

    Nothing can be written where Lambda unpacks a package: without byte code, each cold start would compile what it
    imports. The build number makes pip prefer the new wheel to that of the same version in any index.
    """
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".unpacked-") as name:
        _run([*python, "wheel", "unpack", f"--dest={name}", str(wheel)])
        (content,) = Path(name).iterdir()
        for service in content.glob("botocore/data/*/"):
            if service.name not in KEPT_SERVICES:
                shutil.rmtree(service)
        # By hash and unchecked: Lambda gives every file a time of its own.
        compiling = ["--invalidation-mode=unchecked-hash", "-s", str(content), "-p", "/var/task", str(content)]
        _run([*python, "compileall", "-q", *compiling])
        wheel.unlink()
        _run([*python, "wheel", "pack", f"--dest-dir={wheel.parent}", f"--build-number={_BUILD}", str(content)])


def _sources() -> Iterator[Path]:
    yield PROJECT / "app.py"
    yield PROJECT / "requirements.txt"
    yield from sorted((PROJECT / ".chalice").glob("*.json"))
    for folder in ("chalicelib", "vendor"):
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _fingerprint(sources: Iterable[Path]) -> str:
    contents = [sys.version.encode(), Path(__file__).read_bytes()]
    for source in sources:
        contents += [str(source.relative_to(PROJECT)).encode(), source.read_bytes()]
    return _digest(contents)


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let whoever builds the same in this moment finish first, who may have built what is wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes its name only when filled, whoever else is filling the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-", ignore_cleanup_errors=True) as name:
        unfinished = Path(name) / "content"
        unfinished.mkdir()
        yield unfinished
        # Somebody else's is as good.
        with contextlib.suppress(OSError):
            unfinished.rename(folder)


def _forget_old(packages: Path) -> None:
    finished = [folder for folder in packages.iterdir() if not folder.name.startswith(".")]
    finished.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in finished[_PACKAGES_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; raises PackagingError with that when it fails."""
    finished = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if finished.returncode != 0:
        raise PackagingError(f"{Path(command[0]).name} {command[1]} failed:\n{finished.stdout}")
    return finished.stdout
