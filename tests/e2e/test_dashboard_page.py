"""The dashboard in a real browser, against an API whose answers the test makes up."""

import pytest

from tests.e2e.browser import Page, needs_chromium, opened
from tests.e2e.stub_api import AVERAGES, LIMITS, TOKEN, UNKNOWN_PATH, StubApi

pytestmark = needs_chromium

FIGURES = ("Measurements", "Duplicates", "Arrived late", "Quarantined", "Broken sensors")
HOSTILE = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"


def shown(page: Page, *locations: str) -> bool:
    return list(page.locations()) == list(locations)


def nameless(page: Page, within: str) -> list[str]:
    controls = page.all(", ".join(f"{within} {one}" for one in ("button", "input", "select", "summary", "[tabindex]")))
    assert len(controls) > 2
    return [control.get_attribute("outerHTML") for control in controls if not control.accessible_name.strip()]


def test_a_run_is_shown(page: Page, api: StubApi, subtests: pytest.Subtests) -> None:
    opened(page, api.url, TOKEN)
    with subtests.test("every location has its average and the status of it"):
        assert page.locations() == {
            "cold": ["too low", "12.00 °C", "2026-03-01 09:29"],
            "fine": ["OK", "21.50 °C", "2026-03-01 09:29"],
            "warm": ["too high", "140.25 °C", "2026-03-01 09:29"],
            "hot": ["critical", "260.00 °C", "2026-03-01 09:29"],
        }
    with subtests.test("the last run shows its books"):
        facts = page.facts()
        assert facts["Started, UTC"] == "2026-03-01 10:00"
        assert {name: facts[name] for name in FIGURES} == {
            "Measurements": "4,800",
            "Duplicates": "3",
            "Arrived late": "2",
            "Quarantined": "4",
            "Broken sensors": "5",
        }
    with subtests.test("nothing is loaded from elsewhere and the console stays silent"):
        assert all(address.startswith(api.url) for address in page.requested())
        assert page.complaints() == []
    with subtests.test("every control has a name and the page a language"):
        page.script("document.querySelector('details').open = true")
        assert nameless(page, "header") + nameless(page, "main") == []
        page.find("#change-token").click()
        assert nameless(page, "dialog") == []
        assert page.find("html").get_attribute("lang") == "en"
        assert len(page.all("h1")) == 1
        identifiers = page.script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(identifiers) == len(set(identifiers))


def test_who_may_see_some_locations_is_shown_the_run_without_figures_and_those_with_their_status(
    page: Page, api: StubApi
) -> None:
    api.limit_token("warm")
    opened(page, api.url, TOKEN)
    assert page.facts() == {"Started, UTC": "2026-03-01 10:00"}
    assert page.locations() == {"warm": ["too high", "140.25 °C", "2026-03-01 09:29"]}
    page.wait_until(lambda: page.script("return state.report?.location_id") == "warm", "the report of warm")
    assert page.complaints() == []


def test_a_chosen_location_is_charted_and_listed(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    page.find("[data-location=warm]").click()
    page.wait_until(lambda: page.text("#chart-heading") == "Location warm", "the chart of warm")
    page.wait_until(lambda: page.script("return state.report.location_id") == "warm", "the report of warm")
    assert page.script("return state.chart.data[2].at(-1)") == 140.25
    page.find("summary").click()
    assert page.text("#minutes tr:first-child").startswith("2026-03-01 09:29 40 ")
    assert page.find("[data-location=warm]").get_attribute("aria-pressed") == "true"
    assert page.driver.current_url.endswith("#warm")


def test_a_minute_under_the_pointer_and_under_the_arrow_keys_tells_its_values(page: Page, api: StubApi) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(page, api.url, TOKEN)
    ActionChains(page.driver).move_to_element(page.find(".u-over")).perform()
    page.wait_until(lambda: "°C" in page.text(".u-legend"), "values in the legend")
    page.find("#chart").send_keys(Keys.ARROW_LEFT * 100, Keys.ARROW_RIGHT)
    page.wait_until(lambda: "09:01" in page.text(".u-legend"), "the second minute in the legend")


def test_a_gap_longer_than_the_window_is_not_drawn_over(page: Page, api: StubApi) -> None:
    for report in api.reports.values():
        del report["minutes"][10:20]
    opened(page, api.url, TOKEN)
    assert page.script("return state.chart.data[1].filter(mean => mean === null).length") == 1


def test_a_new_run_appears_by_itself_and_an_old_one_is_not_sent_again(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    page.script("refresh()")
    page.wait_until(lambda: api.asked.count("runs/latest") >= 2, "a second look")
    assert api.asked.count("locations") == 1
    api.commit("run-2", {"cold": 13.0, "new": 50.0})
    page.wait_until(lambda: shown(page, "cold", "new"), "the second run")
    assert page.locations()["cold"][1] == "13.00 °C"


def test_the_page_looks_again_and_again_after_waits_that_are_random(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    waits = page.script(
        """const [waits, turns, wait] = [[], [], setTimeout];
        window.setTimeout = (turn, milliseconds) => { turns.push(turn); waits.push(milliseconds); };
        refreshLater();
        while (waits.length < 20) turns.shift()();
        window.setTimeout = wait;
        return waits;"""
    )
    assert len(set(waits)) > 10
    assert 1_000 < min(waits) < max(waits) < 10_000


def test_names_and_figures_from_outside_stay_text(page: Page, api: StubApi) -> None:
    api.commit("run-1", {HOSTILE: 21.0})
    opened(page, api.url, TOKEN)
    assert page.text("#chart-heading") == f"Location {HOSTILE}"
    assert list(page.locations()) == [HOSTILE]
    assert page.driver.title == "Thermonet"
    assert page.all("main img, main script") == []


def test_the_browser_is_told_to_refuse_markup_and_addresses_from_elsewhere(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    refused = "try { document.body.innerHTML = '<b>markup</b>'; return 'taken' } catch (error) { return error.name }"
    assert page.script(refused) == "TypeError"
    page.script("fetch('http://127.0.0.1:9/').catch(() => {})")
    page.wait_until(lambda: any("connect-src" in text for text in page.complaints()), "a refusal")


def test_an_api_that_fails_is_told_and_the_last_figures_stay(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    api.failing = True
    page.find("#refresh").click()
    page.wait_until(lambda: "503" in page.text("#message"), "the failure")
    assert shown(page, "cold", "fine", "warm", "hot")
    api.failing = False
    page.script("refresh()")
    page.wait_until(lambda: page.text("#message").startswith("Checked at"), "fresh figures")


FAILURES = {
    "API Gateway knows no such path": UNKNOWN_PATH,
    "API Gateway reads the token as a signature": (403, {"message": "Invalid key=value pair in Authorization header"}),
    "the token is for other locations": (403, {"Code": "ForbiddenError", "Message": "location_id: not for it"}),
    "a service is down": (503, {"Code": "ServiceUnavailableError", "Message": "try again"}),
    "there is none": (404, {"Code": "NotFoundError", "Message": "not there"}),
}


def test_a_report_that_fails_takes_neither_the_list_nor_the_token_away(
    page: Page, api: StubApi, subtests: pytest.Subtests
) -> None:
    opened(page, api.url, TOKEN)
    for failure, answer in FAILURES.items():
        with subtests.test(failure):
            api.instead["cold"] = answer
            api.commit(f"run of {failure}", AVERAGES)
            page.script("refresh()")
            page.wait_until(lambda: "report" in page.text("#chart-note"), "why there is no chart")
            assert shown(page, *AVERAGES)
            assert page.text("#message").startswith("Checked at")
            assert not page.asks_for_token()
            page.find("[data-location=warm]").click()
            page.wait_until(lambda: page.all(".uplot canvas"), "the chart of another location")
            assert page.text("#chart-note") == ""
            page.find("[data-location=cold]").click()
            page.wait_until(lambda: not page.all(".uplot canvas"), "no chart of a location beside another's name")
            del api.instead["cold"]
            api.commit(f"run after {failure}", {"cold": 13.0})
            page.script("refresh()")
            page.wait_until(lambda: shown(page, "cold") and page.all(".uplot canvas"), "the next round, with a chart")


def test_a_report_that_failed_once_is_asked_for_again_in_the_same_run(page: Page, api: StubApi) -> None:
    api.instead["cold"] = (503, {})
    page.open_with_token(api.url, TOKEN)
    page.wait_until(lambda: "503" in page.text("#chart-note"), "why there is no chart")
    api.instead.clear()
    page.wait_until(lambda: page.all(".uplot canvas"), "a chart, by itself")
    assert page.text("#chart-note") == ""


def test_names_that_browsers_take_for_steps_in_a_path_lock_nobody_out(page: Page, api: StubApi) -> None:
    api.commit("run-1", {".": 20.0, "..": 21.0, "fine": 21.5})
    opened(page, api.url, TOKEN)
    assert shown(page, ".", "..", "fine")
    assert page.text("#chart-heading") == "Location fine"
    page.find("[data-location='..']").click()
    page.wait_until(lambda: "named “..”" in page.text("#chart-note"), "why there is no chart")
    assert not page.all(".uplot canvas")
    api.commit("run-2", {".": 22.0, "..": 23.0})
    page.script("refresh()")
    page.wait_until(lambda: page.locations()["."][1] == "22.00 °C", "the second run")
    assert not page.asks_for_token()
    assert page.text("#chart-heading") == "Location .."
    assert set(api.asked) == {"runs/latest", "locations", "locations/fine/report"}


def test_where_no_location_can_be_charted_the_page_leaves_the_choice(page: Page, api: StubApi) -> None:
    api.commit("run-1", {"..": 21.0})
    page.open_with_token(api.url, TOKEN)
    page.wait_until(lambda: page.text("#chart-note") == "Choose a location to see its chart.", "what to do")
    assert shown(page, "..")


def test_before_the_first_run_the_page_says_what_it_waits_for(page: Page, api: StubApi) -> None:
    api.run = None
    page.open_with_token(api.url, TOKEN)
    page.wait_until(lambda: "No run has been committed yet" in page.text("#message"), "the message")
    assert page.locations() == {}


def test_thousands_of_locations_are_narrowed_down_by_name(page: Page, api: StubApi) -> None:
    api.commit("run-1", {f"place-{number:05}": 21.0 for number in range(3_000)})
    opened(page, api.url, TOKEN)
    assert len(page.locations()) == 200
    assert page.text("#locations-note") == "2,800 more: narrow the names down."
    page.find("#filter").send_keys("02999")
    page.wait_until(lambda: shown(page, "place-02999"), "the one location")


def test_arrow_keys_move_among_locations_and_focus_survives_a_new_run(page: Page, api: StubApi) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(page, api.url, TOKEN)
    page.script("document.querySelector('[data-location=cold]').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait_until(lambda: page.text("#chart-heading") == "Location fine", "the chart of fine")
    api.commit("run-2", {"cold": 13.0, "fine": 50.0})
    page.script("refresh()")
    page.wait_until(lambda: shown(page, "cold", "fine"), "the second run")
    assert page.script("return document.activeElement.dataset.location") == "fine"


CONTRASTS = """
const shine = rgb => {
  const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = color => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const behind = e => {
  for (; e; e = e.parentElement) {
    const color = rgba(getComputedStyle(e).backgroundColor);
    if (color[3] === 255) return color.slice(0, 3);
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest('noscript, .skip')) continue;
  const [a, b] = [shine(rgba(getComputedStyle(e).color).slice(0, 3)), shine(behind(e))].sort((x, y) => y - x);
  found.push([(a + .05) / (b + .05), e.outerHTML.slice(0, 120)]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(page: Page, api: StubApi, scheme: str) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    # A location of every status.
    api.commit("run-1", {status: limit - 0.25 for status, limit in LIMITS.items()} | {"TEMPERATURE_CRITICAL": 1e3})
    opened(page, api.url, TOKEN)
    assert {one.get_attribute("class") for one in page.all(".status")} == {
        f"status {name}" for name in page.locations()
    }
    contrasts = page.script(CONTRASTS)
    page.find("#change-token").click()
    with_dialog = page.script(CONTRASTS)
    assert 40 < len(contrasts) < len(with_dialog)
    assert [pair for pair in with_dialog if pair[0] < 4.5] == []
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page, api: StubApi) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    opened(page, api.url, TOKEN)
    assert page.script("return document.documentElement.scrollWidth") <= 360
    assert page.script("return document.querySelector('.uplot').getBoundingClientRect().right") <= 360
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
