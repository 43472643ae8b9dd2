"""A federation's daily life: schedule, logs, numbers, invitations in both forms, and a NATS that forgets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import numpy as np

from gramian.client import Client
from gramian.domain.statistics import snapshot
from gramian_local.nats_server import NatsServer

NAMES = [f"x{i}" for i in range(6)]


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def eventually(holds: Callable[[], bool], timeout_s: float = 15) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.05)


def test_info_names_everything_and_shows_no_secret(federate) -> None:
    """FederationInfo and the params of ProjectInfo."""
    federation = federate(2)
    federation.learn(NAMES, "C" * 6, [rows(1), rows(2)])
    federation.sync()
    info = federation.sites[1].client.federation_info("study")
    assert info["fed_is_admin"] == "false"
    assert info["local_uuid"] in info["peersInfo"]
    assert info["is_pulsing"] is False
    assert info["nats_hosts"]
    assert not any("secret" in key or "passwd" in key or "seed" in key for key in info)
    params = federation.admin.client.project_info("study")["params"]
    assert params["fed_is_admin"] == "true"
    assert params["fed_has_error"] == "false"
    peers = json.loads(params["fed_peers"])
    assert len(peers) == 2
    assert all(peer["rows"] == 60 and peer["state"] == "active" and peer["age"] < 60 for peer in peers.values())
    assert re.fullmatch("[0-9a-f]{64}", params["fed_digest"])
    assert re.fullmatch("[0-9a-f]{64}", params["fed_inputs"])


def test_logs_and_counts_tell_what_happened(federate) -> None:
    """Sync log, stats, error log and its clearing."""
    federation = federate(2)
    federation.learn(NAMES, "C" * 6, [rows(1), rows(2)])
    federation.sync()
    client = federation.admin.client
    stats = client.sync_stats("study")
    assert (stats["sndCount"], stats["rcvCount"], stats["rcvError"]) == (1, 1, 0)
    assert stats["sndBytes"] > 1000
    assert stats["syncLog"] == client.sync_log("study")
    assert "published 60 rows" in stats["syncLog"][0]
    assert client.error_log("study") == []


def test_unchanged_federation_moves_no_blob(federate) -> None:
    """A pulse without news is a few hundred bytes and no line in the log."""
    federation = federate(2)
    federation.learn(NAMES, "C" * 6, [rows(1), rows(2)])
    federation.sync()
    before = federation.admin.client.sync_stats("study")
    federation.sync(3)
    after = federation.admin.client.sync_stats("study")
    assert after["syncLog"] == before["syncLog"]
    assert (after["sndCount"], after["rcvCount"]) == (before["sndCount"], before["rcvCount"])


def test_pulse_runs_when_started_and_is_seen(federate) -> None:
    """startPulse pulses at once; stopPulse ends it."""
    federation = federate(2)
    federation.learn(NAMES, "C" * 6, [rows(1), rows(2)])
    for each in federation.sites:
        each.client.start_pulse("study")
    eventually(lambda: all(each.client.sync_stats("study")["sndCount"] == 1 for each in federation.sites))
    assert federation.params("fed_pulsing") == ["true", "true"]
    federation.admin.client.stop_pulse("study")
    assert federation.params("fed_pulsing") == ["false", "true"]
    assert federation.admin.client.federation_info("study")["is_pulsing"] is False


def test_new_schedule_reaches_every_member_also_one_that_was_away(federate) -> None:
    """Through the roster, at the next pulse, whenever that is; a member that pulses does so by the new one."""
    federation = federate(3)
    *present, away = federation.sites
    for each in federation.sites:
        each.client.start_pulse("study")
        each.node.scheduler.stop()
    federation.admin.client.new_schedule("study", "d7")
    for schedule in ("h6", "h12"):
        federation.admin.client.new_schedule("study", schedule)
        for each in present:
            each.client.sync("study")
    assert [each.client.federation_info("study")["sync_sched"] for each in federation.sites] == ["h12", "h12", "m30"]
    away.client.sync("study")
    assert away.client.federation_info("study")["sync_sched"] == "h12"
    for each in federation.sites:
        (stored,) = [item for _, item in each.node.state.query("pulses")]
        assert b"h12" in stored.value
        assert b"m30" not in stored.value


def test_client_of_the_original_contract_works_unchanged(federate, site) -> None:
    """Old ciphers, old endpoint name, both reply keys: create, invite, join, info."""
    federation, peer = federate(1), site("peer")
    admin = Client(federation.admin.url, "org0", federation.admin.client.secret_key, v2=False)
    joiner = Client(peer.url, "peer", peer.client.secret_key, v2=False)
    reply = admin.request(
        "POST", "/fedml/study/getEncrypted", sealed={"passwd": "passwd", "fed_rest_host": federation.admin.url}
    )
    assert reply.values["fedInfoEncrypted"] == reply.values["encryptedGroupInfo"]
    invitation = Client.open_invitation(reply.values["fedInfoEncrypted"], "passwd")
    assert set(invitation) >= {
        "sync_sched",
        "fed_name",
        "fed_secret_key",
        "fed_req_token",
        "nats_hosts",
        "fed_rest_url",
    }
    joiner.join("study", invitation)
    assert joiner.federation_info("study")["fed_name"] == "study"


def test_nats_that_forgets_everything_is_filled_again(federate) -> None:
    """All streams deleted: the next pulses restore roster, heads and blobs, and newcomers still converge."""
    federation = federate(2)
    federation.learn(NAMES, "C" * 6, [rows(1), rows(2)])
    federation.sync()
    digest = federation.params("fed_digest")[0]

    async def wipe() -> None:
        client = await nats.connect(federation.nats_url, allow_reconnect=False)
        for kind in "HB":
            await client.jetstream().delete_stream(
                f"GRM_{federation.admin.client.federation_info('study')['fed_id']}_{kind}"
            )
        await client.close()

    asyncio.run(wipe())
    federation.sync()
    federation.assert_converged(120)
    assert federation.params("fed_digest")[0] == digest


def test_deleted_project_is_gone_with_all_its_data(federate) -> None:
    """Its name can be used again, and nothing of the old one shows."""
    federation = federate(1)
    client = federation.admin.client
    federation.learn(NAMES, "C" * 6, [rows(1)])
    federation.sync()
    client.build("study", "m", "x0")
    client.delete_project("study")
    assert client.projects() == []
    client.create_project("study")
    info = client.project_info("study")
    assert info["attributeNames"] == []
    assert info["modelsList"] == []


def test_encrypted_federation_shows_no_name_and_no_statistic_to_nats(federate, tmp_path: Path) -> None:
    """Every message of every stream is read: no attribute's name, no number of a snapshot, no login. A clear federation
    of the same rows, where all but the login is found, shows that this looks for the right thing."""
    login = {"nats_sec_user": "member", "nats_sec_passwd": secrets.token_hex(16)}
    accounts = f'authorization {{ user: member, password: "{login["nats_sec_passwd"]}" }}'
    with NatsServer.start(tmp_path / "nats", config=accounts, max_memory_bytes=2**28) as server:
        keys = {"nats_hosts": server.url, **login}
        clear = federate(2, pid="clear", **keys)
        sealed = dataclasses.replace(clear, pid="sealed", sites=[clear.admin])
        wanted = {"fed_name": "study", "sync_sched": "m30", **clear.meeting.keys, **keys}
        sealed.admin.client.create_federation("sealed", **wanted, fed_encrypt=True)
        sealed.join(clear.sites[1])
        found = {each.pid: streams_of(each, server.url, login) for each in (clear, sealed)}
    snapshots = [snapshot.decode(message) for message in found["clear"] if b'"__metadata__"' in message[:40]]
    assert len(snapshots) == 2
    numbers = {
        values[8 * i : 8 * i + 8]
        for moments in snapshots
        for values in (moments.s.tobytes(), moments.P.tobytes(), moments.t4.tobytes())
        for i in range(len(values) // 8)
    }
    assert len(numbers) > 2 * len(NAMES)
    assert {value for value in numbers if any(value in message for message in found["clear"])} == numbers
    assert any(b"hypertension" in message for message in found["clear"])
    for message in found["sealed"]:
        assert b"hypertension" not in message
        assert not any(value in message for value in numbers)
    for message in (*found["clear"], *found["sealed"]):
        assert login["nats_sec_passwd"].encode() not in message


def streams_of(federation: Any, url: str, login: dict[str, str]) -> list[bytes]:
    """Every message that a federation of two, which learns and syncs, leaves in NATS."""
    federation.learn([f"hypertension{i}" for i in range(6)], "C" * 6, [rows(1), rows(2)])
    federation.sync()
    federation.assert_converged(120)
    fed_id = federation.admin.client.federation_info(federation.pid)["fed_id"]

    async def messages() -> list[bytes]:
        user, password = login.values()
        client = await nats.connect(url, allow_reconnect=False, user=user, password=password)
        stream = client.jetstream()
        found = []
        for kind in "HB":
            state = (await stream.stream_info(f"GRM_{fed_id}_{kind}")).state
            for sequence in range(state.first_seq, state.last_seq + 1):
                with suppress(nats.js.errors.NotFoundError):
                    found.append((await stream.get_msg(f"GRM_{fed_id}_{kind}", sequence)).data or b"")
        await client.close()
        return found

    found = asyncio.run(messages())
    assert len(found) >= 5
    return found


def test_idempotent_learn_counts_once(site) -> None:
    """The same Idempotency-Key twice adds the rows once; without it they are added twice."""
    client = site("a").client
    client.create_project("p")
    for _ in range(2):
        client.learn("p", NAMES, "C" * 6, rows(1), idempotency_key="batch-1")
    assert client.project_info("p")["params"]["local_rows"] == "60"
    for _ in range(2):
        client.learn("p", NAMES, "C" * 6, rows(1))
    assert client.project_info("p")["params"]["local_rows"] == "180"
