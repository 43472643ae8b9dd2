"""The roster: who belongs to a federation and what its policy is, signed by the admin (protocol.md)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from gramian.domain import crypto
from gramian.domain.canonical import canonical_json, join
from gramian.domain.protocol import keys, signed
from gramian.domain.statistics.schema import Schema
from gramian.errors import Refused

LABEL = "roster"
MAX_BYTES = 350_000
"""What an item of the state store holds."""
MAX_MEMBERS = 500

# A bare `$` lets a line feed follow, and ids become subjects of the transport.
HexId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}(?!\n)$")]
HexKey: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
HexKeyOrNone: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?(?!\n)$")]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
MemberState: TypeAlias = Literal["active", "left", "evicted"]


class Member(msgspec.Struct, frozen=True):
    """One peer. `tid`: SHA-256 of the token it joined with, empty for the founder."""

    id: HexId
    tid: HexKeyOrNone
    ed: HexKey
    x: HexKey
    state: MemberState = "active"
    explore: bool = True


class Policy(msgspec.Struct, frozen=True):
    """What holds for every member. `schema`: canonical JSON text, sealed (base64) with `fed_encrypt`, or None
    until the admin pins it. `max_blob_bytes`, `replicas`: the limits that whoever makes the transport's place anew
    asks for. `origin`, `unit`, `contract` are reserved."""

    sync_sched: str
    fed_encrypt: bool
    max_blob_bytes: Count
    replicas: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    schema: str | None = None
    min_rows: Literal["attributes+5"] = "attributes+5"
    contract: str = ""
    origin: None = None
    unit: None = None


class Roster(msgspec.Struct, frozen=True):
    """One version. `rings`: the generation key boxed to each active member; `chain[i]`: generation key i sealed
    under the key of generation i + 1, so that older snapshots stay readable while the roster stays small."""

    fed_id: HexId
    salt: HexKey
    v: Count
    prev_sha: HexKeyOrNone
    ts: Count
    admin_ed: HexKey
    admin_x: HexKey
    policy: Policy
    gen: Count
    members: Annotated[list[Member], msgspec.Meta(max_length=MAX_MEMBERS)]
    rings: dict[str, str]
    chain: list[str] = []
    recovery_ed: HexKey | None = None

    def member(self, peer_id: str) -> Member | None:
        return next((member for member in self.members if member.id == peer_id), None)

    def active(self) -> list[Member]:
        return [member for member in self.members if member.state == "active"]


def pack(roster: Roster, key: Ed25519PrivateKey) -> bytes:
    return signed.pack(roster, key, LABEL)


def open_roster(message: bytes, fed_id: str) -> Roster:
    """Verify and decode. `fed_id` commits to the admin's key, so nothing else needs to be trusted. Raises Refused."""
    roster = signed.parse(message, Roster, LABEL, max_bytes=MAX_BYTES)
    admin_ed = bytes.fromhex(roster.admin_ed)
    if roster.fed_id != fed_id or keys.fed_id(admin_ed, bytes.fromhex(roster.salt)) != fed_id:
        raise Refused("the roster is another federation's")
    signed.check(message, admin_ed, LABEL)
    ids = [member.id for member in roster.members]
    if len(set(ids)) != len(ids):
        raise Refused("the roster lists a member twice")
    for member in roster.members:
        if keys.peer_id(bytes.fromhex(member.ed), bytes.fromhex(member.x)) != member.id:
            raise Refused("the roster lists a member whose id does not match its keys")
    return roster


def successor(roster: Roster, message: bytes, *, ts: int, **changes: object) -> Roster:
    """The next version: `message` is the signed form of `roster`, which it chains to."""
    return replace(roster, v=roster.v + 1, prev_sha=crypto.sha256(message), ts=ts, **changes)


def seal_schema(schema: Schema, policy: Policy, fed_id: str, kek: bytes) -> str:
    """The policy's form of a schema: with `fed_encrypt` names are content."""
    text = canonical_json(schema.to_json())
    return crypto.encode(crypto.seal(kek, text, join("schema", fed_id))) if policy.fed_encrypt else text.decode()


def resealed(policy: Policy, fed_id: str, old_kek: bytes, new_kek: bytes) -> Policy:
    """The same policy for a new generation of keys."""
    schema = open_schema(policy, fed_id, old_kek)
    return policy if schema is None else replace(policy, schema=seal_schema(schema, policy, fed_id, new_kek))


def open_schema(policy: Policy, fed_id: str, kek: bytes) -> Schema | None:
    """The pinned schema, if any. Raises Refused."""
    if policy.schema is None:
        return None
    text = policy.schema.encode()
    if policy.fed_encrypt:
        text = crypto.unseal(kek, crypto.decode(policy.schema), join("schema", fed_id))
    try:
        return Schema.from_json(msgspec.json.decode(text, type=dict[str, object]))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise Refused(f"the roster's schema is malformed: {error}") from error
