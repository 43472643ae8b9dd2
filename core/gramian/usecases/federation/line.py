"""How this node reaches its federation's transport: another login, another address."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec

from gramian import plugins
from gramian.errors import ContentMissing, InvalidRequest, Refused
from gramian.node import Node
from gramian.ports import Link
from gramian.usecases import records
from gramian.usecases.federation import membership, view
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.requests import text_of
from gramian.usecases.records import FEDERATION


def change(node: Node, cid: str, pid: str, values: Mapping[str, object]) -> None:
    """Lay these options of the transport over those that the node has (an empty text removes one), if they work.

    The federation must be found there; only its admin may take it to a place where it is not yet: the others then
    follow one by one. Raises InvalidRequest, TransportError; then everything stays as it was.
    """
    member = membership.active(node, cid, pid)
    options = _checked(node, member, values)
    transport = membership.transport(node, member)
    with closing(transport.open(options)) as link:
        _require_federation(member, link)
        view.look(node, member, link, heads=False)
    public, secret = membership.split_options(transport, options)
    sealed = membership.seal_secrets(node, member.project.uid, records.Secrets(secret))
    records.revise(
        node.state,
        member.project.partition,
        FEDERATION,
        records.Federation,
        lambda record: msgspec.structs.replace(record, options=public, secrets=sealed),
    )


def _checked(node: Node, member: Member, values: Mapping[str, object]) -> dict[str, str]:
    name, transport = member.record.transport, membership.transport(node, member)
    texts = {key: text_of(values, key) for key in values if key != "pid"}
    foreign = sorted(key for key in texts if name not in plugins.claimants("transport", key, [name]))
    if foreign or not texts:
        raise InvalidRequest(
            f"not options of the transport {name}: {', '.join(foreign)[:200]}" if foreign else "no option is given"
        )
    old = member.transport_options()
    options = dict(transport.check_options({**old, **texts}))
    if transport.limits(options) != transport.limits(old):
        raise InvalidRequest("the room and the copies of a federation are settled when it is founded")
    return options


def _require_federation(member: Member, link: Link) -> None:
    """Raises InvalidRequest if another place is meant than the federation's, unless the admin moves it."""
    try:
        found = link.cut(member.fed_id, []).roster
        if found is not None:
            membership.rank_of(member, found.data)
            return
    except (ContentMissing, Refused):
        pass
    if not member.is_admin:
        raise InvalidRequest("the federation is not there; if it moves, its admin has to go first")
