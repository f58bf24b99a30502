"""One local cloud for all end-to-end tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.cloud import Cloud, local_cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A local cloud of stage dev in which only tests start runs."""
    with local_cloud("dev") as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a local cloud in one worker, and those that start their own together with them."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("demo" if "test_demo" in item.path.name else "cloud"))
