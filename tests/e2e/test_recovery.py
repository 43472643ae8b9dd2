"""Damage and interruptions: a federation heals by itself, and a restored backup takes nothing back."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gramian.client import BadRequest, ServerError
from gramian.errors import ContentMissing, TransportFull, TransportUnavailable
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import records, upkeep
from gramian.usecases.federation import found, invite, lease, members, membership, publication, pulse
from gramian.usecases.projects import lifecycle
from gramian_local.node import opened

NAMES = [f"x{i}" for i in range(6)]


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def started(federate, count: int = 2, **keys):
    federation = federate(count, **keys)
    federation.learn(NAMES, "C" * 6, [rows(seed) for seed in range(count)])
    federation.sync()
    federation.assert_converged(60 * count)
    return federation


def project_of(site):
    return lifecycle.find(site.node, site.name, "study")


def peer_id(site) -> str:
    return site.client.federation_info("study")["local_uuid"]


@pytest.mark.transports("nats", "s3", slow=("s3",))
@pytest.mark.parametrize("what", ["federated", "peer", "own", "published"])
def test_lost_blob_is_made_or_fetched_anew(federate, what: str) -> None:
    """A file of the home is gone: the next syncs put it back, and everything is as before."""
    federation = started(federate)
    here = federation.admin
    project, digest = project_of(here), federation.params("fed_digest")[0]
    keys = {
        "federated": records.FEDERATED,
        "peer": records.PEER + peer_id(federation.sites[1]),
        "own": records.PEER + peer_id(here),
        "published": records.PUBLICATION,
    }
    item = msgspec.json.decode(here.node.state.get(project.partition, keys[what]).value)
    here.node.blobs.delete(project.uid, item["stored" if what == "published" else "blob"])
    if what == "federated":
        with pytest.raises(ServerError):
            here.client.build("study", "m", "x0")
    if what in ("peer", "own"):
        federation.sites[1].client.learn("study", NAMES, "C" * 6, rows(9))
        federation.sites[1].client.sync("study")
    if what == "published":
        here.client.learn("study", NAMES, "C" * 6, rows(9))
    for _ in range(3):
        for each in federation.sites:
            with suppress(ServerError):
                each.client.sync("study")
    federation.assert_converged(120 if what == "federated" else 180)
    if what == "federated":
        assert federation.params("fed_digest")[0] == digest
    here.client.build("study", "m", "x0")


@pytest.mark.transports("memory")
def test_lost_blob_that_alone_tells_the_attributes_is_fetched_anew(federate) -> None:
    """A node without rows, before anything is pinned, knows them from the first snapshot that it took in."""
    federation = federate(2)
    here, there = federation.sites
    there.client.learn("study", NAMES, "C" * 6, rows(1))
    federation.sync()
    project = project_of(here)
    item = msgspec.json.decode(here.node.state.get(project.partition, records.PEER + peer_id(there)).value)
    here.node.blobs.delete(project.uid, item["blob"])
    here.client.sync("study")
    federation.assert_converged(60)
    assert list(here.node.blobs.get(project.uid, item["blob"]))
    assert any("is lost and is fetched again" in line for line in here.client.error_log("study"))


def test_node_without_rows_meets_members_with_different_attributes(federate) -> None:
    """Nothing is pinned yet: the first good snapshot decides, the other is refused, no crash."""
    federation = federate(3)
    federation.sites[1].client.learn("study", NAMES, "C" * 6, rows(1))
    federation.sites[2].client.learn("study", [*NAMES[:-1], "other"], "C" * 6, rows(2))
    for each in (*federation.sites[1:], federation.admin):
        each.client.sync("study")
    assert federation.params("fed_rows")[0] == "60"
    assert any("attributes differ" in line for line in federation.admin.client.error_log("study"))


def test_pulse_that_outlives_its_lease_still_succeeds(federate, monkeypatch) -> None:
    """Two passes of one node at the same time: one writes, the other starts anew."""
    federation = started(federate)
    here = federation.admin
    here.client.learn("study", NAMES, "C" * 6, rows(9))
    decide, nested = pulse.deciding.decide, []

    def decide_twice(node, member, link, found):
        result = decide(node, member, link, found)
        if not nested:
            nested.append(True)
            monkeypatch.setattr(lease.Lease, "acquire", lambda *_: None)
            monkeypatch.setattr(lease.Lease, "renew", lambda *_: None)
            pulse.run(node, here.name, "study")
        return result

    monkeypatch.setattr(pulse.deciding, "decide", decide_twice)
    pulse.run(here.node, here.name, "study")
    monkeypatch.undo()
    federation.sync()
    federation.assert_converged(180)
    assert here.client.error_log("study") == []


def test_leave_that_is_cut_short_can_be_repeated(federate, monkeypatch) -> None:
    """The transport fails when the goodbye is sent: the node has left and says so later; it never comes back."""
    federation = started(federate, 3)
    leaver = federation.sites.pop()

    def fail(*_args, **_keywords):
        raise TransportUnavailable("no answer")

    link_type = type(membership.connect(leaver.node, membership.of(leaver.node, project_of(leaver))))
    monkeypatch.setattr(link_type, "put_head", fail)
    with pytest.raises(BadRequest, match="no answer"):
        leaver.client.leave("study")
    monkeypatch.undo()
    leaver.client.learn("study", NAMES, "C" * 6, rows(9))
    with pytest.raises(BadRequest, match="has left"):
        leaver.client.sync("study")
    leaver.client.leave("study")
    federation.sync()
    federation.assert_converged(120)


def test_server_starts_with_a_project_that_left_while_pulsing(federate) -> None:
    """What a kill between leaving and stopping the pulse leaves behind."""
    federation = started(federate)
    here = federation.sites[1]
    project = project_of(here)
    records.revise(
        here.node.state,
        project.partition,
        records.FEDERATION,
        records.Federation,
        lambda record: msgspec.structs.replace(record, left=True, pulsing=True),
    )
    upkeep.resume(here.node)
    assert upkeep.pulsing(here.node) == {}


def test_evicted_member_of_an_encrypted_federation_can_delete_its_project(federate) -> None:
    """It has no key any more, and needs none for that."""
    federation = started(federate, 3, fed_encrypt=True)
    evicted = federation.sites.pop()
    federation.admin.client.evict("study", peer_id(evicted))
    evicted.client.delete_project("study")
    assert evicted.client.projects() == []


def test_admin_that_is_alone_gives_the_reserved_room_back(federate) -> None:
    """Creating and deleting again and again works on a small server."""
    federation = federate(1)
    client, hosts = federation.admin.client, federation.nats_url
    client.delete_project("study")
    for _ in range(12):
        client.create_federation(
            "again", fed_name="f", sync_sched="m1", nats_hosts=hosts, nats_stream_max_memory=2 * 2**30
        )
        client.delete_project("again")


def test_full_transport_recovers_when_room_is_given_back(federate) -> None:
    """A snapshot that does not fit is an error at its node alone; the others' stay, and later it fits by itself."""
    wide = [f"column{i}" for i in range(520)]  # some 1.1 MB of statistics
    federation = federate(2, nats_stream_max_memory=3 * 2**20)
    first, second = federation.sites
    data = np.random.default_rng(0).normal(size=(3, 600, 520))
    for each, part in zip(federation.sites, data, strict=False):
        each.client.learn("study", wide, "C" * 520, part)
    federation.sync()
    federation.assert_converged(1200)
    first.client.learn("study", wide, "C" * 520, data[2])
    for _ in range(3):
        with pytest.raises(BadRequest, match="nats_stream_max_memory"):
            first.client.sync("study")
    assert second.client.project_info("study")["params"]["fed_rows"] == "1200"
    federation.sites.pop().client.leave("study")
    federation.sync()
    federation.assert_converged(1200)


def test_node_that_cannot_publish_still_takes_in_what_others_publish(federate, monkeypatch) -> None:
    """Its own trouble is an error of its call; the others' news counts."""
    federation = started(federate)
    here, other = federation.sites
    here.client.learn("study", NAMES, "C" * 6, rows(8))
    other.client.learn("study", NAMES, "C" * 6, rows(9))
    other.client.sync("study")

    def fail(*_args, **_keywords):
        raise TransportFull("no room")

    link_type = type(membership.connect(here.node, membership.of(here.node, project_of(here))))
    monkeypatch.setattr(link_type, "put_blob", fail)
    with pytest.raises(BadRequest, match="no room"):
        here.client.sync("study")
    assert here.client.project_info("study")["params"]["fed_rows"] == "180"
    monkeypatch.undo()
    federation.sync()
    federation.assert_converged(240)


@pytest.mark.transports("nats", "s3", "memory", slow=("s3",))
def test_lost_bytes_of_a_publication_are_fetched_back(federate) -> None:
    """Too few new rows to publish anew: what the transport still has is stored again."""
    federation = started(federate)
    here = federation.admin
    project = project_of(here)
    before = publication.current(here.node, membership.of(here.node, project)).record
    here.node.blobs.delete(project.uid, before.stored)
    publication.mark_lost(here.node, membership.of(here.node, project))
    here.client.learn("study", NAMES, "C" * 6, rows(9, 2))
    here.client.sync("study")
    after = publication.current(here.node, membership.of(here.node, project)).record
    assert (after.stored, after.epoch) == (before.stored, before.epoch)
    assert here.node.blobs.get(project.uid, after.stored)
    federation.sync()
    federation.assert_converged(120)


def test_node_whose_published_bytes_are_lost_can_leave(federate) -> None:
    """Its goodbye needs none of them."""
    federation = started(federate, 3)
    leaver = federation.sites.pop()
    publication.mark_lost(leaver.node, membership.of(leaver.node, project_of(leaver)))
    leaver.client.leave("study")
    federation.sync()
    federation.assert_converged(120)
    assert federation.admin.client.error_log("study") == []


def test_founding_that_could_not_be_undone_is_undone_later(site, nats_server, monkeypatch) -> None:
    """The transport fails in the middle, and again at the undoing; the sweep of the same process tries again."""
    here = site("a")

    def fail(*_args, **_keywords):
        raise TransportUnavailable("no answer")

    options = {"nats_hosts": nats_server.url, "nats_stream_max_memory": 2**24}
    with closing(here.node.transport("nats").open({key: str(value) for key, value in options.items()})) as link:
        monkeypatch.setattr(type(link), "put_roster", fail)
        monkeypatch.setattr(type(link), "destroy", fail)
        with pytest.raises(BadRequest, match="no answer"):
            here.client.create_federation("p", fed_name="f", sync_sched="m1", **options)
        monkeypatch.undo()
        (fed_id,) = [key for key, _ in here.node.state.query(found.FOUNDINGS)]
        assert link.cut(fed_id, []).roster is None
        found.sweep(here.node)
        with pytest.raises(ContentMissing):
            link.cut(fed_id, [])
    assert here.node.state.query(found.FOUNDINGS) == []


def copy_of(home: Path, target: Path) -> Path:
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("instances"))
    return target


@pytest.mark.transports("nats", "s3", slow=("s3",))
def test_restored_admin_neither_un_evicts_nor_reissues_a_token(federate, site, tmp_path: Path) -> None:
    """A backup from before an eviction and a redemption: the transport knows better, and the admin listens to it."""
    federation = started(federate, 3)
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    backup = copy_of(tmp_path / "org0", tmp_path / "backup")
    evicted = federation.sites.pop()
    federation.admin.client.evict("study", peer_id(evicted))
    newcomer = site("newcomer")
    newcomer.client.join("study", invitation, **federation.meeting.own)
    federation.sites.append(newcomer)
    federation.sync(1)
    with opened(Settings(), backup) as (restored, _):
        old = membership.load(restored, "org0", "study")
        assert old.roster.member(peer_id(evicted)).state == "active"
        with pytest.raises(Exception, match="has been used"):
            redeem_again(restored, invitation)
        pulse.run(restored, "org0", "study")
        now = membership.load(restored, "org0", "study").roster
        assert now.member(peer_id(evicted)).state == "evicted"
        assert now.member(peer_id(newcomer)).state == "active"


def redeem_again(restored: Node, invitation: dict[str, str]) -> None:
    """As another joiner would, with the same invitation."""
    from gramian.domain.protocol import invitation as invitations
    from gramian.domain.protocol import redemption
    from gramian.domain.protocol.keys import PeerKeys

    invited = invitations.parse(invitation)
    keys = redemption.Keys.derive(invited.secret, invited.tid, "org0", "study")
    thief = PeerKeys.derive(b"t" * 32, bytes.fromhex(invited.tid), "thief", "p")
    invite.redeem(restored, "org0", "study", redemption.apply(keys, thief), "127.0.0.1")


def test_join_that_contradicts_the_policy_is_refused_and_can_be_repeated(federate, site) -> None:
    """Who asks for encryption must not publish in clear."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    with pytest.raises(BadRequest, match="decided fed_encrypt=false"):
        peer.client.join("study", invitation, fed_encrypt=True)
    assert peer.client.projects() == []
    peer.client.join("study", invitation)


def test_late_joiner_sees_the_federations_attributes(federate, site) -> None:
    """By the same names as everybody, before it has any row."""
    federation = started(federate)
    late = site("late")
    federation.join(late)
    late.client.sync("study")
    assert late.client.project_info("study")["attributeNames"] == NAMES


def test_goodbye_does_not_wait_for_a_pulse_that_hangs(federate, monkeypatch) -> None:
    """A deletion goes on after a few seconds."""
    federation = started(federate)
    here = federation.sites[1]
    monkeypatch.setattr(members, "GOODBYE_WAIT_S", 0.2)
    with lease.held(here.node, project_of(here)):
        here.client.delete_project("study")
    assert here.client.projects() == []
