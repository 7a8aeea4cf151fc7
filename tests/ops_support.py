"""What tests of the operators' view share: jobs as they ended."""

from __future__ import annotations

from workers.supervision.ledger import Entry, File


def entry(job_type: str = "image_fast", status: str = "completed", **fields) -> Entry:
    timings = {"wait": 2.0, "turn": 5.0, "denoise": 3.0, "decode": 1.0, "encode": 0.5, "upload": 0.5}
    given = {
        "attempt": 1,
        "timings": timings,
        "facts": {"steps": 4},
        "files": (File("b", "u/j/0.png", "image/png", 10),),
    }
    return Entry("a-job", job_type, status, at=1.0, **{**given, **fields})
