"""Draws reports as one self-contained page: data, charts and uPlot, which draws them, in a single file."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from chalicelib.reports import Report

_TEMPLATE = Path(__file__).with_name("report_page.html")
_UPLOT = Path(__file__).parent.parent / "chalicelib" / "api" / "web"


def render_page(reports: Sequence[Report]) -> str:
    """Return the page as HTML; it asks the network for nothing."""
    # Inside a script element only "<" could end the data, and JSON may write it as an escape.
    data = msgspec.json.encode(reports).decode().replace("<", "\\u003c")
    page = _TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("/*{uplot_css}*/", (_UPLOT / "uPlot.min.css").read_text(encoding="utf-8"))
    page = page.replace("/*{uplot_js}*/", (_UPLOT / "uPlot.iife.min.js").read_text(encoding="utf-8"))
    return page.replace("/*{reports}*/", data)
