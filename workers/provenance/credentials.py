"""Content credentials: a signed C2PA manifest inside a file, written and read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import c2pa

ROOM = 32 * 1024
"""Bytes that a manifest may add to a file, with the longest chain: its signature's place is measured by the chain."""

UNTRUSTED = "signingCredential.untrusted"


class SigningError(Exception):
    """A file could not be signed, and not for want of a connection. Signing again may help."""


class Signatory(Protocol):
    """Whoever signs. `opened` gives a signer for one file; it and what is done with it raise `Unreachable`, or
    `c2pa.C2paError` where the library does not go along."""

    def opened(self) -> AbstractContextManager[c2pa.Signer]: ...


@dataclass(frozen=True, slots=True)
class Claims:
    """What a manifest says of a file, beside its contents' hash."""

    generator: str
    version: str
    source_type: str
    title: str

    def manifest(self) -> dict[str, Any]:
        agent = {"name": self.generator, "version": self.version}
        made = {"action": "c2pa.created", "digitalSourceType": self.source_type, "softwareAgent": agent}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
        return {"claim_generator_info": [agent], "title": self.title, "assertions": [actions]}


@dataclass(frozen=True, slots=True)
class Credential:
    """A manifest as it was found. `state`: "trusted" (valid, from a chain that the reader trusts), "valid" (whole, from
    whomever) or "invalid" (the file or the manifest was changed). `problems` are codes of the standard."""

    state: str
    issuer: str | None
    generator: str | None
    source_type: str | None
    problems: tuple[str, ...] = ()


def sign(path: Path, claims: Claims, signatory: Signatory) -> None:
    """Put a manifest into a file, in place, and force it to disk; the file is as it was where that fails.

    Raises `Unreachable` while the signer does not answer, else `SigningError` or `OSError`.
    """
    import c2pa

    signed = path.with_name(f"signed-{path.name}")
    try:
        with signatory.opened() as signer, _context() as context:
            c2pa.Builder(claims.manifest(), context=context).sign_file(path, signed, signer)
        _flush(signed)
        signed.replace(path)
    except c2pa.C2paError as error:
        raise SigningError(f"{path.suffix} could not be signed: {type(error).__name__}") from None
    finally:
        signed.unlink(missing_ok=True)


def read(path: Path, anchors: str = "") -> Credential | None:
    """The active manifest of a file, judged by these root certificates (PEM); None where there is none.

    The file's kind is told from its contents: names lie.
    """
    import c2pa

    trust = {"trust": {"trust_anchors": anchors}} if anchors else {}
    try:
        with path.open("rb") as file, _context(trust) as context, c2pa.Reader(None, file, context=context) as reader:
            return _credential(json.loads(reader.json()))
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return None
    except c2pa.C2paError as error:
        return Credential("invalid", None, None, None, (type(error).__name__.lstrip("_"),))


def _credential(store: Mapping[str, Any]) -> Credential:
    manifest = store["manifests"][store["active_manifest"]]
    results = store.get("validation_results", {}).get("activeManifest", {})
    return Credential(
        state=store["validation_state"].lower(),
        issuer=manifest.get("signature_info", {}).get("common_name"),
        generator=next((info["name"] for info in manifest.get("claim_generator_info", ())), None),
        source_type=_source_type(manifest),
        problems=tuple(found["code"] for found in results.get("failure", ())),
    )


def _source_type(manifest: Mapping[str, Any]) -> str | None:
    for assertion in manifest.get("assertions", ()):
        for action in assertion.get("data", {}).get("actions", ()):
            if action.get("digitalSourceType"):
                return str(action["digitalSourceType"])
    return None


def _context(more: Mapping[str, Any] | None = None) -> c2pa.Context:
    """Without thumbnails, which the library would make of every picture and which are as large as one."""
    import c2pa

    return c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}, **(more or {})})


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
