"""The dashboard as it is deployed: the page shows the numbers of the reports, and a second run updates it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localcloud.cloud import Cloud
from ops.tokens import mint_token, read_keys
from tests.e2e.browser import Page, needs_chromium
from tests.e2e.cloud_tools import post_reading, read

pytestmark = needs_chromium


def post(cloud: Cloud, sensor_id: str, location_id: str, resistance_ohm: float, time: datetime) -> Any:
    timestamp = f"{time:%Y-%m-%dT%H:%M:%SZ}"
    code, answer = post_reading(
        cloud, sensor_id=sensor_id, location_id=location_id, value=resistance_ohm, timestamp=timestamp
    )
    assert code == 200, answer
    return answer["status"]


def run(cloud: Cloud) -> None:
    cloud.wait_until_drained()
    cloud.wait_for_run(cloud.start_analytics())


def test_the_page_shows_what_the_reports_say_and_a_second_run_updates_it(cloud: Cloud, page: Page) -> None:
    # A location of its own, since other tests share the cloud.
    location, start = "dashboard:1", datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=9)
    for minute in range(4):
        post(cloud, "dashboard-1", location, 2000 + 100 * minute, start + timedelta(minutes=minute))
    run(cloud)
    page.open_with_token(f"{cloud.api_url}/#{location}", cloud.token)
    page.wait_until(lambda: location in page.locations() and page.all(".uplot canvas"), "the location and its chart")

    latest = read(cloud, f"/locations/{location}/report")["minutes"][-1]
    status, average, last_minute = page.locations()[location]
    assert (status, average) == ("OK", f"{latest['moving_average']:.2f} °C")
    assert last_minute == latest["timestamp"][:16].replace("T", " ")
    assert page.script("return state.chart.data[2].filter(v => v !== null)") == [
        minute["moving_average"] for minute in read(cloud, f"/locations/{location}/report")["minutes"]
    ]
    books = read(cloud, "/runs/latest")
    assert page.facts()["Measurements"] == f"{books['counts']['measurements']:,}"
    assert page.facts()["Broken sensors"] == str(books["newly_broken_sensors"])

    post(cloud, "dashboard-1", location, 1, start + timedelta(minutes=5))
    assert post(cloud, "dashboard-broken", location, 25_000, start) == "BROKEN"
    run(cloud)
    page.wait_until(lambda: page.locations()[location][1] != average, "the second run")
    assert page.facts()["Broken sensors"] == "1"
    latest = read(cloud, f"/locations/{location}/report")["minutes"][-1]
    assert page.locations()[location][1] == f"{latest['moving_average']:.2f} °C"
    assert page.complaints() == []
    assert all(address.startswith(cloud.api_url) for address in page.requested())


FORGED_KEYS = {"local": "a key that somebody else has thought of, long enough"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"lifetime_seconds": -120}, "it has expired (exp)"),
    "forged": ({"keys": FORGED_KEYS}, "it is not valid, or no longer"),
    "for posting": ({"scopes": ["readings:write"]}, "it lacks the scope reports:read"),
}


def test_a_token_that_the_gateway_or_a_route_refuses_is_asked_for_again(
    cloud: Cloud, page: Page, subtests: pytest.Subtests
) -> None:
    page.open(f"{cloud.api_url}/")
    for case, (made, reason) in REFUSED.items():
        with subtests.test(case):
            page.enter_token(
                mint_token(**{"keys": read_keys(cloud.stage, cloud.client("ssm")), "subject": "dashboard", **made})
            )
            refusal = f"The token was refused: {reason}."
            page.wait_until(lambda: page.text("#token-reason") == refusal, "the reason")  # noqa: B023 - at once
            assert page.asks_for_token()
            assert page.locations() == {}
    page.enter_token(cloud.token)
    page.wait_until(lambda: "Checked at" in page.text("#message") or "No run" in page.text("#message"), "an answer")


def test_a_token_for_one_location_shows_only_that(cloud: Cloud, page: Page) -> None:
    time = datetime.now(UTC) - timedelta(minutes=5)
    for location in ("dashboard:mine", "dashboard:other"):
        post(cloud, location, location, 2000, time)
    run(cloud)
    keys = read_keys(cloud.stage, cloud.client("ssm"))
    narrow = mint_token(keys, "dashboard", locations=["dashboard:mine"])
    page.open_with_token(f"{cloud.api_url}/#dashboard:other", narrow)
    page.wait_until(lambda: list(page.locations()) == ["dashboard:mine"] and page.all(".uplot canvas"), "the location")
    assert page.text("#chart-heading") == "Location dashboard:mine"
    assert list(page.facts()) == ["Started, UTC"]
    assert not page.asks_for_token()
