"""What is said of a job that ended: an event for the logs, an entry for operators."""

from __future__ import annotations

from dataclasses import replace

from workers.claim import Claim
from workers.delivery.report import Report
from workers.logs import log
from workers.supervision.ledger import Note, entry_of
from workers.watch import Watch, rounded, spent


def tell(claim: Claim, report: Report, watch: Watch, note: Note) -> None:
    """The receiver knows how the job ended. Its repetition for late rows is no second end."""
    outcome = report.outcome
    timings = {**outcome.metadata.get("timings", {}), **rounded(watch.timings)}
    log.info(
        "repeated" if report.accepted else "delivered",
        job=outcome.job_id,
        type=outcome.type,
        status=outcome.status,
        attempt=claim.attempt,
        assets=len(outcome.deliveries),
        idle_share=outcome.metadata.get("idle_share"),
        memory=outcome.metadata.get("memory"),
        **spent(timings),
    )
    if not report.accepted:
        note(entry_of(replace(outcome, metadata={**outcome.metadata, "timings": timings}), claim.attempt))
