"""What a node tells its user about a federation: error log, sync log, counters."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import UTC, datetime
from secrets import token_hex

import msgspec

from gramian.domain import typed
from gramian.domain.canonical import join
from gramian.node import Node
from gramian.ports import Delete
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project

ERRORS, SYNCS, STATS = "error/", "sync/", "stats"
MAX_LINES = 1000
MAX_PEER_LINES = 20
"""A peer chooses what it is refused for: it may not push out what others and this node itself had to say."""
MAX_REASON_CHARS = 500
TRIM_EVERY = 50


class ErrorLine(msgspec.Struct, frozen=True):
    """Repetitions of one reason from one peer are one line, whatever numbers it names; it shows the newest.
    Times: unix milliseconds."""

    peer: str
    reason: str
    first: int
    last: int
    count: int = 0


class SyncLine(msgspec.Struct, frozen=True):
    at: int
    text: str


class Stats(msgspec.Struct, frozen=True):
    """Counted since the node joined; `errors_by_peer` counts refusals."""

    sent: int = 0
    received: int = 0
    receive_errors: int = 0
    errors_by_peer: dict[str, int] = {}
    sent_bytes: int = 0
    received_bytes: int = 0
    syncs: int = 0
    last_seconds: float = 0.0
    last_bytes: int = 0


def outage(node: Node, project: Project, reason: str, before: records.Outage | None) -> records.Outage:
    """Note why pulses fail: on the line that is there if that is why the last one did, else on a new one."""
    reason = _in_one_line(reason)
    goes_on = before is not None and _without_numbers(before.reason) == _without_numbers(reason)
    found = before if before is not None and goes_on else records.Outage(reason, _now_ms(node))
    error(node, project, reason, since=found.since)
    return found


def error(node: Node, project: Project, reason: str, peer: str = "", *, since: int = 0) -> None:
    """Note what went wrong in the background, in words fit for the user. `since` tells outages apart."""
    reason = _in_one_line(reason)
    now = _now_ms(node)
    key = ERRORS + hashlib.sha256(join(peer, _without_numbers(reason), str(since))).hexdigest()[:32]
    line = records.update(
        node.state,
        project.partition,
        key,
        ErrorLine(peer, reason, now, now),
        lambda old: ErrorLine(peer, reason, old.first, now, old.count + 1),
    )
    if line.count == 1:
        _trim_errors(node, project)


def _in_one_line(reason: str) -> str:
    return " ".join(reason.split())[:MAX_REASON_CHARS]


def _without_numbers(reason: str) -> str:
    return re.sub(r"\d+", "#", reason)


def error_lines(node: Node, project: Project) -> list[str]:
    """Oldest first."""
    found = records.listed(node.state, project.partition, ERRORS, ErrorLine).values()
    lines = sorted((stored.record for stored in found), key=lambda line: line.last)
    return [_rendered(line) for line in lines]


def clear_errors(node: Node, project: Project) -> None:
    for key, _ in node.state.query(project.partition, ERRORS):
        node.state.write(Delete(project.partition, key))


def has_errors(node: Node, project: Project) -> bool:
    return bool(node.state.query(project.partition, ERRORS, limit=1))


def sync(node: Node, project: Project, text: str, *, repeat: bool = True) -> None:
    """Note what a pulse did; without `repeat` not if the last line says the same."""
    if not repeat:
        newest = node.state.query(project.partition, SYNCS, limit=1, reverse=True)
        if newest and typed.decode(newest[0][1].value, SyncLine).text == text:
            return
    now = _now_ms(node)
    line = SyncLine(now, text)
    node.state.write(records.put(project.partition, f"{SYNCS}{now:013d}-{token_hex(4)}", line, "*"))


def sync_lines(node: Node, project: Project) -> list[str]:
    """Oldest first."""
    newest = node.state.query(project.partition, SYNCS, limit=MAX_LINES, reverse=True)
    lines = [typed.decode(item.value, SyncLine) for _, item in reversed(newest)]
    return [f"{_iso(line.at)} {line.text}" for line in lines]


def stats(node: Node, project: Project) -> Stats:
    return records.load_or(node.state, project.partition, STATS, Stats()).record


def count(node: Node, project: Project, pulse: Stats) -> None:
    """Add one pulse's counts."""

    def added(old: Stats) -> Stats:
        by_peer = dict(old.errors_by_peer)
        for peer, errors in pulse.errors_by_peer.items():
            by_peer[peer] = by_peer.get(peer, 0) + errors
        return Stats(
            old.sent + pulse.sent,
            old.received + pulse.received,
            old.receive_errors + pulse.receive_errors,
            by_peer,
            old.sent_bytes + pulse.sent_bytes,
            old.received_bytes + pulse.received_bytes,
            old.syncs + 1,
            pulse.last_seconds,
            pulse.last_bytes,
        )

    total = records.update(node.state, project.partition, STATS, Stats(), added)
    if total.syncs % TRIM_EVERY == 0:
        _trim_syncs(node, project)


def _trim_errors(node: Node, project: Project) -> None:
    found = records.listed(node.state, project.partition, ERRORS, ErrorLine)
    newest = sorted(found, key=lambda id_: found[id_].record.last, reverse=True)
    kept: Counter[str] = Counter()
    for id_ in newest:
        peer = found[id_].record.peer
        if kept.total() < MAX_LINES and (not peer or kept[peer] < MAX_PEER_LINES):
            kept[peer] += 1
        else:
            node.state.write(Delete(project.partition, ERRORS + id_))


def _trim_syncs(node: Node, project: Project) -> None:
    for key, _ in node.state.query(project.partition, SYNCS)[:-MAX_LINES]:
        node.state.write(Delete(project.partition, key))


def _rendered(line: ErrorLine) -> str:
    peer = f" peer {line.peer}:" if line.peer else ""
    times = f" ({line.count} times since {_iso(line.first)})" if line.count > 1 else ""
    return f"{_iso(line.last)}{peer} {line.reason}{times}"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now_ms(node: Node) -> int:
    return int(node.clock() * 1000)
