"""The Python that a stage's functions run on: the one that packages them, since Chalice names the runtime after it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalice.config import Config

from chalicelib.errors import ThermonetError


class RuntimeChangeError(ThermonetError):
    """A deployment would change the runtime of a stage, and nobody has agreed to that. Trying again does not help."""


@dataclass(frozen=True)
class Runtime:
    """The runtime that a deployment gives to a stage's functions, and the one that they have; None for none yet."""

    new: str
    deployed: str | None

    @property
    def changes(self) -> bool:
        """Whether functions that are deployed get another one."""
        return self.deployed not in {None, self.new}

    def __str__(self) -> str:
        return f"{self.new}, instead of {self.deployed}" if self.changes else self.new

    def write(self, plan_file: Path) -> None:
        """Keep the planned runtime beside the plan."""
        _beside(plan_file).write_text(f"{self.new}\n")

    def require_planned(self, plan_file: Path) -> None:
        """Raise RuntimeChangeError unless the runtime is the planned one."""
        try:
            planned = _beside(plan_file).read_text().strip()
        except OSError:
            raise RuntimeChangeError(f"runtime: {_beside(plan_file)} is missing, which `make plan` writes") from None
        if planned != self.new:
            raise RuntimeChangeError(f"runtime: {planned} is planned, and this Python would deploy {self.new}")

    def require_agreement(self, agrees: Callable[[str], bool]) -> None:
        """Ask before the runtime changes; raises RuntimeChangeError unless the answer is yes."""
        if self.changes and not agrees(f"Change the runtime of the functions from {self.deployed} to {self.new}?"):
            raise RuntimeChangeError(
                f"runtime: {self.deployed} stays; deploy with its Python, or agree on a terminal or to a plan"
            )


def find_runtime(stage: str, functions: Any) -> Runtime:
    """Compare the runtime of this Python with what the account (a client of Lambda) has of the stage."""
    new = str(Config().lambda_python_version)
    try:
        deployed = functions.get_function_configuration(FunctionName=f"thermonet-{stage}")["Runtime"]
    except functions.exceptions.ResourceNotFoundException:
        deployed = None
    return Runtime(new, deployed)


def _beside(plan_file: Path) -> Path:
    return plan_file.with_suffix(".runtime")
