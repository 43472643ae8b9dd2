"""Reading the last messages of many subjects at once, by raw batched direct requests.

No consumers: they need more privileges, and nats-py's reads of one message at a time are ten times slower.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from gramian.errors import TransportUnavailable
from gramian_nats.connection import Connection, Reply
from gramian_nats.streams import MAX_MESSAGE_BYTES

MAX_SUBJECTS = 1_024
"""The server refuses to look up more in one request."""

_END_OF_BATCH = 204
_NOT_FOUND = 404
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a stream."""

    subject: str
    data: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages by ascending sequence; `is_complete` if no more of them can be there than `max_bytes` let through."""

    messages: list[Stored]
    is_complete: bool


async def last_messages(connection: Connection, stream: str, subjects: Sequence[str], *, max_bytes: int) -> Batch:
    """The last message of each of up to MAX_SUBJECTS subjects that has one, as of one moment.

    Stops after the message that reaches `max_bytes`. Raises NoResponders if the stream is gone. Messages on
    other subjects, which no honest server sends, are left out.
    """
    assert len(subjects) <= MAX_SUBJECTS
    for _ in range(_ATTEMPTS):
        batch = await _batch(connection, stream, subjects, max_bytes)
        if batch is not None:
            return batch
    raise TransportUnavailable(f"stream {stream} changes faster than NATS reads it: try again")


async def was_written(connection: Connection, stream: str, subject_filter: str, after: int) -> bool:
    """Whether a message matches that came after this sequence: its data comes along, nothing moves if there is none."""
    query = {"seq": after + 1, "next_by_subj": subject_filter}
    reply = await connection.request(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query))
    return reply.status != _NOT_FOUND and bool(_sequence(reply, stream))


async def _batch(connection: Connection, stream: str, subjects: Sequence[str], max_bytes: int) -> Batch | None:
    """None if the server found a message replaced between choosing and sending it, and stopped there."""
    query = {"multi_last": list(subjects), "batch": len(subjects), "max_bytes": max_bytes}
    wanted = set(subjects)
    messages: list[Stored] = []
    received_bytes = counted_bytes = 0
    async with connection.inbox() as inbox:
        await connection.publish(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(query), reply=inbox.subject)
        for _ in range(len(subjects) + 1):
            reply = await inbox.next()
            connection.progressed()
            if reply.status == _END_OF_BATCH:
                # Not by the server's word alone: 2.11.0 says so too if one message is left for want of room.
                return Batch(messages, reply.headers.get("Nats-Num-Pending") == "0" and counted_bytes < max_bytes)
            if reply.status == _NOT_FOUND:
                return Batch([], True) if reply.headers.get("Description") == "No Results" else None
            message = _stored(reply, stream, wanted)
            received_bytes += len(message.data)
            counted_bytes += len(reply.data) + sum(len(name) + len(value) for name, value in reply.headers.items())
            if received_bytes > max_bytes + MAX_MESSAGE_BYTES:
                break
            if message.subject in wanted:
                messages.append(message)
    raise TransportUnavailable(f"NATS sends more of stream {stream} than it was asked for")


def _stored(reply: Reply, stream: str, wanted: Collection[str]) -> Stored:
    """Where it was stored counts for subjects that nobody asked for only: of the headers that the server adds to those
    of a stored message, the first, which says so, is lost in what a stranger left open."""
    message = Stored(reply.headers.get("Nats-Subject", ""), reply.data, _sequence(reply, stream))
    if message.subject not in wanted and reply.headers.get("Nats-Stream") != stream:
        raise _not_read(reply, stream)
    return message


def _sequence(reply: Reply, stream: str) -> int:
    sequence = reply.headers.get("Nats-Sequence", "")
    if reply.status or not _is_sequence(sequence):
        raise _not_read(reply, stream)
    return int(sequence)


def _not_read(reply: Reply, stream: str) -> TransportUnavailable:
    words = reply.headers.get("Description", "an answer that makes no sense")
    return TransportUnavailable(f"NATS did not read stream {stream}: {reply.status} {words}"[:200])


def _is_sequence(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < len(text) < 20 and int(text) > 0
