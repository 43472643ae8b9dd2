"""Leaving, eviction, and a new node in place of one that lost its disk."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import closing

import msgspec
import nats
import numpy as np
import pytest

from gramian.client import BadRequest
from gramian.domain.protocol.head import open_head, pack
from gramian.errors import InvalidRequest
from gramian.usecases import records
from gramian.usecases.federation import explore, membership, pulse, reclaim
from gramian.usecases.projects import lifecycle

everywhere = pytest.mark.transports("nats", "s3", "memory")
NAMES = [f"x{i}" for i in range(6)]


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def peer_id(site) -> str:
    return site.client.federation_info("study")["local_uuid"]


def states(site) -> dict[str, str]:
    return {id_: json.loads(text)["state"] for id_, text in site.client.federation_info("study")["peersInfo"].items()}


def started(federate, count: int, **keys):
    federation = federate(count, **keys)
    federation.learn(NAMES, "C" * 6, [rows(seed) for seed in range(count)])
    federation.sync()
    federation.assert_converged(60 * count)
    return federation


def test_member_that_leaves_takes_its_rows_along(federate) -> None:
    """The others forget its snapshot, it keeps its rows and can do no more in the federation."""
    federation = started(federate, 3)
    leaver = federation.sites.pop()
    left = peer_id(leaver)
    leaver.client.leave("study")
    federation.sync()
    federation.assert_converged(120)
    assert states(federation.admin)[left] == "left"
    assert leaver.client.project_info("study")["params"]["local_rows"] == "60"
    for call in (leaver.client.sync, leaver.client.start_pulse):
        with pytest.raises(BadRequest, match="has left the federation"):
            call("study")
    leaver.client.leave("study")


def test_deleting_the_project_leaves_the_federation(federate) -> None:
    """No row of a deleted project stays in the others' models."""
    federation = started(federate, 3)
    federation.sites.pop().client.delete_project("study")
    federation.sync()
    federation.assert_converged(120)


def test_admin_cannot_leave_or_evict_itself(federate) -> None:
    """It would leave the others without anyone who can invite or evict."""
    federation = started(federate, 2)
    with pytest.raises(BadRequest, match="the admin cannot leave"):
        federation.admin.client.leave("study")
    with pytest.raises(BadRequest, match="the admin cannot evict itself"):
        federation.admin.client.evict("study", peer_id(federation.admin))


@pytest.mark.parametrize("encrypt", [False, True])
def test_evicted_member_no_longer_counts_and_reads_nothing_new(federate, encrypt: bool) -> None:
    """Its snapshot is dropped everywhere, it is told, and what others publish later it cannot open."""
    federation = started(federate, 3, fed_encrypt=encrypt)
    evicted = federation.sites.pop()
    gone = peer_id(evicted)
    with pytest.raises(BadRequest, match="only the federation's admin"):
        federation.sites[1].client.evict("study", gone)
    with pytest.raises(BadRequest, match="has no member"):
        federation.admin.client.evict("study", "0" * 32)
    federation.admin.client.evict("study", gone)
    federation.sync()
    federation.assert_converged(120)
    assert states(federation.sites[1])[gone] == "evicted"
    with pytest.raises(BadRequest, match="no longer an active member"):
        evicted.client.sync("study")
    assert evicted.client.project_info("study")["params"]["fed_pulsing"] == "false"
    assert evicted.client.project_info("study")["params"]["fed_rows"] == "180"
    assert any("no longer an active member" in line for line in evicted.client.error_log("study"))


def test_evictions_and_joins_alternate_and_everybody_reads_everything(federate, site) -> None:
    """New generations reach old members and newcomers alike, the pinned schema with them."""
    federation = started(federate, 3, fed_encrypt=True)
    federation.admin.client.evict("study", peer_id(federation.sites.pop()))
    newcomer = site("newcomer")
    federation.join(newcomer)
    newcomer.client.learn("study", NAMES, "C" * 6, rows(9))
    federation.sync()
    federation.assert_converged(180)
    federation.admin.client.evict("study", peer_id(federation.sites.pop(1)))
    federation.sync()
    federation.assert_converged(120)


def test_new_node_takes_the_place_of_one_that_lost_its_disk(federate, site) -> None:
    """The invitation names the lost member: its rows, learned again, do not count twice."""
    federation = started(federate, 3)
    lost = federation.sites.pop()
    invitation = federation.admin.client.invite("study", "pw", federation.admin.url, replaces=peer_id(lost))
    fresh = site("fresh")
    fresh.client.join("study", invitation)
    fresh.client.learn("study", NAMES, "C" * 6, rows(2))
    federation.sites.append(fresh)
    federation.sync()
    federation.assert_converged(180)
    assert states(federation.admin)[peer_id(lost)] == "left"
    with pytest.raises(BadRequest, match="no other member"):
        federation.admin.client.invite("study", "pw", federation.admin.url, replaces=secrets.token_hex(16))


def test_pulse_that_waited_for_a_leave_to_end_does_not_bring_the_node_back(federate, monkeypatch) -> None:
    """It was let in before the node left, and finds it gone."""
    federation = started(federate, 2)
    leaver = federation.sites.pop()
    leaver.client.learn("study", NAMES, "C" * 6, rows(9))
    active, nested = membership.active, []

    def active_then_left(*args):
        member = active(*args)
        if not nested:
            nested.append(True)
            leaver.client.leave("study")
        return member

    monkeypatch.setattr(membership, "active", active_then_left)
    with pytest.raises(InvalidRequest, match="has left"):
        pulse.run(leaver.node, leaver.name, "study")
    monkeypatch.undo()
    federation.sync()
    federation.assert_converged(60)


def test_rows_of_the_last_member_stop_counting_when_it_leaves(federate) -> None:
    """An admin without rows is left with nothing, not with what was."""
    federation = federate(2)
    federation.sites[1].client.learn("study", NAMES, "C" * 6, rows(1))
    federation.sync()
    federation.assert_converged(60)
    federation.sites.pop().client.leave("study")
    federation.sync()
    assert federation.params("fed_rows") == ["0"]
    with pytest.raises(BadRequest, match="no rows yet"):
        federation.admin.client.build("study", "m", "x0")


def test_admin_gives_the_reserved_room_back_once_all_others_have_left(federate) -> None:
    """Left by head, evicted by roster: both count as gone."""
    federation = started(federate, 3)
    federation.sites[2].client.leave("study")
    federation.admin.client.evict("study", peer_id(federation.sites[1]))
    fed_id = federation.admin.client.federation_info("study")["fed_id"]
    federation.admin.client.delete_project("study")

    async def streams() -> list[str]:
        client = await nats.connect(federation.nats_url, allow_reconnect=False)
        found = [info.config.name or "" for info in await client.jetstream().streams_info()]
        await client.close()
        return found

    assert not [name for name in asyncio.run(streams()) if fed_id in name]


def explored(site) -> dict[str, bool]:
    return {id_: json.loads(text)["explore"] for id_, text in site.client.federation_info("study")["peersInfo"].items()}


@everywhere
def test_members_word_on_exploring_reaches_everybody_who_was_away(federate) -> None:
    """A member's by its head and the admin's roster, the admin's by the roster; who was down for days follows."""
    federation = started(federate, 3)
    admin, peer, away = federation.sites
    federation.sites = [admin, peer]
    peer.client.set_explore_peers("study", allow=False)
    assert peer.client.federation_info("study")["allow_peers_explore"] is False
    federation.sync(1)
    assert explored(admin) == {peer_id(admin): True, peer_id(peer): True, peer_id(away): True}
    federation.sync(1)
    admin.client.set_explore_peers("study", allow=False)
    federation.sites.append(away)
    federation.sync()
    federation.assert_converged(180)
    wanted = {peer_id(admin): False, peer_id(peer): False, peer_id(away): True}
    assert [explored(each) for each in federation.sites] == [wanted] * 3
    here = membership.of(away.node, lifecycle.find(away.node, away.name, "study"))
    assert [explore.is_allowed(away.node, here, id_) for id_ in wanted] == list(wanted.values())
    peer.client.set_explore_peers("study", allow=True)
    federation.sync(3)
    federation.assert_converged(180)
    assert explored(away) == {**wanted, peer_id(peer): True}
    with pytest.raises(BadRequest, match="allowExplore"):
        peer.client.request("GET", "/fedml/study/setExplorePeers", {"allowExplore": "maybe"})


@everywhere
def test_replayed_word_on_exploring_changes_nothing(federate) -> None:
    """The head from before the member forbade it is back in the stream: no admin believes it."""
    federation = started(federate, 2)
    admin, peer = federation.sites
    raw = raw_of(federation)
    head = raw.head(peer_id(peer))
    before = raw.stored(head)
    peer.client.set_explore_peers("study", allow=False)
    federation.sync()
    assert explored(admin)[peer_id(peer)] is False
    raw.write([(head, before)])
    admin.client.sync("study")
    assert explored(admin)[peer_id(peer)] is False


def raw_of(federation):
    return federation.meeting.raw(federation.admin.client.federation_info("study")["fed_id"])


def chunks_of(federation, id_: str) -> list[str]:
    """The chunks of a member's blobs that take up room."""
    return [key for key in raw_of(federation).chunks() if id_ in key]


@everywhere
@pytest.mark.parametrize("how", ["evicted", "replaced", "evicted and still publishing"])
def test_room_of_a_member_that_is_gone_is_given_back(federate, site, how: str) -> None:
    """It cannot or will not do so itself: the admin frees what its head shows, and nobody keeps a copy."""
    federation = started(federate, 3)
    gone = federation.sites.pop()
    id_ = peer_id(gone)
    assert len(chunks_of(federation, id_)) == 1
    if how == "replaced":
        invitation = federation.admin.client.invite("study", "pw", federation.admin.url, replaces=id_)
        site("fresh").client.join("study", invitation, **federation.meeting.own)
    else:
        federation.admin.client.evict("study", id_)
    federation.sync()
    if how == "evicted and still publishing":
        there = membership.of(gone.node, lifecycle.find(gone.node, gone.name, "study"))
        with closing(membership.connect(gone.node, there)) as link:
            link.put_blob(there.fed_id, id_, "ab" * 16, [b"x" * 1000])
            entry = link.cut(there.fed_id, [id_]).heads[id_]
            head = msgspec.structs.replace(open_head(entry.data, there.fed_id, id_, there.own.ed), blob_id="ab" * 16)
            link.put_head(there.fed_id, id_, pack(head, there.own.signing), expect=entry.revision)
            assert len(chunks_of(federation, id_)) == 1
        federation.sync()
    assert chunks_of(federation, id_) == []
    federation.assert_converged(120)
    for each in federation.sites:
        project = lifecycle.find(each.node, each.name, "study")
        kept = records.load(each.node.state, project.partition, records.PEER + id_, records.Accepted).record
        assert kept.blob == ""
        assert len(list(each.node.blobs.list(project.uid))) <= 4
        assert each.client.error_log("study") == []


@everywhere
def test_room_that_an_evicted_member_fills_beside_its_head_is_given_back(federate, monkeypatch) -> None:
    """What no head shows too: what it had put before, at the next pulse; what it puts later, within the hour."""
    federation = started(federate, 3)
    gone = federation.sites.pop()
    id_ = peer_id(gone)
    there = membership.of(gone.node, lifecycle.find(gone.node, gone.name, "study"))

    def fill() -> None:
        with closing(membership.connect(gone.node, there)) as link:
            for blob_id in ("ab" * 16, "cd" * 16):
                link.put_blob(there.fed_id, id_, blob_id, [b"x" * 1000] * 2)

    fill()
    assert len(chunks_of(federation, id_)) == 5
    federation.admin.client.evict("study", id_)
    federation.sync()
    assert chunks_of(federation, id_) == []
    fill()
    federation.sync()
    assert len(chunks_of(federation, id_)) == 4
    monkeypatch.setattr(reclaim, "AGAIN_S", 0)
    federation.sync()
    assert chunks_of(federation, id_) == []
    federation.assert_converged(120)
    assert [line for each in federation.sites for line in each.client.error_log("study")] == []


@pytest.mark.transports("memory")
def test_transport_that_cannot_find_a_peers_blobs_is_told_the_one_that_its_head_shows(federate, monkeypatch) -> None:
    """`PeerRoom` is a thing that links may have."""
    monkeypatch.setattr(reclaim, "PeerRoom", type("Nobody", (), {}))
    federation = started(federate, 2)
    id_ = peer_id(federation.sites.pop())
    federation.admin.client.evict("study", id_)
    federation.sync()
    assert chunks_of(federation, id_) == []


@pytest.mark.transports("nats", "memory")
def test_eviction_says_that_a_login_is_left(federate) -> None:
    """Again when it is repeated. What to do with logins stands in the tests of NATS."""
    federation = started(federate, 2)
    words = {"nats": "NATS lets everybody in", "memory": "if it shares its login with others, change that"}
    for _ in range(2):
        assert words[federation.meeting.name] in federation.admin.client.evict("study", peer_id(federation.sites[1]))


def test_info_shows_who_is_who(federate) -> None:
    """Admin, recovery key, and for each member state, epoch, rows, age and whether it may be explored."""
    federation = started(federate, 2)
    infos = [each.client.federation_info("study") for each in federation.sites]
    ids = [info["fed_local_id"] for info in infos]
    for info in infos:
        assert info["fed_admin"] == ids[0]
        assert info["fed_recovery_key"] == ""
        about = {id_: json.loads(text) for id_, text in info["peersInfo"].items()}
        assert set(about) == set(ids)
        for each in about.values():
            assert (each["state"], each["rows"], each["explore"]) == ("active", 60, True)
            assert each["epoch"] > 0
            assert 0 <= each["age"] < 60
