"""Connecting: names are resolved and judged here, so that what was judged is what is called."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from gramian.domain.addresses import is_forbidden
from gramian.errors import TransportRefused, TransportUnavailable
from gramian_nats import names
from gramian_nats.connection import Connection
from gramian_nats.errors import NoResponders, TlsCut, translating
from gramian_nats.options import Host, NatsOptions
from gramian_nats.tls import context

MIN_VERSION = (2, 11)
"""The first version with batched direct reads of several subjects and with a time to live per message."""

MAX_ADDRESSES = 8
MIN_PAYLOAD_BYTES = 2**16
_PING_S = 20


async def dial(options: NatsOptions, within_s: float) -> Connection:
    """Connect to the first host that can be reached. Each gets its share of `within_s`.

    Raises TransportRefused as soon as a host refuses, TransportUnavailable when none can be reached.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    failures: list[str] = []
    for tried, host in enumerate(options.hosts):
        share_s = (deadline - loop.time()) / (len(options.hosts) - tried)
        try:
            with translating(host.address, options):
                async with asyncio.timeout(share_s):
                    return await _dial_host(options, host, share_s)
        except TransportUnavailable as error:
            failures.append(str(error))
    raise TransportUnavailable("; ".join(failures))


async def _dial_host(options: NatsOptions, host: Host, within_s: float) -> Connection:
    failures: list[OSError] = []
    for ip in await _resolved(host):
        try:
            return await _dial_address(options, host, ip, within_s)
        except OSError as error:
            failures.append(error)
    raise failures[-1]


async def _resolved(host: Host) -> list[str]:
    """The addresses of a host. Raises TransportRefused if any of them is off limits, OSError if there are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
    if any(is_forbidden(address) for address in addresses):
        raise TransportRefused(f"NATS at {host.address} is a link-local or metadata address, which is not allowed")
    return addresses


async def _dial_address(options: NatsOptions, host: Host, ip: str, within_s: float) -> Connection:
    from nats.errors import NoServersError

    from gramian_nats.client import StrictClient

    client = StrictClient(ip, has_certificate=options.tls_cert is not None)
    connection = Connection(options, host, client)
    failures: deque[Exception] = deque(maxlen=1)  # a server may report any number of them

    async def on_error(error: Exception) -> None:
        failures.append(error)
        connection.on_error(error)

    async def on_closed() -> None:
        connection.on_closed()

    try:
        await client.connect(
            [host.url_at(ip)],
            name="gramian",
            error_cb=on_error,
            closed_cb=on_closed,
            # One server, and never one that it recommends: only what was resolved and judged is called. Links
            # and listeners replace their connections themselves.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, round(within_s)),
            ping_interval=_PING_S,
            tls_hostname=host.name,
            inbox_prefix=names.inbox_prefix(options.name),
            **_security(options),
        )
        await connection.prepare()
        await connection.bounded(_inspect(connection), within_s)
    except BaseException as error:
        await connection.close()
        if isinstance(error, NoServersError) and failures:
            raise failures[-1] from None  # what nats-py gave up for
        if host.scheme != "nats" and isinstance(error, ConnectionError):
            # How a server turns down a client's certificate: it hears of it when TLS is already up.
            raise TlsCut from error
        raise
    return connection


def _security(options: NatsOptions) -> Mapping[str, Any]:
    """The login, and how TLS is to be spoken where it is."""
    encrypted = any(host.scheme != "nats" for host in options.hosts)
    return {**_login(options), **({"tls": context(options)} if encrypted else {})}


def _login(options: NatsOptions) -> Mapping[str, Any]:
    if options.user is not None:
        return {"user": options.user, "password": options.password}
    if options.token is not None:
        return {"token": options.token}
    if options.nkey_seed is not None:
        return {"nkeys_seed_str": options.nkey_seed}
    if options.creds is not None:
        from nats.aio.client import RawCredentials

        return {"user_credentials": RawCredentials(options.creds)}
    return {}


async def _inspect(connection: Connection) -> None:
    """Refuse a server that is too old or has no JetStream."""
    where = f"NATS at {connection.host.address}"
    version = str(connection.server_info.get("version", ""))[:40]
    numbers = re.match(r"v?(\d{1,6})\.(\d{1,6})", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < MIN_VERSION:
        need = ".".join(map(str, MIN_VERSION))
        raise TransportRefused(f"{where} has version {version!r}, {need} or newer is needed: upgrade the server")
    if not isinstance(connection.max_payload_bytes, int) or connection.max_payload_bytes < MIN_PAYLOAD_BYTES:
        raise TransportRefused(
            f"{where} has max_payload {connection.max_payload_bytes!r:.40}, {MIN_PAYLOAD_BYTES} or more is needed: "
            "raise it there"
        )
    if connection.server_info.get("jetstream") is True:
        return
    try:  # a server without it may sit in a cluster that has it
        await connection.ask_api("INFO", {})
    except NoResponders:
        raise TransportRefused(f"{where} has JetStream disabled: enable it (nats-server -js)") from None
