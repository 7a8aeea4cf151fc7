"""No test of the pipelines may need a network: whatever would leave this machine is refused and remembered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

LOOPBACK = ("127.", "::1", "localhost")


@contextmanager
def offline() -> Iterator[None]:
    """Fails at the end if anything tried to reach another host, also where a library swallowed the refusal."""
    tried: list[Any] = []
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def check(host: Any) -> None:
        if not str(host).startswith(LOOPBACK):
            tried.append(host)
            raise OSError("no network in tests")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            check(address[0])
        connect(self, address)

    def guarded_resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        check(host)
        return resolve(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket, "getaddrinfo", guarded_resolve)
        yield
    assert not tried
