"""Heads and blobs: how one peer's snapshot is announced and carried (protocol.md)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from secrets import token_bytes
from typing import Annotated, Literal, TypeAlias, overload

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain import crypto
from gramian.domain.canonical import Data, canonical_json, join
from gramian.domain.protocol import signed
from gramian.domain.protocol.fields import Count, HexId, HexKey
from gramian.domain.statistics.schema import Schema
from gramian.errors import Refused

LABEL = "head"
MAX_BYTES = 4096
HeadState: TypeAlias = Literal["data", "left"]
MIN_CHUNK_BYTES = 32 * 1024
"""Smaller ones would have everybody ask for far more of them than a snapshot needs; a blob in one piece may be."""
MAX_CHUNK_BYTES = 8 * 1024 * 1024
MAX_CHUNKS = 65_536


class Head(msgspec.Struct, frozen=True):
    """`size`, `chunk_size` and `blob_sha` speak of the bytes as stored; `content_digest` of the statistics.

    `wrap`: the content key sealed for the generation `gen`, empty for a clear blob. `ts` serves warnings only.
    `explore`: whether others may explore this snapshot alone; the admin repeats it in the roster.
    """

    fed_id: HexId
    id: HexId
    epoch: Count
    roster_v: Count
    gen: Count
    blob_id: HexId
    chunks: Annotated[int, msgspec.Meta(ge=0, le=MAX_CHUNKS)]
    chunk_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNK_BYTES)]
    size: Count
    blob_sha: HexKey
    content_digest: HexKey
    schema_hash: HexKey
    wrap: str
    state: HeadState
    ts: Count
    explore: bool = True


def pack(head: Head, key: Ed25519PrivateKey) -> bytes:
    return signed.pack(head, key, LABEL)


def open_head(message: bytes, fed_id: str, peer_id: str, ed: bytes) -> Head:
    """Verify that `peer_id`, whose key is `ed`, wrote this head for this federation. Raises Refused."""
    head = signed.parse(message, Head, LABEL, max_bytes=MAX_BYTES)
    signed.check(message, ed, LABEL)
    if head.fed_id != fed_id or head.id != peer_id:
        raise Refused("the head is another federation's or another peer's")
    if head.state == "data" and (head.size == 0 or head.chunks != -(-head.size // head.chunk_size)):
        raise Refused("the head's size and number of chunks disagree")
    if head.chunks > 1 and head.chunk_size < MIN_CHUNK_BYTES:
        raise Refused(f"the head cuts its blob into chunks of fewer than {MIN_CHUNK_BYTES} bytes")
    return head


def schema_hash(schema: Schema, *, encrypt: bool, kek: bytes) -> str:
    """Equal for equal schemas; with encryption it tells an outsider nothing about names."""
    if encrypt:
        return hmac.new(kek, canonical_json(schema.to_json()), hashlib.sha256).hexdigest()
    return schema.digest()


class Chunks(Sequence[bytes]):
    """A blob cut into chunks, of which only the last may be shorter; each is copied when it is asked for."""

    def __init__(self, data: Data, chunk_bytes: int) -> None:
        self._data = memoryview(data)
        self._starts = range(0, len(data), chunk_bytes)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        start = self._starts[index]
        return bytes(self._data[start : start + self._starts.step])


def joined(parts: Iterable[bytes | memoryview], size: int) -> bytearray:
    """The parts in one piece of `size` bytes, which is not copied time and again while it grows."""
    data, end = bytearray(size), 0
    for part in parts:
        data[end : end + len(part)] = part
        end += len(part)
    del data[end:]
    return data


def new_content_key() -> bytes:
    return token_bytes(crypto.KEY_BYTES)


def encrypt_chunks(
    data: Data, chunk_bytes: int, cek: bytes, *, fed_id: str, peer_id: str, blob_id: str
) -> Iterator[bytes]:
    """Chunks of exactly `chunk_bytes` (the last may be shorter), each under the blob's own key and its index."""
    plain = Chunks(data, chunk_bytes - crypto.TAG_BYTES)
    for index, chunk in enumerate(plain):
        yield crypto.seal_counted(cek, index, chunk, _chunk_aad(fed_id, peer_id, blob_id, index, len(plain)))


def sealed_size(size: int, chunk_bytes: int) -> int:
    """Bytes of all that encrypt_chunks makes of `size` bytes."""
    return size + crypto.TAG_BYTES * -(-size // (chunk_bytes - crypto.TAG_BYTES))


def decrypt_chunks(
    chunks: Sequence[bytes | memoryview], cek: bytes, *, fed_id: str, peer_id: str, blob_id: str
) -> Iterator[bytes]:
    """Inverse of encrypt_chunks. Raises BadSeal."""
    for index, chunk in enumerate(chunks):
        yield crypto.unseal_counted(cek, index, chunk, _chunk_aad(fed_id, peer_id, blob_id, index, len(chunks)))


def wrap_key(cek: bytes, kek: bytes, *, fed_id: str, peer_id: str, epoch: int, gen: int, blob_id: str) -> str:
    """Seal a content key for the members of one generation, bound to this head's place."""
    return crypto.encode(crypto.seal(kek, cek, _wrap_aad(fed_id, peer_id, epoch, gen, blob_id)))


def unwrap_key(head: Head, kek: bytes) -> bytes:
    """Inverse of wrap_key. Raises BadSeal or Refused."""
    aad = _wrap_aad(head.fed_id, head.id, head.epoch, head.gen, head.blob_id)
    return crypto.unseal(kek, crypto.decode(head.wrap), aad)


def _chunk_aad(fed_id: str, peer_id: str, blob_id: str, index: int, count: int) -> bytes:
    return join(fed_id, peer_id, blob_id, str(index), str(count))


def _wrap_aad(fed_id: str, peer_id: str, epoch: int, gen: int, blob_id: str) -> bytes:
    return join(fed_id, peer_id, str(epoch), str(gen), blob_id)
