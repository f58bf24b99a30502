"""Builds dead_letter_triage.zip: the same source gives the same bytes, so that Terraform sees a change only in one."""

import sys
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
_SOURCE = _HERE / "dead_letter_triage" / "dead_letter_triage.py"
_TARGET = _HERE / "dead_letter_triage.zip"
# The earliest that a ZIP file can tell.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def build(source: Path, target: Path) -> None:
    """Write the ZIP file with the source as its only member."""
    member = zipfile.ZipInfo(source.name, _LONG_AGO)
    member.external_attr = 0o644 << 16
    # Stored, for no two versions of zlib need to compress alike.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, source.read_bytes())


if __name__ == "__main__":
    build(_SOURCE, Path(sys.argv[1]) if sys.argv[1:] else _TARGET)
