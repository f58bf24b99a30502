"""One local cloud for all end-to-end tests of a process."""

from collections.abc import Iterator

import pytest

from simulator.cloud import Cloud, local_cloud


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A local cloud of stage dev in which only tests start runs."""
    with local_cloud("dev") as running:
        yield running
