"""A federation of one real server and many members that are nothing but their keys: they publish what they are told."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks import nodes
from gramian.client import Client
from gramian.domain import crypto
from gramian.domain.protocol import head as heads
from gramian.domain.protocol import roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.domain.statistics import packed, snapshot
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.moments import LocalMoments, Moments
from gramian.domain.statistics.schema import Schema
from gramian.node import Node
from gramian.ports import ABSENT, Link
from gramian.settings import Settings
from gramian.usecases import records
from gramian.usecases.federation import membership, succession
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import lifecycle
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened

PID = "study"
ROWS = 1_000_000
PATIENCE_S = 300


@dataclass
class Crowd:
    """`site` founded the federation and has no rows; `peers` are the keys of all others."""

    site: nodes.Site
    node: Node
    member: Member
    link: Link
    peers: Sequence[PeerKeys]
    schema: Schema
    epoch: int = 0

    def publish(self, number: int) -> int:
        """New statistics of one member; returns their bytes."""
        self.epoch += 1
        own, fed_id = self.peers[number], self.member.fed_id
        clear = snapshot.encode(statistics(self.schema, self.epoch))
        shown = snapshot.decode(clear)
        chunks, blob_id = heads.Chunks(clear, self.link.chunk_bytes), secrets.token_hex(16)
        self.link.put_blob(fed_id, own.peer_id, blob_id, chunks)
        head = heads.Head(
            fed_id=fed_id,
            id=own.peer_id,
            epoch=self.epoch,
            roster_v=self.member.roster.v,
            gen=0,
            blob_id=blob_id,
            chunks=len(chunks),
            chunk_size=self.link.chunk_bytes,
            size=len(clear),
            blob_sha=crypto.sha256(bytes(clear)),
            content_digest=content_digest(shown),
            schema_hash=heads.schema_hash(self.schema, encrypt=False, kek=b""),
            wrap="",
            state="data",
            ts=0,
        )
        found = self.link.cut(fed_id, [own.peer_id]).heads.get(own.peer_id)
        message = heads.pack(head, own.signing)
        self.link.put_head(fed_id, own.peer_id, message, expect=found.revision if found else None)
        return len(clear)

    def give_rows(self) -> int:
        """Statistics of its own for the server, as if it had learned them; returns the bytes of their snapshot."""
        p, place = self.schema.size, self.member.project.partition
        m = statistics(self.schema, seed=1)
        m = dataclasses.replace(m, local=LocalMoments(np.ones(p), np.zeros(p), np.ones(p)))
        data = snapshot.encode(m, local=True)
        base = records.Base(self.node.blobs.put(self.member.project.uid, data), m.n, [], m.n)
        names = records.Attributes(list(self.schema.names), self.schema.types)
        self.node.state.write(
            records.put(place, records.ATTRIBUTES, names, ABSENT), records.put(place, records.BASE, base, ABSENT)
        )
        return len(data)

    def sync(self) -> None:
        self.site.client.sync(PID)

    def assert_published(self) -> None:
        """The server's own rows count."""
        info = self.site.client.project_info(PID)["params"]
        assert info["fed_rows"] == str(ROWS), f"{info['fed_rows']} rows were merged"

    def assert_merged(self, received: int) -> None:
        """All members' rows count, and so many snapshots were taken in so far."""
        info = self.site.client.project_info(PID)["params"]
        assert info["fed_rows"] == str(ROWS * len(self.peers)), f"{info['fed_rows']} rows were merged"
        stats = self.site.client.sync_stats(PID)
        assert (stats["rcvCount"], stats["rcvError"]) == (received, 0), f"unexpected: {stats}"


@contextmanager
def gathered(directory: Path, nats: NatsServer, members: int, attributes: int, memory: int) -> Iterator[Crowd]:
    """A federation of so many members, the server among them, with `memory` bytes of room in NATS."""
    schema = Schema.of([(f"x{i:05d}", "C") for i in range(attributes)])
    with nodes.serving(directory / "node", "org") as site:
        site = nodes.Site(
            site.name, site.server, Client(site.server.url, site.name, site.key, timeout_s=PATIENCE_S), site.key
        )
        site.client.create_federation(
            PID, fed_name=PID, sync_sched="d1", nats_hosts=nats.url, nats_stream_max_memory=memory
        )
        with opened(Settings(), directory / "node") as (node, _):
            member = membership.of(node, lifecycle.find(node, site.name, PID))
            peers = [PeerKeys.derive(secrets.token_bytes(32), b"", "peer", PID) for _ in range(members - 1)]
            member = membership.change_roster(node, member, lambda latest: _with(latest, peers, schema))
            with closing(node.transport("nats").open({"nats_hosts": nats.url})) as link:
                yield Crowd(site, node, member, link, peers, schema)


def statistics(schema: Schema, seed: int) -> Moments:
    """Statistics of type C that rows could have, without the rows: equal correlations, all means off the origins,
    which differ between peers, so that every merge has to move some."""
    rng = np.random.default_rng(seed)
    p, n = schema.size, float(ROWS)
    s = 0.1 * n * rng.random(p)
    scale = 1.0 + rng.random(p)
    P = np.empty(packed.length(p))
    for i, row in packed.rows(p):
        P[row] = (0.2 * n * scale[i]) * scale[i:] + (s[i] / n) * s[i:]
    squares = n * scale * scale + s * s / n
    P[packed.diagonal(p)] = squares
    origin = rng.integers(-3, 4, p) * 0.5
    t4 = 3.0 * squares * squares / n
    none = np.zeros(0)
    return Moments(
        schema, ROWS, origin, s, np.zeros(p), t4, P, np.zeros((p, 0)), (), none, np.zeros((p, 0)), np.zeros((p, 0))
    )


def _with(latest: Member, peers: Sequence[PeerKeys], schema: Schema) -> dict[str, object]:
    """Fields of a roster that lists them all and has pinned the attributes."""
    members, rings = latest.roster.members, latest.roster.rings
    for own in peers:
        listed = roster.Member(own.peer_id, secrets.token_hex(32), own.ed.hex(), own.x.hex())
        fields = succession.joined(latest, listed)
        members, rings = [*members, listed], {**rings, **fields["rings"]}  # type: ignore[dict-item]
    policy = latest.roster.policy
    text = roster.seal_schema(schema, policy, latest.fed_id, b"")
    return {"members": members, "rings": rings, "policy": msgspec.structs.replace(policy, schema=text)}
