"""The two streams of a federation: their configuration, and how they are made, judged and removed.

Both are created by raw requests: the helpers of nats-py always allow rollups, and with them one header from
a member wipes every head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gramian.errors import TransportRefused
from gramian_nats.answers import StreamInfo, SubjectsPage
from gramian_nats.connection import Connection
from gramian_nats.errors import (
    NO_JETSTREAM,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    STREAM_NOT_MADE,
    ApiError,
    NoResponders,
)
from gramian_nats.names import blob_stream, blob_subjects, head_stream, head_subjects, roster_subject

MAX_MESSAGE_BYTES = 2**20
"""Largest message in the stream of blobs, headers included."""
MAX_ENTRY_BYTES = 400_000
"""Largest roster or head, headers included: a roster has at most 350,000 bytes, and one stream holds both."""
_ATTEMPTS = 4
_PAUSE_S = 0.05

# "discard new" refuses a message that finds no room instead of dropping older ones; `discard_new_per_subject`
# stays off, since with it one message per subject would mean that none can be replaced.
_COMMON: Mapping[str, Any] = {
    "retention": "limits",
    "discard": "new",
    "discard_new_per_subject": False,
    "max_msgs_per_subject": 1,
    "max_msgs": -1,
    "max_age": 0,
    "max_msg_size": MAX_MESSAGE_BYTES,
    "allow_direct": True,
    "deny_delete": True,
    "deny_purge": True,
    "allow_rollup_hdrs": False,
    "sealed": False,
    "no_ack": False,
}

_MUST_BE_ABSENT = (
    "mirror",
    "sources",
    "republish",
    "subject_transform",
    "subject_delete_marker_ttl",
    "allow_msg_counter",
    "allow_msg_schedules",
    "persist_mode",
)
"""Ways to put in, change or lose messages past the rules above."""


_OPERATORS_CHOICE = frozenset({"max_bytes", "num_replicas"})
"""What may differ from the federation's wish: an operator may have given a stream more room or other copies."""


def head_config(fed_id: str, replicas: int = 1) -> dict[str, Any]:
    return {
        **_COMMON,
        "name": head_stream(fed_id),
        "subjects": [roster_subject(fed_id), head_subjects(fed_id)],
        "storage": "file",
        "max_bytes": -1,
        "max_msg_size": MAX_ENTRY_BYTES,
        "num_replicas": replicas,
        "allow_msg_ttl": False,
    }


def blob_config(fed_id: str, max_bytes: int, replicas: int = 1) -> dict[str, Any]:
    return {
        **_COMMON,
        "name": blob_stream(fed_id),
        "subjects": [blob_subjects(fed_id)],
        "storage": "memory",
        "max_bytes": max_bytes,
        "num_replicas": replicas,
        "allow_msg_ttl": True,
    }


async def create_streams(connection: Connection, fed_id: str, max_blob_bytes: int, replicas: int) -> None:
    """Make what is absent. Raises TransportRefused if what is there breaks the rules; room and copies may differ."""
    for config in (head_config(fed_id, replicas), blob_config(fed_id, max_blob_bytes, replicas)):
        _judge(config, await _created_or_found(connection, config))


async def delete_streams(connection: Connection, fed_id: str) -> None:
    for name in (head_stream(fed_id), blob_stream(fed_id)):
        try:
            await connection.ask_api(f"STREAM.DELETE.{name}", {})
        except ApiError as error:
            if error.code not in (STREAM_NOT_FOUND, *NO_JETSTREAM):
                raise
        except NoResponders:  # no JetStream either
            return


async def present_subjects(connection: Connection, stream: str, subject_filter: str, limit: int) -> set[str]:
    """Subjects with a message, without moving the messages; none if the stream is gone.

    Strangers can add subjects under the filter, so no more than about `limit` are looked at.
    """
    present: set[str] = set()
    while len(present) < limit:
        query = {"subjects_filter": subject_filter, "offset": len(present)}
        try:
            answer = await connection.ask_api_for(SubjectsPage, f"STREAM.INFO.{stream}", query)
        except ApiError as error:
            if error.code == STREAM_NOT_FOUND:
                return set()
            raise
        connection.progressed()
        page = answer.state.subjects or {}
        if not page.keys() - present:
            break
        present.update(page)
    return present


async def _created_or_found(connection: Connection, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration in force. An equal stream answers as if it were just created."""
    try:
        return await _created(connection, config)
    except ApiError as error:
        if error.code != STREAM_NAME_IN_USE:
            raise
        return (await connection.ask_api_for(StreamInfo, f"STREAM.INFO.{config['name']}", {})).config
    except NoResponders:
        raise TransportRefused(
            f"NATS at {connection.host.address} has JetStream disabled for this login: enable it"
        ) from None


async def _created(connection: Connection, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask again when the store was not made: the server still removes its folder after the account's last stream."""
    subject = f"STREAM.CREATE.{config['name']}"
    for _ in range(_ATTEMPTS - 1):
        try:
            return (await connection.ask_api_for(StreamInfo, subject, config)).config
        except ApiError as error:
            if error.code != STREAM_NOT_MADE:
                raise
        await asyncio.sleep(_PAUSE_S)
    return (await connection.ask_api_for(StreamInfo, subject, config)).config


def _judge(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise TransportRefused unless `found` keeps every rule of `wanted` (servers leave out what is off)."""
    binding = {key: value for key, value in wanted.items() if key not in _OPERATORS_CHOICE}
    if found.get("max_msg_size") == MAX_MESSAGE_BYTES:
        del binding["max_msg_size"]  # what earlier versions gave the heads too
    wrong = [key for key, value in binding.items() if _plain(found.get(key)) != _plain(value)]
    wrong += [key for key in _MUST_BE_ABSENT if found.get(key)]
    if wrong:
        raise TransportRefused(
            f"NATS has a stream {wanted['name']} that cannot be trusted ({', '.join(sorted(wrong))} not as needed): "
            "remove it, or start a new federation"
        )


def _plain(value: Any) -> Any:
    """Off, zero and left out are the same; the order of subjects does not matter."""
    return sorted(map(str, value)) if isinstance(value, list) else value or None
