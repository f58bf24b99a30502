"""The Terraform configuration is well formed, and free of what checkov warns of, but for reasons given."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from ops import dead_letter_triage
from ops.packaging import build_triage
from tests.infra.terraform_files import INFRA, PROJECT, load, terraform_files

CHECKOV = PROJECT / ".venv-checkov" / "bin" / "checkov"
WAIVERS = INFRA / "checkov.yaml"


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


def test_checkov_finds_nothing_that_is_not_waived(tmp_path: Path) -> None:
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed; `make test` does that")
    # Without the environment it cannot mean to report to a service.
    checked = subprocess.run(
        [CHECKOV, "-d", INFRA, "--config-file", WAIVERS, "--quiet", "--compact", "--skip-download"],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "LOG_LEVEL": "WARNING"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Parsing errors" not in checked.stdout


def test_every_waived_check_has_a_reason() -> None:
    reason = ""
    waived = []
    for line in WAIVERS.read_text().partition("skip-check:\n")[2].splitlines():
        if comment := re.fullmatch(r"\s*# (.+)", line):
            reason = comment[1]
        elif check := re.fullmatch(r"  - (CKV2?_AWS_\d+)( # .+)?", line):
            assert len(reason.split()) > 4, line
            waived.append(check[1])
        else:
            pytest.fail(f"neither a reason nor a check: {line}")
    assert len(waived) == len(set(waived)) > 0


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
