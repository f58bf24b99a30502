"""Every status that a temperature can have has a name and colours on the dashboard."""

import re
from pathlib import Path

from chalicelib.thermistor import Status

WEB = Path(__file__).parents[2] / "chalicelib" / "api" / "web"
SCRIPT, STYLE = (WEB / "dashboard.js").read_text(), (WEB / "dashboard.css").read_text()
# A broken sensor has no temperature.
SHOWN = set(Status) - {Status.BROKEN}


def test_every_status_has_a_name_on_the_dashboard() -> None:
    (names,) = re.findall(r"^const STATUSES = \{(.*?)\};", SCRIPT, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"(\w+): \"[^\"]+\"", names)) == SHOWN


def test_every_status_has_colours_on_the_dashboard_for_light_and_dark() -> None:
    styles = dict(re.findall(r"^\.status\.(\w+) \{(.*)\}", STYLE, re.MULTILINE))
    assert set(styles) == SHOWN
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    for status, style in styles.items():
        colours = re.findall(r"(?:color|background): var\((--[\w-]+)\)", style)
        assert len(colours) == 2, status
        for colour in colours:
            assert f"{colour}:" in light, f"{status}: {colour}"
            assert f"{colour}:" in dark, f"{status}: {colour}"
