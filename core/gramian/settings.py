"""The process's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gramian.errors import PluginError

BODY_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """`home`: where the local plugins keep everything. The plugin names select entry points `<kind>.<name>`.

    `require_v2` refuses the wire contract's old ciphers.
    """

    home: Path | None = None
    transport: str = "nats"
    compute: str = "numpy"
    state: str = "sqlite"
    tokens: str = "sqlite"
    blobs: str = "files"
    scheduler: str = "local"
    jobs: str = "threads"
    body_limit_bytes: int = BODY_LIMIT_BYTES
    require_v2: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str], home: Path | None = None) -> Settings:
        """`GRAMIAN_HOME`, `GRAMIAN_TRANSPORT` and so on. Raises PluginError for a value that cannot be meant."""
        configured = env.get("GRAMIAN_HOME")
        return cls(
            home=home or (Path(configured) if configured else None),
            transport=env.get("GRAMIAN_TRANSPORT", "nats"),
            compute=env.get("GRAMIAN_COMPUTE", "numpy"),
            state=env.get("GRAMIAN_STATE", "sqlite"),
            tokens=env.get("GRAMIAN_TOKENS", "sqlite"),
            blobs=env.get("GRAMIAN_BLOBS", "files"),
            scheduler=env.get("GRAMIAN_SCHEDULER", "local"),
            jobs=env.get("GRAMIAN_JOBS", "threads"),
            body_limit_bytes=_positive(env, "GRAMIAN_BODY_LIMIT_BYTES", BODY_LIMIT_BYTES),
            require_v2=env.get("GRAMIAN_REQUIRE_V2", "") in ("1", "true"),
        )


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise PluginError(f"{name} must be a positive number of bytes, not '{text}'")
    return int(text)
