"""What the outside saw of some jobs, and whether that keeps every promise. Pure: records in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

TERMINAL = frozenset({"completed", "failed"})


@dataclass(frozen=True, slots=True)
class Word:
    """One callback. `effect` names what it says apart from who says it: a repetition has the same.

    `sender` names the process, `at` is the epoch in seconds. `fence` is None where the callback carries none.
    """

    job: str
    status: str
    at: float
    sender: str = ""
    fence: int | None = None
    effect: str = ""
    paths: tuple[str, ...] = ()
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class Write:
    """One object as stored. `content` names its bytes."""

    job: str
    path: str
    content: str
    at: float
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """One claim, as its holder noted it."""

    job: str
    fence: int
    sender: str
    at: float


@dataclass(frozen=True, slots=True)
class History:
    """Everything in the order of time. `acknowledged` jobs must come to an end; those only `known` may.

    `rows` are the jobs' states in the end, `unseen` those whose image or video is not filled in. A job that was
    `withdrawn` before anybody had it must have no effect.
    """

    acknowledged: frozenset[str]
    known: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    words: tuple[Word, ...] = ()
    writes: tuple[Write, ...] = ()
    holds: tuple[Hold, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()

    @property
    def ends(self) -> Mapping[str, list[Word]]:
        """The accepted terminal callbacks by job."""
        ends: dict[str, list[Word]] = {}
        for word in self.words:
            if word.accepted and word.status in TERMINAL:
                ends.setdefault(word.job, []).append(word)
        return ends


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    rule: str
    job: str
    detail: str = ""


Rule = Callable[[History], Iterator[Finding]]


def check(history: History) -> list[Finding]:
    return [finding for rule in RULES for finding in rule(history)]


def lost(history: History) -> Iterator[Finding]:
    for job in history.acknowledged - history.withdrawn - history.ends.keys():
        yield Finding("lost", job)


def double(history: History) -> Iterator[Finding]:
    """July takes a repeated completion without harm, so only another effect is a second one."""
    for job, words in history.ends.items():
        effects = {(word.status, word.effect) for word in words}
        if len(effects) > 1:
            yield Finding("double", job, ", ".join(sorted(status for status, _ in effects)))


def changed_its_mind(history: History) -> Iterator[Finding]:
    for job, words in history.ends.items():
        for earlier, later in pairwise(words):
            if earlier.status != later.status:
                yield Finding("changed its mind", job, f"{later.status} after {earlier.status}")


def unknown(history: History) -> Iterator[Finding]:
    known = history.acknowledged | history.known
    for job in {word.job for word in history.words} | {write.job for write in history.writes}:
        if job not in known:
            yield Finding("unknown", job)


def withdrawn(history: History) -> Iterator[Finding]:
    for job in history.withdrawn & history.ends.keys():
        yield Finding("withdrawn", job)


def fence_fell(history: History) -> Iterator[Finding]:
    for job, words in history.ends.items():
        fences = [word.fence for word in words if word.fence is not None]
        for earlier, later in pairwise(fences):
            if later < earlier:
                yield Finding("fence fell", job, f"{later} after {earlier}")


def missing(history: History) -> Iterator[Finding]:
    """A completion names only what lies in storage by then."""
    for job, words in history.ends.items():
        for word in words:
            there = {write.path for write in history.writes if write.job == job and write.at <= word.at}
            if absent := set(word.paths) - there:
                yield Finding("missing", job, ", ".join(sorted(absent)))


def overwritten(history: History) -> Iterator[Finding]:
    """What the user was shown stays as it is."""
    shown: dict[str, str] = {}
    ended = {job: words[0].at for job, words in history.ends.items()}
    for write in history.writes:
        if write.at <= ended.get(write.job, write.at):
            shown[write.path] = write.content
        elif shown.get(write.path) != write.content:
            yield Finding("overwritten", write.job, write.path)


def stale(history: History) -> Iterator[Finding]:
    """No effect of a process whose claim somebody else has taken over."""
    holds: dict[str, list[Hold]] = {}
    for hold in history.holds:
        holds.setdefault(hold.job, []).append(hold)
    effects: list[Word | Write] = [*history.words, *history.writes]
    for effect in effects:
        earlier = [hold for hold in holds.get(effect.job, ()) if hold.at <= effect.at]
        own = max((hold.fence for hold in earlier if hold.sender == effect.sender), default=None)
        newest = max((hold.fence for hold in earlier), default=None)
        if own is not None and newest is not None and own < newest:
            what = effect.status if isinstance(effect, Word) else effect.path
            yield Finding("stale", effect.job, f"{what} under {own} after {newest}")


def reopened(history: History) -> Iterator[Finding]:
    """In the end the row says what was accepted last: a late `processing` would open it again."""
    for job, words in history.ends.items():
        if job in history.rows and history.rows[job] != words[-1].status:
            yield Finding("reopened", job, history.rows[job])


def unseen(history: History) -> Iterator[Finding]:
    """What is completed can be looked at."""
    for job, words in history.ends.items():
        if words[-1].status == "completed" and job in history.unseen:
            yield Finding("unseen", job)


RULES: tuple[Rule, ...] = (
    lost,
    double,
    changed_its_mind,
    unknown,
    withdrawn,
    fence_fell,
    missing,
    overwritten,
    stale,
    reopened,
    unseen,
)
