"""What importing the application must not do."""

import subprocess
import sys

HEAVY = {"duckdb", "fsspec", "jwt", "simulator", "localcloud", "ops", "moto"}


def run_python(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONDONTWRITEBYTECODE": "1"}
    )
    return finished.stdout


def test_importing_the_app_imports_nothing_that_most_processes_do_not_need() -> None:
    assert HEAVY & set(run_python("import sys, app; print(*sys.modules)").split()) == set()


def test_importing_the_app_needs_no_credentials_region_or_network() -> None:
    code = "import socket; socket.socket.connect = None; import app; print(app.app.app_name)"
    assert run_python(code) == "thermonet\n"
