"""Servers that run with exactly what `gramian nats permissions` prints: the federation works, and what is beyond it
or somebody else's stays out of reach, whatever a member sends."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from click.testing import CliRunner
from nats.aio.client import Client as NatsClient

from gramian.client import BadRequest
from gramian.errors import ContentMissing, InvalidRequest, TransportError, TransportFull, TransportRefused
from gramian_local.cli.main import cli
from gramian_local.nats_server import NatsServer
from gramian_nats.transport import NatsTransport

StartServer = Callable[..., NatsServer]

B, C = "b1" * 16, "c2" * 16
PASSWORD = "correct-horse"


def printed(fed_id: str, *options: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(cli, ["nats", "permissions", "--fed", fed_id, *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def server_config(*accounts: str) -> str:
    """The texts in their place, and the same password for every login."""
    variables = sorted(set(re.findall(r"\$(PASSWORD_\w+)", "".join(accounts))))
    passwords = "\n".join(f'{name} = "{PASSWORD}"' for name in variables)
    return f"{passwords}\naccounts {{\n{''.join(accounts)}\n}}"


def login(user: str) -> dict[str, str]:
    return {"nats_sec_user": user, "nats_sec_passwd": PASSWORD}


@pytest.fixture
def opened(transport: NatsTransport) -> Callable[..., Any]:
    """A link under a login."""
    return lambda server, user: transport.open({"nats_hosts": server.url, "nats_req_timeout": "5", **login(user)})


def as_user(server: NatsServer, user: str, work: Callable[[NatsClient], Awaitable[None]]) -> None:
    """Raw NATS under a login; what the server forbids is not noticed."""

    async def run() -> None:
        async def ignore(_: Exception) -> None: ...

        client = await nats.connect(
            server.url,
            user=user,
            password=PASSWORD,
            allow_reconnect=False,
            error_cb=ignore,
            inbox_prefix=f"_INBOX.{user}",
        )
        try:
            await work(client)
            await client.flush()
            await asyncio.sleep(0.3)
        finally:
            await client.close()

    asyncio.run(run())


def everything_a_member_can_send(fed_id: str, own: str, victim: str, replies: Sequence[str]) -> list[tuple[str, str]]:
    """(subject, reply subject) of every kind of message that might reach another's head, roster or stream."""
    streams = [f"GRM_{fed_id}_{letter}" for letter in "HB"]
    api = ["STREAM.PURGE", "STREAM.DELETE", "STREAM.UPDATE", "STREAM.CREATE", "STREAM.MSG.DELETE", "STREAM.INFO"]
    api += ["STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE", "STREAM.MSG.GET"]
    api += ["CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.MSG.NEXT", "DIRECT.GET"]
    subjects = [f"$JS.API.{verb}.{stream}" for verb in api for stream in streams]
    subjects += [f"$JS.API.DIRECT.GET.GRM_{fed_id}_H.grm.{fed_id}.h.{own}", "$JS.API.INFO", "$JS.API.STREAM.LIST"]
    subjects += [f"$JS.API.CONSUMER.CREATE.GRM_{fed_id}_H.c.grm.{fed_id}.h.*", "$JS.API.META.LEADER.STEPDOWN"]
    subjects += [f"grm.{fed_id}.h.{own}", f"grm.{fed_id}.b.{own}.01.0", f"grm.{fed_id}.n", f"grm.{fed_id}.info"]
    subjects += [f"grm.{fed_id}.h.{victim}", f"grm.{fed_id}.r", f"grm.{fed_id}.b.{victim}.01.0"]
    return [(subject, reply) for subject in subjects for reply in replies]


BODIES = (
    b"",
    b"junk",
    json.dumps({"multi_last": ["grm.>"], "batch": 100}).encode(),
    json.dumps({"last_by_subj": "grm.>"}).encode(),
    json.dumps({"seq": 1}).encode(),
)
HEADERS: tuple[dict[str, str] | None, ...] = (
    None,
    {"Nats-Rollup": "all"},
    {"Nats-Rollup": "sub"},
    {"Nats-TTL": "1s"},
    {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "VICTIM"},
)


LAST = b"the attack went through to its end"


def attack(server: NatsServer, user: str, fed_id: str, own: str, victim: str) -> None:
    """Send everything, with everybody's subjects as reply subjects."""
    targets = [f"grm.{fed_id}.h.{victim}", f"grm.{fed_id}.r", f"grm.{fed_id}.b.{victim}.01.0"]
    targets += [f"$JS.API.STREAM.DELETE.GRM_{fed_id}_H", f"$JS.API.STREAM.PURGE.GRM_{fed_id}_B", ""]

    async def send(client: NatsClient) -> None:
        for subject, reply in everything_a_member_can_send(fed_id, own, victim, targets):
            for body in BODIES:
                for header in HEADERS:
                    headers = header and {key: value.replace("VICTIM", targets[0]) for key, value in header.items()}
                    await client.publish(subject, body, reply=reply, headers=headers)
        for stream in (f"GRM_{fed_id}_H", f"GRM_{fed_id}_B"):
            config = {"name": stream, "subjects": [f"grm.{fed_id}.h.*"], "republish": {"src": ">", "dest": targets[0]}}
            for verb in ("CREATE", "UPDATE"):
                await client.publish(f"$JS.API.STREAM.{verb}.{stream}", json.dumps(config).encode())
        await client.publish(f"grm.{fed_id}.h.{own}", LAST)

    as_user(server, user, send)


def place(link: Any, fed_id: str, peers: Sequence[str]) -> tuple[Any, ...]:
    """All that others could have changed."""
    cut = link.cut(fed_id, peers)
    blobs = [link.get_blob(fed_id, peer, "01", 1, max_bytes=100) for peer in peers]
    return cut.roster, dict(cut.heads), blobs


def test_isolated_member_reaches_nothing_of_others(
    start_server: StartServer, opened: Callable[..., Any], fed_id: str
) -> None:
    """Not their heads, blobs or the roster, by no API call, header or reply subject; streams stay as they were."""
    server = start_server(
        config=server_config(printed(fed_id, "--account", "--name", "study", "--peer", f"b={B}", "--peer", f"c={C}"))
    )
    admin, victim = opened(server, "study_admin"), opened(server, "c")
    admin.create(fed_id, max_blob_bytes=2**22)
    admin.put_roster(fed_id, b"roster", expect=None)
    victim.put_head(fed_id, C, b"genuine", expect=None)
    victim.put_blob(fed_id, C, "01", [b"genuine"])
    before = place(victim, fed_id, [C])
    attack(server, "b", fed_id, B, C)
    assert place(victim, fed_id, [C]) == before
    admin.create(fed_id, max_blob_bytes=2**22)  # would refuse streams that somebody changed
    assert opened(server, "b").cut(fed_id, [B]).heads[B].data == LAST


@pytest.mark.slow
def test_isolated_member_reaches_nothing_of_others_in_a_cluster(
    start_cluster: Callable[..., list[NatsServer]], opened: Callable[..., Any], fed_id: str
) -> None:
    """Nor where requests and answers go over routes: from every server, with others connected to every server."""
    text = printed(fed_id, "--account", "--name", "study", "--peer", f"b={B}", "--peer", f"c={C}")
    servers = start_cluster(server_config(text))
    admin = opened(servers[0], "study_admin")
    for _ in range(100):
        with suppress(TransportError):
            admin.create(fed_id, max_blob_bytes=2**22, replicas=3)
            break
        time.sleep(0.2)
    admin.put_roster(fed_id, b"roster", expect=None)
    victims = [opened(server, "c") for server in servers]
    for victim in victims:
        victim.listen(fed_id, C, lambda _: None)
    victims[0].put_head(fed_id, C, b"genuine", expect=None)
    victims[0].put_blob(fed_id, C, "01", [b"genuine"])
    before = place(victims[0], fed_id, [C])
    for server in servers:
        attack(server, "b", fed_id, B, C)
        assert [place(victim, fed_id, [C]) for victim in victims] == [before] * 3
        assert opened(server, "b").cut(fed_id, [B]).heads[B].data == LAST


def test_shared_login_can_be_abused_by_the_same_means(
    start_server: StartServer, opened: Callable[..., Any], fed_id: str
) -> None:
    """What is tried above is not harmless: where all use one account, a reply subject even deletes the streams.

    (Nodes make them anew. For members that don't trust each other this far, there is the isolated form.)
    """
    server = start_server(config=server_config(printed(fed_id, "--name", "study")))
    victim = opened(server, "study_member")
    victim.create(fed_id, max_blob_bytes=2**22)
    victim.put_head(fed_id, C, b"genuine", expect=None)
    attack(server, "study_member", fed_id, B, C)
    try:
        heads = victim.cut(fed_id, [C]).heads
    except ContentMissing:
        return
    assert C not in heads or heads[C].data != b"genuine"


def test_room_that_an_isolated_member_fills_is_freed_by_the_admin(
    start_server: StartServer, opened: Callable[..., Any], fed_id: str
) -> None:
    """No permission divides the room, so others wait for that; what they have published stays."""
    server = start_server(
        config=server_config(printed(fed_id, "--account", "--name", "study", "--peer", f"b={B}", "--peer", f"c={C}"))
    )
    admin, filler, victim = (opened(server, user) for user in ("study_admin", "b", "c"))
    admin.create(fed_id, max_blob_bytes=2**24)
    victim.put_blob(fed_id, C, "01", [b"mine"])
    with pytest.raises(TransportFull):
        filler.put_blob(fed_id, B, "01", [bytes(filler.chunk_bytes)] * 20)
    with pytest.raises(TransportFull):
        victim.put_blob(fed_id, C, "02", [bytes(victim.chunk_bytes)])
    admin.free_peer(fed_id, B)
    victim.put_blob(fed_id, C, "02", [bytes(victim.chunk_bytes)])
    assert victim.get_blob(fed_id, C, "01", 1, max_bytes=100) == [b"mine"]


def test_isolated_member_cannot_answer_others(
    start_server: StartServer, opened: Callable[..., Any], fed_id: str
) -> None:
    """It does not see where others await answers: the server would send there whatever it asks for."""
    server = start_server(config=server_config(printed(fed_id, "--account", "--peer", f"b={B}", "--peer", f"c={C}")))
    opened(server, f"GRM_{fed_id}_admin").create(fed_id, max_blob_bytes=2**22)
    victim, seen = opened(server, "c"), []

    async def spy(client: NatsClient) -> None:
        async def note(message: Any) -> None:
            seen.append(message.subject)

        for subject in (">", "_INBOX.>", "_INBOX.c.>", "_R_.>", f"grm.{fed_id}.h.*"):
            await client.subscribe(subject, cb=note)
        await client.flush()
        await asyncio.to_thread(victim.put_head, fed_id, C, b"head", expect=None)
        await asyncio.to_thread(victim.cut, fed_id, [C])

    as_user(server, "b", spy)
    assert seen == []


@pytest.mark.parametrize("form", ["shared", "isolated"])
def test_member_reaches_no_other_federation(start_server: StartServer, opened: Callable[..., Any], form: str) -> None:
    """Two federations on one server: whatever a member of the one sends, the other does not notice."""
    ours, theirs = secrets.token_hex(16), secrets.token_hex(16)
    options = {"shared": [], "isolated": ["--account", "--peer", f"b={B}"]}[form]
    texts = [printed(fed_id, "--name", name, *options) for fed_id, name in ((ours, "ours"), (theirs, "theirs"))]
    if form == "isolated":  # ids and logins belong to one federation
        texts[1] = texts[1].replace(B, C).replace('user: "b"', 'user: "c"')
    server = start_server(config=server_config(*texts))
    users = {"shared": ("ours_member", "theirs_member"), "isolated": ("ours_admin", "theirs_admin")}[form]
    for user, fed_id in zip(users, (ours, theirs), strict=True):
        opened(server, user).create(fed_id, max_blob_bytes=2**22)
    other = opened(server, users[1])
    other.put_roster(theirs, b"roster", expect=None)
    other.put_head(theirs, C, b"genuine", expect=None)
    other.put_blob(theirs, C, "01", [b"genuine"])
    before = place(other, theirs, [C])
    attacker = "ours_member" if form == "shared" else "b"
    attack(server, attacker, theirs, B, C)
    for reply in (f"grm.{theirs}.h.{C}", f"grm.{theirs}.r"):
        as_user(server, attacker, lambda client, reply=reply: client.publish(f"grm.{ours}.h.{B}", b"x", reply=reply))
    assert place(other, theirs, [C]) == before
    with pytest.raises(TransportRefused):
        opened(server, attacker).cut(theirs, [C])


def test_shared_login_does_all_that_a_member_must_and_no_more(
    start_server: StartServer, opened: Callable[..., Any], fed_id: str
) -> None:
    """Every call of a link but the removal of the streams, which founding alone needs."""
    server = start_server(config=server_config(printed(fed_id)))
    link, heard = opened(server, f"GRM_{fed_id}_member"), []
    link.create(fed_id, max_blob_bytes=2**22)
    link.create(fed_id, max_blob_bytes=2**22)
    stop = link.listen(fed_id, B, heard.append)
    link.put_roster(fed_id, b"roster", expect=None)
    revision = link.put_head(fed_id, B, b"head", expect=None)
    link.put_head(fed_id, B, b"next", expect=revision)
    link.put_blob(fed_id, B, "01", [b"one", b"two"])
    assert link.missing_chunks(fed_id, B, "01", 3) == [2]
    assert link.get_blob(fed_id, B, "01", 2, max_bytes=100) == [b"one", b"two"]
    link.free_blob(fed_id, B, "01", 2)
    link.nudge(fed_id, b"news")
    stop()
    for forbidden in ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "CONSUMER.CREATE"):
        answers: list[Any] = []

        async def ask(client: NatsClient, verb: str = forbidden, answers: list[Any] = answers) -> None:
            try:
                answers.append(await client.request(f"$JS.API.{verb}.GRM_{fed_id}_H", b"{}", timeout=0.3))
            except nats.errors.TimeoutError:
                return

        as_user(server, f"GRM_{fed_id}_member", ask)
        assert answers == []


@dataclass
class Operated:
    """A server whose accounts an operator rewrites, and the sites of a federation on it."""

    server: NatsServer
    accounts: Path
    sites: list[Any]

    def apply(self, text: str) -> None:
        """Put the text in place and restart the server, which loses the blobs: they come back by themselves."""
        self.accounts.write_text(text)
        self.server.restart()

    def learn_and_sync(self, rows: Sequence[int]) -> None:
        for each, count in zip(self.sites, rows, strict=True):
            each.learn(count)
        for each in self.sites * 2:
            each.client.sync("study")


@pytest.fixture
def operated(site: Callable[[str], Any], start_server: StartServer, tmp_path: Path) -> Callable[[str], Operated]:
    def start(accounts: str) -> Operated:
        path = tmp_path / "accounts.conf"
        path.write_text(f"accounts {{ {accounts} }}")
        server = start_server(config='include "../accounts.conf"')
        return Operated(server, path, [site(name) for name in ("one", "two", "three")])

    return start


def open_user(name: str) -> str:
    return f'{{ user: "{name}", password: "{PASSWORD}" }}'


def test_federation_works_under_the_shared_login(
    operated: Callable[[str], Operated], assert_converged: Callable[..., None]
) -> None:
    """As docs/nats.md says: founded in an open account of its own, then with the printed text in its place."""
    there = operated(f"study {{ jetstream: enabled, users: [{open_user('study_member')}] }}")
    admin, *others = there.sites
    admin.create(nats_hosts=there.server.url, **login("study_member"))
    for peer in others:
        peer.client.join("study", admin.invite())
    admin.learn(20)
    admin.client.sync("study")
    fed_id = admin.client.federation_info("study")["fed_id"]
    there.apply(server_config(printed(fed_id, "--name", "study")))
    there.learn_and_sync([25, 30, 40])
    assert_converged(there.sites, 115)


def test_federation_works_isolated(
    operated: Callable[[str], Operated], assert_converged: Callable[..., None], tmp_path: Path
) -> None:
    """As docs/nats.md says: members join with logins of their own, which the invitation lacks, and may then write
    nothing until the printed text lets them write what is theirs."""
    there = operated(
        f"study {{ jetstream: enabled, users: [{open_user('study_admin')}] }}, "
        f"study_members {{ users: [{open_user('two')}, {open_user('three')}] }}"
    )
    admin, *others = there.sites
    admin.create(nats_hosts=there.server.url, nats_sec_shared=False, **login("study_admin"))
    peers = {}
    for peer in others:
        invitation = admin.invite()
        with pytest.raises(BadRequest, match="refuses the login: set nats_sec_user"):
            peer.client.join("study", invitation)
        peer.client.join("study", invitation, **login(peer.name))
        peers[peer.name] = peer.client.federation_info("study")["fed_local_id"]
        with pytest.raises(BadRequest, match="NATS"):
            peer.client.sync("study")

    fed_id = admin.client.federation_info("study")["fed_id"]
    options = [option for name, id_ in peers.items() for option in ("--peer", f"{name}={id_}")]
    there.apply(server_config(printed(fed_id, "--account", "--name", "study", *options)))
    there.learn_and_sync([25, 30, 40])
    assert_converged(there.sites, 95)

    from_home = printed(fed_id, "--account", "--name", "study", "--home", str(tmp_path / "one"))
    assert set(re.findall(r"\.h\.([0-9a-f]{32})", from_home)) == set(peers.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fed", "x"], "--fed is a federation's id"),
        (["--fed", "ab" * 16, "--name", "a b"], "--name has"),
        (["--fed", "ab" * 16, "--account", "--peer", B], "--peer is LOGIN=ID"),
        (["--fed", "ab" * 16, "--account", "--home", "HOME"], "no node of federation"),
    ],
)
def test_command_with_an_option_that_cannot_work_says_so(tmp_path: Path, options: list[str], words: str) -> None:
    """In words that name the option."""
    options = [str(tmp_path) if option == "HOME" else option for option in options]
    with pytest.raises(InvalidRequest, match=words):
        CliRunner().invoke(cli, ["nats", "permissions", *options], catch_exceptions=False)
