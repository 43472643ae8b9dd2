"""Blobs: their chunks go out pipelined and come back in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from gramian.errors import ContentMissing, Refused
from gramian.ports import MAX_CHUNKS
from gramian_nats.answers import Acknowledgement, opened
from gramian_nats.connection import Connection, Inbox
from gramian_nats.direct import MAX_SUBJECTS, last_messages, was_written
from gramian_nats.streams import present_subjects

WINDOW_BYTES = 8 * 2**20
"""Most bytes on their way: sent and not acknowledged, or asked for in one batch.

Enough for 600 Mbit/s at 100 ms. A larger batch (the server would send 64 MiB) risks a slow line, since the
server drops a client that does not take what it was sent within 10 s."""

_MESSAGE_OVERHEAD_BYTES = 256
_JUNK = 10_000
_FREE: Mapping[str, str] = {"Nats-TTL": "1s"}


async def put_chunks(
    connection: Connection,
    stream: str,
    chunks: Iterable[tuple[str, bytes]],
    headers: Mapping[str, str] | None = None,
) -> int:
    """Publish (subject, data) pairs and await every acknowledgement, WINDOW_BYTES ahead of them.

    Returns the last sequence that one of them got, 0 if there was none.
    Raises ApiError at the first refusal (what is still on its way may get stored), NoResponders, Misbehaved.
    """
    expected = {"Nats-Expected-Stream": stream, **(headers or {})}
    unacknowledged: deque[int] = deque()
    in_flight_bytes = last = 0
    async with connection.inbox() as inbox:
        for subject, data in chunks:
            size_bytes = len(data) + _MESSAGE_OVERHEAD_BYTES
            while unacknowledged and in_flight_bytes + size_bytes > WINDOW_BYTES:
                last = max(last, await _acknowledgement(connection, inbox))
                in_flight_bytes -= unacknowledged.popleft()
            await connection.publish(subject, data, reply=inbox.subject, headers=expected)
            unacknowledged.append(size_bytes)
            in_flight_bytes += size_bytes
        for _ in unacknowledged:
            last = max(last, await _acknowledgement(connection, inbox))
    return last


async def get_chunks(connection: Connection, stream: str, subjects: Sequence[str], max_bytes: int) -> list[memoryview]:
    """The data of each subject, in their order. Raises ContentMissing, Refused beyond `max_bytes`, NoResponders."""
    # In one piece, which does not grow: small ones would stay with the allocator when they are given back.
    data, end = bytearray(min(max_bytes, len(subjects) * connection.max_payload_bytes)), 0
    found: dict[str, slice] = {}
    while len(found) < len(subjects):
        missing = [subject for subject in subjects if subject not in found][:MAX_SUBJECTS]
        batch_bytes = min(WINDOW_BYTES, max_bytes - end + 1)
        batch = await last_messages(connection, stream, missing, max_bytes=batch_bytes)
        for message in batch.messages:
            place = found[message.subject] = slice(end, end + len(message.data))
            data[place] = message.data
            end = place.stop
        if end > max_bytes:
            raise Refused(f"a blob is larger than the {max_bytes} bytes allowed")
        if not all(message.data for message in batch.messages):
            raise ContentMissing("the blob was freed")
        if not batch.messages:  # not earlier: NATS 2.11.0 says that a batch is complete when one message is left
            raise ContentMissing("chunks of the blob are missing")
    whole = memoryview(data)
    return [whole[found[subject]] for subject in subjects]


async def absent_chunks(
    connection: Connection, stream: str, prefix: str, subjects: Sequence[str], after: int | None = None
) -> list[int]:
    """Indexes of `subjects` without a message; all if anything under `prefix` was written after that sequence.

    A freed chunk counts as present for a second or two."""
    present = await present_subjects(connection, stream, f"{prefix}*", len(subjects) + _JUNK)
    absent = [index for index, subject in enumerate(subjects) if subject not in present]
    if not absent and after is not None and await was_written(connection, stream, f"{prefix}*", after):
        return list(range(len(subjects)))
    return absent


async def free_chunks(connection: Connection, stream: str, prefix: str, subjects: Sequence[str]) -> None:
    """Replace each chunk that is there by an empty message that the server removes a second later.

    Works in a full stream too: what is not larger than the message that it replaces is always let in.
    """
    present = await present_subjects(connection, stream, f"{prefix}*", MAX_CHUNKS + _JUNK)
    await put_chunks(connection, stream, ((subject, b"") for subject in subjects if subject in present), _FREE)


async def free_subjects(connection: Connection, stream: str, subject_filter: str, prefix: str) -> None:
    """As `free_chunks`, whatever is there below a prefix that all matches of the filter share."""
    present = await present_subjects(connection, stream, subject_filter, MAX_CHUNKS + _JUNK)
    ours = (subject for subject in present if subject.startswith(prefix) and _can_be_sent(subject))
    await put_chunks(connection, stream, ((subject, b"") for subject in ours), _FREE)


def _can_be_sent(subject: str) -> bool:
    """As it is: a stranger's may have had bytes that JSON cannot tell."""
    return subject.isascii() and subject.isprintable() and " " not in subject


async def _acknowledgement(connection: Connection, inbox: Inbox) -> int:
    stored = opened((await inbox.next()).data, Acknowledgement)
    connection.progressed()
    return stored.seq
