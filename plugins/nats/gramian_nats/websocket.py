"""NATS over WebSockets with TLS, for networks that let only HTTPS out. Needs aiohttp: the extra `nats-ws`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any
from urllib.parse import ParseResult

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from nats.aio.transport import WebSocketTransport

from gramian_nats.errors import Misbehaved, TlsCut
from gramian_nats.parser import MAX_LINE_BYTES

MAX_FRAME_BYTES = 2**25
"""Far above what a server sends at once; nats-py sets no limit."""


class _Pinned(AbstractResolver):
    """Knows one address, the one that was judged; the name stays what TLS and the Host header say."""

    def __init__(self, ip: str) -> None:
        self._ip = ip

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the base class's signature
    ) -> list[ResolveResult]:
        kind = socket.AF_INET6 if ":" in self._ip else socket.AF_INET
        return [ResolveResult(hostname=host, host=self._ip, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None: ...


class PinnedWebSocket(WebSocketTransport):
    """nats-py's transport, connected to one address and without its unbounded waits and frames."""

    def __init__(self, ip: str) -> None:
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Pinned(ip), use_dns_cache=False), trust_env=False
        )
        self._pending: asyncio.Queue[bytes] = asyncio.Queue()
        self._close_task: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,  # noqa: ARG002 - the base class's signature
        connect_timeout: int,
    ) -> None:
        """Open it. Called again once the server has said that it wants TLS, when there is nothing left to do."""
        if self._ws is not None:
            return
        assert not isinstance(uri, str)
        try:
            async with asyncio.timeout(connect_timeout):
                self._ws = await self._client.ws_connect(
                    uri.geturl(), ssl=ssl_context, max_msg_size=MAX_FRAME_BYTES, autoclose=False
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise error.certificate_error from None
        except aiohttp.ClientConnectorError as error:
            raise error.os_error from None
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise TlsCut from error
        except aiohttp.ClientError as error:
            raise ConnectionError(f"it is no NATS WebSocket ({type(error).__name__})") from error

    async def read(self, buffer_size: int) -> bytes:  # noqa: ARG002 - a frame comes as a whole
        """The next frame. Raises Misbehaved at one of more than MAX_FRAME_BYTES."""
        try:
            frame: bytes = await super().readline()  # type: ignore[no-untyped-call]
        except ConnectionError as error:
            if isinstance(error.__cause__, aiohttp.WebSocketError):
                raise Misbehaved(f"what is no WebSocket message, or too large a one ({error.__cause__})") from error
            raise
        return frame

    async def readline(self) -> bytes:
        """One of the lines that begin a connection. Raises Misbehaved at one of more than MAX_LINE_BYTES."""
        line = await self.read(0)
        if len(line) > MAX_LINE_BYTES:
            raise Misbehaved("a line that does not end")
        return line

    def at_eof(self) -> bool:
        return self._ws is None or self._ws.closed

    def abort(self) -> None:
        """Drop the socket with whatever is still to be sent. Nothing is left to do after `wait_closed`."""
        if self._client is not None:
            self._dropping = asyncio.get_running_loop().create_task(self._drop())

    async def _drop(self) -> None:
        if self._client.connector is not None:
            await self._client.connector.close(abort_ssl=True)
