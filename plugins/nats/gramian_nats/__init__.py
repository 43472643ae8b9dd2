"""Gramian's transport over NATS JetStream. Importing this package is cheap; nats-py is imported on first use."""

from __future__ import annotations

from gramian.hookspecs import hookimpl
from gramian.ports import Transport

gramian_api = "1"


@hookimpl
def gramian_transport() -> Transport:
    from gramian_nats.transport import NatsTransport

    return NatsTransport()
