"""Hearing nudges for as long as a node is resident: reconnects by itself, and calls back from a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
from collections.abc import Callable
from contextlib import suppress

from gramian.errors import TransportError
from gramian_nats.connection import Connection
from gramian_nats.dial import dial
from gramian_nats.loop import LoopThread
from gramian_nats.options import NatsOptions

MAX_NUDGE_BYTES = 4_096
_MAX_WAITING = 64
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0

_log = logging.getLogger(__name__)


class Listener:
    """Calls `on_nudge` for each nudge on `subject` until it is stopped; nudges that come too fast are dropped."""

    def __init__(self, loop: LoopThread, options: NatsOptions, subject: str, on_nudge: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._options = options
        self._subject = subject
        self._on_nudge = on_nudge
        self._waiting: queue.Queue[bytes] = queue.Queue(_MAX_WAITING)
        self._stopped = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._call_back, name="gramian-nudges", daemon=True)

    def start(self) -> None:
        """Return once the server knows of the subscription. Raises TransportError."""
        self._loop.run(self._begin())
        self._thread.start()

    def stop(self) -> None:
        """End it; at most the call under way finishes later. May be repeated, and called from `on_nudge`."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._loop.run(self._end())
        with suppress(queue.Full):  # a full queue wakes the thread just as well
            self._waiting.put_nowait(b"")

    async def _begin(self) -> None:
        self._task = asyncio.create_task(self._keep(await self._connected()))

    async def _end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _keep(self, connection: Connection) -> None:
        """Replace the connection whenever it breaks; what was sent in between is lost, as nudges may be."""
        try:
            while True:
                await connection.closed.wait()
                connection = await self._reconnected()
        finally:
            await connection.close()

    async def _reconnected(self) -> Connection:
        pause_s = _FIRST_PAUSE_S
        while True:
            # Not all nodes at once after the server was away.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret about it
            try:
                return await self._connected()
            except TransportError as error:
                _log.info("no nudges are heard for now: %s", error)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _connected(self) -> Connection:
        timeout_s = self._options.timeout_s
        connection = await dial(self._options, timeout_s / 2)
        try:
            await connection.bounded(connection.subscribe(self._subject, self._enqueue), timeout_s / 2)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _enqueue(self, data: bytes) -> None:
        if len(data) <= MAX_NUDGE_BYTES:
            with suppress(queue.Full):
                self._waiting.put_nowait(data)

    def _call_back(self) -> None:
        while True:
            data = self._waiting.get()
            if self._stopped.is_set():
                return
            try:
                self._on_nudge(data)
            except Exception:  # noqa: BLE001 - one bad call must not end the hearing of later nudges
                _log.exception("a nudge could not be handled")
