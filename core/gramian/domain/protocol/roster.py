"""The roster: who belongs to a federation and what its policy is, signed by the admin (protocol.md).

Of two genuine rosters the one of higher `rank` counts, everywhere and in whatever order they arrive.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from gramian.domain import crypto, schedule
from gramian.domain.canonical import canonical_json, join
from gramian.domain.protocol import keys, recovery, signed
from gramian.domain.protocol.fields import Count, HexId, HexKey, HexKeyOrNone
from gramian.domain.protocol.recovery import Succession
from gramian.domain.statistics.schema import Schema
from gramian.errors import Refused

Rank: TypeAlias = tuple[int, int, str, int, str]
LABEL = "roster"
MAX_BYTES = 350_000
"""What an item of the state store holds."""
MAX_MEMBERS = 500
MAX_VERSION = 2**53

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
    under the key of generation i + 1, so that older snapshots stay readable while the roster stays small.

    `recovery_ed`: the offline key whose `successions` make other members the admin, `recovery_nonce` what the salt was
    made with then. `founder_ed`: the first admin's key, once `admin_ed` is another's."""

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
    recovery_nonce: HexKey | None = None
    founder_ed: HexKey | None = None
    successions: Annotated[list[Succession], msgspec.Meta(max_length=recovery.MAX_SUCCESSIONS)] = []

    @property
    def first_admin_ed(self) -> str:
        return self.founder_ed or self.admin_ed

    def member(self, peer_id: str) -> Member | None:
        return next((member for member in self.members if member.id == peer_id), None)

    def active(self) -> list[Member]:
        return [member for member in self.members if member.state == "active"]


def pack(roster: Roster, key: Ed25519PrivateKey) -> bytes:
    return signed.pack(roster, key, LABEL)


def open_roster(message: bytes, fed_id: str) -> Roster:
    """Verify and decode. `fed_id` commits to the founder's and the recovery key, so nothing else needs to be trusted.

    Raises Refused.
    """
    roster = signed.parse(message, Roster, LABEL, max_bytes=MAX_BYTES)
    salt = bytes.fromhex(roster.salt)
    if roster.fed_id != fed_id or keys.fed_id(bytes.fromhex(roster.first_admin_ed), salt) != fed_id:
        raise Refused("the roster is another federation's")
    _check_admin(roster, salt)
    signed.check(message, bytes.fromhex(roster.admin_ed), LABEL)
    ids = [member.id for member in roster.members]
    if len(set(ids)) != len(ids):
        raise Refused("the roster lists a member twice")
    for member in roster.members:
        if keys.peer_id(bytes.fromhex(member.ed), bytes.fromhex(member.x)) != member.id:
            raise Refused("the roster lists a member whose id does not match its keys")
    _check_schedule(roster.policy)
    return roster


def _check_schedule(policy: Policy) -> None:
    """Raises Refused for what no scheduler takes: a node that kept it could not start any more."""
    try:
        schedule.parse(policy.sync_sched)
    except ValueError as error:
        raise Refused(f"the roster's schedule is none: {error}") from error


def _check_admin(roster: Roster, salt: bytes) -> None:
    """Raises Refused unless the admin is the founder or whom the recovery key named last."""
    if roster.recovery_ed is not None:
        nonce = bytes.fromhex(roster.recovery_nonce or "")
        if recovery.salt(nonce, bytes.fromhex(roster.recovery_ed)) != salt:
            raise Refused("the roster's recovery key is not the one that the federation was founded with")
        recovery.check(roster.successions, roster.fed_id, bytes.fromhex(roster.recovery_ed))
    elif roster.successions:
        raise Refused("the roster has successions, the federation no recovery key")
    if roster.successions:
        last = roster.successions[-1]
        is_genuine = (roster.admin_ed, roster.admin_x) == (last.admin_ed, last.admin_x)
    else:
        is_genuine = roster.admin_ed == roster.first_admin_ed
    if not is_genuine:
        raise Refused("the roster's admin is neither the founder nor whom the recovery key named")


def rank(roster: Roster, message: bytes) -> Rank:
    """What of two genuine rosters decides which one counts; equal for equal bytes only.

    First how often the recovery key was used: a founder who comes back can sign what it likes. Then, if it was used
    twice out of each other's sight, the later time, and some order that all agree on. Then the version. Then, should an
    admin have signed two of one version (its store was an old backup), some order again.
    """
    last = roster.successions[-1] if roster.successions else None
    return (
        len(roster.successions),
        last.ts if last else 0,
        last.admin_ed if last else "",
        roster.v,
        crypto.sha256(message),
    )


def successor(roster: Roster, message: bytes, *, ts: int, **changes: object) -> Roster:
    """The next version: `message` is the signed form of `roster`, which it chains to. Raises Refused if somebody has
    used up all versions, which takes the admin's key."""
    fields: dict[str, object] = {"v": roster.v + 1, "prev_sha": crypto.sha256(message), "ts": ts, **changes}
    if fields["v"] == MAX_VERSION + 1:
        raise Refused("the roster's versions are used up: somebody else has the admin's key, so recover the federation")
    return replace(roster, **fields)


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
