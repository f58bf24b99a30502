"""How the command lines end: an exit code, and for an error one line instead of a traceback or a page of usage."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import ThermonetError


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line; its subcommands are of the same kind."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, 2 for wrong use or configuration, 128 + SIGINT after Ctrl-C."""
    try:
        return command()
    except (ThermonetError, OSError, BotoCoreError, ClientError) as error:
        print(f"error: {_describe(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
