"""The callback's exact bodies, its signatures, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from receiver import Answer, Receiver, running_receiver

from workers.delivery.verdict import PARK_ABOVE, SCHEDULE, Verdict, next_delay
from workers.errors import Unreachable
from workers.job import Delivery, Outcome
from workers.supabase.callback import CallbackClient, build, build_processing, sign

USER = "11111111-2222-4333-8444-555555555555"
JOB = "b91f0000-0000-4000-8000-000000000001"
JWT = "eyJhbGciOi.payload.signature"
SECRET = "a plain shared secret"


def picture(index: int = 0, **changes) -> Delivery:
    path = f"{USER}/{JOB}/{index}.png"
    delivery = Delivery(index, "sdxl_image_fast", path, "image/png", (1024, 1024), 1, seed=40 + index, bytes=1000)
    return replace(delivery, **changes)


def clip() -> Delivery:
    path = f"{USER}/{JOB}/0"
    return Delivery(
        0, "workspace-temp", f"{path}.mp4", "video/mp4", (480, 832), 81, 7, 5000, thumbnail_path=f"{path}.thumb.webp"
    )


def completed(*deliveries: Delivery, **changes) -> Outcome:
    outcome = Outcome(JOB, "sdxl_image_fast", "completed", deliveries, metadata={"steps": 15, "guidance_scale": 6.0})
    return replace(outcome, **changes)


FAILED = Outcome(JOB, "video_fast", "failed", error_message="The prompt is not allowed.", error_type="policy")

BODIES = {
    "paths, three pictures": (
        completed(picture(0), picture(1), picture(2)),
        "paths",
        {
            "job_id": JOB,
            "jobId": JOB,
            "status": "completed",
            "assets": [f"{USER}/{JOB}/0.png", f"{USER}/{JOB}/1.png", f"{USER}/{JOB}/2.png"],
            "imageUrls": [f"{USER}/{JOB}/0.png", f"{USER}/{JOB}/1.png", f"{USER}/{JOB}/2.png"],
            "filePath": f"{USER}/{JOB}/0.png",
            "outputUrl": f"{USER}/{JOB}/0.png",
            "metadata": {"steps": 15, "guidance_scale": 6.0, "seeds": [40, 41, 42]},
        },
    ),
    "paths, an enhanced prompt": (
        completed(picture(), enhanced_prompt="a red bicycle at dusk", metadata={}),
        "paths",
        {
            "job_id": JOB,
            "jobId": JOB,
            "status": "completed",
            "assets": [f"{USER}/{JOB}/0.png"],
            "imageUrls": [f"{USER}/{JOB}/0.png"],
            "filePath": f"{USER}/{JOB}/0.png",
            "outputUrl": f"{USER}/{JOB}/0.png",
            "enhancedPrompt": "a red bicycle at dusk",
            "metadata": {"seeds": [40]},
        },
    ),
    "paths, failed": (
        FAILED,
        "paths",
        {
            "job_id": JOB,
            "jobId": JOB,
            "status": "failed",
            "error_message": "The prompt is not allowed.",
            "errorMessage": "The prompt is not allowed.",
            "error_type": "policy",
            "metadata": {"error_type": "policy"},
        },
    ),
    "paths, failed without a word": (
        Outcome(JOB, "video_fast", "failed", metadata={"attempt": 3}),
        "paths",
        {
            "job_id": JOB,
            "jobId": JOB,
            "status": "failed",
            "error_message": "The job could not be completed.",
            "errorMessage": "The job could not be completed.",
            "metadata": {"attempt": 3},
        },
    ),
    "objects, a picture re-encoded to fit": (
        completed(picture(path=f"{USER}/{JOB}/0.webp", content_type="image/webp")),
        "objects",
        {
            "job_id": JOB,
            "status": "completed",
            "assets": [
                {
                    "type": "image",
                    "url": f"{USER}/{JOB}/0.webp",
                    "thumbnail_url": None,
                    "metadata": {
                        "width": 1024,
                        "height": 1024,
                        "format": "webp",
                        "seed": 40,
                        "bytes": 1000,
                        "steps": 15,
                        "guidance_scale": 6.0,
                    },
                }
            ],
            "metadata": {"steps": 15, "guidance_scale": 6.0},
        },
    ),
    "objects, a video": (
        completed(clip(), enhanced_prompt="a lighthouse at dusk", metadata={"steps": 25, "attempt": 1}),
        "objects",
        {
            "job_id": JOB,
            "status": "completed",
            "assets": [
                {
                    "type": "video",
                    "url": f"{USER}/{JOB}/0.mp4",
                    "thumbnail_url": f"{USER}/{JOB}/0.thumb.webp",
                    "metadata": {
                        "width": 480,
                        "height": 832,
                        "format": "mp4",
                        "seed": 7,
                        "bytes": 5000,
                        "frames": 81,
                        "fps": 16,
                        "duration": 5.0625,
                        "steps": 25,
                    },
                }
            ],
            "metadata": {"steps": 25, "attempt": 1, "enhanced_prompt": "a lighthouse at dusk"},
        },
    ),
    "objects, failed": (
        FAILED,
        "objects",
        {
            "job_id": JOB,
            "status": "failed",
            "errorMessage": "The prompt is not allowed.",
            "error_type": "policy",
            "metadata": {"error_type": "policy"},
        },
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_each_dialect_has_its_exact_body(name):
    outcome, dialect, body = BODIES[name]
    assert json.loads(json.dumps(build(outcome, dialect, USER))) == body


@pytest.mark.parametrize("indices", [(), (1,), (0, 2), (1, 0), (0, 0)])
def test_assets_with_a_hole_or_out_of_order_are_never_sent(indices):
    with pytest.raises(ValueError, match="in order"):
        build(completed(*map(picture, indices)), "paths", USER)


def test_assets_of_another_user_are_never_sent():
    with pytest.raises(ValueError, match="folder"):
        build(completed(picture(path=f"{JOB}/{USER}/0.png")), "paths", USER)


def test_signatures_match_the_published_vector_of_standard_webhooks():
    headers = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"


def test_the_own_signature_matches_the_published_vector_of_hmac_sha256():
    headers = sign("key", b"The quick brown fox jumps over the lazy dog", "id", 0)
    assert headers["X-Callback-Signature"] == "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"


@pytest.fixture
def server() -> Iterator[Receiver]:
    with running_receiver() as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[CallbackClient]:
    client = CallbackClient(server.url, JWT, secret=SECRET, clock=lambda: 1_750_000_000.9)
    yield client
    client.close()


def hmac_of(key: str, message: bytes) -> bytes:
    return hmac.new(key.encode(), message, hashlib.sha256).digest()


def test_the_bytes_that_are_sent_are_the_bytes_that_are_signed(server, client):
    client.send(replace(FAILED, error_message="Größe nicht erlaubt."), USER)
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/functions/v1/job-callback")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-callback-signature"] == "sha256=" + hmac_of(SECRET, request.body).hex()
    signed = f"{JOB}.failed.1750000000.".encode() + request.body
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(hmac_of(SECRET, signed)).decode()
    assert request.headers["authorization"] == f"Bearer {JWT}"


def test_a_repeat_keeps_its_message_id_and_another_status_has_its_own(server, client):
    client.announce(JOB, {})
    client.send(FAILED, USER)
    client.send(FAILED, USER)
    first, second, third = (r.headers["webhook-id"] for r in server.requests)
    assert first != second == third


def test_without_a_secret_nothing_is_signed_and_a_new_key_is_no_bearer_token(server):
    client = CallbackClient(server.url, "sb_secret_abc123")
    client.send(FAILED, USER)
    client.close()
    headers = server.requests[0].headers
    assert headers["apikey"] == "sb_secret_abc123"
    assert not {"authorization", "x-callback-signature", "webhook-signature"} & headers.keys()


def test_another_address_may_be_given(server):
    client = CallbackClient("http://127.0.0.1:9", JWT, address=f"{server.url}/hook")
    assert client.send(FAILED, USER).accepted
    client.close()
    assert server.requests[0].path == "/hook"


def test_processing_is_announced_in_the_paths_dialect_only(server, client):
    client.announce(JOB, {})
    other = CallbackClient(server.url, JWT, dialect="objects")
    other.announce(JOB, {})
    other.close()
    assert [r.json for r in server.requests] == [build_processing(JOB, {})]
    assert build_processing(JOB, {"estimated_seconds": 2.0}) == {
        "job_id": JOB,
        "jobId": JOB,
        "status": "processing",
        "metadata": {"estimated_seconds": 2.0},
    }


def test_only_the_paths_receiver_may_miss_late_rows(client, server):
    other = CallbackClient(server.url, JWT, dialect="objects")
    other.close()
    assert (client.repeats, other.repeats) == (True, False)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (Answer(200), "accepted"),
        (Answer(204, ""), "accepted"),
        (Answer(200, {"skipped": True}), "accepted"),
        (Answer(400, {"error": "Completed image jobs must have an associated image_id"}), "wait_for_link"),
        (Answer(400, {"error": "Completed video jobs must have an associated video_id"}), "wait_for_link"),
        (Answer(400, {"error": "JSON object requested, multiple (or no) rows returned"}), "gone"),
        (Answer(400, {"error": "job_id is required"}), "mismatch"),
        (Answer(400, {"error": "jobId is required"}), "mismatch"),
        (Answer(400, {"error": "something else"}), "refused"),
        (Answer(401), "denied"),
        (Answer(403), "denied"),
        (Answer(404), "refused"),
        (Answer(404, {"error": "There is no such job.", "code": "unknown_job"}), "gone"),
        (Answer(422), "refused"),
        (Answer(410), "stop"),
        (Answer(301, headers={"Location": "/hook"}), "retry"),
        (Answer(408), "retry"),
        (Answer(425), "retry"),
        (Answer(429), "retry"),
        (Answer(500), "retry"),
        (Answer(502, "<html>bad gateway</html>"), "retry"),
        (Answer(cut=True), "retry"),
    ],
)
def test_each_answer_has_its_meaning(server, client, answer, meaning):
    server.answers = [answer]
    assert client.send(FAILED, USER).meaning == meaning
    assert len(server.requests) == 1


def test_a_silent_receiver_is_tried_again(server):
    client = CallbackClient(server.url, JWT, timeout=0.1)
    server.answers = [Answer(late=True)]
    assert client.send(FAILED, USER) == Verdict("retry", "the callback's receiver did not answer: ReadTimeout")
    client.close()


def test_what_the_receiver_says_is_never_repeated(server, client):
    server.answers = [Answer(400, {"error": "no row for prompt: a red bicycle"})]
    assert "bicycle" not in client.send(FAILED, USER).reason


def test_a_receivers_wish_to_wait_is_honoured(server, client):
    server.answers = [Answer(429, headers={"Retry-After": "90"})]
    verdict = client.send(FAILED, USER)
    assert next_delay(1, verdict) == 90


def test_the_schedule_begins_at_once_and_ends_within_the_day_of_the_result():
    delays = [next_delay(n, uniform=max) for n in range(9)]
    assert delays[:7] == [0, 5, 30, 120, 300, 1800, 7200]
    assert next_delay(len(SCHEDULE) + 1) is None
    assert sum(SCHEDULE) < 24 * 3600


def test_jitter_never_makes_a_wait_longer():
    waits = [next_delay(2) for _ in range(100)]
    assert all(24 <= wait <= PARK_ABOVE for wait in waits)
    assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("answer", "tries"),
    [
        (Answer(400, {"error": "multiple (or no) rows returned"}), 4),
        (Answer(400, {"error": "unknown"}), 3),
        (Answer(404), 1),
        (Answer(404, {"code": "unknown_job"}), 4),
        (Answer(410), 1),
        (Answer(400, {"error": "associated image_id"}), len(SCHEDULE) + 1),
        (Answer(401), len(SCHEDULE) + 1),
    ],
)
def test_each_answer_is_worth_so_many_tries(server, client, answer, tries):
    server.answers = [answer]
    verdict = client.send(FAILED, USER)
    assert next_delay(tries - 1, verdict) is not None
    assert next_delay(tries, verdict) is None


@pytest.mark.parametrize(
    ("answer", "alarm"), [(Answer(400, "job_id is required"), True), (Answer(401), True), (Answer(500), False)]
)
def test_what_only_an_operator_can_heal_raises_an_alarm(server, client, answer, alarm):
    server.answers = [answer]
    assert client.send(FAILED, USER).alarm is alarm


@pytest.mark.parametrize("job_type", ["image_fast", "image_high", "image7b_fast_enhanced", "image7b_high_enhanced"])
def test_a_picture_that_the_receiver_cannot_find_is_ended_in_its_row(server, client, job_type):
    client.adopt_image(completed(picture(), type=job_type))
    [request] = server.requests
    assert (request.method, request.path) == ("PATCH", f"/rest/v1/images?job_id=eq.{JOB}&image_index=is.null")
    assert request.json == {"status": "completed", "image_url": f"{USER}/{JOB}/0.png"}
    assert request.headers["apikey"] == JWT


def test_a_failed_picture_is_ended_in_its_row_too(server, client):
    client.adopt_image(replace(FAILED, type="image_fast"))
    assert server.requests[0].json == {"status": "failed"}


@pytest.mark.parametrize("job_type", ["sdxl_image_fast", "video_fast", "video7b_high_enhanced"])
def test_other_types_find_their_rows_by_themselves(server, client, job_type):
    client.adopt_image(completed(picture(), type=job_type))
    assert server.requests == []


@pytest.mark.parametrize("options", [{"adopt": False}, {"dialect": "objects"}])
def test_adopting_is_a_setting_and_only_for_the_paths_dialect(server, options):
    client = CallbackClient(server.url, JWT, **options)
    client.adopt_image(completed(picture(), type="image_fast"))
    client.close()
    assert server.requests == []


@pytest.mark.parametrize("answer", [Answer(503), Answer(429), Answer(cut=True)])
def test_an_adoption_that_does_not_get_through_is_left_to_be_tried_again(server, client, answer):
    server.answers = [answer]
    with pytest.raises(Unreachable):
        client.adopt_image(completed(picture(), type="image_fast"))


def test_an_adoption_that_is_refused_is_only_logged(server, client):
    server.answers = [Answer(404)]
    client.adopt_image(completed(picture(), type="image_fast"))
    assert len(server.requests) == 1
