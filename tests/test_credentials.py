"""Content credentials: written into every kind of file, by a chain of our own or by a signer elsewhere, and read."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.signer import TOKEN, SigningServer, running_signer
from workers.errors import Misconfigured, Unreachable
from workers.job import Output
from workers.media import PARAMETERS, XMP, encode
from workers.provenance import chain, credentials
from workers.provenance.chain import Keys, keys_in
from workers.provenance.credentials import Claims, Credential, Signatory, SigningError
from workers.provenance.signers import LocalSigner, RemoteSigner
from workers.safety.mark_text import GENERATOR, SOURCE_TYPE, VERSION

CLAIMS = Claims(GENERATOR, VERSION, SOURCE_TYPE, "a title")
TEXT = {PARAMETERS: "a lighthouse at dusk", XMP: "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"}
every_kind = pytest.mark.parametrize("kind", ["0.png", "0.mp4", "0.thumb.webp"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys_in(tmp_path_factory.mktemp("volume") / "provenance")


@pytest.fixture(scope="module")
def ours(keys: Keys) -> LocalSigner:
    return LocalSigner(keys.certificates, keys.signing)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a file of this name, not yet signed."""

    def write(name: str = "0.png") -> Path:
        frames = np.full((5 if name.endswith("mp4") else 1, 64, 96, 3), 90, np.uint8)
        media = "video" if len(frames) > 1 else "image"
        options = {"fps": 16, "quality": "fast", "limit": 1 << 20, "text": TEXT}
        encode(Output(0, 7, frames), tmp_path, media=media, thumbnail="thumb" in name, **options)
        return tmp_path / name

    return write


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SigningServer]:
    with running_signer(tmp_path / "elsewhere") as server:
        yield server


def signed(path: Path, signatory: Signatory) -> Path:
    credentials.sign(path, CLAIMS, signatory)
    return path


def read(path: Path, anchors: str = "") -> Credential:
    found = credentials.read(path, anchors)
    assert found is not None
    return found


def streams(path: Path) -> object:
    """What a viewer shows."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)], container.metadata["comment"]
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes(), picture.info.get("xmp") or picture.info.get(XMP)


# What is in a file


@every_kind
def test_a_signed_file_says_that_a_model_made_it_and_which_software(written, ours, keys, kind):
    found = read(signed(written(kind), ours), keys.root)
    assert found == Credential("trusted", chain.LEAF, GENERATOR, SOURCE_TYPE)


@every_kind
def test_signing_changes_nothing_else_and_adds_three_kibibytes(written, ours, kind):
    path = written(kind)
    before, size = streams(path), path.stat().st_size
    assert streams(signed(path, ours)) == before
    assert 2_000 < path.stat().st_size - size < 4_096
    assert not list(path.parent.glob("signed-*"))


def test_whoever_does_not_know_the_chain_sees_a_whole_manifest_of_a_stranger(written, ours):
    found = read(signed(written(), ours))
    assert (found.state, found.problems) == ("valid", (credentials.UNTRUSTED,))


@every_kind
def test_a_changed_file_is_noticed(written, ours, keys, kind):
    path = signed(written(kind), ours)
    data = bytearray(path.read_bytes())
    data[-20 if kind != "0.mp4" else data.rindex(b"mdat") + 40] ^= 1
    path.write_bytes(data)
    found = read(path, keys.root)
    assert found.state == "invalid"
    assert [code for code in found.problems if code.endswith("mismatch")]


def test_a_file_without_a_manifest_has_none(written):
    assert credentials.read(written()) is None


def test_a_file_that_cannot_be_signed_is_left_as_it_was(written, keys):
    path = written()
    before = path.read_bytes()
    with pytest.raises(SigningError):
        credentials.sign(path, CLAIMS, LocalSigner(keys.certificates, b"no key"))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# The chain of a volume


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path):
    folder = tmp_path / "volume" / "provenance"
    assert keys_in(folder) == keys_in(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_processes_that_start_together_end_up_with_the_same_keys(tmp_path, monkeypatch):
    from itertools import count

    numbers = count()
    monkeypatch.setattr(chain.os, "getpid", lambda: next(numbers))
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(keys_in, [tmp_path / "provenance"] * 8))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["provenance"]


@pytest.mark.parametrize("name", [chain.MARK_KEY, chain.CHAIN, chain.SIGNING_KEY])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")], ids=["lost", "emptied"])
def test_keys_that_are_not_whole_are_never_replaced_silently(tmp_path, name, damage):
    folder = tmp_path / "provenance"
    keys_in(folder)
    damage(folder / name)
    with pytest.raises(Misconfigured, match="provenance"):
        keys_in(folder)


# A signer elsewhere


@pytest.fixture
def remote(server: SigningServer) -> Iterator[Callable[..., RemoteSigner]]:
    """Reaches the signer with its token: `remote(**options)`."""
    with ExitStack() as opened:

        def reach(**options: object) -> RemoteSigner:
            return opened.enter_context(closing(RemoteSigner(server.url, **{"token": TOKEN} | options)))

        yield reach


@every_kind
def test_a_signer_elsewhere_signs_without_giving_its_key(written, server, remote, kind):
    found = read(signed(written(kind), remote()), server.keys.root)
    assert found.state == "trusted"
    assert server.asked == ["GET", "POST"]


def test_it_says_once_who_it_is(written, server, remote):
    signer = remote()
    for _ in range(3):
        signed(written(), signer)
    assert server.asked == ["GET", "POST", "POST", "POST"]


def failing(server: SigningServer, status: int) -> None:
    server.status = status


TROUBLES = {
    "is down": lambda server: failing(server, 503),
    "refuses": lambda server: failing(server, 403),
    "is gone": lambda server: server.server_close(),
    "hangs": lambda server: setattr(server, "hangs", True),
    "says nothing of itself": lambda server: server.identity.clear(),
    "speaks of an unknown algorithm": lambda server: server.identity.update(alg="rot13"),
    "has another key than it says": lambda server: setattr(server, "key", another_key()),
}


def another_key() -> object:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_file_waits_while_the_signer(written, server, remote, trouble):
    TROUBLES[trouble](server)
    path = written()
    before = path.read_bytes()
    with pytest.raises(Unreachable) as caught:
        signed(path, remote(timeout=0.3 if trouble == "hangs" else 60.0))
    assert caught.value.denied == (trouble == "refuses")
    assert TOKEN not in str(caught.value)
    assert server.url not in str(caught.value)
    assert path.read_bytes() == before


def test_a_wrong_token_is_refused(written, server, remote):
    with pytest.raises(Unreachable) as caught:
        signed(written(), remote(token="another"))
    assert caught.value.denied


def test_a_signer_that_got_a_new_certificate_is_asked_who_it_is(written, server, remote, tmp_path):
    signer = remote()
    signed(written(), signer)
    with running_signer(tmp_path / "renewed") as renewed:
        server.key, server.identity = renewed.key, renewed.identity
        with pytest.raises(Unreachable):
            signed(written(), signer)
        assert read(signed(written(), signer), renewed.keys.root).state == "trusted"
