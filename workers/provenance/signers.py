"""Who signs files: a chain of this volume's own, or a signer reached over HTTP that keeps its key to itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from workers.errors import Unreachable
from workers.supabase.web import USER_AGENT, reaching
from workers.trust import trusted

if TYPE_CHECKING:
    import c2pa

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
LONGEST_SIGNATURE = 4096
SIGNER = "the signer of content credentials"


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """`certificates`: PEM, the signing one first. Nobody trusts this chain but who is given its root."""

    certificates: str
    key: bytes
    algorithm: str = "es256"

    def opened(self) -> AbstractContextManager[c2pa.Signer]:
        import c2pa

        # An empty address of a time-stamping authority would be asked; None is none.
        info = c2pa.C2paSignerInfo(self.algorithm.encode(), self.certificates.encode(), self.key, None)
        signer: AbstractContextManager[c2pa.Signer] = c2pa.Signer.from_info(info)
        return signer


class RemoteSigner:
    """`GET url` answers `{"alg": "es256", "certificates": "<PEM, the signing one first>"}`, `POST url` with the bytes
    to be signed answers the signature's bytes. One instance serves all threads; `timeout` in seconds."""

    def __init__(self, url: str, token: str = "", *, timeout: float = 10.0) -> None:
        self._url = url
        headers = {"User-Agent": USER_AGENT} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(headers=headers, timeout=timeout, verify=trusted())
        self._lock = threading.Lock()
        self._identity: tuple[str, str] | None = None

    @contextmanager
    def opened(self) -> Iterator[c2pa.Signer]:
        """The library swallows what a callback raises, so it is kept and raised here. After any failure the chain is
        asked for anew: the signer may have got another certificate."""
        import c2pa

        failed: list[Unreachable] = []

        def sign(data: bytes) -> bytes:
            try:
                return self._sign(data)
            except Unreachable as error:
                failed.append(error)
                return b""

        algorithm, certificates = self._known_identity()
        try:
            with c2pa.Signer.from_callback(sign, _numbered(algorithm), certificates) as signer:
                yield signer
        except c2pa.C2paError:
            self._identity = None
            raise failed[0] if failed else Unreachable(f"{SIGNER} signs with another key than it says") from None

    def algorithm(self) -> str:
        """Whether it answers, and how it signs. Raises `Unreachable`."""
        return self._known_identity()[0]

    def close(self) -> None:
        self._http.close()

    def _known_identity(self) -> tuple[str, str]:
        with self._lock:
            if self._identity is None:
                self._identity = _identity(self._ask("GET"))
            return self._identity

    def _sign(self, data: bytes) -> bytes:
        signature = self._ask("POST", data).content
        if not 0 < len(signature) <= LONGEST_SIGNATURE:
            raise Unreachable(f"{SIGNER} answered {len(signature)} bytes, which is no signature")
        return signature

    def _ask(self, method: str, data: bytes | None = None) -> httpx.Response:
        with reaching(SIGNER):
            response = self._http.request(method, self._url, content=data)
        if response.status_code != httpx.codes.OK:
            denied = response.status_code in (401, 403)
            raise Unreachable(f"{SIGNER} answered {response.status_code}", denied=denied)
        return response


def _identity(response: httpx.Response) -> tuple[str, str]:
    """Algorithm and certificates."""
    try:
        said: Any = response.json()
        algorithm, certificates = said["alg"], said["certificates"]
    except (ValueError, KeyError, TypeError):
        raise Unreachable(f"{SIGNER} did not say who it is") from None
    if algorithm not in ALGORITHMS or not isinstance(certificates, str) or "BEGIN CERTIFICATE" not in certificates:
        raise Unreachable(f"{SIGNER} did not say who it is")
    return algorithm, certificates


def _numbered(algorithm: str) -> c2pa.C2paSigningAlg:
    import c2pa

    return c2pa.C2paSigningAlg[algorithm.upper()]
