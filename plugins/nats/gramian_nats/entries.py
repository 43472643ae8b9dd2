"""Heads and rosters: read together, written by compare-and-set on the sequence of their subject."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.errors import TransportRefused, TransportUnavailable
from gramian.ports import Cut, Entry
from gramian_nats.answers import Acknowledgement, opened
from gramian_nats.connection import Connection
from gramian_nats.direct import Batch, last_messages
from gramian_nats.errors import NO_JETSTREAM, ApiError, NoResponders
from gramian_nats.names import blob_stream, head_stream, head_subject, roster_subject

MAX_HEAD_BYTES = 16 * 2**10
"""More than any head has; of a longer one no more is kept, so that a cut has 16 MiB of heads at most."""
MAX_ROSTER_BYTES = 350_000
GROUP_BYTES = 8 * 2**20
"""Most bytes asked for at once: 1,000 honest heads and the largest roster take half of it."""
_ATTEMPTS = 5


async def read_cut(connection: Connection, fed_id: str, peers: Sequence[str]) -> Cut:
    """At one moment; if somebody has put so much that it takes several readings, with the same roster before and after.

    Raises NoResponders if the stream is gone.
    """
    roster, heads = roster_subject(fed_id), {head_subject(fed_id, peer_id): peer_id for peer_id in peers}
    for _ in range(_ATTEMPTS):
        found, groups = await _read(connection, fed_id, [roster, *heads])
        if groups == 1 or (await read_entries(connection, fed_id, [roster])).get(roster) == found.get(roster):
            there = {peer_id: found[subject] for subject, peer_id in heads.items() if subject in found}
            return Cut(found.get(roster), there)
    raise TransportUnavailable("the federation's roster changes too quickly to be read: try again")


async def read_entries(connection: Connection, fed_id: str, subjects: Sequence[str]) -> dict[str, Entry]:
    """Entries by subject, absent ones left out and long ones cut off. Raises NoResponders if the stream is gone."""
    found, _ = await _read(connection, fed_id, subjects)
    return found


def limit_bytes(fed_id: str, subject: str) -> int:
    """The longest entry that a subject may have."""
    return MAX_ROSTER_BYTES if subject == roster_subject(fed_id) else MAX_HEAD_BYTES


async def _read(connection: Connection, fed_id: str, subjects: Sequence[str]) -> tuple[dict[str, Entry], int]:
    """With the number of readings that it took: strangers' heads may be large, and must not hide anybody's."""
    found: dict[str, Entry] = {}
    missing, groups = list(subjects), 0
    while missing:
        batch = await _group(connection, fed_id, missing)
        groups += 1
        for message in batch.messages:
            data = message.data[: limit_bytes(fed_id, message.subject) + 1]
            found[message.subject] = Entry(data, str(message.sequence))
        is_all = batch.is_complete or not batch.messages
        missing = [] if is_all else [subject for subject in missing if subject not in found]
    return found, groups


async def _group(connection: Connection, fed_id: str, subjects: Sequence[str]) -> Batch:
    try:
        return await last_messages(connection, head_stream(fed_id), subjects, max_bytes=GROUP_BYTES)
    except NoResponders:
        await _require_way(connection, fed_id)
        raise


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
    return str(opened(reply.data, Acknowledgement).seq)
