"""A user's reference picture, fetched as if its address were an attacker's: it came with the payload.

The address must spell out our own storage and the user's own folder. Its host is looked up once, every answer must
be public, and the connection goes to that very answer, so no second look-up can lead elsewhere. No redirect is
followed and no key is sent. What arrives is decoded by `workers.picture`.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from urllib.parse import unquote

import h11

from workers.errors import Rejected, Unreachable
from workers.job import Reference
from workers.picture import Picture, decode
from workers.web import USER_AGENT, passes

MAX_BYTES = 20_000_000
TIME_LIMIT = 20.0
CONNECT_LIMIT = 5.0
MAX_ADDRESS = 2048

ELSEWHERE = "The reference image must lie in your own folder of this service."
TOO_LARGE = "The reference image is larger than 20 MB."
ABSENT = "The reference image could not be fetched."

_ADDRESS = re.compile(
    r"https://([a-z0-9.-]+)(?::443)?(/[\w.~!$&'()*+,;=:@%/-]*)(\?[\w.~!$&'()*+,;=:@%/?-]*)?", re.ASCII
)
_IN_STORAGE = re.compile(r"/storage/v1/object/(?:sign|public)/[\w-]+/([^/]+)/.+", re.ASCII)
_AMBIGUOUS = re.compile(r"[/\\%\x00-\x1f\x7f]")

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
    """How this machine may be left for a picture. `hosts` are in lower case; the rest is replaced in tests only."""

    hosts: frozenset[str]
    resolve: Callable[[str], Sequence[str]] = resolve
    connect: Callable[[str, float], socket.socket] = connect
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)


def fetch(reference: Reference, user_id: str, doors: Doors) -> Picture:
    """Download and decode one reference picture.

    Raises `Rejected` with a sentence for the user where address, answer or picture is at fault, `Unreachable` where
    another try may do better.
    """
    try:
        host, target = locate(reference.url, user_id, doors.hosts)
        return decode(_download(host, target, doors, time.monotonic() + TIME_LIMIT))
    except Rejected as error:
        raise Rejected(error.sentence, field=reference.role) from None


def locate(url: str, user_id: str, hosts: frozenset[str]) -> tuple[str, str]:
    """Host and request target of an address that can only mean a picture of this user. Raises `Rejected`.

    It is matched, not parsed: what has more than one reading fits no pattern.
    """
    whole = _ADDRESS.fullmatch(url) if len(url) <= MAX_ADDRESS else None
    if whole is None or whole[1] not in hosts:
        raise Rejected(ELSEWHERE)
    host, path, query = whole[1], whole[2], whole[3] or ""
    place = _IN_STORAGE.fullmatch(path)
    if place is None or place[1] != user_id or not all(map(_is_plain, path.split("/")[1:])):
        raise Rejected(ELSEWHERE)
    return host, path + query


def is_public(address: str) -> bool:
    """Whether an address belongs to one host of the open internet, and to none that only this network sees."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved or any(ip in block for block in _RESERVED):
        return False
    return isinstance(ip, IPv4Address) or (ip in _UNICAST and ip.scope_id is None)


def _is_plain(segment: str) -> bool:
    """Whether every server reads the same in it: no dot segment, no slash, nothing encoded twice."""
    try:
        text = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return False
    return text not in ("", ".", "..") and not _AMBIGUOUS.search(text)


def _download(host: str, target: str, doors: Doors, deadline: float) -> bytes:
    body = bytearray()
    with _reaching(), _connected(host, doors, deadline) as line:
        for event in _answer(line, host, target, deadline):
            if isinstance(event, h11.Response):
                _check(event)
            elif isinstance(event, h11.Data):
                body += event.data
            if len(body) > MAX_BYTES:
                raise Rejected(TOO_LARGE)
    return bytes(body)


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


def _check(response: h11.Response) -> None:
    """A redirect is a refusal: it could lead anywhere."""
    status = response.status_code
    if status >= 400 and passes(status):
        raise Unreachable(f"the reference image's server answered {status}")
    if status != 200:
        raise Rejected(ABSENT)
    announced = dict(response.headers).get(b"content-length", b"0")
    if int(announced) > MAX_BYTES:
        raise Rejected(TOO_LARGE)


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
