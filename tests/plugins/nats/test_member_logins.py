"""Logins that members are given one by one when they join, so that an eviction can cut the line."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats
import nkeys
import pytest

from gramian.client import BadRequest
from gramian.errors import InvalidRequest, TransportRefused
from gramian.usecases.federation import invite, membership
from gramian.usecases.projects import lifecycle
from gramian_local.nats_server import NatsServer
from gramian_nats.transport import NatsTransport

StartServer = Callable[..., NatsServer]
ADMIN = {"nats_sec_user": "admin", "nats_sec_passwd": "correct-horse"}
PEER, OTHER, FED = "b2" * 16, "c3" * 16, "ab" * 16


def logins(count: int) -> list[dict[str, str]]:
    return [{"nats_sec_user": f"m{number}", "nats_sec_passwd": f"battery-staple-{number}"} for number in range(count)]


def server_config(*users: dict[str, str]) -> str:
    listed = ", ".join(f'{{ user: "{u["nats_sec_user"]}", password: "{u["nats_sec_passwd"]}" }}' for u in users)
    return f"authorization {{ users: [{listed}] }}"


def member_of(site: Any) -> membership.Member:
    return membership.of(site.node, lifecycle.find(site.node, site.name, "study"))


def options_of(site: Any) -> dict[str, str]:
    return member_of(site).transport_options()


def peer_id(site: Any) -> str:
    return site.client.federation_info("study")["local_uuid"]


def test_listed_logins_go_to_one_member_each_and_are_shown_nowhere(
    site: Callable[[str], Any], start_server: StartServer, assert_converged: Callable[..., None], tmp_path: Path
) -> None:
    """The invitation carries none; whoever is evicted is locked out by removing its own."""
    given = logins(2)
    (tmp_path / "users.conf").write_text(server_config(ADMIN, *given))
    server = start_server(config='include "../users.conf"')
    admin, *peers = sites = [site(name) for name in ("one", "two", "three")]
    admin.create(nats_hosts=server.url, **ADMIN, nats_member_creds=json.dumps(given))
    for peer in peers:
        invitation = admin.invite()
        assert invitation["nats_member_creds"] == "redemption"
        assert not [key for key in invitation if key.startswith("nats_sec_")]
        peer.client.join("study", invitation)
    for each, count in zip(sites, (20, 25, 30), strict=True):
        each.learn(count)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 75)
    assert [options_of(peer)["nats_sec_user"] for peer in peers] == ["m0", "m1"]
    assert [options_of(peer).get("nats_member_creds") for peer in peers] == [None, None]
    for each in sites:
        shown = json.dumps(each.client.federation_info("study")) + json.dumps(each.client.project_info("study"))
        assert "battery-staple" not in shown
        files = [path for path in (tmp_path / each.name).rglob("*") if path.is_file()]
        assert not [path for path in files if b"battery-staple" in path.read_bytes()]

    assert "NATS user 'm1'" in admin.client.evict("study", peer_id(peers[1]))
    (tmp_path / "users.conf").write_text(server_config(ADMIN, given[0]))
    server.restart()
    for each in sites[:2] * 2:
        each.client.sync("study")
    assert_converged(sites[:2], 45)
    with pytest.raises(BadRequest, match="refuses the login: check nats_sec_user"):
        peers[1].client.sync("study")


def test_list_that_is_used_up_refuses_the_next_joiner_and_keeps_its_invitation(
    site: Callable[[str], Any], start_server: StartServer
) -> None:
    """Both sides learn it in words, nobody gets another's login, and nothing is left behind."""
    server = start_server(config=server_config(ADMIN, *logins(1)))
    admin, peer, late = site("one"), site("two"), site("three")
    admin.create(nats_hosts=server.url, **ADMIN, nats_member_creds=json.dumps(logins(1)))
    peer.client.join("study", admin.invite())
    invitation = admin.invite()
    with pytest.raises(BadRequest, match="no login for another member; the invitation is still good"):
        late.client.join("study", invitation)
    assert late.client.projects() == []
    assert len(admin.client.federation_info("study")["peersInfo"]) == 2
    assert any("all 1 logins of nats_member_creds are given away" in line for line in admin.client.error_log("study"))


def test_members_that_join_at_once_get_different_logins(site: Callable[[str], Any], start_server: StartServer) -> None:
    """However their redemptions interleave at the admin."""
    server = start_server(config=server_config(ADMIN, *logins(6)))
    admin, peers = site("one"), [site(f"peer{number}") for number in range(6)]
    admin.create(nats_hosts=server.url, **ADMIN, nats_member_creds=json.dumps(logins(6)))
    invitations = [admin.invite() for _ in peers]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda pair: pair[0].client.join("study", pair[1]), zip(peers, invitations, strict=True)))
    assert sorted(options_of(peer)["nats_sec_user"] for peer in peers) == [f"m{number}" for number in range(6)]


def test_login_that_the_server_refuses_after_redemption_can_be_mended_and_the_join_repeated(
    site: Callable[[str], Any], start_server: StartServer, tmp_path: Path
) -> None:
    """A 400 that names the option, no project, and the same invitation works once the server knows the login."""
    (tmp_path / "users.conf").write_text(server_config(ADMIN))
    server = start_server(config='include "../users.conf"')
    admin, peer = site("one"), site("two")
    admin.create(nats_hosts=server.url, **ADMIN, nats_member_creds=json.dumps(logins(2)))
    invitation = admin.invite()
    for _ in range(2):
        with pytest.raises(BadRequest, match="refuses the login: check nats_sec_user"):
            peer.client.join("study", invitation)
    assert peer.client.projects() == []
    (tmp_path / "users.conf").write_text(server_config(ADMIN, *logins(2)))
    server.restart()
    peer.client.join("study", invitation)
    assert options_of(peer)["nats_sec_user"] == "m0"


def test_joiner_that_brings_a_login_where_one_is_given_is_told(
    site: Callable[[str], Any], start_server: StartServer
) -> None:
    """Before anything is redeemed."""
    server = start_server(config=server_config(ADMIN, *logins(1)))
    admin, peer = site("one"), site("two")
    admin.create(nats_hosts=server.url, **ADMIN, nats_member_creds=json.dumps(logins(1)))
    invitation = admin.invite()
    with pytest.raises(BadRequest, match="gives each member a login when it joins"):
        peer.client.join("study", invitation, **ADMIN)
    peer.client.join("study", invitation)


def test_answer_that_leads_a_joiners_own_login_elsewhere_is_refused(
    site: Callable[[str], Any], start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The invitation announced no login, so an answer that brings one, or another server, is not heeded."""
    server, elsewhere = (start_server(config=server_config(ADMIN, *logins(1))) for _ in range(2))
    admin, peer = site("one"), site("two")
    admin.create(nats_hosts=server.url, **ADMIN, nats_sec_shared="false")
    monkeypatch.setattr(invite.logins, "granted", lambda *_: {"nats_hosts": elsewhere.url})
    opened: list[str] = []
    connect = NatsTransport.open
    monkeypatch.setattr(
        NatsTransport, "open", lambda self, options: opened.append(options["nats_hosts"]) or connect(self, options)
    )
    with pytest.raises(BadRequest, match="did not announce"):
        peer.client.join("study", admin.invite(), **logins(1)[0])
    assert elsewhere.url not in opened
    assert peer.client.projects() == []


def signing_key() -> tuple[str, str]:
    """(seed, id) of a key that signs for an account besides its own."""
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    return seed, nkeys.from_seed(bytearray(seed.encode())).public_key.decode()


@pytest.mark.parametrize("key", ["the account's own", "a signing key"])
def test_signed_logins_work_until_they_are_revoked(
    site: Callable[[str], Any],
    start_server: StartServer,
    new_operator: Callable[[], Any],
    assert_converged: Callable[..., None],
    tmp_path: Path,
    key: str,
) -> None:
    """A user of the account for each member, which a server with a resolver accepts; evict's answer names whom to
    revoke."""
    operator = new_operator()
    seed, public = signing_key()
    own = key == "the account's own"
    trusted: dict[str, Any] = {} if own else {"signing_keys": [public]}
    (tmp_path / "operator.conf").write_text(operator.config(**trusted))
    server = start_server(config='include "../operator.conf"')
    admin, *peers = sites = [site(name) for name in ("one", "two", "three")]
    admin.create(
        nats_hosts=server.url,
        nats_sec_creds=operator.credentials(),
        nats_member_creds=operator.account_seed if own else f"{seed} {operator.account}",
    )
    for peer in peers:
        peer.client.join("study", admin.invite())
    for each, count in zip(sites, (20, 25, 30), strict=True):
        each.learn(count)
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 75)

    advice = admin.client.evict("study", peer_id(peers[1]))
    assert f"--account {operator.account} --user-public-key U" in advice
    found = re.search(r'add "(U[A-Z2-7]{55})": ([0-9]+) to "revocations"', advice)
    assert found is not None
    assert peers[1].client.sync_stats("study")["rcvError"] == 0
    (tmp_path / "operator.conf").write_text(operator.config(**trusted, revoked={found[1]: int(found[2])}))
    server.restart()
    for each in sites[:2] * 2:
        each.client.sync("study")
    assert_converged(sites[:2], 45)
    with pytest.raises(BadRequest, match="refuses the login: check nats_sec_creds"):
        peers[1].client.sync("study")


def test_pushed_revocation_cuts_the_line_of_the_evicted_alone(
    site: Callable[[str], Any],
    start_server: StartServer,
    new_operator: Callable[[], Any],
    assert_converged: Callable[..., None],
    tmp_path: Path,
) -> None:
    """As `nsc push` does it, to a server with a full resolver: at once, and without a restart."""
    operator = new_operator()
    server = start_server(config=operator.config(resolver=f'{{ type: full, dir: "{tmp_path / "jwt"}" }}'))
    admin, *peers = sites = [site(name) for name in ("one", "two", "three")]
    keys = {"nats_sec_creds": operator.credentials(), "nats_member_creds": operator.account_seed}
    admin.create(nats_hosts=server.url, **keys)
    for peer in peers:
        peer.client.join("study", admin.invite())
    for each, count in zip(sites, (20, 25, 30), strict=True):
        each.learn(count)
    for each in sites * 2:
        each.client.sync("study")
    lines = [membership.connect(each.node, member_of(each)) for each in peers]
    fed_id = member_of(admin).fed_id
    found = re.search(r'add "(U\w+)": ([0-9]+)', admin.client.evict("study", peer_id(peers[1])))
    assert found is not None
    push(server.url, operator.credentials(system=True), operator.account_jwt(revoked={found[1]: int(found[2])}))
    assert lines[0].cut(fed_id, []).roster is not None
    with pytest.raises(TransportRefused, match="check nats_sec_creds"):
        lines[1].cut(fed_id, [])
    for line in lines:
        line.close()
    for each in sites[:2] * 2:
        each.client.sync("study")
    assert_converged(sites[:2], 45)


def push(url: str, creds: str, jwt: str) -> None:
    async def send() -> dict[str, Any]:
        raw = nats.aio.client.RawCredentials(creds)
        client = await nats.connect(url, user_credentials=raw, allow_reconnect=False)
        reply = await client.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), timeout=5)
        await client.close()
        return json.loads(reply.data)

    assert asyncio.run(send())["data"]["code"] == 200


def test_signed_login_reaches_its_own_federation_and_writes_its_own_subjects_only(
    start_server: StartServer, new_operator: Callable[[], Any], transport: NatsTransport
) -> None:
    """Reading and nudging within the federation, its own head and blobs, and nothing besides."""
    operator = new_operator()
    server = start_server(config=operator.config())
    options = {
        "nats_hosts": server.url,
        "nats_sec_creds": operator.credentials(),
        "nats_member_creds": operator.account_seed,
    }
    admin = transport.open(options)
    others = "cd" * 16
    for fed_id in (FED, others):
        admin.create(fed_id, max_blob_bytes=2**22)
        admin.put_roster(fed_id, b"roster", expect=None)
        admin.put_head(fed_id, OTHER, b"theirs", expect=None)
    granted = dict(transport.member_options(options, FED, PEER, []))
    link = transport.open({"nats_hosts": server.url, **granted})
    assert link.cut(FED, [OTHER]).heads[OTHER].data == b"theirs"
    revision = link.put_head(FED, PEER, b"head", expect=None)
    link.put_head(FED, PEER, b"next", expect=revision)
    link.put_blob(FED, PEER, "01", [b"one", b"two"])
    assert link.missing_chunks(FED, PEER, "01", 3) == [2]
    link.free_blob(FED, PEER, "01", 2)
    heard: list[bytes] = []
    stop = link.listen(FED, PEER, heard.append)
    link.nudge(FED, b"news")
    stop()
    forbidden: list[Callable[[], object]] = [
        lambda: link.cut(others, [OTHER]),
        lambda: link.put_roster(FED, b"mine", expect="1"),
        lambda: link.put_head(FED, OTHER, b"forged", expect=None),
        lambda: link.put_blob(FED, OTHER, "01", [b"x"]),
        lambda: link.destroy(FED),
        lambda: link.create("ef" * 16, max_blob_bytes=2**22),
        lambda: link.nudge(others, b"news"),
    ]
    for attempt in forbidden:
        with pytest.raises(TransportRefused):
            attempt()
    assert admin.cut(FED, [OTHER]).heads[OTHER].data == b"theirs"
    for each in (link, admin):
        each.close()
    _assert_hears_nobody_elses_answers(server.url, granted["nats_sec_creds"])


def _assert_hears_nobody_elses_answers(url: str, creds: str) -> None:
    async def listen() -> list[Exception]:
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        raw = nats.aio.client.RawCredentials(creds)
        client = await nats.connect(url, user_credentials=raw, allow_reconnect=False, error_cb=note)
        await client.subscribe("_INBOX.>")
        await client.flush()
        await asyncio.sleep(0.1)
        await client.close()
        return errors

    assert any("permissions violation" in str(error).lower() for error in asyncio.run(listen()))


def claims(creds: str) -> dict[str, Any]:
    body = creds.splitlines()[1].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_signed_login_names_its_member_and_its_account(new_operator: Callable[[], Any]) -> None:
    """So that an operator who looks at it knows whose it is; two members never share one."""
    operator = new_operator()
    seed, public = signing_key()
    options = {"nats_hosts": "a", "nats_member_creds": f"{seed}\n{operator.account}\n"}
    transport = NatsTransport()
    first, second = (
        claims(transport.member_options(options, FED, peer, [])["nats_sec_creds"]) for peer in (PEER, OTHER)
    )
    assert (first["name"], first["iss"], first["nats"]["issuer_account"]) == (f"grm_{PEER}", public, operator.account)
    assert first["sub"] != second["sub"]
    assert not [subject for subject in first["nats"]["pub"]["allow"] if OTHER in subject or ">" in subject]


SEED = signing_key()[0]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "[" * 5000,
        '["SUAsecret"]',
        '[{"nats_sec_user": "secret"}]',
        '[{"nats_sec_token": ""}]',
        '[{"nats_sec_token": "secret"}, {"nats_sec_token": "secret"}]',
        '[{"nats_sec_token": "secret", "nats_sec_user": "u", "nats_sec_passwd": "p"}]',
        '[{"nats_sec_token": "secret", "nats_hosts": "evil"}]',
        '[{"nats_sec_nkey_seed": "SUAsecret"}]',
        '[{"nats_sec_creds": "secret"}]',
        '[{"nats_sec_token": "secret\\n"}]',
        SEED[:-1] + ("A" if SEED[-1] != "A" else "B"),
        f"{SEED} secret",
        nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode(),
        nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_OPERATOR).decode(),
    ],
)
def test_member_logins_that_cannot_work_are_refused_without_being_shown(text: str) -> None:
    """In words that name the option and the forms that it has."""
    with pytest.raises(InvalidRequest, match=r"nats_member_creds|nats_sec_") as caught:
        NatsTransport().check_options({"nats_hosts": "a", "nats_member_creds": text})
    assert "secret" not in str(caught.value)
    assert text.split()[0] not in str(caught.value) or len(text) < 3


def test_lock_out_says_what_fits_the_login() -> None:
    """What was granted, else what the members share."""
    transport, hosts = NatsTransport(), {"nats_hosts": "a"}
    cases: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({}, {"nats_sec_token": "secret"}, "remove the NATS token"),
        (
            {},
            {"nats_sec_nkey_seed": nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_USER).decode()},
            "remove the NATS user U",
        ),
        ({}, {}, "lets everybody in"),
        ({"nats_sec_token": "secret"}, {}, "share one NATS login"),
        ({"nats_sec_token": "secret", "nats_sec_shared": "false"}, {}, "remove its NATS login"),
    ]
    for options, granted, words in cases:
        text = transport.lock_out({**hosts, **options}, granted)
        assert words in text
        assert "secret" not in text
