"""The dashboard's token in a real browser: asked for once, kept for the tab, and asked for again when it is refused."""

import pytest

from tests.e2e.browser import Page, needs_chromium, opened
from tests.e2e.stub_api import DENIED, TOKEN, StubApi

pytestmark = needs_chromium


@pytest.fixture
def asking(page: Page, api: StubApi) -> Page:
    """The page without a token."""
    page.open(api.url)
    page.wait_until(page.asks_for_token, "the question for a token")
    return page


def test_without_a_token_nothing_is_asked_or_shown_and_the_console_stays_silent(asking: Page, api: StubApi) -> None:
    assert asking.locations() == {}
    assert api.asked == []
    assert asking.complaints() == []
    assert asking.text("#token-reason") == "A token with the scope reports:read is needed."


def test_a_token_is_sent_with_every_request_for_data(page: Page, api: StubApi) -> None:
    opened(page, api.url, TOKEN)
    page.find("[data-location=warm]").click()
    page.wait_until(lambda: "locations/warm/report" in api.asked, "the report of warm")
    assert len(api.authorizations) >= 4
    assert set(api.authorizations) == {f"Bearer {TOKEN}"}


def test_a_token_is_kept_while_the_tab_is_open_and_nowhere_else(asking: Page, api: StubApi) -> None:
    asking.enter_token(TOKEN)
    asking.wait_until(asking.locations, "what the token may see")
    asking.open(api.url)
    asking.wait_until(asking.locations, "the same without being asked")
    assert not asking.asks_for_token()
    assert asking.script("return [localStorage.length, document.cookie, location.search]") == [0, "", ""]
    first_tab = asking.driver.current_window_handle
    asking.driver.switch_to.new_window("tab")
    try:
        asking.open(api.url)
        asking.wait_until(asking.asks_for_token, "the question for a token, in another tab")
    finally:
        asking.driver.close()
        asking.driver.switch_to.window(first_tab)


def test_a_link_signs_in_and_its_token_leaves_the_address_before_anything_is_asked(page: Page, api: StubApi) -> None:
    page.open(f"{api.url}#token={TOKEN}")
    page.wait_until(page.locations, "what the token may see")
    assert not page.asks_for_token()
    assert set(api.authorizations) == {f"Bearer {TOKEN}"}
    assert page.script("return location.href") == api.url
    assert [one for one in page.requested() if TOKEN in one] == []
    assert page.complaints() == []


def test_a_link_signs_in_in_the_tab_that_shows_the_page_already(asking: Page, api: StubApi) -> None:
    asking.script("location.hash = arguments[0]", f"token={TOKEN}")
    asking.wait_until(asking.locations, "what the token may see")
    assert not asking.asks_for_token()
    assert asking.script("return location.href") == api.url


def test_an_address_without_its_last_slash_opens_the_same_page(page: Page, api: StubApi) -> None:
    page.open(f"{api.url.rstrip('/')}?from=mail#token={TOKEN}")
    page.wait_until(page.locations, "what the token may see")
    assert page.script("return location.href") == f"{api.url}?from=mail"


REFUSALS = {
    "expired": ((401, {"Code": "UnauthorizedError", "Message": "token: it has expired (exp)"}), "it has expired (exp)"),
    "withdrawn or forged": (DENIED, "it is not valid, or no longer"),
    "for something else": (
        (403, {"Code": "ForbiddenError", "Message": "token: it lacks the scope reports:read"}),
        "it lacks the scope reports:read",
    ),
    "answered by a proxy": ((403, {}), "it is not valid, or no longer"),
}


def test_a_token_that_is_refused_is_forgotten_and_asked_for_again_with_the_reason(
    page: Page, api: StubApi, subtests: pytest.Subtests
) -> None:
    page.open_with_token(api.url, TOKEN)
    page.wait_until(page.locations, "what the token may see")
    for case, (refusal, reason) in REFUSALS.items():
        with subtests.test(case):
            api.token, api.refusal = f"better than {case}", refusal
            page.script("refresh()")
            page.wait_until(page.asks_for_token, "the question for another token")
            assert page.text("#token-reason") == f"The token was refused: {reason}."
            assert reason in page.text("#message")
            assert page.script("return sessionStorage.length") == 0
            page.enter_token(api.token)
            page.wait_until(lambda: page.text("#message").startswith("Checked at"), "fresh figures")


def test_a_token_that_is_refused_for_a_report_is_asked_for_again_at_once(
    page: Page, api: StubApi, subtests: pytest.Subtests
) -> None:
    opened(page, api.url, TOKEN)
    page.find("#auto-refresh").click()
    for refusal in (REFUSALS["expired"][0], DENIED, REFUSALS["for something else"][0]):
        with subtests.test(str(refusal)):
            api.instead["warm"] = refusal
            page.find("[data-location=warm]").click()
            page.wait_until(page.asks_for_token, "the question for another token")
            assert page.script("return sessionStorage.length") == 0
            api.instead.clear()
            page.enter_token(TOKEN)
            page.wait_until(lambda: page.text("#message").startswith("Checked at"), "fresh figures")
            page.find("[data-location=cold]").click()
            page.wait_until(lambda: page.all(".uplot canvas"), "the chart of a location that was not refused")


def test_what_another_token_could_see_is_not_shown_to_the_next(page: Page, api: StubApi) -> None:
    page.open_with_token(api.url, TOKEN)
    page.wait_until(lambda: len(page.locations()) == 4, "what the token may see")
    api.token, api.locations = "narrow", api.locations[:1]
    page.script("refresh()")
    page.enter_token("narrow")
    page.wait_until(lambda: list(page.locations()) == ["cold"], "what the other may see, of the same run")


def test_who_closes_the_question_for_a_token_is_not_asked_over_and_over(asking: Page, api: StubApi) -> None:
    asking.find("#close-token").click()
    asked = len(api.asked)
    asking.script("document.dispatchEvent(new Event('visibilitychange'))")
    assert not asking.asks_for_token()
    assert len(api.asked) == asked
    assert "token" in asking.text("#message").lower()


def test_who_closed_the_question_can_still_enter_a_token(asking: Page) -> None:
    asking.find("#close-token").click()
    asking.find("#change-token").click()
    asking.enter_token(TOKEN)
    asking.wait_until(asking.locations, "what the token may see")


def test_an_answer_to_the_last_token_does_not_take_the_next_one_away(asking: Page) -> None:
    asking.script("holdToken('next'); askForToken(new Refused('The token was refused.', 'last'))")
    assert asking.script("return heldToken()") == "next"
