"""The local cloud and the browser that end-to-end tests share, and who runs beside whom."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.cloud import Cloud, deploy_stage, local_cloud
from ops.wheels import Platform
from tests.e2e.browser import Page, open_browser
from tests.e2e.cloud_tools import chalice_local
from tests.e2e.stub_api import AVERAGES, StubApi, serve

# Modules whose tests run one after the other in one process; those of all others share the cloud, and run so too.
_GROUPS = {
    "test_dashboard_page": "page",
    "test_dashboard_token": "page",
    "test_demo": "demo",
    "test_package": "package",
    "test_serving": "serving",
    "test_terraform": "terraform",
}


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A local cloud of stage dev in which only tests start runs; what they take away they give back."""
    with local_cloud("dev") as running:
        yield running


@pytest.fixture(scope="session")
def prod_beside_dev(cloud: Cloud) -> Cloud:
    """Stage prod in the same account, packaged as it is on a machine that cannot run Lambda's wheels."""
    return deploy_stage("prod", cloud.emulator, platform=Platform.THIS_MACHINE)


@pytest.fixture(scope="session")
def local_routes(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `make local` on the cloud's resources."""
    with chalice_local(cloud, tmp_path_factory.mktemp("local")) as address:
        yield address


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser, of which tests leave only the window."""
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def api() -> Iterator[StubApi]:
    """An API with one run."""
    with serve(StubApi()) as served:
        served.commit("000000000012-0123456789abcdef", AVERAGES)
        yield served


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser's window, which has left the dashboard and forgotten its token when the test is over."""
    yield browser
    browser.script("sessionStorage.clear()")
    browser.open("about:blank")
    browser.complaints()


# First, since xdist reads the marks in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share a local cloud in one worker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group(_GROUPS.get(item.path.stem, "cloud")))
