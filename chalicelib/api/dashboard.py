"""The dashboard's files: one page, and the scripts and styles that it loads from beside itself."""

import functools
import hashlib
from base64 import b64encode
from pathlib import Path

from msgspec import Struct

from chalicelib.errors import NotFoundError

_WEB_FOLDER = Path(__file__).parent / "web"
_MEDIA_TYPES = {
    "api.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
}
# uPlot sets sizes through the style properties of elements, which a policy for styles does not restrict.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'sha256-{inline_script}'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)

_COMMON_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class WebFile(Struct, frozen=True):
    """A file as text, and the headers to send it with."""

    content: str
    headers: dict[str, str]


class AssetQuery(Struct, frozen=True):
    """The query of an asset: the fingerprint of the content that a page of ours asks for."""

    v: str | None = None


@functools.cache
def read_page() -> WebFile:
    """Return the page; each link carries a fingerprint of what it leads to, so that no browser shows a mix."""
    page = (_WEB_FOLDER / "index.html").read_text(encoding="utf-8")
    inline_script = page.partition("<script>")[2].partition("</script>")[0]
    allowed = b64encode(hashlib.sha256(inline_script.encode()).digest()).decode()
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY.format(inline_script=allowed),
    }
    for name in _MEDIA_TYPES:
        page = page.replace(f"{name}?v={{version}}", f"{name}?v={_load(name)[1]}")
    return WebFile(page, _COMMON_HEADERS | headers)


def read_asset(name: str, fingerprint: str | None) -> WebFile:
    """Return a file that the page loads, to be kept for good only under the fingerprint of its own content.

    Raises NotFoundError for any other name.
    """
    if name not in _MEDIA_TYPES:
        raise NotFoundError("there is no such file")
    content, own_fingerprint = _load(name)
    kept = "public, max-age=31536000, immutable" if fingerprint == own_fingerprint else "no-cache"
    return WebFile(content, _COMMON_HEADERS | {"Content-Type": _MEDIA_TYPES[name], "Cache-Control": kept})


@functools.cache
def _load(name: str) -> tuple[str, str]:
    """Return an asset's text, and the fingerprint of it."""
    content = (_WEB_FOLDER / name).read_bytes()
    return content.decode(), hashlib.sha256(content).hexdigest()[:16]
