"""What the JetStream API answers, as far as it is read here. A server may be anybody's: nothing is taken as given."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from gramian.domain.typed import decode
from gramian_nats.errors import ApiError, Misbehaved

A = TypeVar("A", bound="Answer")

MAX_BYTES = 2**20
"""Longest answer that may be any JSON: in memory it can take up thirty times that."""
_Sequence = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_Subject = Annotated[str, msgspec.Meta(min_length=len("grm.a.b.c.d.0"))]
"""Of a chunk. Shorter ones, more of which fit into a page, are at once refused."""


class Failure(msgspec.Struct, frozen=True):
    """Why it was refused. `err_code`: 0 if the server gives none."""

    err_code: int = 0
    description: str = "no reason given"


class Answer(msgspec.Struct, frozen=True):
    """Yes, if nothing is wrong."""


class Refusal(Answer, frozen=True):
    error: Failure | None = None


class Acknowledgement(Answer, frozen=True):
    """The sequence under which a message was stored."""

    seq: _Sequence


class StreamInfo(Answer, frozen=True):
    """A stream as it is configured; what is off may be left out."""

    config: dict[str, Any] = {}


class Subjects(msgspec.Struct, frozen=True):
    """Those that were asked for, with their number of messages."""

    subjects: dict[_Subject, int] | None = None


class SubjectsPage(Answer, frozen=True):
    """The next of a stream's subjects, if there are more."""

    state: Subjects = Subjects()


def opened(data: bytes, kind: type[A]) -> A:
    """Raises ApiError if it is a refusal, Misbehaved if it makes no sense."""
    if len(data) > MAX_BYTES and kind is not SubjectsPage:
        raise Misbehaved(f"an answer of {len(data)} bytes")
    refusal = _decoded(data, Refusal)
    if refusal.error is not None:
        raise ApiError(refusal.error.err_code, refusal.error.description)
    return _decoded(data, kind)


def _decoded(data: bytes, kind: type[A]) -> A:
    try:
        return decode(data, kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Misbehaved(f"an answer that makes no sense ({error})") from None
