"""How the command lines end: an exit code, and for an error one line instead of a traceback."""

import signal
import sys
from collections.abc import Callable

from chalicelib.errors import ThermonetError


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit code, 2 for wrong use or configuration, 128 + SIGINT after Ctrl-C."""
    try:
        return command()
    except (ThermonetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
