"""Heads and rosters: read together, written by compare-and-set on the sequence of their subject."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.errors import TransportRefused
from gramian.ports import Cut, Entry
from gramian_nats.connection import Connection, decoded
from gramian_nats.direct import last_messages
from gramian_nats.names import head_stream, head_subject, roster_subject

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
    """Entries by subject, absent ones left out."""
    batch = await last_messages(connection, head_stream(fed_id), subjects, max_bytes=MAX_CUT_BYTES)
    if not batch.is_complete:
        raise TransportRefused(f"NATS at {connection.host.address} holds more than {MAX_CUT_BYTES} bytes of heads")
    return {message.subject: Entry(message.data, str(message.sequence)) for message in batch.messages}


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
