"""Imported by every Python process that finds this folder on its path: nothing may leave this machine.

Whatever tries is refused, and its destination is added to the file OFFLINE_NOTES.
"""

from __future__ import annotations

import os
import sys
from typing import Any

LOOPBACK = ("127.", "::1", "localhost")


def refuse(host: Any) -> None:
    with open(os.environ["OFFLINE_NOTES"], "a") as notes:
        notes.write(f"{host!r} by {sys.argv[:2]}\n")
    raise OSError("no network in tests")


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    match event, arguments:
        case (("socket.connect" | "socket.sendto"), (_, (str(host), *_))):
            pass
        case (("socket.getaddrinfo" | "socket.gethostbyname"), (str(host), *_)):
            pass
        case _:
            return
    if not host.startswith(LOOPBACK):
        refuse(host)


sys.addaudithook(guard)
