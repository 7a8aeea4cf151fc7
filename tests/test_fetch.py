"""A reference picture from an allowed host is fetched through one guarded door, or not at all."""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from PIL import Image

from tests.hostile import ADDRESSES, FOLDER, HOST, OTHER, PUBLIC_ADDRESSES, URLS, USER
from tests.tls import TlsServer, certificate, drip, response
from workers.errors import Rejected, Unreachable
from workers.job import Reference
from workers.references import fetch as module
from workers.references import loading as references
from workers.references.fetch import Doors, connect, download, is_public, resolve
from workers.references.loading import References
from workers.references.places import ELSEWHERE, Abroad, Stored, locate

HOSTS = frozenset({HOST})
HOME = f"https://{HOST}"
OURS = "https://ours.supabase.co"
KEY = "sb_secret_of_ours"
PUBLIC = "104.18.38.10"
URL = f"https://{HOST}{FOLDER}/a.png?token=abc.def"


def png() -> bytes:
    Image.new("RGB", (8, 6), (200, 30, 30)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@dataclass
class Outside:
    """A world where every connection ends at one server here. Notes which names and addresses were asked for."""

    server: TlsServer
    tls: ssl.SSLContext
    answers: list[list[str]] = field(default_factory=lambda: [[PUBLIC]])
    looked_up: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    silent: str = ""

    @property
    def doors(self) -> Doors:
        return Doors(self.resolve, self.connect, self.tls)

    def resolve(self, host: str) -> list[str]:
        self.looked_up.append(host)
        return self.answers[min(len(self.looked_up), len(self.answers)) - 1]

    def connect(self, address: str, seconds: float) -> socket.socket:
        self.called.append(address)
        if address == self.silent:
            raise TimeoutError
        return socket.create_connection(("127.0.0.1", self.server.port), seconds)

    def fetch(self, url: str = URL, own: str = OURS):
        bringer = References(own, KEY, HOSTS if own == OURS else frozenset(), self.doors)
        try:
            return bringer.collect([Reference("first_frame", url)], USER, None)["first_frame"]
        finally:
            bringer.close()


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def outside(pem) -> Iterator[Outside]:
    with TlsServer(pem).serving() as server:
        server.reply = response(png())
        yield Outside(server, ssl.create_default_context(cafile=pem))


def test_a_picture_in_the_users_folder_is_fetched_and_decoded(outside):
    picture = outside.fetch()
    assert (picture.size, picture.pixels[:3]) == ((8, 6), bytes((200, 30, 30)))


def test_the_connection_goes_to_the_address_that_was_looked_up_and_asks_for_the_name(outside):
    outside.fetch()
    assert (outside.looked_up, outside.called, outside.server.names) == ([HOST], [PUBLIC], [HOST])
    (request,) = outside.server.requests
    assert request.startswith(f"GET {FOLDER}/a.png?token=abc.def HTTP/1.1\r\n".encode())
    assert f"\r\nHost: {HOST}\r\n".encode() in request


def test_no_key_is_sent_along(outside):
    outside.fetch()
    assert not {b"authorization", b"apikey", b"cookie"} & set(
        outside.server.requests[0].lower().replace(b":", b"").split()
    )


@pytest.mark.parametrize(
    "url", [URL, URL.replace(HOST, f"{HOST}:443"), URL.replace("a.png", "caf%C3%A9%20(1)/a+b.png")]
)
def test_honest_addresses_are_accepted(url):
    assert locate(url, USER, OURS, HOSTS) == Abroad(HOST, url.partition(HOST)[2].removeprefix(":443"))
    assert locate(url, USER, HOME, frozenset()).path.startswith(f"{USER}/")


def test_an_address_in_our_storage_counts_as_the_path_that_it_names():
    url = URL.replace("a.png", "caf%C3%A9%20(1)/a+b.png")
    assert locate(url, USER, HOME, HOSTS) == Stored("pictures", f"{USER}/café (1)/a+b.png")
    local = URL.replace(HOME, "http://127.0.0.1:54321")
    assert locate(local, USER, "http://127.0.0.1:54321", frozenset()) == Stored("pictures", f"{USER}/a.png")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (f"{USER}/a b.png", Stored("reference_images", f"{USER}/a b.png")),
        (f"sdxl_image_high/{USER}/job/0.png", Stored("sdxl_image_high", f"{USER}/job/0.png")),
    ],
)
def test_a_path_needs_no_address(path, place):
    assert locate(path, USER, HOME, frozenset()) == place


@pytest.mark.parametrize(
    "path",
    [
        f"{OTHER}/a.png",
        f"pictures/{OTHER}/a.png",
        f"{USER}/../{OTHER}/a.png",
        f"{USER}//a.png",
        f"{USER}/",
        USER,
        f"pictures/{USER}",
        f"../{USER}/a.png",
        f"a/b/{USER}/a.png",
        f"{USER}/a%2e.png",
        f"{USER}\\a.png",
        f"/{USER}/a.png",
        f"{USER}/a\n.png",
        f"pictures%2f/{USER}/a.png",
    ],
)
def test_a_path_that_is_not_the_users_is_refused(path):
    with pytest.raises(Rejected) as refused:
        locate(path, USER, HOME, HOSTS)
    assert refused.value.sentence == ELSEWHERE


@pytest.mark.parametrize("url", [f"{HOME}@evil.example{FOLDER}/a.png", f"{OURS}1{FOLDER}/a.png", "https:///a.png"])
def test_what_only_begins_like_our_address_is_refused(url):
    with pytest.raises(Rejected):
        locate(url, USER, OURS, HOSTS)


def test_another_host_may_name_its_pictures_as_it_likes_but_not_lead_to_another_users_folder():
    assert locate(f"https://{HOST}/cats/1.png", USER, OURS, HOSTS) == Abroad(HOST, "/cats/1.png")
    with pytest.raises(Rejected):
        locate(f"https://{HOST}/storage/v1/object/sign/pictures/{OTHER}/a.png", USER, OURS, HOSTS)


def test_the_table_of_hostile_addresses_is_long_and_without_repetitions():
    assert len(set(URLS)) == len(URLS) >= 60
    assert len(set(ADDRESSES)) == len(ADDRESSES) >= 60


@pytest.mark.parametrize("url", URLS)
def test_a_hostile_address_is_refused_before_anything_is_looked_up(outside, url):
    for own in (HOME, OURS) if "/storage/" in url else (HOME,):
        with pytest.raises(Rejected) as refused:
            outside.fetch(url, own)
        assert refused.value.sentence == ELSEWHERE
    assert not outside.looked_up
    assert not outside.called


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_name_that_leads_inside_is_refused_before_anything_is_called(outside, address):
    outside.answers = [[address]]
    with pytest.raises(Rejected):
        outside.fetch()
    assert not outside.called


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_pass(address):
    assert is_public(address)


def test_one_inner_address_among_public_ones_spoils_them_all(outside):
    outside.answers = [[PUBLIC, "10.0.0.1"]]
    with pytest.raises(Rejected):
        outside.fetch()
    assert not outside.called


def test_a_resolver_that_changes_its_mind_is_asked_only_once(outside):
    outside.answers = [[PUBLIC], ["127.0.0.1"]]
    outside.fetch()
    assert (len(outside.looked_up), outside.called) == (1, [PUBLIC])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_a_host_that_should_never_have_been_allowed_is_caught_by_its_address(monkeypatch, host):
    def never(address: str, seconds: float) -> socket.socket:
        raise AssertionError(address)

    with pytest.raises(Rejected):
        download(Abroad(host, f"{FOLDER}/a.png"), 1000, Doors(resolve, never))


def test_the_true_doors_lead_to_port_443_of_an_address(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *called: called)
    assert connect(PUBLIC, 5.0) == ((PUBLIC, 443), 5.0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["https://169.254.169.254/latest/meta-data", URL])
def test_a_redirect_is_not_followed(outside, status, target):
    outside.server.reply = response(b"", status, b"Location: %s\r\n" % target.encode())
    with pytest.raises(Rejected):
        outside.fetch()
    assert len(outside.called) == len(outside.server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 206])
def test_another_answer_than_the_picture_ends_the_job(outside, status):
    outside.server.reply = response(b"", status)
    with pytest.raises(Rejected) as refused:
        outside.fetch()
    assert (refused.value.sentence, refused.value.field) == (module.ABSENT, "first_frame")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_fault_may_be_tried_again(outside, status):
    outside.server.reply = response(b"", status)
    with pytest.raises(Unreachable):
        outside.fetch()


def test_a_picture_that_announces_too_much_is_not_read(outside):
    outside.server.reply = response(b"", length=references.PICTURE_BYTES + 1)
    with pytest.raises(Rejected, match="larger than 20 MB"):
        outside.fetch()


def test_a_picture_that_announces_nothing_is_read_no_further_than_the_limit(outside, monkeypatch):
    monkeypatch.setattr(references, "PICTURE_BYTES", 1_000_000)
    sent = []

    def flood(line: ssl.SSLSocket) -> None:
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(line.send(bytes(65_536)))

    outside.server.reply = flood
    with pytest.raises(Rejected, match="larger than 1 MB"):
        outside.fetch()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: ", b""])
def test_a_server_that_drips_is_cut_off_in_time(outside, monkeypatch, head):
    monkeypatch.setattr(module, "TIME_LIMIT", 0.5)
    outside.server.reply = drip(0.05, head=head)
    with pytest.raises(Unreachable):
        outside.fetch()  # what drips here never ends by itself


def test_a_resolver_that_hangs_is_given_up_in_time(outside, monkeypatch):
    monkeypatch.setattr(module, "TIME_LIMIT", 0.2)
    done = threading.Event()
    doors = Doors(lambda _host: done.wait(60) and [], outside.connect)
    with pytest.raises(Unreachable):
        download(Abroad(HOST, f"{FOLDER}/a.png"), 1000, doors)
    done.set()


@pytest.mark.parametrize("reply", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"])
def test_an_answer_that_is_none_may_be_tried_again(outside, reply):
    outside.server.reply = lambda line: line.sendall(reply)
    with pytest.raises(Unreachable) as lost:
        outside.fetch()
    assert HOST not in str(lost.value)


def test_headers_without_end_are_not_collected(outside):
    outside.server.reply = lambda line: line.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000)
    with pytest.raises(Unreachable):
        outside.fetch()


def test_a_certificate_for_another_name_is_not_accepted(outside, tmp_path):
    with TlsServer(certificate(tmp_path, "evil.example")).serving() as server:
        outside.server = server
        with pytest.raises(Unreachable, match="SSLCertVerificationError"):
            outside.fetch()


def test_a_compressed_answer_is_not_unpacked(outside):
    outside.server.reply = response(b"\x1f\x8b" + bytes(100), headers=b"Content-Encoding: gzip\r\n")
    with pytest.raises(Rejected):
        outside.fetch()


def test_an_address_that_does_not_answer_gives_way_to_the_next(outside):
    outside.answers, outside.silent = [["1.1.1.1", PUBLIC]], "1.1.1.1"
    assert outside.fetch().size == (8, 6)
    assert outside.called == ["1.1.1.1", PUBLIC]
