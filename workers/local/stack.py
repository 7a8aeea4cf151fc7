"""The local stack: redis, its REST gateway and the July double, started together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from workers.job import Preset
from workers.local.faults import Faults, Faulty
from workers.local.gateway import Gateway
from workers.local.redis import RedisServer
from workers.local.serving import LocalServer
from workers.local.supabase.double import Deployment, Double
from workers.local.supabase.results import write_results
from workers.tables import load_presets

TOKEN = "local-rest-token"  # noqa: S105  guards nothing: the stack is empty at its start and on this machine only
SECRET = "local-callback-secret"  # noqa: S105  as above
PAUSE = 0.02
TERMINAL = ("completed", "failed", "cancelled")
Dialect = Literal["paths", "objects"]


def variables(supabase: str, key: str, gateway: str, dialect: Dialect = "paths") -> dict[str, str]:
    """What a worker needs to find a stack: the addresses of both services, and the project's key."""
    return {
        "SUPABASE_URL": supabase,
        "SUPABASE_SERVICE_KEY": key,
        "UPSTASH_REDIS_REST_URL": gateway,
        "UPSTASH_REDIS_REST_TOKEN": TOKEN,
        "JOB_CALLBACK_SECRET": SECRET,
        "CALLBACK_DIALECT": dialect,
        "QUEUE_TAKE_FROM": "tail" if dialect == "paths" else "head",
    }


def gateway_server(app: Gateway, faults: Faults) -> LocalServer:
    return LocalServer(Faulty(app, faults), close=app.close)


def ended(look: Callable[[], dict[str, Any]], timeout: float) -> dict[str, Any]:
    """A job's row once it has ended. Raises `TimeoutError`."""
    deadline = time.monotonic() + timeout
    while (job := look())["status"] not in TERMINAL:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the job is still {job['status']} after {timeout:.0f} s")
        time.sleep(PAUSE)
    return job


class LocalStack:
    """Everything around the workers, for as long as the context lasts.

    `redis` shares a server that runs already. `gateway_faults` and `double_faults` strike while it runs.
    """

    def __init__(
        self,
        *,
        dialect: Dialect = "paths",
        key_kind: Literal["legacy", "secret"] = "legacy",
        presets: Mapping[str, Preset] | None = None,
        redis: RedisServer | None = None,
        port: int = 0,
    ) -> None:
        self._dialect = dialect
        self._key_kind = key_kind
        self._presets = presets if presets is not None else load_presets()
        self._shared_redis = redis
        self._port = port
        self.gateway_faults, self.double_faults = Faults(), Faults()

    def __enter__(self) -> LocalStack:
        with ExitStack() as opened:
            self.redis = self._shared_redis or opened.enter_context(RedisServer())
            self._queue = Gateway(self.redis.url, TOKEN)
            self.gateway = opened.enter_context(gateway_server(self._queue, self.gateway_faults))
            self.double = Double(self._deployment(self.gateway.url))
            self.supabase = opened.enter_context(
                LocalServer(Faulty(self.double, self.double_faults), self._port, close=self.double.close)
            )
            self._http = opened.enter_context(
                httpx.Client(base_url=self.supabase.url, headers=self._headers(), timeout=60)
            )
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    @property
    def env(self) -> dict[str, str]:
        """What a worker needs to find the stack."""
        return variables(self.supabase.url, self.double.keys.service, self.gateway.url, self._dialect)

    @property
    def caller(self) -> dict[str, str]:
        """What a client of `queue-job` needs beside the address."""
        return {"QUEUE_JOB_TOKEN": self.double.keys.service}

    @property
    def commands(self) -> int:
        """How many the queue's service would have billed since its start."""
        return self._queue.commands

    def submit(self, job_type: str, prompt: str, *, user_id: str | None = None, **config: Any) -> str:
        """Queue a job as the browser does and return its id. `num_images` goes where July's client puts it."""
        metadata = {"num_images": config.pop("num_images")} if "num_images" in config else {}
        body = {"jobType": job_type, "prompt": prompt, "metadata": metadata, "config": config}
        headers = {"Authorization": f"Bearer {self.double.keys.user_token(user_id)}"} if user_id else {}
        answer = self._http.post("/functions/v1/queue-job", json=body, headers=headers)
        return str(answer.raise_for_status().json()["job"]["id"])

    def jobs(self) -> list[dict[str, Any]]:
        return self.double.rows("jobs")

    def job(self, job_id: str) -> dict[str, Any]:
        return self.double.rows("jobs", id=job_id)[0]

    def objects(self) -> list[dict[str, Any]]:
        """What lies in storage: bucket, path, content_type and size of each object."""
        return self.double.store.list()

    def wait_for(self, job_id: str, timeout: float = 240.0) -> dict[str, Any]:
        """The job's row once it has ended. Raises `TimeoutError`."""
        return ended(lambda: self.job(job_id), timeout)

    def write_results(self, folder: Path) -> Path:
        """Leave a page that opens from disk, and the files it shows, in a folder. Returns the page."""
        return write_results(self.double.results(), self.double.store.place, folder)

    def reset(self) -> None:
        """As new: no jobs, objects, callbacks or faults, and an empty redis."""
        self.redis.flush()
        self.double.reset()
        self.gateway_faults.clear(seed=0)
        self.double_faults.clear(seed=0)

    def _deployment(self, gateway_url: str) -> Deployment:
        return Deployment(
            presets=self._presets,
            queue_url=gateway_url,
            queue_token=TOKEN,
            secret=SECRET,
            dialect=self._dialect,
            key_kind=self._key_kind,
        )

    def _headers(self) -> dict[str, str]:
        key = self.double.keys.service
        return {"apikey": key} if key.startswith("sb_") else {"apikey": key, "Authorization": f"Bearer {key}"}
