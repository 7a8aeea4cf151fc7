"""A picture from a host that is not ours, fetched as if its address were an attacker's: it came with the payload.

The host is looked up once, every answer must be public, and the connection goes to that very answer, so no second
look-up can lead elsewhere. No redirect is followed and no key is sent.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network

import h11

from workers.errors import Rejected, Unreachable
from workers.references.places import ELSEWHERE, Abroad
from workers.supabase.web import USER_AGENT, passes
from workers.trust import trusted

TIME_LIMIT = 20.0
CONNECT_LIMIT = 5.0

ABSENT = "The reference image could not be fetched."

_UNICAST = ip_network("2000::/3")
_RESERVED = tuple(
    ip_network(block)
    for block in (
        "168.63.129.16/32",  # Azure's own services, at a public address
        "192.0.0.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "2001::/23",
        "2002::/16",  # holds an IPv4 address, any of them
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
"""Blocks of special use that `ipaddress` calls global, or has in some versions."""


def resolve(host: str) -> list[str]:
    """Every address of a host, as the system finds it. Raises `OSError`."""
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def connect(address: str, seconds: float) -> socket.socket:
    """A connection to port 443 of an address, not of a name. Raises `OSError`."""
    return socket.create_connection((address, 443), seconds)


@dataclass(frozen=True, slots=True)
class Doors:
    """How this machine may be left for a picture. Replaced in tests only."""

    resolve: Callable[[str], Sequence[str]] = resolve
    connect: Callable[[str, float], socket.socket] = connect
    tls: ssl.SSLContext = field(default_factory=trusted)


def too_large(limit: int) -> Rejected:
    return Rejected(f"The reference is larger than {limit // 1_000_000} MB.")


def download(place: Abroad, limit: int, doors: Doors) -> bytes:
    """At most `limit` bytes.

    Raises `Rejected` with a sentence for the user where address or answer is at fault, `Unreachable` where another try
    may do better.
    """
    body, deadline = bytearray(), time.monotonic() + TIME_LIMIT
    with _reaching(), _connected(place.host, doors, deadline) as line:
        for event in _answer(line, place.host, place.target, deadline):
            if isinstance(event, h11.Response):
                _check(event, limit)
            elif isinstance(event, h11.Data):
                body += event.data
            if len(body) > limit:
                raise too_large(limit)
    return bytes(body)


def is_public(address: str) -> bool:
    """Whether an address belongs to one host of the open internet, and to none that only this network sees."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved or any(ip in block for block in _RESERVED):
        return False
    return isinstance(ip, IPv4Address) or (ip in _UNICAST and ip.scope_id is None)


@contextmanager
def _connected(host: str, doors: Doors, deadline: float) -> Iterator[ssl.SSLSocket]:
    """TLS with a certificate for the name, over a connection to the address that was checked."""
    with (
        _first(_public_addresses(host, doors, deadline), doors, deadline) as plain,
        doors.tls.wrap_socket(plain, server_hostname=host) as line,
    ):
        yield line


def _public_addresses(host: str, doors: Doors, deadline: float) -> list[str]:
    """The one look-up. Where one answer is not public, the others are not trusted either."""
    pool = ThreadPoolExecutor(1, "resolve")  # a look-up has no time-out of its own
    try:
        found = list(pool.submit(doors.resolve, host).result(_left(deadline)))
    finally:
        pool.shutdown(wait=False)
    if not all(map(is_public, found)):
        raise Rejected(ELSEWHERE)
    return found


def _first(addresses: Sequence[str], doors: Doors, deadline: float) -> socket.socket:
    """The first address that answers."""
    for address in addresses:
        try:
            line = doors.connect(address, min(CONNECT_LIMIT, _left(deadline)))
        except OSError:
            continue
        line.settimeout(_left(deadline))
        return line
    raise ConnectionError


def _answer(line: ssl.SSLSocket, host: str, target: str, deadline: float) -> Iterator[h11.Event]:
    """Ask, and read to the end. Every wait is cut at the deadline, so a server that drips gains nothing."""
    wire = h11.Connection(h11.CLIENT)
    headers = {"Host": host, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close"}
    request = h11.Request(method="GET", target=target, headers=list(headers.items()))
    line.sendall(wire.send(request) or b"")
    wire.send(h11.EndOfMessage())
    while not isinstance(event := wire.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            line.settimeout(_left(deadline))
            wire.receive_data(line.recv(65_536))
        elif isinstance(event, h11.Event):
            yield event


def _check(response: h11.Response, limit: int) -> None:
    """A redirect is a refusal: it could lead anywhere."""
    status = response.status_code
    if status >= 400 and passes(status):
        raise Unreachable(f"the reference image's server answered {status}")
    if status != 200:
        raise Rejected(ABSENT)
    announced = dict(response.headers).get(b"content-length", b"0")
    if int(announced) > limit:
        raise too_large(limit)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def _reaching() -> Iterator[None]:
    """Faults on the way become `Unreachable`, without the address they carry."""
    try:
        yield
    except (OSError, h11.ProtocolError) as error:
        raise Unreachable(f"the reference image's server did not answer: {type(error).__name__}") from None
