"""The command `run` with batches and faults against a stub: what is sent, and which answers it calls wrong."""

import csv
from collections import Counter

import pytest

from tests.functional.simulator_stub import CONFIG, read_dump

BATCHES = CONFIG.replace("workers: 4", "workers: 4, batch_size: 5")
FAULTS = "faults: {duplicate_rate: 0.2, malformed_rate: 0.2, late_rate: 0.2, out_of_order_rate: 0.2}\n"


@pytest.fixture
def run(run):
    """The command with the same faults every time."""

    def run_seeded(config):
        code, printed = run("--seed", "3", config=config)
        return code, printed.out

    return run_seeded


def changing_answers(api, **changes):
    def respond(reading):
        status, body = api.answer_ok(reading)
        return status, {**body, **changes} if status == 200 else body

    return respond


@pytest.mark.parametrize("config", [CONFIG, BATCHES, CONFIG + FAULTS, BATCHES + FAULTS])
def test_a_right_api_has_no_mismatch(run, config):
    code, output = run(config)
    assert code == 0
    assert "every answer is the expected one" in output


def test_batches_are_as_large_as_configured_and_every_reading_is_a_row(api, run, tmp_path):
    code, output = run(BATCHES)
    rows = read_dump(tmp_path / "dump.csv")
    assert code == 0
    assert Counter(api.batch_sizes).most_common(1)[0][0] == max(api.batch_sizes) == 5
    assert len(rows) == len(api.received) == sum(api.batch_sizes)
    assert f"{len(rows)} readings sent in {len(api.batch_sizes)} requests" in output


def test_a_sensor_waits_for_the_answer_to_its_batch(api, run):
    api.respond = api.answer_after(0.02)
    run(BATCHES + FAULTS)
    assert not api.twice_at_a_time


@pytest.mark.parametrize("config", [CONFIG + FAULTS, BATCHES + FAULTS])
def test_all_faults_reach_the_api(api, run, config, tmp_path):
    _, output = run(config)
    assert all(f" {fault}" in output for fault in ("duplicate", "malformed", "late", "out of order"))
    rows = read_dump(tmp_path / "dump.csv")
    good = [row for row in rows if row["status"]]
    assert len(rows) == len(api.received)
    assert len({(row["location_id"], row["sensor_id"], row["timestamp"]) for row in good}) < len(good)
    assert {row["http_status"] for row in rows if not row["status"]} == {"200" if "batch_size" in config else "400"}


def test_every_row_of_the_dump_is_what_was_sent(api, run, tmp_path):
    run(BATCHES + FAULTS)
    with (tmp_path / "dump.csv").open(newline="") as file:
        written = Counter((row["sensor_id"], row["location_id"], row["timestamp"]) for row in csv.DictReader(file))
    names = ("sensor_id", "location_id", "timestamp")
    assert written == Counter(tuple(str(reading.get(name, "")) for name in names) for reading in api.received)


@pytest.mark.parametrize("config", [CONFIG, BATCHES])
@pytest.mark.parametrize("changes", [{"temperature": 12.5}, {"status": "OK", "temperature": 1.0}, {"sensor_id": "0"}])
def test_wrong_answers_are_counted_and_shown_and_fail_the_run(api, run, config, changes):
    api.respond = changing_answers(api, **changes)
    code, output = run(config)
    assert code == 1
    assert "NOT AS EXPECTED" in output
    assert "expected " in output
    assert str(next(iter(changes.values()))) in output


def test_a_latch_that_lets_go_is_a_mismatch(api, run):
    def respond(reading):
        api.forget_broken_sensors()
        return api.answer_ok(reading)

    api.respond = respond
    code, output = run(CONFIG.replace("sensors: 10}", "sensors: 10}\nsensor: {min_r: 19000, max_r: 20500}"))
    assert code == 1
    assert "expected BROKEN" in output


@pytest.mark.parametrize("config", [CONFIG, BATCHES])
def test_malformed_readings_that_are_taken_are_mismatches(api, run, config):
    def respond(reading):
        _, body = api.answer_ok({"sensor_id": "1", "location_id": "1", "value": 2000, "timestamp": None})
        return 200, body

    api.respond = respond
    code, output = run(config + "faults: {malformed_rate: 1}")
    assert code == 1
    assert "expected a rejection that names" in output


def test_a_batch_with_a_result_too_few_is_unreadable(api, run):
    api.drop_last_result = True
    code, output = run(BATCHES)
    assert code == 1
    assert "unreadable answer" in output


def test_counts_that_contradict_the_results_are_unreadable(api, run):
    api.added_to_accepted = 1
    code, output = run(BATCHES)
    assert code == 1
    assert "accepted, broken and rejected are not what the results are" in output


@pytest.mark.parametrize("config", [CONFIG + FAULTS, BATCHES + FAULTS])
def test_a_server_that_fails_gives_no_wrong_answers(api, run, config):
    api.respond = lambda _: (503, {"Code": "ServiceUnavailableError", "Message": "try again"})
    code, output = run(config)
    assert code == 1
    assert "HTTP 503" in output
    assert "no answer is a wrong one" in output
