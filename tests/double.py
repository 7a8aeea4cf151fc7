"""What tests say to the July double."""

from __future__ import annotations

from typing import Any

import httpx
from support import get

from workers.local.stack import LocalStack
from workers.tables import load_presets

USER = "22222222-2222-4222-8222-222222222222"
OTHER = "33333333-3333-4333-8333-333333333333"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TYPES = sorted(load_presets())


def client(stack: LocalStack, bearer: str, apikey: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {bearer}", "apikey": apikey}
    return httpx.Client(base_url=stack.supabase.url, headers=headers, timeout=60, verify=False)


def service(stack: LocalStack) -> httpx.Client:
    """What holds the service key."""
    return client(stack, stack.double.keys.service, stack.double.keys.service)


def upload(api: httpx.Client, place: str, data: bytes = PNG, content_type: str = "image/png", **headers: str) -> Any:
    return api.post(f"/storage/v1/object/{place}", content=data, headers={"Content-Type": content_type, **headers})


def popped(stack: LocalStack, queue: str, command: str = "rpop") -> str:
    headers = {"Authorization": f"Bearer {stack.env['UPSTASH_REDIS_REST_TOKEN']}"}
    return get(f"{stack.gateway.url}/{command}/{queue}", headers=headers).json()["result"]


def call_back(api: httpx.Client, job_id: str, status: str, **body: Any) -> httpx.Response:
    return api.post("/functions/v1/job-callback", json={"job_id": job_id, "status": status, **body})


def paths(job_id: str, count: int = 1, extension: str = "png") -> list[str]:
    return [f"{USER}/{job_id}/{index}.{extension}" for index in range(count)]
