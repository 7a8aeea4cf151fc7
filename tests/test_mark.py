"""32 bits lead to a job, in spite of damage, and not by chance."""

from __future__ import annotations

import random
import uuid

import pytest

from workers.safety.mark import BITS, bits_of, code_in, code_of, matches, own_code, shares, weights_of

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
JOB = "b91f0000-0000-4000-8000-000000000001"


def logits_of(code: int, strength: float = 10.0) -> list[float]:
    return [strength if bit else -strength for bit in bits_of(code)]


def job_ids(count: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [str(uuid.UUID(int=source.getrandbits(128), version=4)) for _ in range(count)]


def noise(count: int) -> list[list[float]]:
    source = random.Random(1)
    return [[source.gauss(0, 1) for _ in range(BITS)] for _ in range(count)]


def test_what_is_written_is_read():
    code = code_of(JOB, KEY)
    assert code_in(logits_of(code)) == code
    assert own_code(logits_of(code), KEY) == code


def test_the_same_job_has_the_same_mark_everywhere_and_others_have_others():
    codes = [code_of(job_id, KEY) for job_id in job_ids(500)]
    assert codes == [code_of(job_id, KEY) for job_id in job_ids(500)]
    assert len(set(codes)) == 500


def test_without_the_key_a_mark_neither_fits_nor_leads_to_a_job():
    codes = [code_of(job_id, KEY) for job_id in job_ids(200)]
    assert sum(own_code(logits_of(code), OTHER_KEY) == code for code in codes) < 8
    assert not matches(logits_of(codes[0]), job_ids(200), OTHER_KEY)


def test_two_doubtful_bits_are_read_either_way():
    code = code_of(JOB, KEY)
    logits = logits_of(code)
    for place in (3, 31):
        logits[place] *= -0.01
    assert code_in(logits) != code
    assert own_code(logits, KEY) == code


def test_noise_fits_together_once_in_256_times():
    fitting = sum(own_code(logits, KEY) is not None for logits in noise(10_000))
    assert 20 < fitting < 60


@pytest.mark.parametrize(("known", "errors"), [(100, 4), (10_000, 1), (30_000, 0)])
def test_damage_is_forgiven_as_far_as_the_number_of_known_jobs_allows(known, errors):
    jobs = [*job_ids(known), JOB]
    code = code_of(JOB, KEY)
    assert [match.job_id for match in matches(logits_of(code ^ ((1 << errors) - 1)), jobs, KEY)] == [JOB]
    assert not matches(logits_of(code ^ ((1 << errors + 3) - 1)), jobs, KEY)


def test_noise_matches_none_of_ten_thousand_jobs():
    jobs = job_ids(10_000)
    assert not [logits for logits in noise(5) if matches(logits, jobs, KEY)]


def test_more_looks_at_a_picture_make_chance_likelier():
    read = logits_of(code_of(JOB, KEY) ^ 0b1111)
    jobs = [*job_ids(99), JOB]
    assert matches(read, jobs, KEY, looks=1)
    assert not matches(read, jobs, KEY, looks=6)


def test_bits_that_were_read_faintly_may_be_wrong_more_often_than_clear_ones():
    jobs = [*job_ids(999), JOB]
    clear = logits_of(code_of(JOB, KEY))
    faint = [value * (-0.05 if place < 6 else 1) for place, value in enumerate(clear)]
    wrong = [value * (-1 if place < 6 else 1) for place, value in enumerate(clear)]
    assert [(match.job_id, match.errors) for match in matches(faint, jobs, KEY)] == [(JOB, 6)]
    assert not matches(wrong, jobs, KEY)


def test_the_chance_of_a_match_is_that_of_so_many_coins():
    even = shares(weights_of([1.0] * BITS))
    weight = weights_of([1.0] * BITS)[0]
    assert even[0] == 2.0**-BITS
    assert even[weight] == pytest.approx(33 / 2**BITS)
    assert even[-1] == 1.0


def test_where_nothing_was_read_everything_is_chance():
    assert shares(weights_of([0.0] * BITS)) == [1.0]
