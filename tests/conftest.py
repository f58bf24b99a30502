"""What all tests share: how many examples Hypothesis tries, and the count of crash points at the end."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# No deadline and no timing checks: the machine may be busy with something else.
settings.register_profile(
    "thermonet",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# For `make mutants`: what a change breaks comes up in a few examples, and nobody reads the smallest one.
settings.register_profile(
    "mutants",
    settings.get_profile("thermonet"),
    max_examples=10,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("thermonet")

# DuckDB looks for it at every query with parameters, twice, and each time in all folders and hooks that tests have.
sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]


# Last, after the order has been shuffled.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits for a local cloud, so that the others fill the time; what takes it away ends its module."""
    e2e = Path(__file__).parent / "e2e"
    position = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (not item.path.is_relative_to(e2e), position[item.path], "last" in item.keywords))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell at how many points the analytics were made to crash and how, over all workers of a parallel run."""
    passed = [dict(report.user_properties) for report in terminalreporter.getreports("passed")]
    points = sorted(properties["crash_points"] for properties in passed if "crash_points" in properties)
    if not points:
        return
    terminalreporter.write_line(f"crash points: {sum(number for *_, number in points)} passed")
    for step in dict.fromkeys(step for _, step, *_ in points):
        kinds = [(kind, number) for _, its_step, _, kind, number in points if its_step == step]
        told = ", ".join(f"{kind} {number}" for kind, number in kinds)
        terminalreporter.write_line(f"  {step}: {sum(number for _, number in kinds)} ({told})")
