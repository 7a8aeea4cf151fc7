"""Jobs whose only output is a text: a prompt in better words, for somebody who waits for it."""

from __future__ import annotations

from workers.claim import Claim
from workers.delivery.report import Report
from workers.errors import Rejected
from workers.job import WRITTEN, Job, Media, Outcome
from workers.making.maker import WRONG_QUEUE, Maker
from workers.prompting import enhancing
from workers.resolve import default_seed
from workers.watch import Watch, rounded

NO_PROMPT = "There is no prompt to be put into better words."


def write(maker: Maker, claim: Claim, job: Job, watch: Watch) -> Report:
    """The text as what is left to say. Raises `Rejected`, or what stops the watch.

    `metadata.media` says what is to be described, a picture by default.
    """
    if maker.enhancer is None or maker.kind != WRITTEN[job.type]:
        raise Rejected(WRONG_QUEUE, field="type")
    if not job.prompt.strip():
        raise Rejected(NO_PROMPT, field="prompt")
    rating = maker.gate.admit(job)
    media: Media = "video" if job.metadata.get("media") == "video" else "image"
    written = enhancing.enhanced(maker.enhancer, maker.gate, job, media, default_seed(job.id), watch)
    metadata = {
        "job_type": job.type,
        "worker": maker.worker,
        "attempt": claim.attempt,
        "fence": claim.fence,
        "original_prompt": job.prompt,
        **enhancing.account(maker.enhancer, written, watch.timings),
        "rating": rating,
        "timings": rounded(watch.timings),
    }
    outcome = Outcome(job.id, job.type, "completed", enhanced_prompt=written.text, metadata=metadata)
    return Report(outcome, job.user_id)
