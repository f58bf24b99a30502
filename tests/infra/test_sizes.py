"""Modules and functions stay small enough to be read at once."""

import ast
import subprocess
from pathlib import Path

import pytest

from ops.project import PROJECT

MODULES = [
    Path(name) for name in subprocess.check_output(["git", "ls-files", "*.py"], cwd=PROJECT, text=True).splitlines()
]
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 40


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_and_its_functions_are_short_and_say_what_lives_there(module: Path) -> None:
    source = (PROJECT / module).read_text()
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(source.splitlines()) <= MODULE_LINES_MAX
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX}
    assert long == set()
    assert ast.get_docstring(tree) or module.name == "__init__.py"
