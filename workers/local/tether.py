"""Tie a process to the one that started it. Also runs as a script: `tether.py PARENT COMMAND …` becomes COMMAND, and
`tether.py PARENT:UID:GID COMMAND …` becomes it under another account.

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


def become(uid: int, gid: int) -> None:
    """Give root's rights up for good. It unties: tie afterwards."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    _parent, *_servant = map(int, sys.argv[1].split(":"))
    if _servant:
        become(*_servant)
    die_with(_parent, signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  the command is what the starting process named
