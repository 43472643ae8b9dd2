"""Gramian's transport over NATS JetStream. Importing this package is cheap; nats-py is imported on first use."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.hookspecs import Option, Options, hookimpl
from gramian.ports import Transport

gramian_api = "1"


@hookimpl
def gramian_options() -> Sequence[Option]:
    return (Option("allowed_hosts", default="", help="Hosts that nats_hosts may name: host or *.domain, by commas."),)


@hookimpl
def gramian_transport(options: Options) -> Transport:
    from gramian_nats.allowed import parse_allowed
    from gramian_nats.transport import NatsTransport

    return NatsTransport(parse_allowed(options["allowed_hosts"]))
