"""What importing the application must not do."""

import subprocess
import sys

import pytest


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONDONTWRITEBYTECODE": "1"}
    )
    return done.stdout


@pytest.mark.parametrize("module", ["duckdb", "jwt", "simulator", "localcloud", "ops", "moto"])
def test_importing_the_app_does_not_import(module: str) -> None:
    assert run_python(f"import sys, app; print({module!r} in sys.modules)") == "False\n"


def test_importing_the_app_needs_no_credentials_region_or_network() -> None:
    code = "import socket; socket.socket.connect = None; import app; print(app.app.app_name)"
    assert run_python(code) == "thermonet\n"
