"""The books of a run: summary and dump."""

import csv
import io
import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from rich.console import Console

from chalicelib.errors import ValidationError
from chalicelib.thermistor import Status
from simulator.checker import Mismatch, Verdict
from simulator.client import parse_endpoint
from simulator.dump import COLUMNS, Dump
from simulator.faults import Malformation, PlannedReading
from simulator.messages import Answer, Delivery, Exchange
from simulator.progress import show_progress
from simulator.summary import MISMATCHES_SHOWN, Progress, Tally, format_summary, measure_latency

TIMESTAMP = "2026-03-01T12:00:00.001Z"
RIGHT = Verdict()
NO_VALUE = Malformation("value", UNSET)


def exchange(http_status=200, status=Status.OK, temperature=20.1, sensor_id="7", error=None, **more):
    planned = PlannedReading(
        sensor_id, "2", 0.1 + 0.2, due_us=1, measured_us=1, malformation=more.pop("malformation", None)
    )
    answer = None if status is None else Answer(sensor_id, "2", temperature, status, TIMESTAMP)
    return Exchange(delivery=Delivery(planned, TIMESTAMP), http_status=http_status, answer=answer, error=error, **more)


def summary_of(exchanges, not_sent=0, verdict=RIGHT, interrupted=False):
    tally = Tally()
    for one in exchanges:
        tally.add_request(latency_seconds=0.01)
        tally.add(one, verdict, late_seconds=0.0)
    return tally.summarize(seed=1, elapsed_seconds=2.0, not_sent=not_sent, broken_before=0, interrupted=interrupted)


def test_every_reading_is_counted_once_by_status_or_by_error():
    summary = summary_of(
        [
            exchange(),
            exchange(status=Status.TEMPERATURE_TOO_LOW),
            exchange(status=Status.BROKEN, temperature=None),
            exchange(status=Status.BROKEN, temperature=None),
            exchange(http_status=400, status=None, rejection="value: must be finite"),
            exchange(http_status=None, status=None, error="timed out"),
            exchange(http_status=200, status=None, error="no JSON"),
        ]
    )
    assert (summary.sent, summary.accepted, summary.broken, summary.failed) == (7, 2, 2, 3)
    assert summary.by_error == {"HTTP 400": 1, "connection error": 1, "unreadable answer": 1}
    assert summary.broken_sensors_by_location == {"2": 1}
    assert summary.readings_per_second == 3.5


def test_the_summary_tells_counts_errors_latency_and_what_was_not_sent():
    text = format_summary(
        summary_of([exchange(), exchange(http_status=503, status=None, error="try later")], not_sent=12)
    )
    words = text.split()
    assert words[words.index("OK") + 1] == "1"
    assert words[words.index("BROKEN") + 1] == "0"
    assert "try later" in text
    assert "p50 10.0 ms, p95 10.0 ms, p99 10.0 ms" in text
    assert "12 of 14 due readings not sent" in text


@pytest.mark.parametrize(("not_sent", "kept_up"), [(0, True), (1, True), (2, False), (9_901, False)])
def test_a_server_keeps_up_that_leaves_at_most_one_in_a_hundred_due_readings_unsent(not_sent, kept_up):
    summary = summary_of([exchange()] * 99, not_sent=not_sent)
    text = format_summary(summary)
    assert (summary.kept_up, summary.successful) == (kept_up, kept_up)
    assert ("every answer is the expected one" in text) == kept_up
    assert ("THE SERVER DID NOT KEEP UP" in text) == (not kept_up)
    assert ("due, but not sent: 1 reading\n" in text) == (not_sent == 1)


def test_an_interrupted_run_says_nothing_about_the_server():
    summary = summary_of([exchange()], not_sent=12, interrupted=True)
    text = format_summary(summary)
    assert summary.kept_up
    assert "due, but not sent: 12 readings" in text
    assert "KEEP UP" not in text


def test_a_wrong_answer_or_none_is_no_success_even_when_the_server_keeps_up():
    assert not summary_of([exchange()], verdict=Verdict(Mismatch("sent", "expected", "answered"))).successful
    assert not summary_of([exchange(http_status=503, status=None, error="try later")]).successful


@pytest.mark.parametrize("terminal", [True, False])
def test_it_is_said_once_when_readings_go_late_and_never_when_they_do_not(terminal):
    output = io.StringIO()
    with show_progress(600, Console(file=output, force_terminal=terminal, width=200), "Too slow") as update:
        update(Progress(elapsed_seconds=1, sent=1, broken=0, failed=0, mismatches=0, late_seconds=4.9))
        assert "Too slow" not in output.getvalue()
        for late_seconds in (7.2, 60.0):
            update(Progress(elapsed_seconds=1, sent=1, broken=0, failed=0, mismatches=0, late_seconds=late_seconds))
    assert output.getvalue().count("Too slow: readings go 7 s late") == 1
    assert "readings go 60 s late" not in output.getvalue()


def test_a_malformed_reading_that_is_rejected_is_no_failure():
    summary = summary_of([exchange(http_status=400, status=None, rejection="value: no", malformation=NO_VALUE)])
    assert (summary.sent, summary.failed, summary.rightly_rejected) == (1, 0, 1)
    assert summary.by_fault == {"malformed": 1}


def test_a_good_reading_that_a_batch_rejects_is_a_failure():
    assert summary_of([exchange(status=None, rejection="readings[0].value: no")]).by_error == {"rejected": 1}


def test_what_the_api_answers_from_memory_is_not_accepted_again():
    summary = summary_of(
        [exchange(), exchange(status=Status.BROKEN, temperature=None)], verdict=Verdict(is_replay=True)
    )
    assert (summary.sent, summary.accepted, summary.broken) == (2, 0, 1)


def test_all_mismatches_are_counted_and_the_first_ones_shown():
    tally = Tally()
    for number in range(MISMATCHES_SHOWN + 3):
        verdict = Verdict(Mismatch(f"sent{number}", f"expected{number}", f"answered{number}"))
        tally.add(exchange(), verdict, late_seconds=0)
    text = format_summary(tally.summarize(1, 2.0, 0, 0))
    assert f"NOT AS EXPECTED: {MISMATCHES_SHOWN + 3} ANSWERS, first:" in text
    for number in range(MISMATCHES_SHOWN + 3):
        assert (f"sent{number}" in text) == (number < MISMATCHES_SHOWN)
    assert "expected0" in text
    assert "answered0" in text


def test_a_run_without_any_reading_has_a_summary():
    assert "0 readings sent" in format_summary(summary_of([]))


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_percentile_is_the_least_latency_that_enough_requests_stay_within(latencies):
    latency = measure_latency(latencies)
    assert list(latency) == [50, 95, 99]
    for percent, value in latency.items():
        enough = math.ceil(len(latencies) * percent / 100)
        assert value in latencies
        assert sum(one <= value for one in latencies) >= enough
        assert sum(one < value for one in latencies) < enough


def test_the_dump_keeps_full_precision_and_leaves_absent_cells_empty(tmp_path):
    with Dump(tmp_path / "dump.csv") as dump:
        dump.add(0, exchange())
        dump.add(1, exchange(status=Status.BROKEN, temperature=None))
        dump.add(2, exchange(http_status=None, status=None, error="timed out"))
    assert (tmp_path / "dump.csv").read_text().splitlines() == [
        ",".join(COLUMNS),
        "7,2,0.30000000000000004,200,OK,20.1,2026-03-01T12:00:00.001Z",
        "7,2,0.30000000000000004,200,BROKEN,,2026-03-01T12:00:00.001Z",
        "7,2,0.30000000000000004,,,,2026-03-01T12:00:00.001Z",
    ]


@pytest.mark.parametrize(
    ("malformation", "cells"),
    [
        (NO_VALUE, "7,2,,400,,,"),
        (Malformation("value", math.nan), "7,2,nan,400,,,"),
        (Malformation("value", "warm"), "7,2,warm,400,,,"),
        (Malformation("sensor_id", "two words"), "two words,2,0.30000000000000004,400,,,"),
        (Malformation("unit", "ohm"), "7,2,0.30000000000000004,400,,,"),
    ],
)
def test_the_dump_has_a_malformed_reading_as_it_was_sent(tmp_path, malformation, cells):
    with Dump(tmp_path / "dump.csv") as dump:
        dump.add(0, exchange(http_status=400, status=None, rejection="no", malformation=malformation))
    assert (tmp_path / "dump.csv").read_text().splitlines()[1] == cells + TIMESTAMP


def test_the_dump_makes_its_folder(tmp_path):
    with Dump(tmp_path / "new" / "folder" / "dump.csv") as dump:
        dump.add(0, exchange())
    assert len((tmp_path / "new" / "folder" / "dump.csv").read_text().splitlines()) == 2


@given(st.randoms(use_true_random=False), st.integers(0, 30), st.integers(0, 5))
def test_the_dump_is_in_the_order_of_sending_even_when_answers_never_came(tmp_path_factory, source, count, gaps):
    path = tmp_path_factory.mktemp("dump") / "dump.csv"
    numbers = source.sample(range(count + gaps), count)
    with Dump(path) as dump:
        for number in numbers:
            dump.add(number, exchange(sensor_id=str(number)))
    with path.open(newline="") as file:
        assert [int(row["sensor_id"]) for row in csv.DictReader(file)] == sorted(numbers)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://a..b/api",
     "http://host/a b", "http://host/\n", "http://user:secret@host/", "http://host/?stage=api", "http://[::1"],
)  # fmt: skip
def test_a_wrong_url_is_an_error_that_says_so(url):
    with pytest.raises(ValidationError, match=r"^url: "):
        parse_endpoint(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [("http://host", "/readings"), ("http://host:80/", "/readings"), ("https://host/api/", "/api/readings")],
)
def test_readings_go_below_the_url(url, path):
    assert parse_endpoint(url).path == path


def test_a_token_of_two_lines_is_an_error():
    with pytest.raises(ValidationError, match=r"^token: "):
        parse_endpoint("http://host", token="one\ntwo")


def test_the_tally_agrees_with_a_plain_count():
    source = random.Random(4)
    statuses = source.choices(list(Status), k=200)
    summary = summary_of(exchange(status=status) for status in statuses)
    assert summary.by_status == Counter(statuses)
