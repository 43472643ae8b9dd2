"""What cannot work is refused at create and join, in words that help, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import nats
import pytest

from gramian.client import AuthenticationFailed, BadRequest, Client, ConflictError, NotFoundError


def streams(url: str) -> set[str]:
    """Names of all streams on the server."""

    async def ask() -> set[str]:
        client = await nats.connect(url, allow_reconnect=False)
        try:
            return {info.config.name or "" for info in await client.jetstream().streams_info()}
        finally:
            await client.close()

    return asyncio.run(ask())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"fed_name": ""}, "fed_name is needed"),
        ({"fed_name": "x" * 257}, "fed_name is needed"),
        ({"sync_sched": "5m"}, "sync_sched"),
        ({"sync_sched": "m0"}, "sync_sched"),
        ({"sync_sched": "d99999"}, "sync_sched"),
        ({"sync_sched": ""}, "sync_sched"),
        ({"nats_hosts": ""}, "nats_hosts"),
        ({"nats_hosts": "http://localhost:4222"}, "nats_hosts"),
        ({"nats_hosts": "nats://169.254.169.254:4222"}, "nats_hosts"),
        ({"fed_local_type": "tpu"}, "fed_local_type must be cpu or gpu"),
        ({"fed_local_type": "gpu"}, "this node has no GPU, neither a queue"),
        ({"fed_encrypt": "perhaps"}, "fed_encrypt must be true or false"),
        ({"fed_use_smpc": "true"}, "fed_use_smpc=true is not available yet"),
        ({"fed_use_smpc": True}, "fed_use_smpc=true is not available yet"),
        ({"fed_enforce_hipaa_compliance": "True"}, "fed_enforce_hipaa_compliance=true is not available yet"),
        ({"fed_psr_contract_snd_fail_action": "fed_psr_contract_snd_fail_action_block"}, "contracts are not available"),
        ({"nats_req_timeout": "soon"}, "nats_req_timeout"),
        ({"nats_req_timeout": "-1"}, "nats_req_timeout"),
        ({"nats_stream_max_memory": "lots"}, "nats_stream_max_memory"),
        ({"nats_sec_user": "u"}, "nats_sec_passwd"),
        ({"nats_sec_nkey_seed": "SUnonsense"}, "nats_sec_nkey_seed"),
    ],
)
def test_create_with_a_value_that_cannot_work_is_refused(site, nats_server, keys: dict[str, Any], words: str) -> None:
    """A 400 that names the key; no project, no stream."""
    client, before = site("a").client, streams(nats_server.url)
    wanted = {"fed_name": "f", "sync_sched": "m1", "nats_hosts": nats_server.url, **keys}
    with pytest.raises(BadRequest, match=words):
        client.create_federation("p", **wanted)
    assert client.projects() == []
    assert streams(nats_server.url) == before


def test_create_without_reachable_nats_is_refused(site) -> None:
    """The text says which address did not answer."""
    client, port = site("a").client, free_port()
    with pytest.raises(BadRequest, match=rf"127\.0\.0\.1:{port}"):
        client.create_federation(
            "p", fed_name="f", sync_sched="m1", nats_hosts=f"nats://127.0.0.1:{port}", nats_req_timeout=2
        )
    assert client.projects() == []


def test_create_with_more_stream_memory_than_the_server_grants_is_refused(site, nats_server) -> None:
    """Too much is refused by the server, and the text names the key."""
    client, before = site("a").client, streams(nats_server.url)
    with pytest.raises(BadRequest, match="nats_stream_max_memory"):
        client.create_federation(
            "p", fed_name="f", sync_sched="m1", nats_hosts=nats_server.url, nats_stream_max_memory=2**39
        )
    assert client.projects() == []
    assert streams(nats_server.url) == before


def test_create_accepts_what_is_off_and_what_is_unknown(site, nats_server) -> None:
    """Absent or false is off; unknown keys are accepted; several hosts may be given."""
    client = site("a").client
    client.create_federation(
        "p",
        fed_name="f",
        sync_sched="H3",
        nats_hosts=f"{nats_server.url},nats://127.0.0.1:{free_port()}",
        fed_use_smpc="false",
        fed_enforce_hipaa_compliance=False,
        fed_local_type="cpu",
        some_future_key="x",
        nats_req_timeout=5,
        nats_stream_max_memory=2**24,
    )
    info = client.federation_info("p")
    assert info["sync_sched"] == "h3"
    assert info["fed_name"] == "f"
    assert info["fed_enforce_hipaa_compliance"] == "false"


def test_create_of_a_taken_project_is_a_conflict_and_leaves_the_project_alone(site, nats_server) -> None:
    """409 with the contract's text; no streams of the second try remain."""
    client = site("a").client
    client.create_project("p")
    before = streams(nats_server.url)
    with pytest.raises(ConflictError, match=r"already have SYMETRYML with id\[p\]"):
        client.create_federation("p", fed_name="f", sync_sched="m1", nats_hosts=nats_server.url)
    assert streams(nats_server.url) == before
    assert "fed_digest" not in client.project_info("p")["params"]


def test_invitation_is_good_for_one_peer_only(federate, site) -> None:
    """The second to come is refused and has nothing; the same peer cannot join twice either."""
    federation = federate(1)
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    first, second = site("first"), site("second")
    first.client.join("study", invitation)
    with pytest.raises(BadRequest, match="has been used"):
        second.client.join("study", invitation)
    assert second.client.projects() == []
    with pytest.raises(ConflictError):
        first.client.join("study", invitation)
    federation.sites += [first]
    federation.sync(1)
    assert len(federation.admin.client.federation_info("study")["peersInfo"]) == 2


def test_failed_join_does_not_burn_the_invitation(federate, site) -> None:
    """Unreachable NATS at the joiner, then a wrong value: the same invitation works afterwards."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    broken = {**invitation, "nats_hosts": f"nats://127.0.0.1:{free_port()}", "nats_req_timeout": "2"}
    with pytest.raises(BadRequest, match="cannot be reached"):
        peer.client.join("study", broken)
    with pytest.raises(BadRequest, match="GPU"):
        peer.client.join("study", invitation, fed_local_type="gpu")
    assert peer.client.projects() == []
    peer.client.join("study", invitation)
    assert peer.client.projects() == ["study"]


def test_expired_invitation_is_refused(federate, site) -> None:
    """Two hours by default; here a fraction of a second."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url, lifetime_hours=1e-9)
    import time

    time.sleep(1.1)
    with pytest.raises(BadRequest, match="expired"):
        peer.client.join("study", invitation)


@pytest.mark.parametrize("hours", [0, -1, 169, "nan", "soon"])
def test_invitation_lifetime_out_of_range_is_refused(federate, hours: Any) -> None:
    """At most a week."""
    federation = federate(1)
    with pytest.raises(BadRequest, match="fed_token_lifetime_hours"):
        federation.admin.client.invite("study", "password", federation.admin.url, lifetime_hours=hours)


def test_guessed_or_altered_invitation_gets_one_and_the_same_text(federate, site) -> None:
    """Whoever does not hold the invitation learns nothing about it."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    texts = set()
    for change in (
        {"fed_req_token": "FEDTOKEN" + "0" * 32},
        {"fed_secret_key": "A" * 43 + "="},
        {"fed_rest_url": invitation["fed_rest_url"].replace("study", "other")},
        {"fed_rest_url": invitation["fed_rest_url"].replace("org0", "nobody")},
    ):
        with pytest.raises(BadRequest) as refused:
            peer.client.join("study", {**invitation, **change})
        texts.add(refused.value.text)
    assert len(texts) == 1
    peer.client.join("study", invitation)


def test_many_failed_redemptions_are_throttled_and_honest_ones_work_later(federate, site) -> None:
    """Ten failures a minute and address."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    for _ in range(11):
        with pytest.raises(BadRequest):
            peer.client.join("study", {**invitation, "fed_req_token": "FEDTOKEN" + "0" * 32})
    with pytest.raises(BadRequest):
        peer.client.join("study", invitation)
    assert peer.client.projects() == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/symetry/rest/a/fedml/p/createPolicies",
        "http://[fe80::1]:80/symetry/rest/a/fedml/p/createPolicies",
        "http://[::ffff:169.254.169.254]/symetry/rest/a/fedml/p/createPolicies",
        "file:///symetry/rest/a/fedml/p/createPolicies",
    ],
)
def test_join_never_calls_metadata_addresses(federate, site, url: str) -> None:
    """The server is no proxy."""
    federation, peer = federate(1), site("peer")
    invitation = federation.admin.client.invite("study", "password", federation.admin.url)
    with pytest.raises(BadRequest, match=r"metadata|http or https|fed_rest_url"):
        peer.client.join("study", {**invitation, "fed_rest_url": url})


def test_members_cannot_do_what_only_the_admin_may(federate) -> None:
    """Inviting and changing the schedule."""
    federation = federate(2)
    member = federation.sites[1].client
    with pytest.raises(BadRequest, match="only the federation's admin"):
        member.invite("study", "password", federation.admin.url)
    with pytest.raises(BadRequest, match="only the federation's admin"):
        member.new_schedule("study", "m5")


def test_plain_project_is_told_that_it_is_not_federated(site) -> None:
    """Federation calls on a plain project."""
    client = site("a").client
    client.create_project("p")
    with pytest.raises(BadRequest, match="not federated"):
        client.start_pulse("p")
    with pytest.raises(BadRequest, match=r"Cannot Find SYMETRYML id\[q\] for Customer id \[a\]"):
        client.sync("q")


def test_user_reaches_no_project_of_another(site) -> None:
    """Every look-up is keyed by the authenticated customer id."""
    from gramian.usecases import users

    here = site("a")
    other = Client(here.url, "b", users.create(here.node, "b"))
    here.client.create_project("p")
    assert other.projects() == []
    with pytest.raises(BadRequest):
        other.project_info("p")
    with pytest.raises(BadRequest):
        other.delete_project("p")
    thief = Client(here.url, "a", "AAAAAAAAAAAAAAAAAAAAAA==")
    with pytest.raises(AuthenticationFailed):
        thief.projects()


def test_endpoints_of_the_contract_that_do_not_exist_yet_say_so(site) -> None:
    """404 with the envelope and a text."""
    client = site("a").client
    client.create_project("p")
    with pytest.raises(NotFoundError, match="not available yet"):
        client.request("POST", "/projects/p/explore", {"metric": "uni"})
    with pytest.raises(NotFoundError, match="no such endpoint"):
        client.request("GET", "/projects/p/nonsense")
