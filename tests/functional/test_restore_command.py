"""`python -m ops restore`: finds bucket and counter of the stage, lists quarantine, and brings back what is good."""

import pytest

from chalicelib.landing import encode_landing, landing_key
from ops.__main__ import main
from tests.factories import NOW, forty_rows


@pytest.fixture
def restore(stage, capsys):
    def restore(*arguments):
        code = main(["restore", "--aws", "--stage", "dev", *arguments], {})
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return restore


@pytest.fixture
def aside(stage):
    """The key of a landing object in quarantine that lost its end."""
    rows = forty_rows()
    content = encode_landing(rows)
    key = landing_key(NOW, rows, content, is_late=False).replace("landing/", "quarantine/")
    stage.put_object(key, content[:-12])
    return key


def test_what_is_listed_can_be_brought_back(stage, restore, aside):
    code, listed, _ = restore()
    assert (code, listed.splitlines()[-1]) == (0, "1 objects in quarantine")
    assert listed.startswith(aside)
    code, told, _ = restore(aside)
    assert (code, told.splitlines()[0].partition(":")[0]) == (0, aside.replace("/", "/restored/", 1))
    assert len(stage.keys("landing/")) == 1
    assert restore()[1] == "0 objects in quarantine\n"


@pytest.mark.parametrize("key", ["landing/x.jsonl.gz", "quarantine/nosuch.jsonl.gz", "quarantine/1.json"])
def test_what_cannot_be_brought_back_is_an_error_of_one_line(restore, key):
    code, told, error = restore(key)
    assert (code, told, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ")
