"""NATS over TCP, with or without TLS."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

from gramian_nats.errors import Misbehaved


class _TlsProtocol(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        """TLS cannot stay half open; the base class says that it could, and asyncio then warns at every end."""
        super().eof_received()
        return False


class TcpLine(TcpTransport):
    """nats-py's transport, which can be dropped at once and ends TLS without a warning."""

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        assert self._io_writer is not None, "`connect` comes first"
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=buffer_size)
        protocol = _TlsProtocol(reader)
        name = uri if isinstance(uri, str) else uri.hostname
        try:
            async with asyncio.timeout(connect_timeout):
                line = await loop.start_tls(self._io_writer.transport, protocol, ssl_context, server_hostname=name)
        except BaseException:
            self.abort()
            self._io_writer = None  # its end is told to the new protocol, and nobody must wait for it here
            raise
        assert line is not None
        self._io_reader, self._io_writer = reader, asyncio.StreamWriter(line, protocol, reader, loop)

    async def readline(self) -> bytes:
        """One of the lines that begin a connection. Raises Misbehaved at one that is longer than `connect` allows."""
        try:
            line: bytes = await super().readline()  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise Misbehaved("a line that does not end") from error
        return line

    def abort(self) -> None:
        """Drop the socket with whatever is still to be sent."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()
