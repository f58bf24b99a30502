"""The command lines end with a code and a line, whatever goes wrong."""

import signal

import pytest

from chalicelib.errors import ValidationError
from ops.exit_codes import exit_code_of


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("code", [0, 1])
def test_a_commands_own_code_is_its_exit_code(code):
    assert exit_code_of(lambda: code) == code


@pytest.mark.parametrize("error", [ValidationError("days: too many"), OSError("no such file")])
def test_an_error_is_a_line_and_not_a_traceback(error, capsys):
    assert exit_code_of(failing(error)) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_ctrl_c_ends_a_command_as_it_does_a_shells():
    assert exit_code_of(failing(KeyboardInterrupt())) == 128 + signal.SIGINT
