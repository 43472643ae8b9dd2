"""Heads and blobs: bound to federation, peer and place; encrypted chunks cannot be cut, swapped or spliced."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain import crypto
from gramian.domain.protocol import head as heads
from gramian.domain.protocol.head import Head
from gramian.domain.protocol.keys import PeerKeys
from gramian.domain.statistics.schema import Schema
from gramian.errors import BadSeal, Refused

OWN = PeerKeys.derive(b"m" * 32, b"s" * 32, "c1", "p1")
FED_ID, BLOB_ID, KEK = "f" * 32, "b" * 32, b"k" * 32
PLACE = {"fed_id": FED_ID, "peer_id": OWN.peer_id, "blob_id": BLOB_ID}


def made(**changes: object) -> Head:
    head = Head(
        fed_id=FED_ID,
        id=OWN.peer_id,
        epoch=1_700_000_000_000,
        roster_v=3,
        gen=0,
        blob_id=BLOB_ID,
        chunks=2,
        chunk_size=heads.MIN_CHUNK_BYTES,
        size=heads.MIN_CHUNK_BYTES + 50,
        blob_sha="a" * 64,
        content_digest="c" * 64,
        schema_hash="d" * 64,
        wrap="",
        state="data",
        ts=1_700_000_000,
    )
    return msgspec.structs.replace(head, **changes)


def opened(head: Head, own: PeerKeys = OWN) -> Head:
    return heads.open_head(heads.pack(head, own.signing), FED_ID, OWN.peer_id, OWN.ed)


def test_head_of_its_owner_opens() -> None:
    """What is packed comes back equal."""
    assert opened(made()) == made()


def test_head_signed_by_another_member_is_refused() -> None:
    """A member cannot write as another."""
    other = PeerKeys.derive(b"m" * 32, b"t" * 32, "c2", "p2")
    with pytest.raises(Refused, match="signature"):
        opened(made(), other)


@pytest.mark.parametrize(
    "change",
    [
        {"fed_id": "0" * 32},
        {"id": "0" * 32},
        {"chunks": 3},
        {"chunks": 10**12},
        {"size": 10**12},
        {"chunks": 0, "size": 0},
        {"chunks": heads.MAX_CHUNKS + 1, "size": heads.MAX_CHUNKS + 1, "chunk_size": 1},
        {"chunks": heads.MAX_CHUNKS, "size": heads.MAX_CHUNKS, "chunk_size": 1},
        {"chunk_size": heads.MIN_CHUNK_BYTES - 1},
    ],
)
def test_head_of_another_place_or_with_impossible_sizes_is_refused(change: dict[str, object]) -> None:
    """A head of another federation, or whose numbers disagree, is worth nothing."""
    with pytest.raises(Refused):
        opened(made(**change))


@pytest.mark.parametrize(
    "change",
    [{"epoch": -1}, {"epoch": 2**53 + 1}, {"state": "x"}, {"chunk_size": 0}, {"blob_id": BLOB_ID + "\n"}],
)
def test_head_with_values_out_of_range_is_refused(change: dict[str, object]) -> None:
    """Bounds are checked before anything is computed with them."""
    with pytest.raises(Refused):
        opened(made(**change))


@given(st.binary(min_size=1, max_size=500), st.integers(17, 100))
def test_encrypted_chunks_open_again(data: bytes, chunk_bytes: int) -> None:
    """Round trip, and every chunk but the last has the full size that readers cut at."""
    cek = b"c" * 32
    chunks = list(heads.encrypt_chunks(data, chunk_bytes, cek, **PLACE))
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])
    assert heads.joined(chunks, heads.sealed_size(len(data), chunk_bytes)) == b"".join(chunks)
    assert len(b"".join(chunks)) == heads.sealed_size(len(data), chunk_bytes)
    again = heads.Chunks(b"".join(chunks), chunk_bytes)
    assert (list(again), again[:], again[-1]) == (chunks, chunks, chunks[-1])
    assert b"".join(heads.decrypt_chunks(again, cek, **PLACE)) == data


@pytest.mark.parametrize("damage", ["swap", "drop", "flip", "place"])
def test_damaged_chunks_do_not_open(damage: str) -> None:
    """Order, number, content and place of the chunks are authenticated."""
    cek = b"c" * 32
    chunks, place = list(heads.encrypt_chunks(b"x" * 300, 116, cek, **PLACE)), dict(PLACE)
    if damage == "swap":
        chunks[0], chunks[1] = chunks[1], chunks[0]
    elif damage == "drop":
        chunks.pop()
    elif damage == "flip":
        chunks[0] = bytes([chunks[0][0] ^ 1]) + chunks[0][1:]
    else:
        place["blob_id"] = "0" * 32
    with pytest.raises(BadSeal):
        list(heads.decrypt_chunks(chunks, cek, **place))


def test_wrapped_key_opens_only_in_the_head_it_was_wrapped_for() -> None:
    """A wrap spliced into another epoch, blob or generation does not open."""
    cek = b"c" * 32
    wrap = heads.wrap_key(cek, KEK, fed_id=FED_ID, peer_id=OWN.peer_id, epoch=5, gen=0, blob_id=BLOB_ID)
    right = made(wrap=wrap, epoch=5)
    assert heads.unwrap_key(right, KEK) == cek
    for change in ({"epoch": 6}, {"gen": 1}, {"blob_id": "0" * 32}, {"id": "0" * 32}):
        with pytest.raises(BadSeal):
            heads.unwrap_key(msgspec.structs.replace(right, **change), KEK)


def test_schema_hash_tells_outsiders_nothing_with_encryption() -> None:
    """Without the key the hash of an encrypted federation cannot be computed from guessed names."""
    schema = Schema.of([("a", "C")])
    assert heads.schema_hash(schema, encrypt=False, kek=KEK) == schema.digest()
    assert heads.schema_hash(schema, encrypt=True, kek=KEK) != heads.schema_hash(schema, encrypt=True, kek=b"x" * 32)
    assert heads.schema_hash(schema, encrypt=True, kek=KEK) != crypto.sha256(schema.digest().encode())
