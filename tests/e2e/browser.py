"""A headless Chromium for tests of the page, in a fresh profile, with nothing but the loopback network."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
)

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A renderer in store for the next page, and the page before kept for going back, would double the work.
    "--disable-features=SpareRendererForSitePerProcess,BackForwardCache",
    # Whatever is not on this machine does not exist.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_WAIT_SECONDS = 20


class Page:
    """The dashboard in a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def open_with_token(self, url: str, token: str) -> None:
        """Open the page in a tab that holds a token already, as after a reload."""
        code = f"sessionStorage.setItem('token', {json.dumps(token)})"
        held = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": code})
        self.open(url)
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", held)

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def wait_until(self, condition: Any, what: str) -> None:
        WebDriverWait(self.driver, _WAIT_SECONDS, poll_frequency=0.1).until(lambda _: condition(), what)

    def locations(self) -> dict[str, list[str]]:
        """What the table shows: location → status, moving average, last minute."""
        rows: list[list[str]] = self.script(
            "return [...document.querySelectorAll('#locations tr')].map(r => [...r.children].map(c => c.textContent))"
        )
        return {name: cells for name, *cells in rows}

    def facts(self) -> dict[str, str]:
        """The figures of the last run, without their notes."""
        pairs: list[list[str]] = self.script(
            "return [...document.querySelectorAll('#run > div')]"
            ".map(f => [f.firstChild.textContent, f.lastChild.firstChild.textContent])"
        )
        return dict(pairs)  # type: ignore[arg-type]

    def asks_for_token(self) -> bool:
        return bool(self.find("#token-dialog").is_displayed())

    def enter_token(self, token: str) -> None:
        """Answer the question for a token, once it is asked."""
        self.wait_until(self.asks_for_token, "the question for a token")
        self.find("#token").send_keys(token)
        self.find("#token-form button[type=submit]").click()

    def complaints(self) -> list[str]:
        """What the console has to say, an answer that is meant to be an error aside."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Every address that the page has loaded something from."""
        names: list[str] = self.script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        return names


def opened(page: Page, url: str, token: str) -> Page:
    """Open the page with a token and wait for its figures."""
    page.open_with_token(url, token)
    page.wait_until(lambda: page.locations() and page.all(".uplot canvas"), "locations and a chart")
    return page


@contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """Run a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Page(driver)
    finally:
        driver.quit()
