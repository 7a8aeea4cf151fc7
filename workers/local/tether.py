"""Tie a process to the one that started it. Also runs as a script: `tether.py PARENT COMMAND …` becomes COMMAND.

The script form exists because the tie has to be made in the child, and running Python between fork and exec is not
safe where the parent has threads. It imports nothing of this package: it runs isolated, to start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int, sign: signal.Signals) -> None:
    """Ask the kernel for `sign` when the thread that started us ends. Raises `SystemExit` if it already has.

    Only Linux has this; elsewhere the parent's own clean-up has to do.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sign))
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]), signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  the command is what the starting process named
