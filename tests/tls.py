"""An HTTPS server on this machine, with a certificate of a host that is not this machine."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Reply = Callable[[ssl.SSLSocket], None]


def certificate(folder: Path, host: str) -> Path:
    """A certificate that vouches for itself, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / f"{host}.pem"
    file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem))
    return file


class TlsServer:
    """Answers each connection by `reply`. Keeps what was asked, and for which name the certificate was wanted."""

    def __init__(self, pem: Path) -> None:
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self.reply: Reply = response(b"")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @contextmanager
    def serving(self) -> Iterator[TlsServer]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                with suppress(OSError), line, self._context.wrap_socket(line, server_side=True) as secured:
                    self.requests.append(secured.recv(65_536))
                    self.reply(secured)


def response(body: bytes, status: int = 200, headers: bytes = b"", length: int | None = None) -> Reply:
    """A whole answer at once; `length` is what it announces instead of the truth."""
    announced = len(body) if length is None else length
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, announced, headers)
    return lambda line: line.sendall(head + body)


def drip(seconds: float, *, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Reply:
    """An answer that comes byte by byte and never ends."""
    pause = threading.Event()

    def reply(line: ssl.SSLSocket) -> None:
        line.sendall(head)
        while not pause.wait(seconds):
            line.sendall(b"x")

    return reply
