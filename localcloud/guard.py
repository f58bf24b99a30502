"""Runs a Python module, and kills its whole process group when the process that started it is gone.

A script for the interpreter that has the module: `python -P guard.py <module>`, with a pipe as standard input.
"""

import os
import runpy
import signal
import sys
import threading


def _kill_group_when_orphaned() -> None:
    """Read the pipe that the starting process holds open: the kernel closes it however that process ends."""
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_kill_group_when_orphaned, daemon=True).start()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
