"""Named points at which a process can be told to die, so that tests can show what a death there costs.

With `OURVIDZ_CRASH_AT=sealed` this process kills itself when it passes the point `sealed`, with `sealed:3` when it
passes there for the third time. Without the variable a point is an empty function.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "OURVIDZ_CRASH_AT"

POINTS: Mapping[str, str] = {
    "loading": "the weights are read, nothing was claimed yet",
    "before-claim": "a token was made, the queue was not asked yet",
    "claim-unheard": "the queue gave a job away, its reply was not used",
    "claimed": "the claim is kept alive",
    "resumed": "files of an earlier claim were found in the outbox",
    "recalled": "a result of an earlier claim came with the claim",
    "parsed": "the payload was understood",
    "rejected": "the job was refused, its user was not told yet",
    "composed": "the prompt is final, generation has not begun",
    "generating": "a step of the generation is done",
    "beaten": "leases were renewed, the reply was not used",
    "ahead": "the queue gave the next job away while the present one is made",
    "made": "the pixels are in memory, the delivery thread does not have them",
    "announced": "`processing` was sent",
    "handed-over": "the delivery thread has the pixels, nothing is on the disk",
    "encoded": "the files lie in a folder that is not the job's yet",
    "unsealed": "the folder is complete except for its name",
    "sealed": "the folder is in the outbox, nothing was uploaded",
    "between-uploads": "one more object is in storage",
    "uploaded": "all objects are in storage, the queue does not know it",
    "remembered": "the queue knows the result, no callback was sent",
    "callback-unheard": "the receiver answered, the answer was not used",
    "accepted": "the callback was accepted, the claim still stands",
    "adopted": "July's image row is filled in, the claim still stands",
    "noted": "the queue knows that only a repetition of the callback is left",
    "parked": "the rest waits in the queue, its reply was not used",
    "ack-unheard": "the claim has ended, its reply was not used, the files are still there",
    "delivered": "the files are gone",
    "settled": "a claim ended before it came to delivery, the reply was not used",
    "draining": "asked to stop, with jobs still on their way out",
    "released": "a job on its way out was given back, the reply was not used",
}
"""Every point, and what has happened by then."""


def armed(order: str, strike: Callable[[], object]) -> Callable[[str], None]:
    """A `point` that strikes where the order says: `name` or `name:times`. Raises `ValueError` for another name."""
    wanted, _, times = order.partition(":")
    if wanted not in POINTS:
        raise ValueError(f"{VARIABLE}: there is no point named {wanted}")
    passes, last = itertools.count(1), int(times or 1)

    def point(name: str) -> None:
        if name == wanted and next(passes) == last:
            strike()

    return point


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _live(name: str) -> None:
    """Nothing: this is production."""


point: Callable[[str], None] = armed(os.environ[VARIABLE], _die) if VARIABLE in os.environ else _live
