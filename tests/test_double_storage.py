"""The double stores objects as Supabase Storage does."""

from __future__ import annotations

import httpx
import pytest
from double import OTHER, PNG, TYPES, USER, upload
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError
from support import get

from workers.local.stack import LocalStack


def test_there_is_a_private_bucket_for_each_type_one_shared_and_one_for_uploads(api: httpx.Client) -> None:
    buckets = {bucket["id"]: bucket for bucket in api.get("/storage/v1/bucket").json()}
    assert sorted(buckets) == sorted([*TYPES, "reference_images", "workspace-temp"])
    assert not any(bucket["public"] for bucket in buckets.values())
    mib = {name: bucket["file_size_limit"] / 2**20 for name, bucket in buckets.items()}
    assert mib == {
        "sdxl_image_fast": 5,
        "sdxl_image_high": 10,
        "image_fast": 5,
        "image_high": 10,
        "video_fast": 50,
        "video_high": 200,
        "image7b_fast_enhanced": 20,
        "image7b_high_enhanced": 20,
        "video7b_fast_enhanced": 100,
        "video7b_high_enhanced": 100,
        "workspace-temp": 1024,
        "reference_images": 20,
    }
    assert buckets["video_fast"]["allowed_mime_types"] == ["video/mp4", "video/webm", "video/mpeg", "video/quicktime"]
    assert buckets["video7b_fast_enhanced"]["allowed_mime_types"] == ["video/mp4"]


def test_an_object_is_uploaded_and_read_back(api: httpx.Client) -> None:
    answer = upload(api, f"image_fast/{USER}/j/0.png")
    assert answer.status_code == 200
    assert answer.json()["Key"] == f"image_fast/{USER}/j/0.png"
    read = api.get(f"/storage/v1/object/image_fast/{USER}/j/0.png")
    assert (read.content, read.headers["content-type"]) == (PNG, "image/png")


def test_a_second_upload_needs_upsert(api: httpx.Client, stack: LocalStack) -> None:
    upload(api, "image_fast/u/0.png")
    again = upload(api, "image_fast/u/0.png", b"new")
    assert again.status_code == 400
    assert again.json() == {"statusCode": "409", "error": "Duplicate", "message": "The resource already exists"}
    assert upload(api, "image_fast/u/0.png", b"new", **{"x-upsert": "true"}).status_code == 200
    assert stack.double.read("image_fast", "u/0.png") == b"new"


def test_put_replaces_only_what_is_there(api: httpx.Client) -> None:
    place, headers = "/storage/v1/object/image_fast/u/0.png", {"Content-Type": "image/png"}
    assert api.put(place, content=PNG, headers=headers).json()["statusCode"] == "404"
    upload(api, "image_fast/u/0.png")
    assert api.put(place, content=b"new", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("place", "data", "content_type", "status"),
    [
        ("nowhere/u/0.png", PNG, "image/png", "404"),
        ("image_fast/u/0.png", b"x" * (5 * 2**20 + 1), "image/png", "413"),
        ("image_fast/u/0.txt", PNG, "text/plain", "415"),
        ("video_fast/u/0.webp", PNG, "image/webp", "415"),
    ],
)
def test_storage_says_400_and_means_another_status(
    api: httpx.Client, place: str, data: bytes, content_type: str, status: str
) -> None:
    answer = upload(api, place, data, content_type)
    assert answer.status_code == 400
    assert answer.json()["statusCode"] == status


def test_an_object_of_exactly_the_limit_is_taken(api: httpx.Client) -> None:
    assert upload(api, "image_fast/u/0.png", b"x" * 5 * 2**20).status_code == 200


def test_a_removed_object_is_gone(api: httpx.Client) -> None:
    upload(api, "image_fast/u/0.png")
    assert api.delete("/storage/v1/object/image_fast/u/0.png").status_code == 200
    assert api.get("/storage/v1/object/image_fast/u/0.png").json()["error"] == "not_found"
    assert api.delete("/storage/v1/object/image_fast/u/0.png").json()["statusCode"] == "404"


def test_a_signed_address_needs_no_key_and_opens_one_object(api: httpx.Client, stack: LocalStack) -> None:
    upload(api, "image_fast/u/0.png")
    upload(api, "image_fast/u/1.png")
    signed = api.post("/storage/v1/object/sign/image_fast/u/0.png", json={"expiresIn": 60}).json()["signedURL"]
    address = f"{stack.supabase.url}/storage/v1{signed}"
    assert get(address).content == PNG
    assert get(address.replace("0.png", "1.png")).status_code == 400
    assert get(address + "x").status_code == 400


def test_a_signed_address_expires(api: httpx.Client) -> None:
    upload(api, "image_fast/u/0.png")
    signed = api.post("/storage/v1/object/sign/image_fast/u/0.png", json={"expiresIn": -1}).json()["signedURL"]
    assert api.get(f"/storage/v1{signed}").status_code == 400


def test_a_user_signs_only_in_the_own_folder(api: httpx.Client, browser: httpx.Client) -> None:
    for owner in (USER, OTHER):
        upload(api, f"image_fast/{owner}/j/0.png")
    sign = "/storage/v1/object/sign/image_fast"
    assert browser.post(f"{sign}/{USER}/j/0.png", json={"expiresIn": 60}).status_code == 200
    assert browser.post(f"{sign}/{OTHER}/j/0.png", json={"expiresIn": 60}).status_code != 200
    assert browser.get(f"/storage/v1/object/image_fast/{OTHER}/j/0.png").json()["statusCode"] == "404"


def test_a_folder_lists_its_files_and_folders(api: httpx.Client) -> None:
    for path in ("u/j/0.png", "u/j/1.png", "u/cover.png"):
        upload(api, f"image_fast/{path}")
    listing = api.post("/storage/v1/object/list/image_fast", json={"prefix": "u"}).json()
    assert [(entry["name"], entry["id"] is None) for entry in listing] == [("j", True), ("cover.png", False)]
    assert listing[1]["metadata"]["size"] == len(PNG)


def test_a_clip_can_be_read_in_ranges(api: httpx.Client) -> None:
    upload(api, "video_fast/u/0.mp4", bytes(1000), "video/mp4")
    part = api.get("/storage/v1/object/video_fast/u/0.mp4", headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)


def test_the_official_client_uploads_signs_and_removes(stack: LocalStack) -> None:
    key = stack.double.keys.service
    with httpx.Client() as http:
        client = SyncStorageClient(
            f"{stack.supabase.url}/storage/v1/", {"Authorization": f"Bearer {key}"}, http_client=http
        )
        bucket = client.from_("image_fast")
        bucket.upload("u/0.png", PNG, {"content-type": "image/png", "upsert": "true"})
        assert bucket.download("u/0.png") == PNG
        assert get(bucket.create_signed_url("u/0.png", 60)["signedURL"]).content == PNG
        with pytest.raises(StorageApiError) as caught:
            bucket.upload("u/0.png", PNG, {"content-type": "image/png"})
        assert caught.value.status == "409"
        assert len(bucket.remove(["u/0.png", "u/gone.png"])) == 1
