"""The command lines end with a code and a line, whatever goes wrong."""

import re
import signal
from typing import NoReturn

import pytest
from botocore.exceptions import NoRegionError

from chalicelib.errors import ThermonetError, ValidationError
from localcloud import __main__ as localcloud
from ops import __main__ as ops
from ops.exit_codes import exit_code_of
from simulator import __main__ as simulator


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("code", [0, 1])
def test_a_commands_own_code_is_its_exit_code(code):
    assert exit_code_of(lambda: code) == code


@pytest.mark.parametrize("error", [ValidationError("days: too many"), OSError("no such file"), NoRegionError()])
def test_an_error_is_a_line_and_not_a_traceback(error, capsys):
    assert exit_code_of(failing(error)) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_an_error_of_a_file_names_it(tmp_path, capsys):
    assert exit_code_of(lambda: len((tmp_path / "gone").read_text())) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'gone'}: No such file or directory\n"


PROGRAMS = {"localcloud": localcloud.main, "ops": ops.main, "simulator": simulator.main}
WRONG = {
    "": list(PROGRAMS),
    "nosuch": list(PROGRAMS),
    "run": ["simulator"],
    "run --seed x": ["localcloud", "simulator"],
    "run --bogus": ["localcloud"],
    "token --days x": ["ops", "simulator"],
    "token --scope x": ["ops"],
}


@pytest.mark.parametrize(("line", "program"), [(line, one) for line, programs in WRONG.items() for one in programs])
def test_wrong_arguments_are_told_in_one_line(line, program, capsys):
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program](line.split(), {})
    assert ended.value.code == 2
    assert re.fullmatch(rf"error: .*; see `python -m (ops|{program}).* --help`\n", capsys.readouterr().err)


URL = ["--url", "http://127.0.0.1:9"]
UNREADABLE = [
    (localcloud.main, ["run", "--config"]),
    (simulator.main, ["run", *URL, "--config"]),
    (simulator.main, ["run", *URL, "--token-file"]),
    (simulator.main, ["run", *URL, "--dump"]),
]


@pytest.mark.parametrize(("program", "arguments"), UNREADABLE)
def test_a_folder_instead_of_a_file_is_told_in_one_line(program, arguments, tmp_path, capsys):
    assert program([*arguments, str(tmp_path)], {}) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize("command", ["plan", "deploy", "destroy"])
@pytest.mark.parametrize("stage", [[], [""]])
def test_a_command_for_a_stage_asks_for_one_by_an_example(command, stage, capsys):
    assert ops.main([command, *stage], {}) == 2
    assert capsys.readouterr().err == f"error: stage: say which one, such as `make {command} STAGE=dev`\n"


def test_a_run_removes_what_an_earlier_one_has_written_and_nothing_else(tmp_path, monkeypatch):
    class NoCloudError(ThermonetError):
        pass

    def no_cloud(*_: object, **__: object) -> NoReturn:
        raise NoCloudError

    monkeypatch.setattr("localcloud.run.local_cloud", no_cloud)
    own = ["readings.csv", "report.html", "reports/1.json"]
    others = ["thesis.txt", "load.csv", "reports/thesis.txt"]
    (tmp_path / "reports").mkdir()
    for name in own + others:
        (tmp_path / name).write_text("years of work")
    assert localcloud.main(["run", "--out", str(tmp_path)], {}) == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(others)


def test_ctrl_c_ends_a_command_as_it_does_a_shells():
    assert exit_code_of(failing(KeyboardInterrupt())) == 128 + signal.SIGINT
