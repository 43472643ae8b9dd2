"""One connection to a NATS server: inboxes for the answers, and a bound on every wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gramian_nats.answers import Answer, opened
from gramian_nats.errors import LineClosed, Misbehaved, NoResponders, translating
from gramian_nats.options import Host, NatsOptions

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from gramian_nats.client import StrictClient

T = TypeVar("T")
A = TypeVar("A", bound=Answer)

MAX_WAITING_BYTES = 2**26
"""Most that waits for whoever asked; a sender that is held up by a full line takes in nothing meanwhile."""
_REPLY_BYTES = 1024
_HEADER_BYTES = 256
_CLOSE_S = 1.0
_NO_HEADERS: Mapping[str, str] = {}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Meter:
    """Payload bytes counted on behalf of one link."""

    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. `status`: 0, or the number that a bodiless answer carries (204, 404, 503...)."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def size_bytes(self) -> int:
        """About what it takes up in memory."""
        return len(self.data) + _REPLY_BYTES + sum(_HEADER_BYTES + len(value) for value in self.headers.values())


class Inbox:
    """Receives the answers to requests that name `subject` as their reply subject."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._replies: asyncio.Queue[Reply] = asyncio.Queue()
        self._waiting_bytes = 0

    def put(self, reply: Reply) -> None:
        """Raises Misbehaved if more of them wait than anybody asks for at once."""
        self._waiting_bytes += reply.size_bytes
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise Misbehaved("more answers than it was asked for")
        self._replies.put_nowait(reply)

    async def next(self) -> Reply:
        """The next answer. Raises NoResponders when nothing listens at the subject that was asked."""
        reply = await self._replies.get()
        self._waiting_bytes -= reply.size_bytes
        if reply.status == 503:
            raise NoResponders
        return reply


class Connection:
    """Runs one piece of work at a time, under `bounded`; lives on the event loop's thread."""

    def __init__(self, options: NatsOptions, host: Host, client: StrictClient) -> None:
        self.host = host
        self.meter = Meter()
        self.closed = asyncio.Event()
        self._options = options
        self._client = client
        self._inboxes: dict[str, Inbox] = {}
        self._inbox_prefix = ""
        self._inbox_count = 0
        self._deadline = 0.0
        self._trouble: asyncio.Future[None] | None = None

    @property
    def usable(self) -> bool:
        return self._client.is_connected and not self.closed.is_set()

    @property
    def max_payload_bytes(self) -> int:
        return self._client.max_payload

    @property
    def server_info(self) -> Mapping[str, Any]:
        return self._client.server_info

    async def prepare(self) -> None:
        """Subscribe to this connection's inboxes."""
        self._inbox_prefix = self._client.new_inbox() + "."
        # No pending limits: nats-py drops messages above them, and what is asked for here is bounded anyway.
        await self._client.subscribe(
            f"{self._inbox_prefix}*", cb=self._deliver, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def bounded(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        """Await `work` until it ends, the connection does, or time is up: `within_s`, more with each progress.

        Errors of NATS come out as TransportError, others as they are. What is left half-done makes the
        connection unusable. A plain `asyncio.timeout` would not do: nats-py swallows cancellation while it
        waits to send.
        """
        loop = asyncio.get_running_loop()
        trouble = self._trouble = loop.create_future()
        self._deadline = loop.time() + within_s
        task = loop.create_task(work)
        task.add_done_callback(_look_at)
        try:
            with translating(self.host.address, self._options):
                while not task.done():
                    wait_s = self._deadline - loop.time()
                    if wait_s <= 0:
                        raise TimeoutError
                    await asyncio.wait({task, trouble}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                    if trouble.done():  # first of all: a refusal may come along with the end of the work
                        trouble.result()
                return task.result()
        finally:
            self._trouble = None
            if not task.done():
                task.cancel()
                await self.close()

    def progressed(self) -> None:
        """Something arrived: the request timeout starts anew."""
        self._deadline = asyncio.get_running_loop().time() + self._options.timeout_s

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        self._inbox_count += 1
        token = str(self._inbox_count)
        inbox = self._inboxes[token] = Inbox(self._inbox_prefix + token)
        try:
            yield inbox
        finally:
            del self._inboxes[token]

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.meter.sent_bytes += len(data)
        await self._client.publish(subject, data, reply=reply, headers=None if headers is None else dict(headers))

    async def request(self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Publish and await the one answer. Raises NoResponders."""
        async with self.inbox() as inbox:
            await self.publish(subject, data, reply=inbox.subject, headers=headers)
            return await inbox.next()

    async def ask_api(self, subject: str, body: Mapping[str, Any]) -> None:
        """Ask the JetStream API for what needs no answer but yes. Raises ApiError, NoResponders."""
        await self.ask_api_for(Answer, subject, body)

    async def ask_api_for(self, kind: type[A], subject: str, body: Mapping[str, Any]) -> A:
        """Ask the JetStream API. Raises ApiError, NoResponders, Misbehaved."""
        reply = await self.request(f"$JS.API.{subject}", msgspec.json.encode(body))
        return opened(reply.data, kind)

    async def subscribe(self, subject: str, on_data: Callable[[bytes], None]) -> None:
        """Call `on_data`, which must not block, for each message on `subject` once this returns."""

        async def deliver(message: Msg) -> None:
            self.meter.received_bytes += len(message.data)
            on_data(message.data)

        await self._client.subscribe(subject, cb=deliver)
        await self.round_trip()

    async def round_trip(self) -> None:
        """Until the server has seen all that was sent, and has said what it dislikes about it."""
        await self._client.round_trip(self._options.timeout_s)

    async def close(self) -> None:
        self.on_closed()
        try:
            await asyncio.wait_for(self._client.close(), _CLOSE_S)
        except (TimeoutError, OSError):
            _log.debug("NATS at %s did not take the rest before closing", self.host.address)
        finally:
            self._client.abort()

    def on_error(self, error: Exception) -> None:
        """nats-py reports what it cannot attribute to a call; a refusal concerns the work in progress."""
        _log.debug("NATS at %s: %s", self.host.address, error)
        if "permissions violation" in str(error).lower():
            self._interrupt(error)

    def on_closed(self) -> None:
        self.closed.set()
        self._interrupt(self._client.last_error or LineClosed())

    def _interrupt(self, error: Exception) -> None:
        if self._trouble is not None and not self._trouble.done():
            self._trouble.set_exception(error)

    async def _deliver(self, message: Msg) -> None:
        self.meter.received_bytes += len(message.data)
        inbox = self._inboxes.get(message.subject.removeprefix(self._inbox_prefix))
        if inbox is not None:  # else a late answer to a question that nobody asks any more
            headers = message.headers or _NO_HEADERS
            try:
                inbox.put(Reply(_status(headers), headers, message.data))
            except Misbehaved as error:
                self._interrupt(error)


def _status(headers: Mapping[str, str]) -> int:
    """The server's own status. A stored message has a sequence, and a status in it is a stranger's invention."""
    status = headers.get("Status", "")
    return int(status) if len(status) == 3 and status.isdigit() and "Nats-Sequence" not in headers else 0


def _look_at(task: asyncio.Task[Any]) -> None:
    """Look at the outcome, so that asyncio doesn't report that of abandoned work as forgotten."""
    if not task.cancelled():
        task.exception()
