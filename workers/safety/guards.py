"""The gates of one process, put together from settings, word lists, staged models and the audit's folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.errors import Misconfigured
from workers.logs import log
from workers.safety.audit import Chain, Key, load_key, records
from workers.safety.gate import Policy, SafetyGate
from workers.safety.inspection import Inspection
from workers.safety.lexicon import load_lexicon
from workers.safety.output import Screen
from workers.safety.persons import parse
from workers.safety.reference import ReferenceGate
from workers.safety.registry import Registry
from workers.safety.restore import restore
from workers.safety.scorers import Scorers, fingerprint, open_scorers
from workers.safety.staged import UNFIT, Manifest, load_manifest, read_staged
from workers.settings import Settings

OpenScorers = Callable[[Manifest, Path], Scorers]


@dataclass(frozen=True, slots=True)
class Guards:
    """`gate` is asked before a job is made, `inspection` before its outputs leave."""

    gate: SafetyGate
    inspection: Inspection


def open_guards(name: str, settings: Settings, scorers: OpenScorers = open_scorers) -> Guards:
    """`name` is the writer's, for its chain in the audit. Raises `Misconfigured` with exit code 73 where anything is
    missing, altered or does not work."""
    manifest = load_manifest(settings.manifest)
    found = scorers(manifest, settings.model_root)
    chain, registry = open_audit(name, settings)
    try:
        started = chain.write("started")
    except OSError as error:
        raise _unwritable(settings, error) from None
    log.info("audit", chain=chain.name, line=started["n"], head=started["hash"])
    screen = Screen(found.explicit, found.age, fingerprint=fingerprint, copies=registry.block_list)
    secret = settings.consent_secret
    references = ReferenceGate(
        screen, registry, fingerprint, chain.mac, secret.get_secret_value() if secret is not None else None
    )
    gate = SafetyGate(
        policy=Policy(settings.max_rating, settings.default_rating),
        lexicon=load_lexicon(),
        screen=screen,
        references=references,
        audit=chain,
        persons=load_persons(manifest, settings.model_root),
    )
    return Guards(gate, Inspection(screen, chain, registry))


def open_audit(name: str, settings: Settings) -> tuple[Chain, Registry]:
    """A writer's chain, begun or gone on with, and the registry beside it. Raises `Misconfigured` with code 73."""
    folder = settings.audit
    try:
        chain = Chain(folder, name, audit_key(settings))
        registry = Registry(folder)
        if not registry.exists:
            restore(registry, records(folder))
    except OSError as error:
        raise _unwritable(settings, error) from None
    return chain, registry


def audit_key(settings: Settings) -> Key:
    """Raises `OSError`."""
    given = settings.audit_key
    return load_key(settings.audit, given.get_secret_value() if given is not None else None)


def load_persons(manifest: Manifest, root: Path) -> frozenset[str]:
    """Nobody where no list is staged. Raises `Misconfigured` with code 73."""
    if manifest.persons is None:
        return frozenset()
    path = root / manifest.persons.file
    try:
        return parse(read_staged(path, manifest.persons).decode())
    except ValueError as error:
        raise Misconfigured([f"{path}: {error}."], exit_code=UNFIT) from None


def _unwritable(settings: Settings, error: OSError) -> Misconfigured:
    return Misconfigured([f"{settings.audit} cannot be written: {error.strerror}. Set AUDIT_DIR."], exit_code=UNFIT)
