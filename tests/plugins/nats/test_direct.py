"""Batched reads of what a server sends, be it overtaken by writers or not to be believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gramian.errors import TransportUnavailable
from gramian_nats.connection import Inbox, Reply
from gramian_nats.direct import Batch, Stored, last_messages
from gramian_nats.errors import Misbehaved
from gramian_nats.parser import headers

SUBJECTS = ["grm.ab.h.01", "grm.ab.h.02"]
END = Reply(204, {"Description": "EOB", "Nats-Num-Pending": "0"}, b"")
OVERTAKEN = Reply(404, {"Description": "Message Not Found"}, b"")


def stored(subject: str, sequence: str = "1", data: bytes = b"x", stream: str = "GRM_ab_H") -> Reply:
    headers = {"Nats-Stream": stream, "Nats-Subject": subject, "Nats-Sequence": sequence}
    return Reply(0, headers, data)


class ScriptedConnection:
    """Answers each request with the next list of replies."""

    def __init__(self, *answers: list[Reply]) -> None:
        self._answers = list(answers)
        self._inbox = Inbox("unused")

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[Inbox]:
        self._inbox = Inbox("inbox")
        yield self._inbox

    async def publish(self, subject: str, data: bytes, *, reply: str) -> None:
        for each in self._answers.pop(0):
            self._inbox.put(each)

    def progressed(self) -> None:
        pass


def read(*answers: list[Reply]) -> Batch:
    connection: Any = ScriptedConnection(*answers)
    return asyncio.run(last_messages(connection, "GRM_ab_H", SUBJECTS, max_bytes=1000))


def test_batch_overtaken_by_a_writer_is_read_again() -> None:
    """Older servers stop when a chosen message was replaced meanwhile; what it sent is not all there is."""
    batch = read([stored(SUBJECTS[0]), OVERTAKEN], [stored(SUBJECTS[0]), stored(SUBJECTS[1], "2"), END])
    assert batch.is_complete
    assert batch.messages == [Stored(SUBJECTS[0], b"x", 1), Stored(SUBJECTS[1], b"x", 2)]


def test_batch_overtaken_again_and_again_is_given_up() -> None:
    """Bounded: the caller's next pulse tries again."""
    with pytest.raises(TransportUnavailable, match="faster"):
        read(*[[OVERTAKEN]] * 10)


def test_batch_without_results_is_empty() -> None:
    """None of the subjects has a message: not an error."""
    assert read([Reply(404, {"Description": "No Results"}, b"")]) == Batch([], True)


def test_batch_cut_short_says_so() -> None:
    """More is pending than was let through, or the server doesn't say."""
    assert not read([stored(SUBJECTS[0]), Reply(204, {"Nats-Num-Pending": "1"}, b"")]).is_complete
    assert not read([stored(SUBJECTS[0]), Reply(204, {}, b"")]).is_complete


def test_message_on_another_subject_is_left_out() -> None:
    """What was not asked for is not seen."""
    assert read([stored("grm.ab.h.03"), stored(SUBJECTS[1]), END]).messages == [Stored(SUBJECTS[1], b"x", 1)]


@pytest.mark.parametrize(
    "reply",
    [
        stored("grm.cd.h.01", stream="GRM_cd_H"),
        stored(SUBJECTS[0], sequence="0"),
        stored(SUBJECTS[0], sequence="-1"),
        stored(SUBJECTS[0], sequence="\u0661"),
        stored(SUBJECTS[0], sequence="1" * 20),
        stored(SUBJECTS[0], sequence=""),
        Reply(413, {"Description": "Too Many Results"}, b""),
        Reply(0, {}, b"{}"),
    ],
)
def test_message_that_makes_no_sense_is_an_error(reply: Reply) -> None:
    """Of another stream, without a sequence, or no message at all."""
    with pytest.raises(TransportUnavailable, match="did not read stream"):
        read([reply, END])


def test_messages_beyond_what_was_asked_are_an_error() -> None:
    """Neither by number nor by size does a server keep the reader busy for ever."""
    with pytest.raises(TransportUnavailable, match="more of stream"):
        read([stored("grm.ab.h.03")] * 10)
    with pytest.raises(TransportUnavailable, match="more of stream"):
        read([stored(SUBJECTS[0], data=bytes(2**21)), END])


def test_inbox_counts_headers_too() -> None:
    """A thousand short ones take up more than they have bytes."""
    inbox, many = Inbox("unused"), {str(number): "" for number in range(100_000)}
    for _ in range(2):
        inbox.put(Reply(0, many, b""))
    with pytest.raises(Misbehaved):
        inbox.put(Reply(0, many, b""))


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"NATS/1.0\r\nA: b\r\nA:c\r\n\r\n", {"A": "c"}),
        (b"NATS/1.0 404 No Results\r\n\r\n", {"Status": "404", "Description": "No Results"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503", "Description": ""}),
        (b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n", {"Status": "204", "Nats-Num-Pending": "0"}),
        (b"NATS/1.0 \xff\xfe\xfdNats-Stream: x\r\nNats-Sequence: 7\r\n\r\n", {"Nats-Sequence": "7"}),
        (b"junkNats-Stream: x\r\nNats-Sequence: 7\r\n\r\n", {"Nats-Sequence": "7"}),
        (b"", {}),
        (b"\r\n\xff:\xff", {}),
    ],
)
def test_headers_are_read_whatever_they_are(block: bytes, found: dict[str, str]) -> None:
    """A stranger can store any, before those that the server adds."""
    assert found.items() <= headers(block).items()
