"""What a user asks of its own membership: pulse on and off, schedule, description. Imports no numpy."""

from __future__ import annotations

import msgspec

from gramian.domain import schedule
from gramian.domain.protocol import keys
from gramian.domain.protocol.roster import Member as Peer
from gramian.errors import InvalidRequest
from gramian.faults import step
from gramian.node import Node
from gramian.usecases import jobs, records
from gramian.usecases.federation import journal, membership, view
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import FEDERATION, PEER


def start_pulse(node: Node, cid: str, pid: str) -> None:
    """Pulse on the federation's schedule from now on, and once at once."""
    member = membership.active(node, cid, pid)
    _set_pulsing(node, member, pulsing=True)
    node.scheduler.soon(cid, pid)


def stop_pulse(node: Node, cid: str, pid: str) -> None:
    member = membership.load(node, cid, pid)
    _set_pulsing(node, member, pulsing=False)


def sync(node: Node, cid: str, pid: str) -> int:
    """Have this node sync now in another process; returns the job's number. Raises InvalidRequest, Unavailable."""
    project = membership.active(node, cid, pid).project
    return jobs.submit(node, cid, "sync", jobs.Nothing(), project=project, runner=jobs.SYNC)


def follow_schedule(node: Node, member: Member) -> None:
    """Pulse on the roster's schedule, if that changed."""
    wanted = member.roster.policy.sync_sched

    def followed(record: records.Federation) -> records.Federation:
        # Stopped meanwhile, or left: then it stays so.
        return msgspec.structs.replace(record, schedule=wanted) if record.pulsing and not record.left else record

    if member.record.pulsing and member.record.schedule != wanted:
        now = records.revise(node.state, member.project.partition, FEDERATION, records.Federation, followed)
        if now is not None and now.schedule == wanted:
            node.scheduler.set(member.project.cid, member.project.pid, wanted)


def is_pulsing(node: Node, project: Project) -> bool:
    stored = records.load(node.state, project.partition, FEDERATION, records.Federation)
    return stored is not None and stored.record.pulsing and not stored.record.left


def new_schedule(node: Node, cid: str, pid: str, text: str) -> None:
    """As admin, change the schedule of every member; each follows at its next pulse. Raises InvalidRequest."""
    try:
        period = str(schedule.parse(text))
    except ValueError as error:
        raise InvalidRequest(f"newSchedule: {error}") from error
    member = membership.admin(node, cid, pid)

    def change(latest: Member) -> dict[str, object] | None:
        policy = latest.roster.policy
        return None if policy.sync_sched == period else {"policy": msgspec.structs.replace(policy, sync_sched=period)}

    follow_schedule(node, view.change_roster(node, member, change))


def info(node: Node, cid: str, pid: str) -> dict[str, object]:
    """The contract's FederationInfo, with the transport's public options and without its credentials."""
    member = membership.load(node, cid, pid)
    return {
        "fed_id": member.fed_id,
        "fed_local_id": member.peer_id,
        "local_uuid": member.peer_id,
        "fed_name": member.record.fed_name,
        "fed_local_type": member.record.local_type,
        "fed_type": member.record.transport,
        "fed_encrypt": "true" if member.roster.policy.fed_encrypt else "false",
        "fed_push": "true" if member.record.push else "false",
        "fed_is_admin": "true" if member.is_admin else "false",
        "fed_use_smpc": "false",
        "fed_enforce_hipaa_compliance": "false",
        "sync_sched": member.roster.policy.sync_sched,
        "is_pulsing": member.record.pulsing,
        "allow_peers_explore": member.record.explore,
        "rcv_error_action": "",
        "snd_error_action": "",
        "contract": member.roster.policy.contract,
        "peersInfo": {id_: msgspec.json.encode(about).decode() for id_, about in peers(node, member).items()},
        "fed_admin": keys.peer_id(bytes.fromhex(member.roster.admin_ed), bytes.fromhex(member.roster.admin_x)),
        "fed_roster_version": str(member.roster.v),
        "fed_recovery_key": member.roster.recovery_ed or "",
        **member.record.options,
    }


def peers(node: Node, member: Member) -> dict[str, dict[str, object]]:
    """Per member: state, whether others may explore it, the epoch and rows that this node accepted, and for how long
    these statistics have been known here (seconds)."""
    accepted = records.listed(node.state, member.project.partition, PEER, records.Accepted)
    now_ms = node.clock() * 1000

    def about(peer: Peer) -> dict[str, object]:
        stored = accepted.get(peer.id)
        listed: dict[str, object] = {"state": peer.state, "explore": peer.explore}
        if stored is None:
            return {"epoch": None, "rows": 0, "age": None, **listed}
        record = stored.record
        age_s = max(0, round((now_ms - record.at) / 1000))
        if record.state == "left":
            listed["state"] = "left"
        return {"epoch": record.epoch, "rows": record.rows, "age": age_s, **listed}

    return {peer.id: about(peer) for peer in member.roster.members}


def sync_stats(node: Node, cid: str, pid: str) -> dict[str, object]:
    """The contract's FedSyncStats, with refusals per peer, bytes, and the last sync's time."""
    project = membership.load(node, cid, pid).project
    stats = journal.stats(node, project)
    return {
        "sndCount": stats.sent,
        "sndContractError": 0,
        "rcvCount": stats.received,
        "rcvError": stats.receive_errors,
        "rcvContractError": {},
        "rcvErrorByPeer": stats.errors_by_peer,
        "sndBytes": stats.sent_bytes,
        "rcvBytes": stats.received_bytes,
        "lastSyncSeconds": stats.last_seconds,
        "lastSyncBytes": stats.last_bytes,
        "errorLog": journal.error_lines(node, project),
        "syncLog": journal.sync_lines(node, project),
    }


def _set_pulsing(node: Node, member: Member, *, pulsing: bool) -> None:
    """The flag first: an entry of the scheduler without it does nothing."""
    project, schedule_ = member.project, member.roster.policy.sync_sched if pulsing else ""
    records.revise(
        node.state,
        project.partition,
        FEDERATION,
        records.Federation,
        lambda record: msgspec.structs.replace(record, pulsing=pulsing and not record.left, schedule=schedule_),
    )
    step("pulsing.commit")
    if pulsing:
        node.scheduler.set(project.cid, project.pid, schedule_)
    else:
        node.scheduler.remove(project.cid, project.pid)
