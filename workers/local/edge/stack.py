"""The local stack with the deployment of `supabase/` in the place of the July double."""

from __future__ import annotations

import json
import secrets
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from workers.local.edge import deno
from workers.local.edge.gate import Gate
from workers.local.faults import Faults, Faulty
from workers.local.gateway import Gateway
from workers.local.postgres import OWNER, PostgresServer
from workers.local.redis import RedisServer
from workers.local.serving import LocalServer
from workers.local.stack import SECRET, TERMINAL, TOKEN, ended, gateway_server, variables
from workers.local.supabase.keys import KeyKind, Keys
from workers.local.supabase.results import File, Result, write_results
from workers.supabase.web import auth_headers

FUNCTIONS = Path(__file__).resolve().parents[3] / "supabase" / "functions"
NAMES = ("queue-job", "job-callback", "cancel-job", "enhance-prompt", "job-progress")
DATABASE = "ourvidz"
USER = "11111111-1111-4111-8111-111111111111"
CREDITS = 1000
FLAGS = ("--no-remote", "--no-npm", "--allow-env", "--allow-net=127.0.0.1")
"""A function needs the environment and the network, and no package."""


class EdgeStack:
    """Everything around the workers, for as long as the context lasts: redis and its gateway, and behind one address
    PostgreSQL, Supabase Lite, and the functions under Deno.

    Raises `FileNotFoundError` with a sentence where a package is absent. `settings` are variables of the functions.
    """

    def __init__(
        self,
        *,
        key_kind: KeyKind = "legacy",
        port: int = 0,
        jwks: tuple[Any, ...] = (),
        **settings: str,
    ) -> None:
        deno.require()
        self.secret = secrets.token_urlsafe(32)
        other: KeyKind = "secret" if key_kind == "legacy" else "legacy"
        self.keys, self.other_keys = (Keys(kind, self.secret.encode()) for kind in (key_kind, other))
        self._port, self._jwks, self._settings = port, jwks, settings
        self.gateway_faults, self.faults = Faults(), Faults()
        self.postgres = PostgresServer()
        self._programs: list[deno.Program] = []

    def __enter__(self) -> EdgeStack:
        with ExitStack() as opened:
            self.folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="edge-")))
            self._log = opened.enter_context((self.folder / "deno.log").open("wb"))
            self.redis = opened.enter_context(RedisServer())
            queue = Gateway(self.redis.url, TOKEN)
            self.gateway = opened.enter_context(gateway_server(queue, self.gateway_faults))
            opened.enter_context(self.postgres)
            self.postgres.create(DATABASE)
            self.postgres.install(DATABASE)
            opened.callback(self._stop)
            self._start(opened)
            self.add_user(USER)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    @property
    def env(self) -> dict[str, str]:
        """What a worker needs to find the stack."""
        return variables(self.supabase.url, self.keys.service, self.gateway.url)

    @property
    def caller(self) -> dict[str, str]:
        """What a client of `queue-job` needs beside the address: a user's token, for an hour."""
        return {"QUEUE_JOB_TOKEN": self.keys.user_token(USER)}

    @property
    def log(self) -> str:
        """What functions and Lite have printed."""
        return (self.folder / "deno.log").read_text()

    def add_user(self, user_id: str | None = None, *, credits: int = CREDITS, tier: str = "pro") -> str:
        """A user who has signed up, with something to spend. The user's id is returned."""
        user = user_id or str(uuid.uuid4())
        self.sql(f"insert into auth.users (id, email) values ('{user}', '{user}@example.com')", role=OWNER)  # noqa: S608  our own id
        self.rpc("set_profile", p_user=user, p_changes={"tier": tier})
        self.rpc("grant_credits", p_user=user, p_amount=credits, p_reason="local")
        return user

    def sql(self, statement: str, role: str = "postgres") -> str:
        """Run past all rules but the database's own."""
        return self.postgres.run(statement, DATABASE, role)

    def rpc(self, name: str, **arguments: Any) -> Any:
        """Call a function of the database with the service key."""
        return self.http.post(f"/rest/v1/rpc/{name}", json=arguments).raise_for_status().json()

    def client(self, user_id: str = USER) -> httpx.Client:
        """The browser of a signed-in user."""
        return self._client(
            {"Authorization": f"Bearer {self.keys.user_token(user_id)}", "apikey": "sb_publishable_local"}
        )

    def submit(self, job_type: str, prompt: str, *, user_id: str = USER, **config: Any) -> str:
        """Queue a job as the browser does and return its id."""
        body = {"jobType": job_type, "prompt": prompt, "config": config}
        with self.client(user_id) as browser:
            answer = browser.post("/functions/v1/queue-job", json=body)
        if not answer.is_success:
            raise RuntimeError(f"queue-job answered {answer.status_code}: {answer.text}")
        return str(answer.json()["job"]["id"])

    def rows(self, table: str, **where: str) -> list[dict[str, Any]]:
        params = {"order": "created_at.asc", **{name: f"eq.{value}" for name, value in where.items()}}
        found: list[dict[str, Any]] = self.http.get(f"/rest/v1/{table}", params=params).raise_for_status().json()
        return found

    def jobs(self) -> list[dict[str, Any]]:
        return self.rows("jobs")

    def job(self, job_id: str) -> dict[str, Any]:
        return self.rows("jobs", id=job_id)[0]

    def wait_for(self, job_id: str, timeout: float = 60.0) -> dict[str, Any]:
        """The job's row once it has ended. Raises `TimeoutError`."""
        return ended(lambda: self.job(job_id), timeout)

    def file(self, bucket: str, path: str) -> Path:
        """Where an object's bytes lie, whether it is there or not."""
        return self.folder / "objects" / bucket / ("_" + quote(path, safe="!~*'()"))

    @contextmanager
    def function(self, name: str, **settings: str) -> Iterator[str]:
        """The address of one more instance of a function, with other settings, for as long as the context lasts."""
        program = deno.Program(FUNCTIONS / name / "index.ts", self._environment() | settings, FLAGS, self._log)
        with closing(program):
            program.wait()
            yield program.url

    def write_results(self, folder: Path) -> Path:
        """Leave a page that opens from disk, and the files it shows, in a folder. Returns the page."""
        said = {
            body.get("job_id"): body
            for body, status in self.gate.seen
            if status == 200 and body.get("status") in TERMINAL
        }
        results = [self._result(job, said.get(job["id"], {})) for job in reversed(self.jobs())]
        return write_results(results, self.file, folder)

    def _result(self, job: dict[str, Any], said: Mapping[str, Any]) -> Result:
        paths = said.get("assets") or [] if job["status"] == "completed" else []
        files = tuple(self._file(job["job_type"], path) for path in paths)
        return Result(job, files, said.get("metadata") or {}, said.get("enhancedPrompt"))

    def _file(self, bucket: str, path: str) -> File:
        file = self.file(bucket, path)
        return File(bucket, path, file.with_name(f"{file.name}.type").read_text(), file.stat().st_size)

    def _start(self, opened: ExitStack) -> None:
        """The gate takes its place before the programs start, since functions are told its address."""
        lite_keys = f"sb_publishable_{secrets.token_urlsafe(16)}", f"sb_secret_{secrets.token_urlsafe(16)}"
        lite = self._program(deno.LITE, self._lites_environment(lite_keys), ("--allow-all",))
        addresses: dict[str, str] = {}
        self.gate = Gate(
            lite=lite.url,
            functions=addresses,
            service=(self.keys.service, self.other_keys.service),
            keys=lite_keys,
            sessions=self.keys,
            jwks=self._jwks,
        )
        server = LocalServer(Faulty(self.gate, self.faults), self._port, close=self.gate.close)
        self.supabase = opened.enter_context(server)
        self.http = opened.enter_context(self._client(auth_headers(self.keys.service)))
        for name in NAMES:
            addresses[name] = self._program(FUNCTIONS / name / "index.ts", self._environment(), FLAGS).url
        with ThreadPoolExecutor(len(self._programs)) as pool:
            list(pool.map(deno.Program.wait, self._programs))

    def _client(self, headers: Mapping[str, str]) -> httpx.Client:
        return httpx.Client(base_url=self.supabase.url, headers=headers, timeout=60, verify=False)  # noqa: S501  plain HTTP

    def _program(self, file: Path, env: Mapping[str, str], flags: Sequence[str]) -> deno.Program:
        self._programs.append(deno.Program(file, env, flags, self._log))
        return self._programs[-1]

    def _stop(self) -> None:
        for program in self._programs:
            program.close()

    def _lites_environment(self, keys: tuple[str, str]) -> dict[str, str]:
        publishable, secret = keys
        return {
            "LITE_DATABASE": self.postgres.url(DATABASE, OWNER),
            "LITE_FILES": str(self.folder / "objects"),
            "LITE_PUBLISHABLE_KEY": publishable,
            "LITE_SECRET_KEY": secret,
            "JWT_SECRET": self.secret,
        }

    def _environment(self) -> dict[str, str]:
        """What the platform gives to functions, and the deployment's secrets."""
        key = self.keys.service
        new = {"SUPABASE_SECRET_KEYS": json.dumps({"default": key})}
        own = new if key.startswith("sb_") else {"SUPABASE_SERVICE_ROLE_KEY": key}
        queue = {name: value for name, value in self.env.items() if name.startswith("UPSTASH_")}
        ours = {"JWT_SECRET": self.secret, "JOB_CALLBACK_SECRET": SECRET, **self._settings}
        return {"SUPABASE_URL": self.supabase.url, **own, **queue, **ours}
