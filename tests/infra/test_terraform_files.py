"""The Terraform configuration is well formed, and needs no more than it should."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from ops import dead_letter_triage
from ops.packaging import build_triage
from tests.infra.terraform_files import INFRA, load, terraform_files


@pytest.mark.parametrize("file", terraform_files(), ids=lambda file: str(file.relative_to(INFRA)))
def test_every_file_can_be_parsed(file: Path) -> None:
    assert load(file)


def test_the_terragrunt_file_can_be_parsed() -> None:
    assert {"remote_state", "inputs"} <= set(load(INFRA / "terragrunt.hcl"))


def test_every_file_is_formatted() -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is not installed")
    checked = subprocess.run(
        [terraform, "fmt", "-check", "-diff", "-recursive", str(INFRA)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_only_the_aws_provider_is_needed() -> None:
    for file in terraform_files():
        for block in load(file).get("terraform", []):
            for providers in block.get("required_providers", []):
                assert set(providers) == {"aws"}
                assert providers["aws"] == {"source": "hashicorp/aws", "version": "~> 6.0"}


def test_the_zip_of_the_dead_letter_function_is_that_of_its_source(tmp_path: Path) -> None:
    first, second = build_triage(tmp_path / "a" / "first.zip"), build_triage(tmp_path / "second.zip")
    assert first.read_bytes() == second.read_bytes(), "Terraform would see a change where there is none"
    with zipfile.ZipFile(first) as archive:
        source = Path(dead_letter_triage.__file__)
        assert {name: archive.read(name) for name in archive.namelist()} == {source.name: source.read_bytes()}
    (module,) = (block["dead_letter_triage"] for block in load(INFRA / "dead_letters.tf")["module"])
    assert module["handler"] == f"{source.stem}.{dead_letter_triage.handle.__name__}"
