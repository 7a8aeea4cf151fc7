"""The errors that decide how a job ends. Everything else is retried while attempts last."""

from __future__ import annotations


class Rejected(Exception):
    """The job itself is at fault: bad payload, policy, unknown type, wrong kind. Ends as a `failed` callback.

    `sentence` is shown to end users: one short sentence without prompt, path, host or trace. `field` names
    the payload's key for the operator. `code` is "invalid", "unreadable", "policy" or "failed".
    """

    def __init__(self, sentence: str, *, field: str | None = None, code: str = "invalid") -> None:
        super().__init__(sentence if field is None else f"{field}: {sentence}")
        self.sentence = sentence
        self.field = field
        self.code = code


class Interrupted(Exception):
    """This process is asked to stop: the claim goes back to the head of the queue, uncounted."""


class Unrecorded(Exception):
    """What was decided cannot be written down, so it is not decided: the claim goes back, uncounted."""


class Cancelled(Exception):
    """The user withdrew the job: free the card, acknowledge, no callback."""


class ClaimLost(Exception):
    """Another worker may hold the job by now: drop it, no effect outside any more."""


class Unreachable(Exception):
    """Queue, storage or callback did not answer usefully; the same call may go through later.

    `retry_after` is the server's wish in seconds, where it gave one; `denied` is true when the
    credentials were refused, which no retry heals.
    """

    def __init__(self, sentence: str, *, retry_after: float | None = None, denied: bool = False) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after
        self.denied = denied


class EngineBroken(Exception):
    """The accelerator's context is poisoned or out of memory twice: only a new process heals it.

    `exit_code` is what the process ends with: 70 for CUDA, 71 for memory.
    """

    def __init__(self, sentence: str, *, exit_code: int = 70) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Misconfigured(Exception):
    """Settings, volume or weights are not fit to run. Carries every problem, each with its fix."""

    def __init__(self, problems: list[str], *, exit_code: int = 1) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.exit_code = exit_code
