"""The operators' server: who may ask, what hostile clients come to, and what becomes of its own mistakes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
from support import wait_until

from workers.errors import Misconfigured
from workers.ops.access import Access
from workers.ops.feed import BEHIND, READERS, Feed, encoded
from workers.ops.room import place_of
from workers.ops.web import CONNECTIONS, MOST_BODY, App, HttpServer, Request, Response
from workers.settings import load_settings

TOKEN = "a-token-of-the-operators"
OWN = {"X-Ourvidz": "1"}


@contextmanager
def served(app: App) -> Iterator[str]:
    server = HttpServer("127.0.0.1", 0, app)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()


def client_of(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, timeout=60, verify=False)


@contextmanager
def serving(app: App) -> Iterator[httpx.Client]:
    with served(app) as address, client_of(address) as client:
        yield client


def guarded(token: str | None, *, loopback: bool = True) -> App:
    """Everything is found, by whoever may ask."""
    access = Access(token, loopback=loopback)

    def app(request: Request) -> Response:
        if refused := access.refusal(request):
            return refused
        return access.session(request) if request.path == "/session" else Response(body=b"here you are")

    return app


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """A server without a token, and one with."""
    with served(guarded(None)) as without, served(guarded(TOKEN, loopback=False)) as with_one:
        yield without, with_one


@pytest.fixture
def open_door(addresses) -> Iterator[httpx.Client]:
    with client_of(addresses[0]) as client:
        yield client


@pytest.fixture
def guarded_door(addresses) -> Iterator[httpx.Client]:
    with client_of(addresses[1]) as client:
        yield client


@pytest.mark.parametrize("host", ["localhost", "localhost:8090", "127.0.0.1:1", "[::1]:8090", "[::1]"])
def test_on_loopback_whoever_calls_the_machine_by_its_own_name_is_answered(open_door, host):
    assert open_door.get("/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "localhost.evil.example", "127.0.0.1.evil", "", "[", "10.0.0.1"]
)
def test_a_foreign_name_that_leads_to_loopback_is_refused(open_door, host):
    for path in ("/", "/health", "/status"):
        assert open_door.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("path", ["/status", "/metrics", "/events", "/history", "/dead", "/files/a/0", "/anything"])
def test_with_a_token_nothing_that_tells_anything_is_open(guarded_door, path):
    assert guarded_door.get(path).status_code == 401
    for shown in (TOKEN[:-1], TOKEN + "x", "x", "é" * 20):
        assert guarded_door.get(path, headers={b"Authorization": f"Bearer {shown}".encode()}).status_code == 401
    assert guarded_door.get(path, headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert guarded_door.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/health", "/ready", "/ping"])
def test_the_page_and_the_probes_are_open_since_they_hold_nothing(guarded_door, path):
    assert guarded_door.get(path).status_code == 200


def test_whoever_shows_the_token_once_gets_a_cookie_that_no_script_and_no_other_site_can_use(guarded_door):
    answer = guarded_door.post("/session", headers={**OWN, "Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 204
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert TOKEN not in answer.headers["set-cookie"]
    assert guarded_door.get("/status").status_code == 200  # the client keeps its cookies


def test_without_the_token_there_is_no_cookie_and_a_made_up_one_opens_nothing(guarded_door):
    assert guarded_door.post("/session", headers=OWN).status_code == 401
    assert guarded_door.get("/status", headers={"Cookie": "ourvidz_session=0123; x=\"'"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Ourvidz": "1", "Origin": "https://evil.example"},
        {"X-Ourvidz": "1", "Origin": "null"},
        {"X-Ourvidz": "1", "Sec-Fetch-Site": "cross-site"},
        {"X-Ourvidz": "1", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_can_change_nothing(open_door, headers):
    assert open_door.post("/queues/wan/pause", headers=headers).status_code == 403


def test_this_servers_own_page_can(open_door):
    own = {**OWN, "Origin": str(open_door.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert open_door.post("/queues/wan/pause", headers=own).status_code == 200


def test_no_answer_can_be_framed_sniffed_or_kept(open_door):
    headers = open_door.get("/status").headers
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert (headers["cache-control"], headers["server"]) == ("no-store", "ourvidz")


def test_a_mistake_costs_one_answer_and_not_the_server():
    def app(request: Request) -> Response:
        if request.path == "/mistake":
            raise KeyError("a marigold")
        return Response(body=b"well")

    with serving(app) as client:
        answer = client.get("/mistake")
        assert (answer.status_code, "marigold" in answer.text) == (500, False)
        assert client.get("/else").text == "well"


def test_a_body_that_is_too_long_or_of_unknown_length_is_not_read(open_door):
    long = open_door.post("/jobs", headers=OWN, content=b"x" * (MOST_BODY + 1))
    unknown = open_door.post("/jobs", headers=OWN, content=iter([b"x"]))
    assert (long.status_code, unknown.status_code) == (413, 413)


def spoken(client: httpx.Client, text: bytes) -> bytes:
    """What the server says to these bytes until it hangs up."""
    address = (client.base_url.host, client.base_url.port)
    with closing(socket.create_connection(address, timeout=60)) as line:
        line.sendall(text)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65_536), b""))


@pytest.mark.parametrize(
    "text",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xfe\x00 / HTTP/1.1\r\n\r\n",
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nshort",
        b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_whatever_is_sent_the_next_one_is_answered(open_door, text):
    spoken(open_door, text)
    assert open_door.get("/status").status_code == 200


def test_more_connections_than_places_are_turned_away_and_those_that_end_make_room():
    with serving(lambda _: Response(body=b"well")) as client:
        address = (client.base_url.host, client.base_url.port)
        idle = [socket.create_connection(address, timeout=60) for _ in range(CONNECTIONS)]
        with pytest.raises(httpx.TransportError):
            while True:
                with httpx.Client(base_url=client.base_url, timeout=60, verify=False) as another:
                    another.get("/")
        for line in idle:
            line.close()
        wait_until(lambda: answers(client))


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


def test_events_come_as_they_happen_and_a_reader_that_leaves_is_forgotten():
    feed = Feed()
    with serving(
        lambda _: Response(content_type="text/event-stream", pieces=feed.subscribe(encoded("live", 1)))
    ) as client:
        with client.stream("GET", "/events") as answer:
            lines = answer.iter_lines()
            assert [next(lines) for _ in range(4)] == ["retry: 2000", "", "event: live", "data: 1"]
            feed.publish("job", {"job": "a"})
            assert [next(lines) for _ in range(3)] == ["", "event: job", 'data: {"job":"a"}']
        wait_until(lambda: feed.publish("job", {}) or not feed.heard)


def test_a_reader_that_falls_behind_is_dropped_and_holds_nobody_up():
    feed = Feed()
    slow = feed.subscribe(b"")
    assert slow is not None
    next(slow)
    for i in range(BEHIND + 1):
        feed.publish("live", i)
    assert not feed.heard
    assert len(list(slow)) == BEHIND


def test_there_are_only_so_many_readers():
    feed = Feed()
    readers = [feed.subscribe(b"") for _ in range(READERS)]
    assert None not in readers
    assert feed.subscribe(b"") is None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def settings(**given: str) -> Any:
        for name in ("SUPABASE_URL", "UPSTASH_REDIS_REST_URL"):
            monkeypatch.setenv(name, "https://example.org")
        for name in ("SUPABASE_SERVICE_KEY", "UPSTASH_REDIS_REST_TOKEN"):
            monkeypatch.setenv(name, "a-key")
        for name, value in given.items():
            monkeypatch.setenv(name.upper(), value)
        return load_settings()

    return settings


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "10.1.2.3:8090", "pod.example:80", "1270.0.0.1:80"])
def test_an_address_that_others_can_reach_needs_a_token(environment, address):
    with pytest.raises(Misconfigured, match="OPS_TOKEN"):
        environment(ops_address=address)
    assert environment(ops_address=address, ops_token=TOKEN).ops_address == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:8090", "[::1]:8090", "127.0.0.2:8090"])
def test_on_loopback_no_token_is_needed(environment, address):
    assert environment(ops_address=address).ops_token is None


@pytest.mark.parametrize("address", ["8090", "localhost", "http://localhost:80", "a b:80", "127.0.0.1:999999"])
def test_an_address_that_is_none_is_said_at_the_start(environment, address):
    with pytest.raises(Misconfigured, match="OPS_ADDRESS"):
        environment(ops_address=address, ops_token=TOKEN)


def test_a_short_token_is_refused_and_a_long_one_is_never_logged(environment):
    with pytest.raises(Misconfigured, match="OPS_TOKEN"):
        environment(ops_token="short")
    assert TOKEN in environment(ops_token=TOKEN).secrets


def test_an_address_has_a_host_and_a_port():
    assert [place_of(text) for text in ("127.0.0.1:80", "[::1]:8090")] == [("127.0.0.1", 80), ("::1", 8090)]
