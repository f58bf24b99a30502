"""What is salvaged of landing objects: lines as they were written, and no others."""

import gzip

from hypothesis import given
from hypothesis import strategies as st

from chalicelib import landing
from chalicelib.landing import encode_landing, fingerprint, is_whole, landing_key, read_landing_key, salvage_landing
from tests.factories import NOW, flip, forty_rows


def test_every_cut_and_every_flipped_bit_is_noticed():
    rows = forty_rows()
    content = encode_landing(rows)
    name = read_landing_key(landing_key(NOW, rows, content, is_late=False))
    assert is_whole(content, name)
    assert not any(is_whole(flip(content, bit), name) for bit in range(8 * len(content)))
    assert not any(is_whole(content[:length], name) for length in range(len(content)))
    assert not is_whole(content + b"\0", name)


def test_all_of_an_undamaged_object_is_salvaged():
    assert salvage_landing(encode_landing(forty_rows())) == forty_rows()
    assert salvage_landing(encode_landing([])) == []


def test_the_whole_lines_before_a_cut_are_salvaged():
    rows = forty_rows()
    content = encode_landing(rows)
    salvaged = [salvage_landing(content[:length]) for length in range(len(content) + 1)]
    assert all(some == rows[: len(some)] for some in salvaged)
    assert [len(some) for some in salvaged] == sorted(len(some) for some in salvaged)
    assert len(salvaged[-1]) == len(salvaged[-9]) == 40


def test_no_changed_line_is_salvaged_whichever_bit_was_flipped():
    rows = forty_rows()
    content = encode_landing(rows)
    salvaged = [salvage_landing(flip(content, bit)) for bit in range(8 * len(content))]
    assert all(some in ([], rows) for some in salvaged)
    # Nothing depends on the header.
    assert salvaged[:80] == [rows] * 80


def test_a_single_flipped_bit_is_put_right_by_the_fingerprint():
    rows = forty_rows()[:8]
    content = encode_landing(rows)
    unique = str(fingerprint(content))
    for bit in range(0, 8 * len(content), 61):
        assert salvage_landing(flip(content, bit), unique) == rows
    assert salvage_landing(flip(flip(content, 2_000), 1_000), unique) == []
    assert salvage_landing(flip(content, 2_000), "of-something-else") == []


def test_a_large_object_is_not_searched_for_hours(monkeypatch):
    content = encode_landing(forty_rows())
    monkeypatch.setattr(landing, "_FLIPS_BYTES_MAX", len(content) - 1)
    assert salvage_landing(flip(content, 8_000), str(fingerprint(content))) == []


def test_good_lines_beside_bad_ones_are_salvaged():
    lines = gzip.decompress(encode_landing(forty_rows())).splitlines(keepends=True)
    lines[3] = b"nonsense\n"
    lines[5] = lines[5].replace(b'"temperature":', b'"temperature":"hot",')
    salvaged = salvage_landing(gzip.compress(b"".join(lines)))
    assert salvaged == [row for number, row in enumerate(forty_rows()) if number not in {3, 5}]


@given(st.binary(max_size=100) | st.binary(max_size=100).map(gzip.compress))
def test_salvaging_takes_any_bytes(content):
    assert salvage_landing(content, "no-fingerprint") == []
