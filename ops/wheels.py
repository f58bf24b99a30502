"""Collects the wheels of the deployment package: for Lambda, or for this machine, where the local cloud runs them."""

import contextlib
import hashlib
import os
import platform as host
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from chalicelib.errors import ThermonetError
from ops.project import LOCAL_FOLDER, PROJECT

# The services of which the package keeps botocore's descriptions: those that the application has clients
# of, and sts for credentials. All of them would take 15 MB, more than half as much as the rest.
KEPT_SERVICES = frozenset({"dynamodb", "s3", "sns", "sqs", "ssm", "stepfunctions", "sts"})

# Lambda's Python 3.11 has glibc 2.26 on x86_64, later ones a later one.
_LAMBDA_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(26, 16, -1)), "manylinux2014_x86_64")
_BUILD = "1lambda"
# Lambda runs code as somebody else than whom its files belong to, whatever umask the one who packages has.
PACKAGING_UMASK = 0o022


class Platform(StrEnum):
    """What packaged code runs on."""

    LAMBDA = "lambda"
    THIS_MACHINE = "this-machine"

    @classmethod
    def of_local_cloud(cls, system: str = host.system(), machine: str = host.machine()) -> "Platform":
        """Return what the local cloud's packages are for: Lambda, where this machine runs the same."""
        return cls.LAMBDA if (system, machine) == ("Linux", "x86_64") else cls.THIS_MACHINE


class PackagingError(ThermonetError):
    """The deployment package could not be built. The message has the output of the tool that failed."""


def build_wheels(
    platform: Platform, lock: Path = PROJECT / "requirements" / "runtime.txt", local_folder: Path = LOCAL_FOLDER
) -> Path:
    """Collect the wheels that a platform can run into a folder, so that packaging needs no network after that.

    Returns the folder; raises PackagingError when a requirement has no wheel for it.
    """
    digest = digest_of([lock.read_bytes(), Path(__file__).read_bytes()])
    folder = local_folder / "wheels" / f"{platform}-{sys.implementation.cache_tag}-{digest}"
    if not folder.exists():
        with appearing_whole(folder) as unfinished:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--require-hashes"]
            platforms = [f"--platform={name}" for name in _LAMBDA_PLATFORMS] if platform is Platform.LAMBDA else []
            run([*pip, f"--requirement={lock}", f"--dest={unfinished}", *platforms])
            with ThreadPoolExecutor(os.cpu_count()) as workers:
                list(workers.map(_fit_for_packaging, list(unfinished.glob("*.whl"))))
                if platform is Platform.THIS_MACHINE:
                    list(
                        workers.map(_call_it_lambdas, set(unfinished.glob("*.whl")) - set(unfinished.glob("*-any.whl")))
                    )
        for outdated in set(folder.parent.glob(f"{platform}-{sys.implementation.cache_tag}-*")) - {folder}:
            shutil.rmtree(outdated, ignore_errors=True)
    if platform is Platform.LAMBDA:
        # requirements.txt names the link, so that a plain `chalice package` takes the same wheels.
        link = local_folder / "lambda-wheels"
        new_link = link.with_name(f".{link.name}-{os.getpid()}")
        new_link.symlink_to(folder.relative_to(local_folder))
        new_link.replace(link)
    return folder


def pip_environment(wheels: Path) -> dict[str, str]:
    """Return the variables with which Chalice's pip takes these wheels and no others, whatever machine it runs on."""
    return {
        "PIP_NO_INDEX": "1",
        # As a URL: pip takes a blank for the end of a path.
        "PIP_FIND_LINKS": wheels.resolve().as_uri(),
        "PIP_ONLY_BINARY": ":all:",
        "PIP_PLATFORM": " ".join(_LAMBDA_PLATFORMS),
    }


def _fit_for_packaging(wheel: Path) -> None:
    """Replace a wheel by one with byte code, and without the descriptions of services that are not in use.

    Nothing can be written where Lambda unpacks a package: without byte code, each cold start would compile what it
    imports. The build number makes pip prefer the new wheel to that of the same version in any index.
    """
    python = [sys.executable, "-m"]
    with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".unpacked-") as name:
        run([*python, "wheel", "unpack", f"--dest={name}", str(wheel)])
        (content,) = Path(name).iterdir()
        for service in content.glob("botocore/data/*/"):
            if service.name not in KEPT_SERVICES:
                shutil.rmtree(service)
        # By hash and unchecked: Lambda gives every file a time of its own.
        compiling = ["--invalidation-mode=unchecked-hash", "-s", str(content), "-p", "/var/task", str(content)]
        run([*python, "compileall", "-q", *compiling])
        wheel.unlink()
        run([*python, "wheel", "pack", f"--dest-dir={wheel.parent}", f"--build-number={_BUILD}", str(content)])


def _call_it_lambdas(wheel: Path) -> None:
    """Rename a wheel of this machine: Chalice, which packages for Lambda alone, takes no others."""
    run([sys.executable, "-m", "wheel", "tags", "--remove", f"--platform-tag={_LAMBDA_PLATFORMS[-1]}", str(wheel)])


def digest_of(contents: Iterable[bytes]) -> str:
    """Return a short name of contents, in their order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes its name only when filled, whoever else is filling the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-", ignore_cleanup_errors=True) as name:
        unfinished = Path(name) / "content"
        unfinished.mkdir()
        yield unfinished
        # Somebody else's is as good.
        with contextlib.suppress(OSError):
            unfinished.rename(folder)


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; raises PackagingError with that when it fails."""
    finished = subprocess.run(
        command, cwd=cwd, env=env, umask=PACKAGING_UMASK,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if finished.returncode != 0:
        raise PackagingError(f"{Path(command[0]).name} {command[1]} failed:\n{finished.stdout}")
    return finished.stdout
