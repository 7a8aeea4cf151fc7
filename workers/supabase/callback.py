"""The callback: how a job ended, in the receiver's dialect, signed, and what the receiver's answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import httpx

from workers.delivery.verdict import Verdict
from workers.errors import Unreachable
from workers.job import FPS, WRITTEN, Delivery, Outcome
from workers.logs import log
from workers.supabase.web import auth_headers, fenced, passes, reaching, retry_after
from workers.trust import trusted

Dialect = Literal["paths", "objects"]

UNEXPLAINED = "The job could not be completed."
SAMPLING_KEYS = ("steps", "guidance_scale", "model", "sampler")
"""Keys of an outcome's metadata that describe every asset of the job."""

ADOPTED_TYPES = ("image_", "image7b_")

_BY_MESSAGE = (
    (("associated image_id", "associated video_id"), Verdict("wait_for_link", "not yet linked to its image or video")),
    (("multiple (or no) rows", "unknown_job"), Verdict("gone", "there is no such job", tries=4)),
    (("job_id is required", "jobid is required"), Verdict("mismatch", "it speaks another dialect", alarm=True)),
)
"""What receivers say of their errors: July's, which answers 400 to all of them, and ours."""


def build(outcome: Outcome, dialect: Dialect, user_id: str) -> dict[str, Any]:
    """The body for `completed` or `failed`.

    Raises `ValueError` where assets are missing, out of order or not the user's: receivers go by position, so a
    hole would shift every later image.
    """
    _check_assets(outcome, user_id)
    return _paths_body(outcome) if dialect == "paths" else _objects_body(outcome)


def build_processing(job_id: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The body that says a job has begun, for the dialect `paths`."""
    return {"job_id": job_id, "jobId": job_id, "status": "processing", "metadata": dict(metadata)}


def sign(secret: str, body: bytes, message_id: str, timestamp: int) -> dict[str, str]:
    """Both signatures over the exact bytes of the body: ours and that of Standard Webhooks.

    A `whsec_` secret is base64 for the second; the first takes the text of any secret as its key.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.digest(_webhook_key(secret), signed, hashlib.sha256)).decode()
    return {
        "X-Callback-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


class CallbackClient:
    """The receiver of callbacks, in one dialect. One instance serves all threads.

    `address` replaces the project's own function. `adopt` turns `adopt_image` on; only July's receiver needs it.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        dialect: Dialect = "paths",
        secret: str | None = None,
        address: str = "",
        adopt: bool = True,
        timeout: float = 20.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        base = url.rstrip("/")
        self._address = address or f"{base}/functions/v1/job-callback"
        self._images = f"{base}/rest/v1/images"
        self._dialect: Dialect = dialect
        self._secret = secret
        self._adopts = adopt and dialect == "paths"
        self._clock = clock
        self._http = httpx.Client(
            headers=auth_headers(key),
            timeout=httpx.Timeout(timeout, connect=5.0),
            verify=trusted(),
            http2=False,
            event_hooks={"request": [fenced]},
        )

    @property
    def repeats(self) -> bool:
        """July's receiver answers 200 while rows of a batch are still missing, and takes the same callback again."""
        return self._dialect == "paths"

    def announce(self, job_id: str, metadata: Mapping[str, Any]) -> None:
        """Say `processing`, once; nothing depends on its being heard. `objects` would take it for the end."""
        if self._dialect == "paths":
            self.post(build_processing(job_id, metadata))

    def send(self, outcome: Outcome, user_id: str) -> Verdict:
        """Send how a job ended. Raises as `build`, nothing for what the network or the receiver does."""
        return self.post(build(outcome, self._dialect, user_id))

    def post(self, body: Mapping[str, Any]) -> Verdict:
        """Send these very bytes, signed anew. Never raises for what the network or the receiver does."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers |= sign(self._secret, content, message_id(body), int(self._clock()))
        try:
            with reaching("the callback's receiver"):
                return _verdict(self._http.post(self._address, content=content, headers=headers))
        except Unreachable as error:
            return Verdict("retry", str(error))

    def adopt_image(self, outcome: Outcome) -> None:
        """End the image row that July's receiver cannot find, because it has no index. A refusal is logged.

        Raises `Unreachable` to be tried again: without this the picture would never be shown.
        """
        if self._adopts and outcome.type.startswith(ADOPTED_TYPES):
            self._patch_image(outcome)

    def close(self) -> None:
        self._http.close()

    def _patch_image(self, outcome: Outcome) -> None:
        row: dict[str, str] = {"status": outcome.status}
        if outcome.status == "completed":
            row["image_url"] = outcome.deliveries[0].path
        rows = {"job_id": f"eq.{outcome.job_id}", "image_index": "is.null"}
        with reaching("the image table"):
            response = self._http.patch(self._images, params=rows, json=row, headers={"Prefer": "return=minimal"})
        if passes(response.status_code):
            raise Unreachable(f"the image table answered {response.status_code}")
        if not response.is_success:
            log.warning("image not adopted", job=outcome.job_id, status=response.status_code)


def message_id(body: Mapping[str, Any]) -> str:
    """One per job and status, so that a receiver knows a repeat."""
    return f"{body['job_id']}.{body['status']}"


def _paths_body(outcome: Outcome) -> dict[str, Any]:
    """One superset for every version of the July receiver: each reads its own spelling and ignores the others."""
    body: dict[str, Any] = {"job_id": outcome.job_id, "jobId": outcome.job_id, "status": outcome.status}
    if outcome.status == "completed":
        paths = [delivery.path for delivery in outcome.deliveries]
        first = {"filePath": paths[0], "outputUrl": paths[0]} if paths else {}
        body |= {"assets": paths, "imageUrls": paths} | first
    else:
        sentence = outcome.error_message or UNEXPLAINED
        body |= {"error_message": sentence, "errorMessage": sentence} | _error_type(outcome)
    if outcome.enhanced_prompt:
        body["enhancedPrompt"] = outcome.enhanced_prompt
    seeds = {"seeds": [delivery.seed for delivery in outcome.deliveries]} if outcome.deliveries else {}
    return body | {"metadata": {**outcome.metadata, **_error_type(outcome), **seeds}}


def _objects_body(outcome: Outcome) -> dict[str, Any]:
    body: dict[str, Any] = {"job_id": outcome.job_id, "status": outcome.status}
    if outcome.status == "completed":
        body["assets"] = [_asset(delivery, outcome.metadata) for delivery in outcome.deliveries]
    else:
        body |= {"errorMessage": outcome.error_message or UNEXPLAINED} | _error_type(outcome)
    enhanced = {"enhanced_prompt": outcome.enhanced_prompt} if outcome.enhanced_prompt else {}
    return body | {"metadata": {**outcome.metadata, **_error_type(outcome), **enhanced}}


def _asset(delivery: Delivery, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kind = delivery.content_type.partition("/")[0]
    width, height = delivery.size
    facts = {
        "width": width,
        "height": height,
        "format": delivery.path.rpartition(".")[2],
        "seed": delivery.seed,
        "bytes": delivery.bytes,
    }
    if kind == "video":
        facts |= {"frames": delivery.frames, "fps": FPS, "duration": delivery.frames / FPS}
    facts |= {key: metadata[key] for key in SAMPLING_KEYS if key in metadata}
    return {"type": kind, "url": delivery.path, "thumbnail_url": delivery.thumbnail_path, "metadata": facts}


def _error_type(outcome: Outcome) -> dict[str, str]:
    return {"error_type": outcome.error_type} if outcome.error_type else {}


def _check_assets(outcome: Outcome, user_id: str) -> None:
    if outcome.status != "completed" or outcome.type in WRITTEN:
        return
    indices = [delivery.index for delivery in outcome.deliveries]
    if not indices or indices != list(range(len(indices))):
        raise ValueError("a completed job must report all its assets, in order")
    if any(not delivery.path.startswith(f"{user_id}/{outcome.job_id}/") for delivery in outcome.deliveries):
        raise ValueError("an asset does not lie in the folder of the job's user")


def _webhook_key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_")
    return secret.encode() if encoded == secret else base64.b64decode(encoded)


def _verdict(response: httpx.Response) -> Verdict:
    status, reason = response.status_code, f"the callback's receiver answered {response.status_code}"
    if response.is_success:
        return Verdict("accepted", reason)
    if passes(status):
        return Verdict("retry", reason, retry_after=retry_after(response.headers))
    if status in (401, 403):
        return Verdict("denied", reason, alarm=True)
    if status == 410:
        return Verdict("stop", reason, tries=1)
    if status in (400, 404):
        return _verdict_by_message(response.text.lower(), reason, tries=3 if status == 400 else 1)
    return Verdict("refused", reason, tries=1)


def _verdict_by_message(text: str, reason: str, tries: int) -> Verdict:
    """The text is matched, never repeated: it may quote a prompt. An unknown one may be a passing fault."""
    for phrases, verdict in _BY_MESSAGE:
        if any(phrase in text for phrase in phrases):
            return replace(verdict, reason=f"{reason}: {verdict.reason}")
    return Verdict("refused", reason, tries=tries)
