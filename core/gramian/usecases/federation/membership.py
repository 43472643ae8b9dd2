"""A node's own membership: its record, keys and secrets, and the newest roster that it knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from gramian.domain import typed
from gramian.domain.protocol import generations, keys, roster
from gramian.domain.protocol.roster import Rank, Roster
from gramian.domain.statistics.schema import Schema
from gramian.errors import ConditionFailed, InvalidRequest, PluginError, Refused, TooLarge, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Link, Put, Transport, Write
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project, find, partition
from gramian.usecases.records import FEDERATION, ROSTER

# Functions of their arguments alone, and half of what a request about a federation costs.
_derived_keys = lru_cache(maxsize=64)(keys.PeerKeys.derive)
_opened_roster = lru_cache(maxsize=64)(roster.open_roster)


class Member(msgspec.Struct, frozen=True):
    """A project that is a node of a federation. `message` is the signed form of `roster`, stored under `version`;
    `record` is stored under `record_version`."""

    project: Project
    record: records.Federation
    record_version: str
    secrets: records.Secrets
    own: keys.PeerKeys
    roster: Roster
    message: bytes
    version: str

    @property
    def fed_id(self) -> str:
        return self.record.fed_id

    @property
    def ids(self) -> tuple[str, str, str]:
        """(cid, pid, fed_id): whose federation it is."""
        return self.project.cid, self.project.pid, self.fed_id

    @property
    def peer_id(self) -> str:
        return self.record.peer_id

    @property
    def is_admin(self) -> bool:
        return self.roster.admin_ed == self.own.ed.hex()

    @property
    def rank(self) -> Rank:
        """Which of two rosters counts: that of higher rank."""
        return roster.rank(self.roster, self.message)

    def generation_key(self, gen: int) -> bytes:
        """Raises Refused for a generation that this node was never given."""
        return generations.open_key(self.roster, self.peer_id, self.own.boxing, gen)

    def kek(self, gen: int) -> bytes:
        """The wrapping key of one generation. Raises Refused."""
        return keys.kek(self.generation_key(gen), self.fed_id)

    def pinned_schema(self) -> Schema | None:
        """What the admin pinned, if it did. Raises Refused if this node may not read it."""
        policy = self.roster.policy
        return roster.open_schema(policy, self.fed_id, self.kek(self.roster.gen) if policy.fed_encrypt else b"")

    def transport_options(self) -> dict[str, str]:
        return {**self.record.options, **self.secrets.options}

    def make_place(self, link: Link) -> None:
        """Make what the federation needs in the transport, as its roster says. Raises TransportError."""
        policy = self.roster.policy
        link.create(self.fed_id, max_blob_bytes=policy.max_blob_bytes, replicas=policy.replicas)


def load(node: Node, cid: str, pid: str) -> Member:
    """Raises InvalidRequest if there is no such project or it is not federated."""
    return of(node, find(node, cid, pid))


def of(node: Node, project: Project) -> Member:
    record = records.load(node.state, project.partition, FEDERATION, records.Federation)
    item = node.state.get(project.partition, ROSTER)
    if record is None or item is None:
        raise InvalidRequest(f"the project '{project.pid}' is not federated; create or join a federation first")
    secrets = open_secrets(node, project.uid, record.record.secrets)
    own = _derived_keys(node.vault.master_key, bytes.fromhex(record.record.key_salt), project.cid, project.pid)
    known = _opened_roster(item.value, record.record.fed_id)
    return Member(project, record.record, record.version, secrets, own, known, item.value, item.version)


def admin(node: Node, cid: str, pid: str) -> Member:
    """Raises InvalidRequest unless this node is the federation's admin, as far as it knows."""
    member = load(node, cid, pid)
    require_admin(member)
    return member


def require_admin(member: Member) -> None:
    """Raises InvalidRequest. To be asked again once the newest roster is known: the recovery key may have named
    another admin."""
    if not member.is_admin:
        raise InvalidRequest(f"only the federation's admin can do this; '{member.project.pid}' is an ordinary member")


def active(node: Node, cid: str, pid: str) -> Member:
    """As `load`, for what only those can do who still take part. Raises InvalidRequest."""
    member = load(node, cid, pid)
    require_part(member)
    return member


def require_part(member: Member) -> None:
    """Raises InvalidRequest if this node has left the federation."""
    if member.record.left:
        raise InvalidRequest(
            f"'{member.project.pid}' has left the federation; ask its admin for an invitation to join again"
        )


def open_secrets(node: Node, uid: str, sealed: str) -> records.Secrets:
    return typed.decode(node.vault.open(sealed, _context(uid)), records.Secrets)


def seal_secrets(node: Node, uid: str, secrets: records.Secrets) -> str:
    return node.vault.seal(records.encode(secrets), _context(uid))


def transport(node: Node, member: Member) -> Transport:
    """The federation's transport. Raises Unavailable if this node has it no more."""
    try:
        return node.transport(member.record.transport)
    except PluginError as error:
        raise Unavailable(str(error)) from error


def connect(node: Node, member: Member) -> Link:
    """A link to the federation's transport. Raises TransportError, Unavailable."""
    return transport(node, member).open(member.transport_options())


def split_options(transport: Transport, options: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(public, secret) options of a transport."""
    secret = {key: value for key, value in options.items() if key in transport.secret_options}
    return {key: value for key, value in options.items() if key not in secret}, secret


def first_writes(uid: str, record: records.Federation, message: bytes) -> list[Write]:
    """What makes a new project a member."""
    place = partition(uid)
    return [records.put(place, FEDERATION, record, ABSENT), Put(place, ROSTER, message, ABSENT)]


def change_roster(
    node: Node, member: Member, change: Callable[[Member], dict[str, object] | None], also: list[Write] | None = None
) -> Member:
    """As admin, sign and store a successor with the fields that `change` returns (None: nothing to do).

    Stored first; any member's pulse carries it to the others. `also` is written in the same group and may make it
    fail: ConditionFailed is raised if the roster itself did not change meanwhile.
    """
    for _ in range(records.UPDATE_ATTEMPTS):
        fields = change(member)
        if fields is None:
            return member
        following = roster.successor(member.roster, member.message, ts=int(node.clock()), **fields)
        if following.admin_ed != member.own.ed.hex():
            require_admin(member)
        message = roster.pack(following, member.own.signing)
        if len(message) > roster.MAX_BYTES:
            raise TooLarge(
                f"the federation's roster would take {len(message)} bytes, allowed are {roster.MAX_BYTES}: "
                "fewer members, fewer attributes or shorter names are needed"
            )
        try:
            node.state.write(Put(member.project.partition, ROSTER, message, member.version), *(also or []))
        except ConditionFailed:
            current = of(node, member.project)
            if current.version == member.version:
                raise
            member = current
            continue
        step("roster.commit")
        return of(node, member.project)
    raise Unavailable("too many changes of the roster at once; try again")


def adopt(node: Node, member: Member, message: bytes) -> Member:
    """Keep a roster of higher rank than the stored one. Raises Refused if it is forged."""
    if rank_of(member, message) <= member.rank:
        return member
    try:
        node.state.write(Put(member.project.partition, ROSTER, message, member.version))
    except ConditionFailed:
        return adopt(node, of(node, member.project), message)
    return of(node, member.project)


def rank_of(member: Member, message: bytes) -> Rank:
    """Raises Refused for a roster that is forged, or takes away the key that could name another admin."""
    found = _opened_roster(message, member.fed_id)
    if found.recovery_ed != (member.roster.recovery_ed or found.recovery_ed):
        raise Refused("the roster lacks the recovery key that the federation was founded with")
    return roster.rank(found, message)


def carry(link: Link, member: Member, found: Rank | None, revision: str | None) -> str | None:
    """Put this node's newest roster where the others read it, if none is `found` there or one of lower rank; returns
    the revision there."""
    if found is None or found < member.rank:
        return link.put_roster(member.fed_id, member.message, expect=revision)
    return revision


def _context(uid: str) -> str:
    return f"federation {uid}"
