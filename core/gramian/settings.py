"""The process's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gramian.errors import PluginError
from gramian.options import SWITCHES

BODY_LIMIT_BYTES = 64 * 1024 * 1024
UPLOAD_LIMIT_BYTES = 5 * 1024**3
"""What one PUT to S3 may have."""
DEFAULT_TRANSPORTS = ("nats", "s3")
VARIABLES = (
    *("GRAMIAN_HOME", "GRAMIAN_TRANSPORT", "GRAMIAN_COMPUTE", "GRAMIAN_IDENTITY", "GRAMIAN_STATE", "GRAMIAN_TOKENS"),
    *("GRAMIAN_BLOBS", "GRAMIAN_SCHEDULER", "GRAMIAN_JOBS", "GRAMIAN_GPU_JOBS", "GRAMIAN_SYNC_JOBS"),
    *("GRAMIAN_OBSERVERS", "GRAMIAN_UPLOADS", "GRAMIAN_BODY_LIMIT_BYTES", "GRAMIAN_UPLOAD_LIMIT_BYTES"),
    *("GRAMIAN_REQUIRE_V2", "GRAMIAN_FAULTS", "GRAMIAN_FAULT", "GRAMIAN_SECRET_KEY", "GRAMIAN_RECOVERY_PASSPHRASE"),
)
"""All that Gramian itself reads; plugins add `GRAMIAN_<NAME>_<OPTION>`."""


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
        """`GRAMIAN_HOME`, `GRAMIAN_TRANSPORT` and so on; an empty text counts as not given.

        Raises PluginError for a value that cannot be meant.
        """
        given = {name: value.strip() for name, value in env.items() if name in VARIABLES and value.strip()}
        return cls(
            home=home or (Path(given["GRAMIAN_HOME"]) if "GRAMIAN_HOME" in given else None),
            transports=_names(given.get("GRAMIAN_TRANSPORT", "")) or DEFAULT_TRANSPORTS,
            compute=given.get("GRAMIAN_COMPUTE", "numpy"),
            identity=given.get("GRAMIAN_IDENTITY", "home"),
            state=given.get("GRAMIAN_STATE", "sqlite"),
            tokens=given.get("GRAMIAN_TOKENS", "sqlite"),
            blobs=given.get("GRAMIAN_BLOBS", "files"),
            scheduler=given.get("GRAMIAN_SCHEDULER", "local"),
            jobs=given.get("GRAMIAN_JOBS", "threads"),
            gpu_jobs=given.get("GRAMIAN_GPU_JOBS", ""),
            sync_jobs=given.get("GRAMIAN_SYNC_JOBS", ""),
            observers=_names(given.get("GRAMIAN_OBSERVERS", "")),
            uploads=given.get("GRAMIAN_UPLOADS", "files"),
            body_limit_bytes=_positive(given, "GRAMIAN_BODY_LIMIT_BYTES", BODY_LIMIT_BYTES),
            upload_limit_bytes=_positive(given, "GRAMIAN_UPLOAD_LIMIT_BYTES", UPLOAD_LIMIT_BYTES),
            require_v2=_switch(given, "GRAMIAN_REQUIRE_V2"),
            environment={name: value for name, value in env.items() if name.startswith("GRAMIAN_")},
        )


def _names(text: str) -> tuple[str, ...]:
    """Names separated by commas, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _positive(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise PluginError(f"{name} must be a positive number of bytes, not '{text[:80]}'")
    return int(text)


def _switch(given: Mapping[str, str], name: str) -> bool:
    """Off if it is not given; what is neither on nor off is refused, since it may be meant to forbid something."""
    text = given.get(name, "false")
    if text.lower() not in SWITCHES:
        raise PluginError(f"{name} must be true or false, not '{text[:80]}'")
    return SWITCHES[text.lower()]
