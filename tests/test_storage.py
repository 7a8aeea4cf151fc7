"""What storage is sent, byte for byte, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from receiver import Answer, Receiver, running_receiver

from workers.errors import Rejected, Unreachable
from workers.job import Artifact, Delivery
from workers.supabase.storage import Refused, SupabaseStorage

USER = "11111111-2222-4333-8444-555555555555"
JOB = "b91f0000-0000-4000-8000-000000000001"
JWT = "eyJhbGciOi.payload.signature"
PICTURE = b"the bytes of a red bicycle"


@pytest.fixture
def server() -> Iterator[Receiver]:
    with running_receiver() as server:
        yield server


@pytest.fixture
def storage(server) -> Iterator[SupabaseStorage]:
    storage = SupabaseStorage(server.url, JWT)
    yield storage
    storage.close()


def artifact(
    folder: Path, index: int = 0, content: bytes = PICTURE, extension: str = "png", thumbnail=None
) -> Artifact:
    path = folder / f"{index}.{extension}"
    path.write_bytes(content)
    kind = "video/mp4" if extension == "mp4" else f"image/{extension}"
    return Artifact(index, path, kind, size=(64, 48), frames=1, seed=7, thumbnail=thumbnail)


def with_thumbnail(folder: Path) -> Artifact:
    thumbnail = folder / "0.thumb.webp"
    thumbnail.write_bytes(b"small")
    return artifact(folder, thumbnail=thumbnail)


def put(storage: SupabaseStorage, item: Artifact, job_type: str = "sdxl_image_fast") -> Delivery:
    return storage.put(item, job_type, USER, JOB)


def test_an_object_is_its_raw_bytes_under_its_users_folder_in_the_bucket_of_its_type(server, storage, tmp_path):
    put(storage, artifact(tmp_path))
    [request] = server.requests
    assert (request.method, request.path) == ("POST", f"/storage/v1/object/sdxl_image_fast/{USER}/{JOB}/0.png")
    assert request.body == PICTURE
    assert request.headers["content-type"] == "image/png"
    assert request.headers["content-length"] == str(len(PICTURE))
    assert request.headers["x-upsert"] == "true"


def test_a_delivery_says_what_lies_where(storage, tmp_path):
    assert put(storage, artifact(tmp_path, index=2, extension="webp")) == Delivery(
        index=2,
        bucket="sdxl_image_fast",
        path=f"{USER}/{JOB}/2.webp",
        content_type="image/webp",
        size=(64, 48),
        frames=1,
        seed=7,
        bytes=len(PICTURE),
    )


def test_in_the_objects_dialect_there_is_one_bucket_and_thumbnails_lie_beside(server, tmp_path):
    storage = SupabaseStorage(server.url, JWT, dialect="objects")
    delivery = put(storage, with_thumbnail(tmp_path))
    storage.close()
    place = f"/storage/v1/object/workspace-temp/{USER}/{JOB}/0"
    assert [r.path for r in server.requests] == [f"{place}.png", f"{place}.thumb.webp"]
    assert server.requests[1].headers["content-type"] == "image/webp"
    assert (delivery.bucket, delivery.thumbnail_path) == ("workspace-temp", f"{USER}/{JOB}/0.thumb.webp")


def test_in_the_paths_dialect_no_thumbnail_is_sent(server, storage, tmp_path):
    assert put(storage, with_thumbnail(tmp_path)).thumbnail_path is None
    assert len(server.requests) == 1


def test_a_legacy_key_goes_in_both_headers(server, storage, tmp_path):
    put(storage, artifact(tmp_path))
    headers = server.requests[0].headers
    assert (headers["apikey"], headers["authorization"]) == (JWT, f"Bearer {JWT}")


def test_a_new_key_is_no_bearer_token(server, tmp_path):
    storage = SupabaseStorage(server.url, "sb_secret_abc123")
    storage.delete([put(storage, artifact(tmp_path))])
    storage.close()
    assert len(server.requests) == 2
    for request in server.requests:
        assert request.headers["apikey"] == "sb_secret_abc123"
        assert "authorization" not in request.headers


def test_nothing_pretends_to_be_a_browser(server, storage, tmp_path):
    put(storage, artifact(tmp_path))
    assert server.requests[0].headers["user-agent"] == "ourvidz-workers"


@pytest.mark.parametrize("user", ["../../other", "..", ".", "a/../../b", "%2e%2e/x", "a?b", "a#b", "", "a\n"])
def test_no_user_id_leads_into_another_folder(server, storage, tmp_path, user):
    with pytest.raises(Refused):
        storage.put(artifact(tmp_path), "sdxl_image_fast", user, JOB)
    assert server.requests == []


@pytest.mark.parametrize("job_type", ["..", "sdxl_image_fast/..", "a?b", ""])
def test_no_job_type_leads_into_another_bucket(server, storage, tmp_path, job_type):
    with pytest.raises(Refused):
        put(storage, artifact(tmp_path), job_type)
    assert server.requests == []


@pytest.mark.parametrize("status", [408, 423, 425, 429, 500, 502, 503, 544])
def test_what_may_pass_is_unreachable(server, storage, tmp_path, status):
    server.answers = [Answer(status, "<html>")]
    with pytest.raises(Unreachable) as caught:
        put(storage, artifact(tmp_path))
    assert not caught.value.denied


@pytest.mark.parametrize(
    ("status", "error"),
    [("413", Refused), ("415", Refused), ("404", Refused), ("429", Unreachable), (503, Unreachable)],
)
def test_the_code_that_counts_is_in_the_body(server, storage, tmp_path, status, error):
    server.answers = [Answer(400, {"statusCode": status, "error": "x", "message": "y"})]
    with pytest.raises(error):
        put(storage, artifact(tmp_path))


def test_a_refusal_ends_the_job_with_one_short_sentence(server, storage, tmp_path):
    server.answers = [Answer(400, {"statusCode": "413", "error": "Payload too large", "message": "secret/path"})]
    with pytest.raises(Rejected) as caught:
        put(storage, artifact(tmp_path))
    assert caught.value.sentence == "The result could not be stored (error 413)."


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [("17", 17), ("999999", 3600), ("Mon, 01 Jan 2024 00:00:00 GMT", 0), ("soon", None), ("-5", None), ("", None)],
)
def test_a_servers_wish_to_wait_is_passed_on_where_it_makes_sense(server, storage, tmp_path, wish, seconds):
    server.answers = [Answer(429, headers={"Retry-After": wish})]
    with pytest.raises(Unreachable) as caught:
        put(storage, artifact(tmp_path))
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("answer", [Answer(401), Answer(400, {"statusCode": "403"})])
def test_a_refused_key_is_told_apart(server, storage, tmp_path, answer):
    server.answers = [answer]
    with pytest.raises(Unreachable) as caught:
        put(storage, artifact(tmp_path))
    assert caught.value.denied


def test_a_redirect_is_no_success(server, storage, tmp_path):
    server.answers = [Answer(307, headers={"Location": "/elsewhere"})]
    with pytest.raises(Unreachable):
        put(storage, artifact(tmp_path))
    assert len(server.requests) == 1


def test_a_dead_connection_is_replaced_at_once(server, storage, tmp_path):
    server.answers = [Answer(cut=True), Answer()]
    put(storage, artifact(tmp_path))
    assert [r.body for r in server.requests] == [PICTURE, PICTURE]


def test_a_second_broken_connection_is_left_to_the_caller(server, storage, tmp_path):
    server.answers = [Answer(cut=True)] * 2
    with pytest.raises(Unreachable):
        put(storage, artifact(tmp_path))


def test_after_an_early_refusal_the_next_object_goes_through(server, storage, tmp_path):
    server.answers = [Answer(413, {"statusCode": "413"}, early=True)] * 2
    with pytest.raises((Refused, Unreachable)):
        put(storage, artifact(tmp_path, content=b"x" * 8_000_000))
    server.answers = []
    assert put(storage, artifact(tmp_path)).bytes == len(PICTURE)


def test_a_silent_service_is_given_up(server, tmp_path):
    storage = SupabaseStorage(server.url, JWT, timeout=0.1)
    server.answers = [Answer(late=True)]
    with pytest.raises(Unreachable, match="ReadTimeout"):
        put(storage, artifact(tmp_path))
    storage.close()


def test_an_absent_service_is_unreachable_and_its_address_is_not_told(tmp_path):
    storage = SupabaseStorage("http://127.0.0.1:9", JWT)
    with pytest.raises(Unreachable) as caught:
        put(storage, artifact(tmp_path))
    storage.close()
    assert "127.0.0.1" not in str(caught.value)
    assert JWT not in str(caught.value)


def test_one_instance_serves_a_pool_of_threads(server, storage, tmp_path):
    items = [artifact(tmp_path, index=i, content=bytes([i]) * 100_000) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        deliveries = list(pool.map(lambda item: put(storage, item), items))
    arrived = {r.path.rpartition("/")[2]: r.body for r in server.requests}
    assert arrived == {f"{i}.png": bytes([i]) * 100_000 for i in range(24)}
    assert [d.index for d in deliveries] == list(range(24))


def test_the_objects_of_a_failed_job_are_removed(server, tmp_path):
    storage = SupabaseStorage(server.url, JWT, dialect="objects")
    storage.delete([put(storage, with_thumbnail(tmp_path))])
    storage.close()
    request = server.requests[-1]
    assert (request.method, request.path) == ("DELETE", "/storage/v1/object/workspace-temp")
    assert request.json == {"prefixes": [f"{USER}/{JOB}/0.png", f"{USER}/{JOB}/0.thumb.webp"]}


def test_removing_nothing_asks_nobody(server, storage):
    storage.delete([])
    assert server.requests == []


def test_a_removal_that_fails_is_said(server, storage, tmp_path):
    delivery = put(storage, artifact(tmp_path))
    server.answers = [Answer(503)]
    with pytest.raises(Unreachable):
        storage.delete([delivery])
