"""The command `run` against a stub of the API on loopback: what is sent, answered, counted and dumped."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from simulator.config import FleetConfig, LoadConfig, SimulatorConfig, TimerConfig
from simulator.fleet import simulate
from tests.fake_clock import FakeClock
from tests.functional.simulator_stub import CONFIG, SETTINGS, THERMISTORS, count_posted, read_dump


def test_every_reading_is_one_request_and_one_row_of_the_dump(api, run, tmp_path):
    code, output = run("--seed", "5")
    rows = read_dump(tmp_path / "dump.csv")
    assert code == 0
    assert len(rows) > 100
    assert api.paths == {"/api/readings"}
    assert count_posted(rows) == count_posted(api.received)
    assert max(count_posted(rows).values()) == 1
    assert f"{len(rows)} readings sent" in output.out
    assert "seed 5" in output.out
    assert output.err == ""


def test_the_dump_has_the_answers_in_full_precision(run, tmp_path):
    run()
    curve = THERMISTORS.default
    working = [row for row in read_dump(tmp_path / "dump.csv") if row["status"] == "OK"]
    assert working
    assert all(row["http_status"] == "200" for row in working)
    assert all(float(row["temperature"]) == curve.temperature_celsius(float(row["value"])) for row in working)


def test_the_same_seed_gives_the_same_run_whatever_the_number_of_workers(run, tmp_path):
    runs = []
    for workers in (1, 8):
        run("--seed", "11", config=CONFIG.replace("workers: 4", f"workers: {workers}"))
        values_of_sensor = {}
        for row in read_dump(tmp_path / "dump.csv"):
            values_of_sensor.setdefault((row["location_id"], row["sensor_id"]), []).append(row["value"])
        runs.append(values_of_sensor)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 20


def test_connections_are_kept_alive_one_for_each_worker(api, run):
    run()
    assert len(api.connections) <= 4


def test_a_sensor_waits_for_the_answer_before_it_sends_its_next_reading(api, run):
    api.respond = api.answer_after(0.2)
    run(config=CONFIG.replace("sensors: 10", "sensors: 1").replace("workers: 4", "workers: 16"))
    assert not api.twice_at_a_time


def test_a_server_too_slow_for_the_plan_fails_the_run_in_one_line(api, run, tmp_path):
    api.respond = api.answer_after(0.3)
    code, output = run()
    verdict = output.out.splitlines()[-1]
    due = re.match(r"THE SERVER DID NOT KEEP UP: (\d+) of (\d+) due readings not sent; ", verdict)
    assert code == 1
    assert due
    assert int(due[2]) - int(due[1]) == len(read_dump(tmp_path / "dump.csv"))
    assert "every answer is the expected one" not in output.out


def test_a_busy_server_that_refuses_is_told_by_its_refusals(api, run):
    api.respond = lambda _: (503, {"Code": "ServiceUnavailableError", "Message": "try again"})
    code, output = run()
    assert code == 1
    assert re.search(r"HTTP 503 +\d+   first: try again", output.out)
    assert "every answer" not in output.out


def test_the_caller_is_told_while_the_run_goes_on_by_how_much_it_is_late(api):
    api.respond = api.answer_after(1)
    config = SimulatorConfig(timer=TimerConfig(total_runtime_seconds=600), load=LoadConfig(workers=1))
    seen = []
    simulate(
        config,
        api.url,
        SETTINGS,
        api.clock,
        seed=1,
        on_progress=seen.append,
        should_stop=lambda: bool(seen) and seen[-1].late_seconds > 5,
    )
    assert seen[-1].late_seconds > 5


def test_refused_readings_are_counted_with_the_first_reason_and_fail_the_run(api, run, tmp_path):
    api.respond = lambda _: (400, {"Code": "BadRequestError", "Message": "value: must be finite"})
    code, output = run()
    assert code == 1
    assert "HTTP 400" in output.out
    assert "value: must be finite" in output.out
    assert {(row["http_status"], row["status"], row["temperature"]) for row in read_dump(tmp_path / "dump.csv")} == {
        ("400", "", "")
    }


@pytest.mark.parametrize("body", [b"", b"busy", b"\xff\xfe", b'{"status":"FINE"}', b"[]"])
def test_an_answer_that_is_no_answer_fails_the_run(api, run, body):
    api.respond = lambda _: (200, body)
    code, output = run()
    assert code == 1
    assert "unreadable answer" in output.out


def test_a_server_error_without_json_is_counted(api, run):
    api.respond = lambda _: (500, b"<html>oops")
    code, output = run()
    assert code == 1
    assert "HTTP 500" in output.out


def test_a_connection_dropped_before_any_answer_is_a_row_without_http_status(api, run, tmp_path):
    api.respond = lambda _: None
    code, output = run()
    rows = read_dump(tmp_path / "dump.csv")
    assert code == 1
    assert "connection error" in output.out
    assert count_posted(rows) == count_posted(api.received)
    assert {row["http_status"] for row in rows} == {""}


def test_an_idle_connection_closed_by_the_server_costs_no_reading(api, run, tmp_path):
    api.requests_per_connection_max = 1
    code, _ = run()
    rows = read_dump(tmp_path / "dump.csv")
    assert code == 0
    assert max(count_posted(api.received).values()) == 2
    assert max(count_posted(rows).values()) == 1
    assert {row["http_status"] for row in rows} == {"200"}


def test_a_server_that_is_not_there_fails_the_run(run, tmp_path):
    code, output = run("--url", "http://127.0.0.1:1")
    assert code == 1
    assert "connection error" in output.out
    assert {row["http_status"] for row in read_dump(tmp_path / "dump.csv")} == {""}


def test_device_time_runs_faster_than_the_clock_and_ends_at_the_present(api):
    config = SimulatorConfig(
        meta=FleetConfig(locations=1, sensors=5),
        timer=TimerConfig(total_runtime_seconds=0.5, min_delay_seconds=0.05, max_delay_seconds=0.1, time_scale=3600),
        load=LoadConfig(workers=2),
    )
    started_at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    simulate(config, api.url, SETTINGS, FakeClock(started_at), seed=1)
    timestamps = sorted(datetime.fromisoformat(reading["timestamp"]) for reading in api.received)
    ends_at = started_at + timedelta(seconds=0.5)
    assert ends_at - timedelta(minutes=30) <= timestamps[0] <= ends_at - timedelta(minutes=26)
    assert ends_at - timedelta(minutes=10) <= timestamps[-1] < ends_at


def test_a_token_goes_along_from_a_file_or_from_the_environment(api, run, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("abc.def-ghi\n")
    run("--token-file", str(token_file))
    assert api.tokens == {"Bearer abc.def-ghi"}
    api.tokens.clear()
    run(environment={"THERMONET_TOKEN": "xyz"})
    assert api.tokens == {"Bearer xyz"}
    api.tokens.clear()
    run()
    assert api.tokens == {None}


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        ("meta: {sensors: 0}", [], "sensors.yaml: meta.sensors: "),
        ("meta: {sensors: [", [], "sensors.yaml: not valid YAML"),
        (CONFIG, ["--url", "nowhere"], "url: "),
        (CONFIG, ["--config", "missing.yaml"], "missing.yaml: "),
        (CONFIG, ["--dump", "README.md/dump.csv"], "README.md"),
        (CONFIG, ["--token-file", "missing-token"], "missing-token"),
    ],
)
def test_wrong_use_ends_with_code_2_and_one_line_that_says_why(run, config, options, reason):
    code, output = run(*options, config=config)
    assert code == 2
    assert output.out == ""
    assert reason in output.err
    assert output.err.startswith("error: ")
    assert "Traceback" not in output.err


def test_the_caller_is_told_how_far_the_run_has_come_and_can_end_it(api):
    config = SimulatorConfig(timer=TimerConfig(total_runtime_seconds=600))
    seen = []
    summary = simulate(
        config,
        api.url,
        SETTINGS,
        api.clock,
        seed=1,
        on_progress=seen.append,
        should_stop=lambda: bool(seen) and seen[-1].sent >= 20,
    )
    assert seen[-1].sent >= 20
    assert summary.sent == len(api.received)
    assert summary.interrupted


def test_an_error_of_the_dump_ends_the_run(api):
    config = SimulatorConfig(timer=TimerConfig(total_runtime_seconds=600))
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with pytest.raises(OSError, match="No space left"):
        simulate(config, api.url, SETTINGS, api.clock, seed=1, dump=Path("/dev/full"))


def test_an_interrupt_of_the_caller_ends_the_run_with_a_complete_dump(api, tmp_path):
    def interrupt(progress):
        if progress.sent >= 20:
            raise KeyboardInterrupt

    config = SimulatorConfig(timer=TimerConfig(total_runtime_seconds=600))
    with pytest.raises(KeyboardInterrupt):
        simulate(config, api.url, SETTINGS, api.clock, seed=1, dump=tmp_path / "dump.csv", on_progress=interrupt)
    assert count_posted(read_dump(tmp_path / "dump.csv")) == count_posted(api.received)
