"""Heads and rosters: read together, written by compare-and-set on the sequence of their subject."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.errors import TransportRefused
from gramian.ports import Cut, Entry
from gramian_nats.connection import Connection, decoded
from gramian_nats.direct import last_messages
from gramian_nats.errors import NO_JETSTREAM, ApiError, NoResponders
from gramian_nats.names import blob_stream, head_stream, head_subject, roster_subject

MAX_CUT_BYTES = 64 * 2**20
"""Largest cut: 1,000 heads and a roster take a tenth of it."""


async def read_cut(connection: Connection, fed_id: str, peers: Sequence[str]) -> Cut:
    heads = {head_subject(fed_id, peer_id): peer_id for peer_id in peers}
    found = await read_entries(connection, fed_id, [roster_subject(fed_id), *heads])
    return Cut(
        roster=found.get(roster_subject(fed_id)),
        heads={peer_id: found[subject] for subject, peer_id in heads.items() if subject in found},
    )


async def read_entries(connection: Connection, fed_id: str, subjects: Sequence[str]) -> dict[str, Entry]:
    """Entries by subject, absent ones left out. Raises NoResponders if the stream is gone."""
    try:
        batch = await last_messages(connection, head_stream(fed_id), subjects, max_bytes=MAX_CUT_BYTES)
    except NoResponders:
        await _require_way(connection, fed_id)
        raise
    if not batch.is_complete:
        raise TransportRefused(f"NATS at {connection.host.address} holds more than {MAX_CUT_BYTES} bytes of heads")
    return {message.subject: Entry(message.data, str(message.sequence)) for message in batch.messages}


async def _require_way(connection: Connection, fed_id: str) -> None:
    """Raises TransportRefused if the login's account has neither streams of its own nor a way to the federation's."""
    try:
        await connection.ask_api(f"STREAM.INFO.{blob_stream(fed_id)}", {})
    except ApiError as error:
        if error.code in NO_JETSTREAM:
            raise TransportRefused(
                f"NATS at {connection.host.address} shows this login no streams: its operator has to let it in"
            ) from None
    except NoResponders:
        return


async def write_entry(connection: Connection, fed_id: str, subject: str, data: bytes, expect: str | None) -> str:
    """Write if the subject's last sequence is still `expect` (None: none); returns the new one.

    Raises ApiError (wrong last sequence) and NoResponders.
    """
    headers = {
        "Nats-Expected-Stream": head_stream(fed_id),
        "Nats-Expected-Last-Subject-Sequence": expect or "0",
    }
    reply = await connection.request(subject, data, headers=headers)
    return str(int(decoded(reply.data)["seq"]))
