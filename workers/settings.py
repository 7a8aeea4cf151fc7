"""The environment becomes a frozen record; whatever is wrong is said all at once."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers.errors import Misconfigured
from workers.job import Rating

CONFIG_DIR = Path(__file__).resolve().parent.parent / "config"
WRONG_VALUE = 64
MISSING = 1


class Settings(BaseSettings):
    """Every variable the code reads. Durations in seconds. Secrets never print."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    supabase_url: str
    supabase_service_key: SecretStr = Field(
        validation_alias=AliasChoices("SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY")
    )
    upstash_redis_rest_url: str
    upstash_redis_rest_token: SecretStr

    callback_dialect: Literal["paths", "objects"] = "paths"
    callback_url: str = ""
    job_callback_secret: SecretStr | None = None
    adopt_images: bool = True
    queue_take_from: Literal["tail", "head"] = "tail"
    command_budget: int = Field(default=0, ge=0)
    wake_ups: bool = True
    reconcile: bool | None = None

    model_root: Path = Path("/workspace/models")
    hf_home: Path | None = None
    outbox_dir: Path | None = None
    outbox_max_gb: float = Field(default=10.0, ge=0)
    device: Literal["", "cuda", "cpu"] = ""
    qwen_variant: Literal["auto", "base", "instruct"] = "auto"
    reference_hosts: str = Field(default="", pattern=r"^([a-z0-9.-]+(,[a-z0-9.-]+)*)?$")
    enhance_seconds: float = Field(default=30.0, gt=0, le=60)
    prompt_budget: Literal["chunk", "fit"] = "chunk"

    lease_seconds: float = Field(default=45.0, ge=1)
    drain_seconds: float = Field(default=25.0, ge=0)
    recycle_jobs: int = Field(default=2000, ge=0)
    recycle_rss_gb: float = Field(default=12.0, ge=0)
    max_rating: Rating = "sfw"
    default_rating: Rating = "sfw"
    safety_manifest: Path | None = None
    audit_dir: Path | None = None
    audit_key: SecretStr | None = None
    consent_secret: SecretStr | None = None
    privacy_key: SecretStr | None = None
    keep_files_days: float = Field(default=7.0, gt=0)
    keep_dead_days: float = Field(default=30.0, gt=0)
    provenance_dir: Path | None = None
    watermark: bool = True
    prompt_in_files: bool = False
    c2pa_signer_url: str = ""
    c2pa_signer_token: SecretStr | None = None

    ops_token: SecretStr | None = Field(default=None, min_length=16)
    ops_address: str = Field(default="127.0.0.1:8090", pattern=r"^([\w.-]+:\d{1,5}|\[[\da-fA-F:.]+\]:\d{1,5})?$")
    ops_dir: Path | None = None
    ops_submit: bool = False
    ops_pictures: bool = False
    queue_job_token: SecretStr | None = None
    pod_price: float = Field(default=0.0, ge=0)
    card_ceiling_gb: float = Field(default=46.0, ge=0)

    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_dir: Path | None = None
    runpod_pod_id: str = ""

    @field_validator("supabase_url", "upstash_redis_rest_url", "callback_url", "c2pa_signer_url")
    @classmethod
    def _http_address(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https://")
        return value.rstrip("/")

    @field_validator("ops_address")
    @classmethod
    def _guarded(cls, address: str, info: ValidationInfo) -> str:
        host = address.rpartition(":")[0].strip("[]")
        if host and not is_loopback(host) and info.data.get("ops_token") is None:
            raise ValueError("other machines can reach it, so set OPS_TOKEN, to 16 characters or more")
        return address

    @property
    def hosts_of_references(self) -> frozenset[str]:
        return frozenset(filter(None, self.reference_hosts.split(",")))

    @property
    def reconciles(self) -> bool:
        """July's rows hold what a lost job needs to be made anew; of others that must be known."""
        return self.callback_dialect == "paths" if self.reconcile is None else self.reconcile

    @property
    def callback_address(self) -> str:
        return self.callback_url or f"{self.supabase_url}/functions/v1/job-callback"

    @property
    def outbox(self) -> Path:
        return self.outbox_dir or self.model_root.parent / "outbox"

    @property
    def compile_cache(self) -> Path:
        return self.model_root.parent / "compiled"

    @property
    def audit(self) -> Path:
        return self.audit_dir or self.model_root.parent / "audit"

    @property
    def provenance(self) -> Path:
        return self.provenance_dir or self.model_root.parent / "provenance"

    @property
    def manifest(self) -> Path:
        return self.safety_manifest or CONFIG_DIR / "safety" / "manifest.toml"

    @property
    def ops_folder(self) -> Path:
        return self.ops_dir or self.model_root.parent / "ops"

    @property
    def huggingface(self) -> Path:
        return self.hf_home or self.model_root / "huggingface_cache"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never appear in a log."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))

    @property
    def worker_name(self) -> str:
        return self.runpod_pod_id or socket.gethostname()


def load_settings() -> Settings:
    """Read the environment. Raises `Misconfigured` with every problem and its fix; exit code 1 where a required
    variable is missing, else 64."""
    try:
        return Settings()
    except ValidationError as error:
        missing = any(e["type"] == "missing" for e in error.errors())
        raise Misconfigured(
            [_variable_problem(e) for e in error.errors()], exit_code=MISSING if missing else WRONG_VALUE
        ) from None


def is_loopback(host: str) -> bool:
    """Whether an address of this name can be reached from this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _variable_problem(error: Any) -> str:
    name = str(error["loc"][0]).upper()
    if error["type"] == "missing":
        return f"{name} is not set. Set it in the environment; config/example.env says what it holds."
    return f"{name}: {error['msg']}."
