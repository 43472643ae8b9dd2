"""Connections between uses: a pulse that finds one idle saves the handshake."""

from __future__ import annotations

import asyncio

from gramian.errors import TransportError, TransportUnavailable
from gramian_nats.connection import Connection
from gramian_nats.dial import dial
from gramian_nats.options import NatsOptions

IDLE_S = 10.0
"""How long an unused connection is kept."""
_CHECK_S = 2.0


class Pool:
    """At most one idle connection per options; lives on the event loop's thread."""

    def __init__(self) -> None:
        self._idle: dict[NatsOptions, tuple[Connection, asyncio.TimerHandle]] = {}
        self._lent: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def take(self, options: NatsOptions, within_s: float) -> Connection:
        """A connection that answers: the idle one, or a new one. Raises TransportError."""
        if self._is_closed:
            raise TransportUnavailable("the NATS transport of this process is closed")
        connection = await self._take_idle(options) or await dial(options, within_s)
        if self._is_closed:
            await connection.close()
            raise TransportUnavailable("the NATS transport of this process is closed")
        self._lent.add(connection)
        return connection

    async def give(self, options: NatsOptions, connection: Connection) -> None:
        """Take a connection back, to keep it for a while or to close it."""
        self._lent.discard(connection)
        if self._is_closed or not connection.usable or options in self._idle:
            await connection.close()
            return
        expiry = asyncio.get_running_loop().call_later(IDLE_S, self._expire, options)
        self._idle[options] = (connection, expiry)

    async def close(self) -> None:
        """Close all connections, lent ones too."""
        self._is_closed = True
        for _, expiry in self._idle.values():
            expiry.cancel()
        everything = [connection for connection, _ in self._idle.values()] + list(self._lent)
        self._idle.clear()
        self._lent.clear()
        await asyncio.gather(*(connection.close() for connection in everything), *self._closing)

    async def _take_idle(self, options: NatsOptions) -> Connection | None:
        """The idle connection if its server still answers; it may be gone without a goodbye."""
        if options not in self._idle:
            return None
        connection, expiry = self._idle.pop(options)
        expiry.cancel()
        try:
            await connection.bounded(connection.round_trip(), _CHECK_S)
        except TransportError:
            await connection.close()
            return None
        return connection

    def _expire(self, options: NatsOptions) -> None:
        connection, _ = self._idle.pop(options)
        task = asyncio.get_running_loop().create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
