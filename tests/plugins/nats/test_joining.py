"""Federations over servers that enforce a login or TLS: what create and join say, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import pytest

from gramian.client import BadRequest
from gramian.usecases.federation import membership
from gramian.usecases.federation.found import FOUNDINGS
from gramian_local.nats_server import NatsServer

StartServer = Callable[..., NatsServer]


@dataclass(frozen=True)
class Way:
    """A server that wants something. `wrong`: the same keys with values that it refuses. `named`: what a refusal says.
    `carried`: whether an invitation brings the joiner what it needs."""

    config: str
    right: dict[str, str]
    wrong: dict[str, str]
    named: str
    scheme: str = "nats"
    port: int = 0
    carried: bool = True


def by_password(*_: Any) -> Way:
    return Way(
        'authorization { user: "alice", password: "correct-horse" }',
        {"nats_sec_user": "alice", "nats_sec_passwd": "correct-horse"},
        {"nats_sec_user": "alice", "nats_sec_passwd": "battery-staple"},
        "nats_sec_user and nats_sec_passwd",
    )


def by_token(*_: Any) -> Way:
    return Way(
        'authorization { token: "correct-horse" }',
        {"nats_sec_token": "correct-horse"},
        {"nats_sec_token": "battery-staple"},
        "nats_sec_token",
    )


def by_nkey(*_: Any) -> Way:
    seeds = [nkeys.encode_seed(bytes([value]) * 32, nkeys.PREFIX_BYTE_USER).decode() for value in (7, 8)]
    public = nkeys.from_seed(bytearray(seeds[0].encode())).public_key.decode()
    config = f"authorization {{ users: [ {{ nkey: {public} }} ] }}"
    return Way(config, {"nats_sec_nkey_seed": seeds[0]}, {"nats_sec_nkey_seed": seeds[1]}, "nats_sec_nkey_seed")


def by_credentials(request: pytest.FixtureRequest) -> Way:
    new_operator = request.getfixturevalue("new_operator")
    operator, other = new_operator(), new_operator()
    right, wrong = operator.credentials(), other.credentials()
    return Way(operator.config(), {"nats_sec_creds": right}, {"nats_sec_creds": wrong}, "nats_sec_creds")


def over_tls(request: pytest.FixtureRequest) -> Way:
    authority, other = (request.getfixturevalue("new_authority")() for _ in range(2))
    block = authority.server_config(request.getfixturevalue("tmp_path"), "localhost")
    return Way(
        f"tls {{ {block} }}", {"nats_tls_ca": authority.pem}, {"nats_tls_ca": other.pem}, "nats_tls_ca", scheme="tls"
    )


def by_certificate(request: pytest.FixtureRequest) -> Way:
    authority, other = (request.getfixturevalue("new_authority")() for _ in range(2))
    block = authority.server_config(request.getfixturevalue("tmp_path"), "localhost", verify=authority.pem)
    keys = ("nats_tls_cert", "nats_tls_key")
    right, wrong = (dict(zip(keys, each.issue("node"), strict=True)) for each in (authority, other))
    ca = {"nats_tls_ca": authority.pem}
    named = "nats_tls_cert and nats_tls_key"
    return Way(f"tls {{ {block} }}", ca | right, ca | wrong, named, scheme="tls", carried=False)


def over_websocket(request: pytest.FixtureRequest) -> Way:
    authority, other = (request.getfixturevalue("new_authority")() for _ in range(2))
    block = authority.server_config(request.getfixturevalue("tmp_path"), "localhost")
    port = request.getfixturevalue("free_port")()
    config = f"websocket {{ host: 127.0.0.1, port: {port}, tls {{ {block} }} }}"
    right, wrong = {"nats_tls_ca": authority.pem}, {"nats_tls_ca": other.pem}
    return Way(config, right, wrong, "nats_tls_ca", scheme="wss", port=port)


WAYS = [by_password, by_token, by_nkey, by_credentials, over_tls, by_certificate, over_websocket]


@pytest.mark.parametrize("make", WAYS)
def test_federation_over_a_server_that_enforces_something(
    site: Callable[[str], Any],
    start_server: StartServer,
    assert_converged: Callable[..., None],
    request: pytest.FixtureRequest,
    make: Callable[..., Way],
) -> None:
    """Missing or wrong at create and at join: a 400 that names the option, and nothing is left behind; right: it works.

    The invitation of a refused join stays good.
    """
    way = make(request)
    server = start_server(config=way.config)
    hosts = f"{way.scheme}://localhost:{way.port or server.port}"
    admin, peer = site("admin"), site("peer")
    missing = {key: value for key, value in way.right.items() if not way.carried and key == "nats_tls_ca"}
    for login in (missing, way.wrong):
        with pytest.raises(BadRequest, match=way.named):
            admin.create(nats_hosts=hosts, **login)
        assert admin.client.projects() == []
        assert admin.node.state.query(FOUNDINGS) == []
    admin.create(nats_hosts=hosts, **way.right)

    invitation = admin.invite()
    own = {} if way.carried else {key: value for key, value in way.right.items() if key not in invitation}
    assert set(own) == (set() if way.carried else {"nats_tls_cert", "nats_tls_key"})
    without = {key: value for key, value in invitation.items() if key not in way.right or key in missing}
    for refused in (without, {**invitation, **way.wrong}):
        with pytest.raises(BadRequest, match=way.named):
            peer.client.join("study", refused)
        assert peer.client.projects() == []
    peer.client.join("study", invitation, **own)

    sites = [admin, peer]
    for each in sites:
        each.learn(20)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 40)
    for each in sites:
        assert_no_secret_is_shown(each, way)


def assert_no_secret_is_shown(site: Any, way: Way) -> None:
    """Neither what the API tells nor what stands unsealed in the store holds a credential."""
    secret_keys = site.node.transport("nats").secret_options
    secrets = [value.strip() for key, value in way.right.items() if key in secret_keys]
    told = json.dumps([site.client.federation_info("study"), site.client.sync_stats("study")])
    record = membership.load(site.node, site.name, "study").record
    for secret in secrets:
        assert json.dumps(secret)[1:-1] not in told
        assert secret not in record.options.values()


def test_create_refused_by_permissions_keeps_the_reason(site: Callable[[str], Any], start_server: StartServer) -> None:
    """Undoing may be refused too; the text is about what was asked for."""
    config = """authorization { users: [
        { user: "alice", password: "p", permissions: { publish: ["grm.>"], subscribe: ["_INBOX.>"] } } ] }"""
    admin = site("admin")
    with pytest.raises(BadRequest, match=r"does not let this login do that .*stream\.create"):
        admin.create(nats_hosts=start_server(config=config).url, nats_sec_user="alice", nats_sec_passwd="p")
    assert admin.client.projects() == []


def test_create_without_jetstream_leaves_nothing(site: Callable[[str], Any], start_server: StartServer) -> None:
    """An account that may hold no streams: the text says so, and there is nothing to undo."""
    config = 'accounts { A: { users: [ { user: "alice", password: "p" } ] } }'
    admin = site("admin")
    with pytest.raises(BadRequest, match="JetStream disabled"):
        admin.create(nats_hosts=start_server(config=config).url, nats_sec_user="alice", nats_sec_passwd="p")
    assert admin.client.projects() == []
    assert admin.node.state.query(FOUNDINGS) == []


def test_create_with_more_replicas_than_servers_is_refused(site: Callable[[str], Any], nats_server: NatsServer) -> None:
    """The text names the option to lower."""
    admin = site("admin")
    with pytest.raises(BadRequest, match="lower nats_stream_replicas"):
        admin.create(nats_hosts=nats_server.url, nats_stream_replicas=3)
    assert admin.client.projects() == []


def test_login_that_stops_working_is_one_line_until_it_works_again(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None], tmp_path: Path
) -> None:
    """However many pulses fail meanwhile; then the very next pulse is as before, without anybody's help."""
    passwords = tmp_path / "passwords.conf"
    passwords.write_text('authorization { user: "alice", password: "first" }')
    server = start_server(config='include "../passwords.conf"')
    admin, peer = site("admin"), site("peer")
    admin.create(nats_hosts=server.url, nats_sec_user="alice", nats_sec_passwd="first")
    peer.client.join("study", admin.invite())
    admin.learn(20)
    admin.client.sync("study")
    passwords.write_text('authorization { user: "alice", password: "second" }')
    server.restart()
    for _ in range(3):
        for each in (admin, peer):
            with pytest.raises(BadRequest, match="check nats_sec_user and nats_sec_passwd"):
                each.client.sync("study")
    for each in (admin, peer):
        refusals = [line for line in each.client.error_log("study") if "refuses the login" in line]
        assert len(refusals) == 1
        assert "3 times" in refusals[0]
    passwords.write_text('authorization { user: "alice", password: "first" }')
    server.restart()
    peer.learn(20)
    for each in (admin, peer) * 2:
        each.client.sync("study")
    assert_converged([admin, peer], 40)
    passwords.write_text('authorization { user: "alice", password: "third" }')
    server.restart()
    for _ in range(2):
        with pytest.raises(BadRequest, match="check nats_sec_user"):
            admin.client.sync("study")
    first, again, second = [line.partition(" ")[2] for line in admin.client.error_log("study")]
    assert "3 times" in first
    assert again.startswith("pulses work again, which failed for: NATS at")
    assert "2 times" in second
