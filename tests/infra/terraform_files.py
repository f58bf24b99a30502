"""Reads the Terraform configuration as plain values, without terraform."""

from functools import cache
from pathlib import Path
from typing import Any

import hcl2

PROJECT = Path(__file__).parents[2]
INFRA = PROJECT / "infra"


def terraform_files() -> list[Path]:
    """Every file of the configuration and of its modules."""
    return sorted(INFRA.rglob("*.tf"))


@cache
def load(file: Path) -> Any:
    """Parse one file; texts come without their quotes, expressions as `${...}`."""
    with file.open() as text:
        return _plain(hcl2.load(text))


def resources(type_: str, folder: Path = INFRA) -> dict[str, Any]:
    """Return the bodies of all resources of a type by name."""
    return _blocks("resource", type_, folder)


def local_values() -> dict[str, Any]:
    """Return what all `locals` blocks define."""
    blocks = [block for file in INFRA.glob("*.tf") for block in load(file).get("locals", [])]
    return {name: value for block in blocks for name, value in block.items()}


def in_stage(text: str, stage: str) -> str:
    """Fill in the names that depend on the stage alone."""
    for name in ("workflow_name", "prefix", "stage"):
        value = {"stage": stage, "prefix": f"thermonet-{stage}", "workflow_name": f"thermonet-{stage}-analytics"}[name]
        text = text.replace(f"${{local.{name}}}", value)
    return text


def _blocks(kind: str, type_: str, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.tf")):
        for block in load(file).get(kind, []):
            found |= block.get(type_, {})
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value
