"""The redis protocol, version 2, with replies left as they are: the REST gateway passes them on unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

Command: TypeAlias = Sequence[bytes]


class RespError(Exception):
    """An error reply. It is a value here, since one command of a batch may fail and the others not."""


Reply: TypeAlias = "bytes | int | RespError | list[Reply] | None"


class Connection:
    """One connection, opened on first use and again after it broke. Batches of concurrent callers do not mix.

    `greeting` is sent at every opening; an error reply to it raises `ConnectionError`.
    """

    def __init__(self, url: str, greeting: Sequence[Command] = ()) -> None:
        address = urlsplit(url)
        self._address = address.hostname or "127.0.0.1", address.port or 6379
        self._greeting = greeting
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """Send all, then read as many replies. Raises `OSError` or `EOFError` when the server is away."""
        async with self._lock:
            try:
                return await self._exchange(commands)
            except BaseException:
                self.close()
                raise

    async def listen(self, command: Command) -> AsyncIterator[Reply]:
        """Every reply that follows one command, for subscriptions; the connection serves nothing else then."""
        reader, writer = await self._open()
        writer.write(encode(command))
        while True:
            yield await read_reply(reader)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        reader, writer = await self._open()
        writer.write(b"".join(map(encode, commands)))
        await writer.drain()
        return [await read_reply(reader) for _ in commands]

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
            for reply in await self._exchange(self._greeting):
                if isinstance(reply, RespError):
                    raise ConnectionError(str(reply))
        return self._streams


def encode(command: Command) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    parts += (b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in command)
    return b"".join(parts)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"+":
        return rest
    if kind == b"-":
        return RespError(rest.decode(errors="replace"))
    if kind == b":":
        return int(rest)
    if rest == b"-1":
        return None
    if kind == b"$":
        return (await reader.readexactly(int(rest) + 2))[:-2]
    return [await read_reply(reader) for _ in range(int(rest))]
