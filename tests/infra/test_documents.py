"""What the documents say can be found where they say it is."""

import re
from pathlib import Path

import pytest

from tests.infra.terraform_files import PROJECT

DOCUMENTS = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
TESTS = {
    f"{path.name}::{name}"
    for path in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.MULTILINE)
}


def attacks() -> list[str]:
    lines = (PROJECT / "docs" / "security.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| what is tried")]


def test_every_attack_names_tests_that_exist() -> None:
    assert len(attacks()) > 20
    for attack in attacks():
        named = re.findall(r"`(test_\w+\.py::\w+)`", attack.rpartition(" | ")[2])
        assert named, attack
        assert set(named) <= TESTS, attack


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, target
