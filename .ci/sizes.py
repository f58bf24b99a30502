"""Tells which modules or functions are too long to be read at once, and which modules do not say what lives there."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1]
MODULE_LINES_MAX = 300
FUNCTION_LINES_MAX = 40


def complaints(module: str) -> Iterator[str]:
    """Say what is wrong with a module, given by its path in the project."""
    source = (PROJECT / module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = len(source.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{module}: {lines} lines, more than {MODULE_LINES_MAX}"
    if not ast.get_docstring(tree) and Path(module).name != "__init__.py":
        yield f"{module}: no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{module}:{node.lineno}: {node.name}: {lines} lines, more than {FUNCTION_LINES_MAX}"


def main() -> None:
    """Check every module that git knows; exit with what is wrong."""
    modules = subprocess.check_output(["git", "ls-files", "*.py"], cwd=PROJECT, text=True).splitlines()
    sys.exit("\n".join(complaint for module in modules for complaint in complaints(module)) or None)


if __name__ == "__main__":
    main()
