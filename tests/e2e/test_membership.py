"""Leaving, eviction, and a new node in place of one that lost its disk."""

from __future__ import annotations

import asyncio
import json
import secrets

import nats
import numpy as np
import pytest

from gramian.client import BadRequest
from gramian.errors import InvalidRequest
from gramian.usecases.federation import membership, pulse

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
