"""Checks the Terraform configuration with checkov, and that whatever is waived of its checks has a reason."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
INFRA = PROJECT / "infra"
WAIVERS = INFRA / "checkov.yaml"
CHECKOV = PROJECT / ".venv-checkov" / "bin" / "checkov"
REASON_WORDS_MIN = 5


def complaints_about_waivers(waivers: str) -> Iterator[str]:
    """Say which waived checks have no reason above them, or are waived twice."""
    reason = ""
    waived: set[str] = set()
    for line in waivers.partition("skip-check:\n")[2].splitlines():
        if comment := re.fullmatch(r"\s*# (.+)", line):
            reason = comment[1]
        elif check := re.fullmatch(r"  - (CKV2?_AWS_\d+)( # .+)?", line):
            if len(reason.split()) < REASON_WORDS_MIN:
                yield f"{check[1]} is waived without a reason"
            if check[1] in waived:
                yield f"{check[1]} is waived twice"
            waived.add(check[1])
        else:
            yield f"neither a reason nor a check: {line}"
    if not waived:
        yield "no waived check was found"


def complaints_of_checkov() -> Iterator[str]:
    """Say what checkov finds beyond the waivers."""
    command = [str(CHECKOV), "-d", str(INFRA), "--config-file", str(WAIVERS), "--quiet", "--compact", "--skip-download"]
    with tempfile.TemporaryDirectory() as home:
        # Without the environment it cannot mean to report to a service.
        environment = {"PATH": os.defpath, "HOME": home, "LOG_LEVEL": "WARNING"}
        checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # What it cannot parse it does not check, and calls that a success.
    if checked.returncode or "Parsing errors" in checked.stdout:
        yield checked.stdout + checked.stderr


def main() -> None:
    """Check waivers and configuration; exit with what is wrong."""
    about_waivers = [f"{WAIVERS.name}: {one}" for one in complaints_about_waivers(WAIVERS.read_text(encoding="utf-8"))]
    sys.exit("\n".join([*about_waivers, *complaints_of_checkov()]) or None)


if __name__ == "__main__":
    main()
