"""Which servers an operator lets the users of a node name."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.errors import InvalidRequest
from gramian_nats.options import Host


def parse_allowed(text: str) -> tuple[str, ...]:
    """`nats.example.org,*.corp.example` as patterns; empty for all servers."""
    return tuple(pattern.strip().lower() for pattern in text.split(",") if pattern.strip())


def require_allowed(hosts: Sequence[Host], allowed: Sequence[str]) -> None:
    """Raises InvalidRequest naming a host that fits no pattern, if there are any.

    `*.domain` stands for all names below the domain, not for the domain itself.
    """
    for host in hosts:
        if allowed and not any(_fits(host.name.lower(), pattern) for pattern in allowed):
            raise InvalidRequest(
                f"nats_hosts: this node may not use the NATS server '{host.name}'; its operator allows "
                f"{', '.join(allowed)} (GRAMIAN_NATS_ALLOWED_HOSTS)"
            )


def _fits(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
