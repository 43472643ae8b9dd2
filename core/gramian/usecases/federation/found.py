"""Founding a federation: its place in the transport, its first roster, the admin's own project."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from secrets import token_bytes

import msgspec

from gramian.domain import crypto
from gramian.domain.names import check_id
from gramian.domain.protocol import generations, keys, recovery, roster
from gramian.errors import PluginError, TransportError
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Delete, Limits, Link
from gramian.usecases import records
from gramian.usecases.federation import membership, requests
from gramian.usecases.projects import lifecycle

FOUNDINGS = "foundings"


def create(node: Node, cid: str, pid: str, values: Mapping[str, object], *, persist: bool) -> None:
    """Found a federation with this project as its admin.

    Raises InvalidRequest, AlreadyExists or TransportError; then nothing is left behind, here or in the transport.
    """
    check_id("project id", pid)
    if lifecycle.exists(node, cid, pid):
        raise lifecycle.taken(cid, pid)
    wishes = requests.wishes(node, values)
    transport = node.transport(wishes.transport)
    limits = transport.limits(wishes.options)
    recovery_ed, nonce = requests.recovery_key(values), token_bytes(32)
    salt = recovery.salt(nonce, recovery_ed) if recovery_ed else nonce
    own = keys.PeerKeys.derive(node.vault.master_key, salt, cid, pid)
    generation = token_bytes(crypto.KEY_BYTES)
    first = _first_roster(own, salt, generation, wishes, limits, int(node.clock()))
    if recovery_ed:
        first = msgspec.structs.replace(first, recovery_ed=recovery_ed.hex(), recovery_nonce=nonce.hex())
    message = roster.pack(first, own.signing)
    uid = lifecycle.new_uid()
    record = _record(node, uid, own, salt, first, wishes)
    with closing(transport.open(wishes.options)) as link:
        _note(node, first.fed_id, wishes)
        try:
            link.create(first.fed_id, max_blob_bytes=limits.max_blob_bytes, replicas=limits.replicas)
            step("create.streams")
            link.put_roster(first.fed_id, message, expect=None)
            writes = [*membership.first_writes(uid, record, message), Delete(FOUNDINGS, first.fed_id)]
            lifecycle.add(node, cid, pid, persist=persist, federated=True, uid=uid, extra=writes)
        except BaseException:
            _undo_or_leave(node, link, first.fed_id)
            raise


def sweep(node: Node) -> None:
    """Undo foundings that failed or whose process died: the transport reserves room for them. If it cannot be reached,
    next time."""
    for fed_id, stored in records.listed(node.state, FOUNDINGS, "", records.Founding).items():
        if not node.instance_alive(stored.record.instance):
            secrets = membership.open_secrets(node, fed_id, stored.record.secrets)
            with suppress(TransportError, PluginError), closing(_open(node, stored.record, secrets)) as link:
                _undo(node, link, fed_id)


def _open(node: Node, noted: records.Founding, secrets: records.Secrets) -> Link:
    return node.transport(noted.transport).open(secrets.options)


def _note(node: Node, fed_id: str, wishes: requests.Wishes) -> None:
    sealed = membership.seal_secrets(node, fed_id, records.Secrets(wishes.options))
    noted = records.Founding(sealed, node.instance, wishes.transport)
    node.state.write(records.put(FOUNDINGS, fed_id, noted, ABSENT))


def _undo_or_leave(node: Node, link: Link, fed_id: str) -> None:
    """What refused to make it may refuse to remove it: then the sweep tries again."""
    try:
        _undo(node, link, fed_id)
    except TransportError:
        records.revise(
            node.state, FOUNDINGS, fed_id, records.Founding, lambda noted: msgspec.structs.replace(noted, instance="")
        )


def _undo(node: Node, link: Link, fed_id: str) -> None:
    link.destroy(fed_id)
    node.state.write(Delete(FOUNDINGS, fed_id))


def _first_roster(
    own: keys.PeerKeys, salt: bytes, generation: bytes, wishes: requests.Wishes, limits: Limits, now: int
) -> roster.Roster:
    fed_id = keys.fed_id(own.ed, salt)
    return roster.Roster(
        fed_id=fed_id,
        salt=salt.hex(),
        v=1,
        prev_sha="",
        ts=now,
        admin_ed=own.ed.hex(),
        admin_x=own.x.hex(),
        policy=roster.Policy(wishes.sync_sched, wishes.encrypt, limits.max_blob_bytes, limits.replicas),
        gen=0,
        members=[roster.Member(own.peer_id, "", own.ed.hex(), own.x.hex())],
        rings={own.peer_id: generations.ring(generation, own.x, fed_id)},
    )


def _record(
    node: Node,
    uid: str,
    own: keys.PeerKeys,
    salt: bytes,
    first: roster.Roster,
    wishes: requests.Wishes,
) -> records.Federation:
    public, secret = membership.split_options(node.transport(wishes.transport), wishes.options)
    secrets = records.Secrets(secret)
    return records.Federation(
        first.fed_id,
        wishes.fed_name,
        own.peer_id,
        salt.hex(),
        wishes.local_type,
        public,
        membership.seal_secrets(node, uid, secrets),
        push=wishes.push,
        transport=wishes.transport,
    )
