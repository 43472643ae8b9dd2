"""The pulse: publish what is new here, take in what is new elsewhere, merge. Safe to kill anywhere, safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import msgspec

from gramian import events
from gramian.domain.protocol import nudge
from gramian.domain.statistics.schema import Schema
from gramian.errors import (
    Busy,
    ConditionFailed,
    GramianError,
    InvalidRequest,
    Refused,
    RevisionConflict,
    StoreError,
    TransportError,
    Unavailable,
)
from gramian.node import Node
from gramian.ports import Link, Traffic
from gramian.usecases import jobs, records
from gramian.usecases.federation import (
    accept,
    control,
    deciding,
    explore,
    gpu,
    journal,
    lease,
    membership,
    merging,
    publication,
    publish,
    reclaim,
)
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.view import View, look
from gramian.usecases.projects import blobs, ledger
from gramian.usecases.projects.lifecycle import Project, still_there, unless_deleted

PASS_ATTEMPTS = 4


def run(node: Node, cid: str, pid: str, *, nudge_others: bool = False) -> None:
    """One pass. What goes wrong is noted in the node's error log and raised: TransportError, Unavailable."""
    project = membership.active(node, cid, pid).project
    try:
        with (
            unless_deleted(node, project),
            lease.held(node, project) as holding,
            _watched(node, project, holding),
            closing(membership.connect(node, membership.of(node, project))) as link,
        ):
            before = publication.epoch_of(node, project)
            _pass_undisturbed(node, project, link, holding)
            has_news = publication.epoch_of(node, project) != before
            if nudge_others or (has_news and membership.of(node, project).record.push):
                _nudge(node, project, link, asks=nudge_others)
    except Busy as error:
        journal.error(node, project, str(error))
        raise


@contextmanager
def _watched(node: Node, project: Project, holding: lease.Lease) -> Iterator[None]:
    """Note why the pulse fails, in one line for as long as nothing changes, and that pulses work again."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, GramianError) else "an unexpected error; the server's log has it"
        if still_there(node, project):
            holding.outage = journal.outage(node, project, reason, holding.outage)
        raise
    if holding.outage is not None:
        journal.error(node, project, f"pulses work again, which failed for: {holding.outage.reason}")
        holding.outage = None


def run_job(task: jobs.Task) -> None:
    """A job that syncs now. Raises TransportError, Unavailable."""
    run(task.node, task.cid, task.project().pid, nudge_others=True)


def _pass_undisturbed(node: Node, project: Project, link: Link, holding: lease.Lease) -> None:
    """A pass; from the start again if somebody else wrote what it was about to write."""
    for _ in range(PASS_ATTEMPTS):
        try:
            _pass(node, membership.of(node, project), link, holding.renew)
        except (ConditionFailed, RevisionConflict):
            continue
        return
    raise Unavailable("this node's publication or its head is being changed by somebody else; try again later")


def _nudge(node: Node, project: Project, link: Link, *, asks: bool) -> None:
    member = membership.of(node, project)
    try:
        epoch = publication.epoch_of(node, project)
        sent = nudge.Nudge(member.fed_id, member.peer_id, int(node.clock()), epoch, asks)
        link.nudge(member.fed_id, nudge.pack(sent, member.own.signing))
    except TransportError as error:
        # The pass is over and counts; the others pulse on schedule.
        journal.error(node, project, f"the other members could not be nudged: {error}")


def scheduled(node: Node, cid: str, pid: str) -> None:
    """A due pulse; nothing if the pulse was stopped meanwhile."""
    try:
        member = membership.load(node, cid, pid)
    except InvalidRequest:
        # A deletion that was cut short left its entry behind.
        node.scheduler.remove(cid, pid)
        return
    if not member.record.pulsing or member.record.left:
        node.scheduler.remove(cid, pid)
    elif gpu.is_elsewhere(node, member.project):
        _submitted(node, member.project)
    else:
        run(node, cid, pid)


def _submitted(node: Node, project: Project) -> None:
    try:
        gpu.pulse(node, project)
    except GramianError as error:
        journal.error(node, project, f"no pulse could be submitted to a GPU: {error}")
        raise


def _pass(node: Node, member: Member, link: Link, keep_lease: Callable[[], None]) -> None:
    membership.require_part(member)
    started, before = time.monotonic(), link.traffic()
    view = look(node, member, link)
    _require_active(node, view.member)
    control.follow_schedule(node, view.member)
    old = publication.current(node, member)
    member, shown, failure = _publish_if_possible(node, view, link)
    published = _is_new(old.record if old else None, shown)
    if published and shown is not None:
        node.observe(events.SnapshotPublished(*member.ids, member.peer_id, shown.epoch, shown.rows, shown.size))
    outcome = accept.take_in(node, member, link, view.cut, _schema(node, member), keep_lease)
    keep_lease()
    if member.is_admin:
        member = explore.settle(node, member, link)
    merged = merging.merge_all(node, member, _schema(node, member))
    if merged.changed:
        node.observe(_updated(member, merged.federated))
    replaced = _replaced(old.record if old else None, shown)
    blobs.discard(node, member.project, [*outcome.superseded, *merged.superseded, *replaced])
    reclaim.reclaim(node, member, link, view.cut)
    pulse = _counted(outcome, published, before, link.traffic(), time.monotonic() - started)
    if published or outcome.accepted or outcome.errors or merged.changed:
        journal.count(node, member.project, pulse)
    if published or outcome.accepted or merged.changed:
        journal.sync(node, member.project, _summary(pulse, shown, merged))
    if failure is not None:
        raise failure


def _require_active(node: Node, member: Member) -> None:
    """Raises Refused, and pulses no more, if the roster does not count this node."""
    listed = member.roster.member(member.peer_id)
    if listed is None or listed.state != "active":
        control.stop_pulse(node, member.project.cid, member.project.pid)
        raise Refused("this node is no longer an active member of the federation; its pulse is stopped")


def _publish_if_possible(
    node: Node, view: View, link: Link
) -> tuple[Member, records.Publication | None, GramianError | None]:
    """The member, what it shows to others, and what went wrong: what others have published counts all the same."""
    try:
        member, shown = _publish(node, view, link)
        if shown is not None:
            accept.note_own(node, member, shown)
    except (ConditionFailed, RevisionConflict):
        raise
    except (TransportError, StoreError, Unavailable) as error:
        return membership.of(node, view.member.project), None, error
    return member, shown, None


def _is_new(old: records.Publication | None, shown: records.Publication | None) -> bool:
    """Whether others see this only now: it was decided in this pass, or in one that could not bring it to them."""
    return shown is not None and (old is None or old.epoch != shown.epoch or not old.confirmed)


def _updated(member: Member, now: records.Federated | None) -> events.FederatedUpdated:
    if now is None:
        return events.FederatedUpdated(*member.ids, 0, "", "")
    return events.FederatedUpdated(*member.ids, now.rows, now.digest, now.inputs)


def _replaced(old: records.Publication | None, new: records.Publication | None) -> list[str]:
    """Blobs of a publication that another one took the place of."""
    return [old.stored, old.snapshot] if old and new and old.stored != new.stored else []


def _publish(node: Node, view: View, link: Link) -> tuple[Member, records.Publication | None]:
    member, entry = view.member, view.cut.heads.get(view.member.peer_id)
    member, stored = deciding.decide(node, member, link, publication.own_head(member, entry))
    # If the admin just pinned the schema: others must find that before the first head that shows it.
    membership.carry(link, member, view.member.rank, view.revision)
    if stored is None:
        return member, None
    return member, publish.realise(node, member, link, stored, entry).record


def _counted(
    outcome: accept.Outcome, published: bool, before: Traffic, after: Traffic, seconds: float
) -> journal.Stats:
    sent, received = after.sent_bytes - before.sent_bytes, after.received_bytes - before.received_bytes
    return journal.Stats(
        sent=int(published),
        received=outcome.accepted,
        receive_errors=sum(outcome.errors.values()),
        errors_by_peer=outcome.errors,
        sent_bytes=sent,
        received_bytes=received,
        last_seconds=round(seconds, 6),
        last_bytes=sent + received,
    )


def _schema(node: Node, member: Member) -> Schema | None:
    """What members' attributes must be: what the admin pinned, before that this node's own, before that what the first
    accepted snapshot shows."""
    pinned = member.pinned_schema() or ledger.schema(node, member.project)
    if pinned is not None:
        return pinned
    for id_, stored in sorted(accept.accepted(node, member).items()):
        if stored.record.blob:
            with suppress(merging.LostSnapshot):
                return merging.loaded(node, member, id_, stored.record.blob).summary.schema
    return None


def _summary(pulse: journal.Stats, shown: records.Publication | None, merged: merging.Merged) -> str:
    parts = []
    if pulse.sent and shown is not None:
        parts.append(f"published {shown.rows} rows as epoch {shown.epoch}")
    if pulse.received:
        parts.append(f"accepted {pulse.received} snapshot{'s' if pulse.received > 1 else ''}")
    if merged.changed and merged.federated is None:
        parts.append("no federated statistics any more")
    elif merged.changed and merged.federated is not None:
        parts.append(f"federated statistics of {merged.federated.rows} rows, digest {merged.federated.digest[:16]}")
    traffic = f"{pulse.sent_bytes} bytes sent, {pulse.received_bytes} received, {pulse.last_seconds * 1000:.0f} ms"
    return f"Sync completed: {', '.join(parts)} ({traffic})"


class Heard(msgspec.Struct, frozen=True):
    """A nudge that may be heeded. `known`: the newest epoch of its sender that this node has accepted; `is_news` if it
    announces a newer one."""

    sender: str
    known: int
    is_news: bool


def nudged(node: Node, project: Project, message: bytes) -> Heard | None:
    """None if the nudge is this node's own, or not to be heeded."""
    try:
        member = membership.of(node, project)
        found = nudge.open_nudge(message, member.roster, node.clock())
    except GramianError:
        return None
    if found.id == member.peer_id:
        return None
    accepted = records.load(node.state, project.partition, records.PEER + found.id, records.Accepted)
    known = accepted.record.epoch if accepted else 0
    is_news = member.record.push and found.epoch > known
    return Heard(found.id, known, is_news) if is_news or found.asks else None
