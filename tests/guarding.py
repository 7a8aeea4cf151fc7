"""The true gates around judges whose answers a test decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.safety.audit import Chain, Key, Record, records
from workers.safety.gate import Policy, SafetyGate
from workers.safety.guards import Guards
from workers.safety.inspection import Inspection
from workers.safety.lexicon import load_lexicon
from workers.safety.output import Screen
from workers.safety.reference import ReferenceGate
from workers.safety.registry import Registry
from workers.safety.scorers import fingerprint
from workers.testing.fakes import FakeScorer

SECRET = "a secret for consents"
SFW, ADULT = Policy(), Policy("adult", "sfw")
Answer = float | Callable[[Any], float]


def guarded(
    folder: Path,
    *,
    explicit: Answer = 0.0,
    age: Answer | None = None,
    policy: Policy = SFW,
    **parts: Any,
) -> Guards:
    """`age` None: nothing judges it. Further parts are the gate's own."""
    chain, registry = Chain(folder / "audit", "test", Key(b"test")), Registry(folder / "audit")
    (folder / "audit").mkdir(parents=True, exist_ok=True)
    judge = None if age is None else (FakeScorer("age", age), 25.0)
    screen = Screen(
        [(FakeScorer("explicitness", explicit), 0.6)], judge, fingerprint=fingerprint, copies=registry.block_list
    )
    references = ReferenceGate(screen, registry, fingerprint, chain.mac, SECRET)
    gate = SafetyGate(
        **({"lexicon": load_lexicon()} | parts), policy=policy, screen=screen, references=references, audit=chain
    )
    return Guards(gate, Inspection(screen, chain, registry))


def audited(folder: Path, event: str | None = None) -> list[Record]:
    """The lines that were written, of one event or all."""
    return [line for line in records(folder / "audit") if event in (None, line["event"])]
