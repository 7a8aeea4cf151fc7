"""The enhancer between its gate and its account."""

from __future__ import annotations

import pytest

from workers.errors import Rejected
from workers.job import Job, Rating
from workers.prompting.enhancing import account, enhanced
from workers.prompting.prompt import Enhancement
from workers.testing.fakes import FakeEnhancer
from workers.watch import Watch

JOB = Job(id="1", type="image7b_fast_enhanced", user_id="2", prompt="a red bicycle", compel_weights="(rust:1.2)")


class Blocking:
    """A gate that blocks what was made more beautiful, and remembers what it read."""

    def __init__(self) -> None:
        self.read: list[Job] = []

    def admit(self, job: Job) -> Rating:
        self.read.append(job)
        if "beautifully" in job.prompt:
            raise Rejected("This cannot be made.", code="policy")
        return "sfw"


def test_an_enhanced_text_that_the_gate_blocks_is_remembered_nowhere() -> None:
    enhancer, gate = FakeEnhancer(), Blocking()
    with pytest.raises(Rejected):
        enhanced(enhancer, gate, JOB, "image", 1, Watch())
    assert enhancer.forgotten == [JOB.prompt]
    assert [job.compel_weights for job in gate.read] == [JOB.compel_weights], "weights are words, too"


def test_the_account_says_how_much_of_the_jobs_time_the_enhancer_took() -> None:
    made = Enhancement("a red bicycle in the sun", "done", tokens=120, seconds=2.0)
    said = account(FakeEnhancer(), made, {"wait": 60.0, "enhance": 2.0, "denoise": 5.5, "decode": 0.5})
    assert said == {
        "enhancement": "done",
        "enhancement_details": {"model": "fake", "tokens": 120, "seconds": 2.0, "cached": False, "share": 0.25},
    }
