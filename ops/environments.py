"""Sets up a clone's virtual environments from their locks: `python -m ops.environments cloud checkov`.

Any supported Python runs this before anything is installed, so it needs the standard library only.
"""

import ast
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ops.project import LOCAL_FOLDER, PROJECT

# Each has a lock in requirements/. The first one has uv, which installs the others.
FOLDERS = {"dev": ".venv", "cloud": ".venv-cloud", "checkov": ".venv-checkov"}
_PURPOSES = {
    "dev": "the application and its tools",
    "cloud": "the local cloud",
    "checkov": "the checks of Terraform",
}
_PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# What pip is told about indexes holds for uv too, which does not read pip's files.
_PIP_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


class SetupError(Exception):
    """An environment could not be set up. The message has the output of the tool that failed, or says what to do."""


Run = Callable[..., None]


def main(names: Sequence[str], project: Path = PROJECT, run: "Run | None" = None) -> int:
    """Set up the named environments where they are not what their locks say; returns the exit code.

    `run` runs a command and raises SetupError when that fails.
    """
    run = run or run_and_show
    local_folder = project / LOCAL_FOLDER.name
    try:
        with _one_at_a_time(local_folder):
            for name in ("dev", *names):
                _ensure(name, project, run)
            _ensure_wheels(project, local_folder, run)
    except (SetupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def describe(name: str, project: Path = PROJECT) -> str:
    """Describe what an environment must be: of which Python, in which place, of which lock.

    Its programs begin with the path of their Python, so an environment that was moved is none any more.
    """
    digest = hashlib.sha256()
    for lock in ("bootstrap", name):
        digest.update((project / "requirements" / f"{lock}.txt").read_bytes())
    place = project.resolve() / FOLDERS[name]
    return f"Python {_PYTHON_VERSION} for {sysconfig.get_platform()}\n{place}\n{digest.hexdigest()}\n"


def _ensure_wheels(project: Path, local_folder: Path, run: Run) -> None:
    """Collect the wheels of the deployment package unless those there are what they must be."""
    stamp = local_folder / "wheels-collected"
    makers = [(project / name).read_bytes() for name in ("requirements/runtime.txt", "ops/wheels.py")]
    described = describe("dev", project) + hashlib.sha256(b"".join(makers)).hexdigest()
    with contextlib.suppress(OSError):
        if stamp.read_text() == described and (local_folder / "lambda-wheels").exists():
            return
    stamp.unlink(missing_ok=True)
    print("Collecting the wheels of the deployment package into .local/wheels", flush=True)
    run([str(project / FOLDERS["dev"] / "bin" / "python"), "-m", "ops", "wheels"])
    stamp.write_text(described)


def _ensure(name: str, project: Path, run: Run) -> None:
    """Create an environment unless it is what it must be."""
    folder, described = project / FOLDERS[name], describe(name, project)
    # Written last and gone with the folder: what failed half-way is never taken for whole.
    stamp = folder / ".installed"
    with contextlib.suppress(OSError):
        if stamp.read_text() == described and (folder / "bin" / "python").exists():
            return
    began = time.monotonic()
    print(f"Installing {_PURPOSES[name]} into {folder.name}, with Python {_PYTHON_VERSION}", flush=True)
    # This very Python may be of the folder: what it was made from stays.
    base = os.path.realpath(sys.executable)
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    _create(name, folder, base, project, run)
    stamp.write_text(described)
    print(f"  done in {time.monotonic() - began:.0f} s", flush=True)


def _create(name: str, folder: Path, base: str, project: Path, run: Run) -> None:
    requirements, tools = project / "requirements", project / FOLDERS["dev"] / "bin"
    python, uv = folder / "bin" / "python", tools / "uv"
    if name == "dev":
        run([base, "-m", "venv", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-user", "--require-hashes", "--no-deps"]
        run([*pip, "-r", str(requirements / "bootstrap.txt")])
    else:
        run([str(uv), "venv", "--quiet", "--python", str(tools / "python"), str(folder)])
    # Compiled at once by all cores: else the first tests would do so, each of their processes by itself.
    sync = [str(uv), "pip", "sync", "--require-hashes", "--no-build", "--compile-bytecode", "--python", str(python)]
    run([*sync, str(requirements / f"{name}.txt")], uv_environment(tools / "python"))


def uv_environment(python: Path) -> dict[str, str]:
    """Return this process's environment with what its pip knows of indexes; what uv is told itself goes first."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)=(['\"].*['\"])$", listed, re.MULTILINE))
    # Of several values, each has a line of its own in pip's files.
    told = {
        variable: " ".join(str(ast.literal_eval(settings[name])).split())
        for name, variable in _PIP_SETTINGS.items()
        if name in settings
    }
    if _system_has_certificates():
        told["UV_SYSTEM_CERTS"] = "true"
    return {**told, **os.environ, "UV_PYTHON_DOWNLOADS": "never"}


def _system_has_certificates() -> bool:
    """Tell whether this machine's own certificates can be used, among which may be a company's."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath or os.devnull)
    return sys.platform == "darwin" or paths.cafile is not None or (folder.is_dir() and any(folder.iterdir()))


def run_and_show(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command and show its progress; raises SetupError with all its output when it fails."""
    output = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            output.append(line)
            if line.startswith(("Downloading ", "Prepared ", "Installed ")):
                print(f"  {line}", end="", flush=True)
    if process.returncode != 0:
        raise SetupError(f"{Path(command[0]).name} failed:\n{''.join(output)}")


@contextlib.contextmanager
def _one_at_a_time(local_folder: Path) -> Iterator[None]:
    """Let whoever sets up the same clone in this moment finish first."""
    local_folder.mkdir(exist_ok=True)
    with (local_folder / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
