"""What the documents name is there: files, links, tests, commands and their options."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from localcloud import __main__ as localcloud
from ops import __main__ as ops
from ops.project import PROJECT
from simulator import __main__ as simulator

FILES = {Path(name) for name in subprocess.check_output(["git", "ls-files"], cwd=PROJECT, text=True).split()}
DOCUMENTS = {str(path): (PROJECT / path).read_text() for path in sorted(FILES) if path.suffix == ".md"}
TESTS = {
    f"{path.name}::{name}"
    for path in FILES
    if path.match("tests/**/test_*.py")
    for name in re.findall(r"^ *def (test_\w+)\(", (PROJECT / path).read_text(), re.MULTILINE)
}
SHELL_LINES = [
    (name, line)
    for name, text in DOCUMENTS.items()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line
]
PARSERS = {"simulator": simulator.command_parser, "localcloud": localcloud.command_parser, "ops": ops.command_parser}
COMMAND_LINES = sorted(
    {match[0] for _, line in SHELL_LINES if (match := re.search(r"-m (simulator|localcloud|ops)\b.*", line))}
)

# What CI does not run itself, a test runs by its command: the words of the target's recipe that it uses.
RUN_BY_TESTS = {
    "demo": ("tests/e2e/test_serving.py", '"demo"'),
    "cloud": ("tests/e2e/test_serving.py", '"cloud"'),
    "local": ("tests/e2e/test_serving.py", '"local"'),
    "package": ("tests/e2e/test_package.py", "package"),
    "plan": ("tests/infra/test_deploy.py", "plan"),
    "deploy": ("tests/infra/test_deploy.py", "deploy"),
    "destroy": ("tests/infra/test_deploy.py", "destroy"),
    "triage": ("tests/infra/test_terraform_files.py", "build_triage"),
    "token": ("tests/functional/test_token_command.py", '"token"'),
    "provision": ("tests/functional/test_provisioning.py", '"provision"'),
    "sensors": ("tests/functional/test_provisioning.py", '"sensors"'),
    "restore": ("tests/functional/test_restore_command.py", '"restore"'),
}


def test_no_two_files_differ_by_case_only() -> None:
    assert len({str(path).casefold() for path in FILES}) == len(FILES)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(document: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", DOCUMENTS[document]):
        name, _, anchor = target.partition("#")
        path = ((PROJECT / document).parent / name).resolve() if name else PROJECT / document
        assert path.exists(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if anchor else []
        # GitHub's names of headings have no punctuation.
        names = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in names, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_source_file_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"`(?:[\w.]+/)*(\w+\.(?:py|js|css|tf|sh))`", DOCUMENTS[document]))
    assert named - {path.name for path in FILES} == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENTS[document]))
    assert named - {test.partition("::")[2] for test in TESTS} == set()


def test_every_attack_names_tests_that_exist() -> None:
    lines = DOCUMENTS["docs/security.md"].splitlines()
    attacks = [line for line in lines if line.startswith("| ") and not line.startswith("| what is tried")]
    assert len(attacks) > 20
    for attack in attacks:
        named = re.findall(r"`(test_\w+\.py::\w+)`", attack.rpartition(" | ")[2])
        assert named, attack
        assert set(named) <= TESTS, attack


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    in_code = [code for text in DOCUMENTS.values() for code in re.findall(r"`make ([a-z-]+)", text)]
    in_blocks = [match[1] for _, line in SHELL_LINES if (match := re.match(r"make ([a-z-]+)", line))]
    assert set(in_code + in_blocks) - targets == set()


def test_every_target_that_people_are_told_of_is_run_by_ci_or_a_test() -> None:
    shown = set(re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)) - {"help", "clean"}
    ci = [PROJECT / ".ci" / "run", *(PROJECT / ".github" / "workflows").glob("*.yaml")]
    by_ci = {target for path in ci for target in re.findall(r"make ([a-z-]+)", path.read_text())}
    by_tests = {target for target, (path, words) in RUN_BY_TESTS.items() if words in (PROJECT / path).read_text()}
    # Tiers are parts of `make test`.
    assert shown - by_ci - by_tests - {"setup", "unit", "test-fast"} == set()


def test_the_changelogs_newest_version_is_that_of_the_routes() -> None:
    newest = re.search(r"^## (\d\S*) - \d{4}-\d{2}-\d{2}$", DOCUMENTS["CHANGELOG.md"], re.MULTILINE)
    routes = yaml.safe_load((PROJECT / "docs" / "openapi.yaml").read_text())
    assert newest is not None
    assert newest[1] == routes["info"]["version"]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_line_is_one_that_its_program_takes(line: str) -> None:
    _, program, *arguments = shlex.split(line.replace("$API", "http://localhost"), comments=True)
    # An alias, which hands its arguments on as they are.
    program = "ops" if arguments[0] == "token" else program
    assert PARSERS[program]({}).parse_args(arguments)
