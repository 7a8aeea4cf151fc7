"""What a volume marks its files with: a key for the marks in pixels, and a chain of certificates of its own.

All is made at the first use, in one folder that appears as a whole, so that two processes end up with the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import Misconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.x509 import Certificate, KeyUsage, Name

MARK_KEY, CHAIN, SIGNING_KEY = "mark.key", "chain.pem", "signing.key"
KEY_BYTES = 32
LIFE = timedelta(days=3650)
ROOT, LEAF = "OurVidz self-made root", "OurVidz self-made signer"
_FIX = "Restore it, or remove it to begin anew; set PROVENANCE_DIR where it lies elsewhere."


@dataclass(frozen=True, slots=True)
class Keys:
    """`certificates` (PEM): the signing one, then its root. `root` is the latter alone."""

    mark: bytes
    certificates: str
    signing: bytes

    @property
    def root(self) -> str:
        return "-----BEGIN" + self.certificates.rpartition("-----BEGIN")[2]


def keys_in(folder: Path) -> Keys:
    """The keys of a folder, made where there is none yet. Raises `Misconfigured` for one that is not whole."""
    try:
        if not folder.exists():
            _make(folder)
    except OSError as error:
        raise Misconfigured([f"{folder} cannot be made: {error.strerror}. Set PROVENANCE_DIR."]) from None
    return read_keys(folder)


def read_keys(folder: Path) -> Keys:
    """Those that are there. Raises `Misconfigured`."""
    try:
        mark = bytes.fromhex((folder / MARK_KEY).read_text())
        keys = Keys(mark, (folder / CHAIN).read_text(), (folder / SIGNING_KEY).read_bytes())
    except (OSError, ValueError) as error:
        raise Misconfigured([f"{folder} does not hold the keys for marking files ({error}). {_FIX}"]) from None
    if len(keys.mark) < KEY_BYTES or not keys.certificates or not keys.signing:
        raise Misconfigured([f"{folder} holds keys that are cut off. {_FIX}"])
    return keys


def _make(folder: Path) -> None:
    """Whoever comes second finds the name taken, and its own keys are dropped."""
    staged = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(mode=0o700, parents=True)
    try:
        certificates, signing = _self_made()
        for name, text in ((MARK_KEY, secrets.token_hex(KEY_BYTES)), (CHAIN, certificates), (SIGNING_KEY, signing)):
            _write_secret(staged / name, text)
        staged.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _self_made() -> tuple[str, str]:
    """Certificates and signing key, both PEM. The root's own key is forgotten: it never signs again."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = _certificate(LEAF, leaf.public_key(), root, is_root=False), _certificate(ROOT, root.public_key(), root)
    signing = leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain), signing


def _certificate(
    name: str, key: EllipticCurvePublicKey, issuer: EllipticCurvePrivateKey, *, is_root: bool = True
) -> Certificate:
    """One that validators of C2PA take: X.509 v3 with the extensions they insist on."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(ROOT))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
        .add_extension(_usage(is_root=is_root), critical=True)
    )
    if not is_root:
        mail = x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION
        builder = builder.add_extension(x509.ExtendedKeyUsage([mail]), critical=False)
    return builder.sign(issuer, hashes.SHA256())


def _named(name: str) -> Name:
    from cryptography.x509 import Name, NameAttribute
    from cryptography.x509.oid import NameOID

    return Name([NameAttribute(NameOID.ORGANIZATION_NAME, "OurVidz"), NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, is_root: bool) -> KeyUsage:
    from cryptography.x509 import KeyUsage

    return KeyUsage(
        digital_signature=not is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_root,
        crl_sign=is_root,
        encipher_only=False,
        decipher_only=False,
    )
