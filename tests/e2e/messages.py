"""What producers of every kind put on the queues, each in its own way."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
from support import post
from upstash_redis import Redis

from workers.local.stack import TOKEN, LocalStack
from workers.payload import find_id, parse
from workers.tables import load_presets

TESTS = Path(__file__).resolve().parent.parent
USER = "11111111-2222-4333-8444-555555555555"
PRESETS = load_presets()
Push = Callable[[LocalStack, str, str, bytes], None]


def by_curl(stack: LocalStack, command: str, queue: str, element: bytes) -> None:
    """`curl -d`: the element as the raw body, under the type that curl gives it."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-www-form-urlencoded"}
    post(f"{stack.gateway.url}/{command}/{queue}", content=element, headers=headers).raise_for_status()


def by_python(stack: LocalStack, command: str, queue: str, element: bytes) -> None:
    """The official Python client at its defaults."""
    with Redis(url=stack.gateway.url, token=TOKEN) as client:
        getattr(client, command)(queue, element.decode())


def by_javascript(stack: LocalStack, command: str, queue: str, element: bytes) -> None:
    """As the official JavaScript client was recorded pushing."""
    exchanges = json.loads((TESTS / "js_client.json").read_text())
    pushing = next(each for each in exchanges if "lpush" in each["body"])
    body = json.dumps([[command, queue, element.decode()]], ensure_ascii=False)
    headers = {"Authorization": f"Bearer {TOKEN}", **pushing["headers"]}
    with httpx.Client(base_url=stack.gateway.url, headers=headers, verify=False) as client:
        client.request(pushing["method"], pushing["path"], content=body.encode()).raise_for_status()


FORMS: dict[str, tuple[str, str, Push]] = {
    "July's by curl": ("july_sdxl", "lpush", by_curl),
    "July's by the JavaScript client": ("july_enhanced", "lpush", by_javascript),
    "the newest in a list by curl": ("newest_in_list", "rpush", by_curl),
    "the newest by the JavaScript client": ("newest", "rpush", by_javascript),
    "camel case by the Python client": ("camel_case", "lpush", by_python),
    "twice a string by the Python client": ("twice_a_string", "rpush", by_python),
    "under data by curl": ("in_data", "rpush", by_curl),
}
"""Name -> the file in `payloads/`, the command and the client."""


def form(name: str) -> bytes:
    """The message of a form as a job of its own, for one picture."""
    text = (TESTS / "payloads" / f"{FORMS[name][0]}.json").read_text()
    own = re.sub(r"b91f6c1e-3c5d-4f67-9a1b-2f0c5d7e8a90", str(uuid.uuid4()), text)
    return re.sub(r'(num_images\\*": )\d', r"\g<1>1", own).encode()


def push_form(stack: LocalStack, name: str) -> str:
    _, command, push = FORMS[name]
    element = form(name)
    job = parse(element.decode())
    return push_known(stack, element, f"{PRESETS[job.type].kind}_queue", command, push)


def push_known(
    stack: LocalStack, element: bytes, queue: str, command: str = "lpush", push: Push = by_curl, job_type: str = "image"
) -> str:
    """Push a message whose job is in the deployment's table, if it has an id; the id."""
    job_id = find_id(element.decode(errors="surrogateescape"))
    if job_id:
        links = {"image_id": str(uuid.uuid4()), "video_id": str(uuid.uuid4())}
        facts = {"id": job_id, "user_id": USER, "job_type": job_type, "created_at": "2025-07-15T02:12:30.489Z"}
        stack.double.add("jobs", {**facts, **links, "metadata": {"prompt": ""}})
    push(stack, command, queue, element)
    return job_id or ""


def announce(stack: LocalStack, queue: str, job_id: str) -> None:
    """Tell workers that listen, so that they need not ask."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    post(stack.gateway.url, json=["PUBLISH", f"wake:{queue}", job_id], headers=headers).raise_for_status()


def job(job_type: str, job_id: str = "", **config: object) -> bytes:
    """A message with no more in it than must be."""
    facts = {"id": job_id or str(uuid.uuid4()), "type": job_type, "user_id": USER, "prompt": "a lighthouse at dusk"}
    return json.dumps({**facts, "config": config}).encode()


def hostile() -> dict[str, bytes]:
    """Name -> message, of every file in `payloads_hostile/`."""
    return {path.stem: path.read_bytes() for path in sorted((TESTS / "payloads_hostile").glob("*.json"))}
