"""The dashboard as it is deployed: the page shows the numbers of the reports, and a second run updates it."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulator.cloud import Cloud
from tests.e2e.browser import Page, needs_chromium, open_browser

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def post(cloud: Cloud, sensor_id: str, location_id: str, resistance_ohm: float, time: datetime) -> None:
    reading = {
        "sensor_id": sensor_id,
        "location_id": location_id,
        "value": resistance_ohm,
        "timestamp": f"{time:%Y-%m-%dT%H:%M:%SZ}",
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {cloud.token}"}
    request = urllib.request.Request(f"{cloud.api_url}/readings", json.dumps(reading).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["status"] != "BROKEN"


def get(cloud: Cloud, path: str) -> Any:
    request = urllib.request.Request(f"{cloud.api_url}/{path}", headers={"Authorization": f"Bearer {cloud.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def run(cloud: Cloud) -> None:
    cloud.wait_until_drained()
    cloud.wait_for_run(cloud.start_analytics())


def test_the_page_shows_what_the_reports_say_and_a_second_run_updates_it(cloud: Cloud, page: Page) -> None:
    # A location of its own, since other tests share the cloud.
    location, start = "dashboard:1", datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=9)
    for minute in range(4):
        post(cloud, "dashboard-1", location, 2000 + 100 * minute, start + timedelta(minutes=minute))
    run(cloud)
    page.open(f"{cloud.api_url}/#{location}")
    page.wait_until(lambda: page.find("#token-dialog").is_displayed(), "the question for a token")
    page.find("#token").send_keys(cloud.token)
    page.find("#token-form button[type=submit]").click()
    page.wait_until(lambda: location in page.locations() and page.all(".uplot canvas"), "the location and its chart")

    latest = get(cloud, f"locations/{location}/report")["minutes"][-1]
    status, average, last_minute = page.locations()[location]
    assert (status, average) == ("OK", f"{latest['moving_average']:.2f} °C")
    assert last_minute == latest["timestamp"][:16].replace("T", " ")
    assert page.script("return state.chart.data[2].filter(v => v !== null)") == [
        minute["moving_average"] for minute in get(cloud, f"locations/{location}/report")["minutes"]
    ]
    books = get(cloud, "runs/latest")
    assert page.facts()["Measurements"] == f"{books['counts']['measurements']:,}"

    post(cloud, "dashboard-1", location, 1, start + timedelta(minutes=5))
    run(cloud)
    page.wait_until(lambda: page.locations()[location][1] != average, "the second run")
    latest = get(cloud, f"locations/{location}/report")["minutes"][-1]
    assert page.locations()[location][1] == f"{latest['moving_average']:.2f} °C"
    # The browser itself complains about the answer to the first question, which had no token yet.
    assert [complaint for complaint in page.complaints() if "401" not in complaint] == []
    assert all(address.startswith(cloud.api_url) for address in page.requested())
