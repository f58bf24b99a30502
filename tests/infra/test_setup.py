"""How a clone is set up: which Python is taken, what is installed, and when an environment counts as whole."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ops import environments, locks
from ops.project import PROJECT

LOCKS = PROJECT / "requirements"
# Tells what it was called with, and that it can be used.
USABLE = '#!/bin/sh\n[ "$1" = -c ] || echo "$0 $@"\n'
# What a version manager leaves on the PATH for a version that is not chosen.
SHIM = '#!/bin/sh\necho "pyenv: $0: command not found" >&2; exit 127\n'


def choose(tmp_path: Path, programs: dict[str, str], python: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the set-up in an empty project where these programs are the only Pythons."""
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    command = ["/bin/sh", str(PROJECT / "ops" / "setup.sh"), "cloud"]
    environment = {"PATH": str(tmp_path / "bin"), "PYTHON": python}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        (["python3.11", "python3.12", "python3.13", "python3.14", "python3"], "python3.13"),
        (["python3.11", "python3.12", "python3.14", "python3"], "python3.12"),
        (["python3.11", "python3.14", "python3"], "python3.14"),
        (["python3.11", "python3"], "python3.11"),
        (["python3"], "python3"),
    ],
)
def test_the_newest_runtime_that_is_well_tried_is_taken(tmp_path: Path, found: list[str], taken: str) -> None:
    chosen = choose(tmp_path, {f"bin/{name}": USABLE for name in found})
    assert chosen.stdout == f"{tmp_path}/bin/{taken} -m ops.environments cloud\n"


def test_a_python_that_is_found_but_does_not_run_is_passed_over(tmp_path: Path) -> None:
    chosen = choose(tmp_path, {"bin/python3.13": SHIM, "bin/python3.12": SHIM, "bin/python3.11": USABLE})
    assert (chosen.stdout, chosen.stderr) == (f"{tmp_path}/bin/python3.11 -m ops.environments cloud\n", "")


def test_an_environment_keeps_its_python_until_another_is_asked_for(tmp_path: Path) -> None:
    programs = {".venv/bin/python": USABLE, "bin/python3.13": USABLE, "other place/python3.12": USABLE}
    assert choose(tmp_path, programs).stdout.startswith(".venv/bin/python -m")
    asked_for = f"{tmp_path}/other place/python3.12"
    assert choose(tmp_path, programs, python=asked_for).stdout.startswith(f"{asked_for} -m")


def test_an_environment_whose_python_is_gone_is_no_hindrance(tmp_path: Path) -> None:
    chosen = choose(tmp_path, {".venv/bin/python": SHIM, "bin/python3.13": USABLE})
    assert chosen.stdout == f"{tmp_path}/bin/python3.13 -m ops.environments cloud\n"


def test_a_python_that_is_asked_for_and_cannot_be_used_is_an_error_of_one_line(tmp_path: Path) -> None:
    refused = choose(tmp_path, {"bin/python3.9": SHIM, "bin/python3.13": USABLE}, python="python3.9")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: PYTHON=python3.9: not a Python 3.11 to 3.14 with ensurepip\n"


def test_without_any_python_one_line_says_what_to_do(tmp_path: Path) -> None:
    refused = choose(tmp_path, {})
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "apt install python3-venv" in refused.stderr
    assert "make PYTHON=" in refused.stderr


@pytest.mark.parametrize(("version", "usable"), [("3.10", 1), ("3.11", 0), ("3.14", 0), ("3.15", 1), ("2.7", 1)])
def test_only_the_runtimes_that_the_locks_are_made_for_are_supported(version: str, usable: int) -> None:
    script = (PROJECT / "ops" / "setup.sh").read_text()
    check = re.search(r"^supported='(.*)'$", script, re.MULTILINE)
    assert check
    pretending = f"import sys; sys.version_info = ({version.replace('.', ', ')}); {check[1]}"
    assert subprocess.run([sys.executable, "-c", pretending], check=False).returncode == usable
    assert (version in locks.PYTHON_VERSIONS) == (not usable)


@dataclass
class Installer:
    """Runs nothing, but leaves the folders that the commands would; fails at a command that has the given word."""

    project: Path
    fails_at: str | None = None
    ran: list[str] = field(default_factory=list)

    def __call__(self, command: list[str], _environment: dict[str, str] | None = None) -> None:
        line = " ".join(command).replace(f"{self.project}/", "")
        self.ran.append(line)
        if self.fails_at and self.fails_at in line:
            raise environments.SetupError(self.fails_at)
        if "venv" in command:
            folder = Path(command[-1]) / "bin"
            folder.mkdir(parents=True)
            (folder / "python").symlink_to(sys.executable)
        if "wheels" in command:
            (self.project / ".local" / "lambda-wheels").mkdir(exist_ok=True)

    @property
    def installed(self) -> list[str]:
        """The locks that were installed, in their order."""
        return [line.rpartition("requirements/")[2] for line in self.ran if "pip sync" in line]


def set_up(project: Path, fails_at: str | None = None) -> Installer:
    installer = Installer(project, fails_at)
    assert environments.main(["cloud"], project, installer) == (1 if fails_at else 0)
    return installer


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project that was never set up, in a folder with a blank in its name."""
    # Asking pip takes longer than all the rest.
    monkeypatch.setattr(environments, "uv_environment", lambda _python: {})
    made = tmp_path / "my project"
    shutil.copytree(LOCKS, made / "requirements")
    (made / "ops").mkdir()
    shutil.copy(PROJECT / "ops" / "wheels.py", made / "ops")
    return made


def test_a_fresh_clone_gets_all_environments_and_the_wheels(project: Path) -> None:
    installer = set_up(project)
    assert installer.installed == ["dev.txt", "cloud.txt"]
    assert installer.ran[-1] == ".venv/bin/python -m ops wheels"


def test_what_is_installed_already_is_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(project)
    capsys.readouterr()
    assert set_up(project).ran == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("lock", "installed"),
    [("bootstrap", ["dev.txt", "cloud.txt"]), ("dev", ["dev.txt"]), ("cloud", ["cloud.txt"])],
)
def test_another_lock_is_installed_anew(project: Path, lock: str, installed: list[str]) -> None:
    set_up(project)
    with (project / "requirements" / f"{lock}.txt").open("a") as text:
        text.write("# newer\n")
    assert set_up(project).installed == installed


@pytest.mark.parametrize("name", ["dev", "cloud"])
def test_an_environment_of_another_python_is_installed_anew(project: Path, name: str) -> None:
    set_up(project)
    stamp = project / environments.FOLDERS[name] / ".installed"
    stamp.write_text(stamp.read_text().replace("Python 3.", "Python 2."))
    assert set_up(project).installed == [f"{name}.txt"]


@pytest.mark.parametrize("maker", ["requirements/runtime.txt", "ops/wheels.py"])
def test_wheels_are_collected_anew_when_what_makes_them_has_changed(project: Path, maker: str) -> None:
    set_up(project)
    with (project / maker).open("a") as text:
        text.write("# newer\n")
    assert set_up(project).ran == [".venv/bin/python -m ops wheels"]


def test_another_python_gets_wheels_of_its_own(project: Path) -> None:
    set_up(project)
    for stamp in (project / ".venv" / ".installed", project / ".local" / "wheels-collected"):
        stamp.write_text(stamp.read_text().replace("Python 3.", "Python 2."))
    assert set_up(project).ran[-1] == ".venv/bin/python -m ops wheels"


def test_a_clone_that_was_moved_is_installed_anew(project: Path) -> None:
    set_up(project)
    assert set_up(project.rename(project.with_name("moved"))).installed == ["dev.txt", "cloud.txt"]


def test_an_environment_is_made_anew_by_its_own_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(project)
    (project / "requirements" / "dev.txt").write_text("# newer")
    monkeypatch.setattr(sys, "executable", str(project / ".venv" / "bin" / "python"))
    python = set_up(project).ran[0].removesuffix(" -m venv .venv")
    assert Path(python).is_absolute()
    assert Path(python).is_file()


def test_wheels_that_were_removed_are_collected_again(project: Path) -> None:
    set_up(project)
    shutil.rmtree(project / ".local")
    assert set_up(project).ran == [".venv/bin/python -m ops wheels"]


@pytest.mark.parametrize("step", ["-m venv", "pip install", "dev.txt", "uv venv", "cloud.txt", "ops wheels"])
def test_an_installation_that_failed_is_never_taken_for_whole(project: Path, step: str) -> None:
    set_up(project, fails_at=step)
    # The second try begins with what was not finished, and leaves nothing to do.
    assert set_up(project).ran[-1] == ".venv/bin/python -m ops wheels"
    assert set_up(project).ran == []


def test_a_command_that_fails_is_told_with_its_output(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(environments.SetupError, match="no such package"):
        environments.run_and_show([sys.executable, "-c", "print('Downloading x'); print('no such package'); exit(1)"])
    assert capfd.readouterr().out == "  Downloading x\n"


def test_several_indexes_each_on_a_line_of_its_own_hold_for_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("UV_INDEX", raising=False)
    told = environments.uv_environment(Path(sys.executable))
    assert told["UV_INDEX"] == "https://a.example/simple https://b.example/simple"


def test_what_pip_is_told_of_indexes_holds_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple")
    monkeypatch.setenv("UV_INDEX", "https://told.example/simple")
    told = environments.uv_environment(Path(sys.executable))
    assert told["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert told["UV_INDEX"] == "https://told.example/simple"


def pinned(name: str) -> dict[str, set[str]]:
    """Return the versions that a lock has of each package; several where machines need different ones."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==([^ \\]+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def required(name: str) -> list[Requirement]:
    lines = (LOCKS / f"{name}.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("name", locks.NAMES)
def test_a_lock_has_exact_versions_with_hashes_of_all_that_is_required(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+( ; .*)? \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry
    assert not re.findall(r"^(?![\w.-]+==|#|    --hash=|    #|$).*$", text, re.MULTILINE)
    for requirement in required(name):
        versions = pinned(name)[requirement.name.lower()]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_development_has_the_versions_that_are_packaged() -> None:
    developed_with = pinned("dev")
    assert {name: developed_with[name] for name in pinned("runtime")} == pinned("runtime")


def test_chalice_packages_what_the_lock_says() -> None:
    assert (PROJECT / "requirements.txt").read_text() == locks.pins()


def test_the_makefile_uses_nothing_that_make_3_81_does_not_know() -> None:
    """macOS has that version; newer ones fail there, or are silently ignored as `.SHELLFLAGS` is."""
    text = (PROJECT / "Makefile").read_text()
    variables = r"\.SHELLFLAGS|\.ONESHELL|\.RECIPEPREFIX|\.EXTRA_PREREQS"
    newer = rf"{variables}|!=|::+=|&:|\$\((file|guile|let|intcmp) |^undefine|: private "
    assert re.findall(newer, text, re.MULTILINE) == []


def test_no_recipe_of_make_needs_more_than_a_posix_shell() -> None:
    recipes = re.findall(r"^\t@?(.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert recipes
    scripts = [PROJECT / "ops" / "setup.sh", PROJECT / "localcloud" / "env.sh"]
    for script in [*recipes, *(path.read_text() for path in scripts)]:
        assert not re.search(r"\[\[|<\(|\bpipefail\b|^\s*source\b|\$'|&>", script, re.MULTILINE), script


def test_every_target_of_make_can_be_read(tmp_path: Path) -> None:
    text = (PROJECT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", "-f", str(PROJECT / "Makefile"), *targets]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
