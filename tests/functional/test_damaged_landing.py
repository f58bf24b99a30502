"""A damaged landing object is set aside whole, and what is good of it comes back: the books show every line."""

import gzip
import json

import pytest

from chalicelib.fields import format_time
from chalicelib.ledger import Counts
from ops.__main__ import main
from tests.factories import HOUR, MINUTE, NOW, flip, measurement_fields, record, to_ms
from tests.runs import player_on

LINES = 40


@pytest.fixture
def player(stage):
    return player_on(stage)


@pytest.fixture
def land(stage):
    """Let the consumer land a message of forty measurements at a location; return the landing object's key."""

    def land_message(number):
        measurements = [
            measurement_fields(sensor_id=f"{number}-{place}", timestamp=format_time(NOW - place * MINUTE))
            for place in range(LINES)
        ]
        before = stage.keys("landing/")
        message = record(json.dumps(measurements), f"m{number}", to_ms(NOW))
        event = {"Records": [{**message, "eventSource": "aws:sqs", "receiptHandle": "r"}]}
        stage.lambdas.invoke("buffer_measurements", event)
        (key,) = set(stage.keys("landing/")) - set(before)
        return key

    return land_message


@pytest.fixture
def restore(capsys):
    def restore(*arguments):
        # What the application has logged.
        capsys.readouterr()
        code = main(["restore", *arguments, "--stage", "dev", "--aws"], {"AWS_REGION": "us-east-1"})
        return code, capsys.readouterr().out.splitlines()

    return restore


def with_a_bad_line(content):
    lines = gzip.decompress(content).splitlines(keepends=True)
    return gzip.compress(b"".join([*lines[:7], b"nonsense\n", *lines[8:]]))


@pytest.mark.parametrize(
    ("damage", "lines_back"),
    [
        (lambda content: content[:-1], 40),
        (lambda content: content[:-30], range(30, 40)),
        (lambda content: flip(content, 3_000), 40),
        (lambda content: flip(content, 0), 40),
        (with_a_bad_line, 39),
    ],
    ids=["cut by a byte", "cut", "flipped bit", "flipped bit of the header", "bad line"],
)
def test_a_damaged_object_is_set_aside_whole_and_its_good_lines_come_back_once(
    stage, player, land, restore, damage, lines_back
):
    good, bad = land(1), land(2)
    damaged = damage(stage.object(bad))
    stage.put_object(bad, damaged)
    assert player.run("1", NOW + HOUR).status == "SUCCEEDED"
    assert player.committed().counts == Counts(measurements=40, quarantined=40)
    assert [one.key for one in player.committed().quarantine] == [bad]
    # It is moved behind the commit.
    assert stage.keys("landing/") == sorted([good, bad])
    player.run("2", NOW + 2 * HOUR)
    aside = bad.replace("landing/", "quarantine/")
    assert (stage.keys("landing/"), stage.keys("quarantine/")) == ([], [aside])
    assert stage.object(aside) == damaged
    assert aside in restore()[1][0]
    code, printed = restore(aside)
    assert code == 0
    (again,) = stage.keys("landing/")
    back = int(again.split("_")[1])
    assert back in (lines_back if isinstance(lines_back, range) else [lines_back])
    assert f"lines landed again: {back}, lost: {40 - back}" in printed[0]
    player.run("3", NOW + 3 * HOUR)
    assert (player.committed().counts.measurements, player.committed().totals.quarantined) == (back, 40)
    assert restore()[1] == ["0 objects in quarantine"]
    # Nobody needs to know whether it was done before.
    assert restore(aside.replace("quarantine/", "quarantine/restored/"))[0] == 0
    player.run("4", NOW + 4 * HOUR)
    player.run("5", NOW + 5 * HOUR)
    totals = player.committed().totals
    assert (totals.measurements, totals.duplicates, totals.quarantined) == (40 + back, 0, 40)
    tallies = player.ledger.tallies().quarantine
    assert (tallies.objects, tallies.restored_objects, tallies.restored_rows) == (1, 1, back)
