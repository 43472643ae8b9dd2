"""The process's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gramian.errors import PluginError

BODY_LIMIT_BYTES = 64 * 1024 * 1024
UPLOAD_LIMIT_BYTES = 5 * 1024**3
"""What one PUT to S3 may have."""
DEFAULT_TRANSPORTS = ("nats", "s3")


@dataclass(frozen=True, slots=True)
class Settings:
    """`home`: where the local plugins keep everything. The plugin names select entry points `<kind>.<name>`.

    `gpu_jobs`: the job runner of federations with `fed_local_type=gpu`, empty where there is none.
    `sync_jobs`: the runner of syncs that a user asks for, empty where the request itself syncs.
    `transports`: those that federations may use; the first is meant where a federation's map does not tell.
    `observers`: those that are told what happens, in this order.
    `require_v2` refuses the wire contract's old ciphers. `environment`: where plugins' options are looked up.
    """

    home: Path | None = None
    transports: tuple[str, ...] = DEFAULT_TRANSPORTS
    compute: str = "numpy"
    identity: str = "home"
    state: str = "sqlite"
    tokens: str = "sqlite"
    blobs: str = "files"
    scheduler: str = "local"
    jobs: str = "threads"
    gpu_jobs: str = ""
    sync_jobs: str = ""
    observers: tuple[str, ...] = ()
    uploads: str = "files"
    body_limit_bytes: int = BODY_LIMIT_BYTES
    upload_limit_bytes: int = UPLOAD_LIMIT_BYTES
    require_v2: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str], home: Path | None = None) -> Settings:
        """`GRAMIAN_HOME`, `GRAMIAN_TRANSPORT` and so on. Raises PluginError for a value that cannot be meant."""
        configured = env.get("GRAMIAN_HOME")
        return cls(
            home=home or (Path(configured) if configured else None),
            transports=_names(env.get("GRAMIAN_TRANSPORT", "")) or DEFAULT_TRANSPORTS,
            compute=env.get("GRAMIAN_COMPUTE", "numpy"),
            identity=env.get("GRAMIAN_IDENTITY", "home"),
            state=env.get("GRAMIAN_STATE", "sqlite"),
            tokens=env.get("GRAMIAN_TOKENS", "sqlite"),
            blobs=env.get("GRAMIAN_BLOBS", "files"),
            scheduler=env.get("GRAMIAN_SCHEDULER", "local"),
            jobs=env.get("GRAMIAN_JOBS", "threads"),
            gpu_jobs=env.get("GRAMIAN_GPU_JOBS", ""),
            sync_jobs=env.get("GRAMIAN_SYNC_JOBS", ""),
            observers=_names(env.get("GRAMIAN_OBSERVERS", "")),
            uploads=env.get("GRAMIAN_UPLOADS", "files"),
            body_limit_bytes=_positive(env, "GRAMIAN_BODY_LIMIT_BYTES", BODY_LIMIT_BYTES),
            upload_limit_bytes=_positive(env, "GRAMIAN_UPLOAD_LIMIT_BYTES", UPLOAD_LIMIT_BYTES),
            require_v2=env.get("GRAMIAN_REQUIRE_V2", "") in ("1", "true"),
            environment={name: value for name, value in env.items() if name.startswith("GRAMIAN_")},
        )


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise PluginError(f"{name} must be a positive number of bytes, not '{text}'")
    return int(text)
