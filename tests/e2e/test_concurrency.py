"""Two servers on one home at once: one winner, every row once, every pulse once, nothing lost."""

from __future__ import annotations

import base64
import http.client
import json
import math
import random
import re
import secrets
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.client import BadRequest, Client, ClientError, ConflictError, Unreachable
from gramian.domain import frame
from gramian.domain.canonical import canonical_json
from gramian.domain.protocol import invitation, keys, redemption, roster
from gramian.errors import InvalidRequest
from gramian.ports import Put
from gramian.settings import Settings
from gramian.usecases import records, upkeep
from gramian.usecases.projects import ledger, lifecycle, rows
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened
from gramian_local.process import ServerProcess

NAMES = [f"x{i}" for i in range(4)]
JOINERS = 64
PATIENCE_S = 60
FEDERATION = {"fed_name": "study", "sync_sched": "d1", "nats_stream_max_memory": 2**22}


@dataclass
class Pair:
    """Two servers on one home, and a client of the same user at each."""

    servers: list[ServerProcess]
    clients: list[Client]

    @property
    def home(self) -> Path:
        return self.servers[0].home

    def log(self) -> str:
        return self.servers[0].log_path.read_text()

    def assert_clean(self) -> None:
        """No server stumbled, and after tidying up nothing is left of projects that were deleted."""
        assert "Traceback" not in self.log()
        assert " ERROR " not in self.log()
        with opened(Settings(), self.home) as (node, _):
            upkeep.tidy(node)
            live = {json.loads(item.value)["uid"] for _, item in node.state.query("projects/a")}
        with sqlite3.connect(self.home / "gramian.db") as database:
            kept = {bytes(row[0]).decode() for row in database.execute("SELECT DISTINCT partition FROM items")}
        database.close()
        assert {name.removeprefix("project/") for name in kept if name.startswith("project/")} <= live
        assert {path.parents[1].name for path in (self.home / "blobs").glob("*/*/*")} <= live


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    servers = [ServerProcess(tmp_path / "home", "--port", "0", "--no-nats") for _ in range(2)]
    with servers[0], servers[1]:
        first = servers[0].create_user("a")
        yield Pair(servers, [first, Client(servers[1].url, "a", first.secret_key)])


def at_once(count: int, run: Callable[[int], object]) -> list:
    """Results of `run(0)` to `run(count - 1)`, begun at the same moment on as many threads."""
    barrier = threading.Barrier(count)

    def waiting(number: int) -> object:
        barrier.wait()
        return run(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(waiting, range(count)))


@dataclass
class Invited:
    """One opened invitation, seen by those who may hold it."""

    invitation: invitation.Invitation
    keys: redemption.Keys = field(init=False)

    def __post_init__(self) -> None:
        cid, pid = self.invitation.admin()
        self.keys = redemption.Keys.derive(self.invitation.secret, self.invitation.tid, cid, pid)

    @classmethod
    def by(cls, client: Client, pid: str) -> Invited:
        return cls(invitation.parse(client.invite(pid, "password", "http://127.0.0.1:1")))

    def redeem(self, url: str) -> tuple[int, str, roster.Roster | None]:
        """As a joiner with keys of its own: status, text, and the roster that an admitted one is shown."""
        own = keys.PeerKeys.derive(secrets.token_bytes(32), bytes.fromhex(self.keys.tid), "j", "j")
        body = redemption.apply(self.keys, own)
        host, _, port = url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            connection.request("POST", http.client.urlsplit(self.invitation.rest_url).path, body)
            answer = connection.getresponse()
            envelope = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            return answer.status, envelope["statusString"], None
        reply = base64.b64decode(envelope["values"]["fedRedemption"])
        welcome = redemption.open_welcome(self.keys, body, reply)
        shown = roster.open_roster(base64.b64decode(welcome.roster), self.invitation.fed_id)
        assert shown.member(own.peer_id) is not None
        return 200, "", shown


def redemption_rounds(pair: Pair, nats_url: str, rounds: int, limit_s: float) -> int:
    """Each round: one new invitation, 64 joiners over both servers, one winner. Returns the rounds that were played."""
    end, played, pid = time.monotonic() + limit_s, 0, ""
    while played < rounds and time.monotonic() < end:
        if played % 50 == 0:
            pid = f"study{played}"
            pair.clients[0].create_federation(pid, nats_hosts=nats_url, **FEDERATION)
        assert redemption_round(pair, pid) == {(200, False): 1, (400, True): JOINERS - 1}
        assert len(pair.clients[0].federation_info(pid)["peersInfo"]) == 1 + played % 50 + 1
        played += 1
    pair.assert_clean()
    return played


def redemption_round(pair: Pair, pid: str) -> Counter[tuple[int, bool]]:
    """How often each status came back, and whether it said that the invitation has been used."""
    invited = Invited.by(random.choice(pair.clients), pid)
    results = at_once(JOINERS, lambda number: invited.redeem(pair.servers[number % 2].url))
    return Counter((status, "been used" in text) for status, text, _ in results)


def test_one_invitation_has_one_winner_whoever_comes_at_once(pair: Pair, nats_server: NatsServer) -> None:
    """As many rounds as fit in 8 seconds."""
    assert redemption_rounds(pair, nats_server.url, 1000, 8) >= 2


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_one_invitation_has_one_winner_in_a_thousand_rounds(pair: Pair, nats_server: NatsServer) -> None:
    """However long that takes."""
    assert redemption_rounds(pair, nats_server.url, 1000, math.inf) == 1000


def test_redemptions_and_changes_of_the_schedule_lose_nothing(pair: Pair, nats_server: NatsServer) -> None:
    """All of them change the roster: every joiner is in it at the end, and the last schedule holds."""
    first = pair.clients[0]
    first.create_federation("study", nats_hosts=nats_server.url, **FEDERATION)
    invited = [Invited.by(first, "study") for _ in range(12)]
    schedules = [f"h{number}" for number in range(1, 13)]

    def change(number: int) -> object:
        if number < len(invited):
            while (answer := invited[number].redeem(pair.servers[number % 2].url))[0] == 503:
                time.sleep(random.uniform(0.05, 0.2))
            return answer[2]
        for schedule in schedules:
            pair.clients[1].new_schedule("study", schedule)
        return None

    shown = at_once(len(invited) + 1, change)[:-1]
    assert all(found is not None for found in shown)
    info = first.federation_info("study")
    assert len(info["peersInfo"]) == 1 + len(invited)
    assert info["sync_sched"] == schedules[-1]
    pair.assert_clean()


class CuttingProxy:
    """A TCP proxy that hands every request on, and cuts some connections before the answer has come back."""

    def __init__(self, url: str, cut: float) -> None:
        """`cut`: the share of connections that lose their answer, half of them before the server can have it ready."""
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._cut = cut
        self._random = random.Random(1)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._target, timeout=60) as server:
            server.sendall(self._whole_request(client))
            fate = self._random.random()
            if fate < self._cut / 2:
                self.cuts += 1
                return
            answer = server.recv(2**16)
            if fate < self._cut:
                self.cuts += 1
                return
            while answer:
                client.sendall(answer)
                answer = server.recv(2**16)

    @staticmethod
    def _whole_request(client: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(2**16)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0:
            piece = client.recv(2**16)
            data += piece
            missing -= len(piece)
        return data


@dataclass
class Learned:
    """What 200 learners at once did: rows that were acknowledged, and those of calls without an answer."""

    acknowledged: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)


def learn_through(clients: Sequence[Client], *, keyed: bool) -> Learned:
    """200 rows, one a call: each with its number in x0. With keys every call is repeated until it is acknowledged."""
    learned = Learned()

    def learn(number: int) -> None:
        key = f"row-{number}" if keyed else None
        for attempt in range(200):
            try:
                row = [[float(number), *np.random.default_rng(number).normal(size=3)]]
                clients[(number + attempt) % 2].learn("p", NAMES, "CCCC", row, idempotency_key=key)
            except Unreachable:
                learned.unknown.append(number)
                if not keyed:
                    return
            except ConflictError:
                time.sleep(0.05)  # the first call with this key still runs
            else:
                learned.acknowledged.append(number)
                return
        raise AssertionError(f"row {number} was never acknowledged")

    at_once(200, learn)
    return learned


@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without keys"])
def test_learns_over_connections_that_break_count_as_acknowledged(pair: Pair, keyed: bool) -> None:
    """With Idempotency-Key exactly once each; without, acknowledged ones once and the others at most once."""
    pair.clients[0].create_project("p")
    with CuttingProxy(pair.servers[0].url, 0.3) as one, CuttingProxy(pair.servers[1].url, 0.3) as two:
        clients = [Client(proxy.url, "a", pair.clients[0].secret_key) for proxy in (one, two)]
        learned = learn_through(clients, keyed=keyed)
        assert one.cuts + two.cuts > 20
    time.sleep(0.5)  # what was cut off may still be at work
    rows = int(pair.clients[1].project_info("p")["params"]["local_rows"])
    if keyed:
        assert sorted(learned.acknowledged) == list(range(200))
        assert rows == 200
    else:
        assert len(learned.acknowledged) <= rows <= len(learned.acknowledged) + len(learned.unknown)
    # Not only their number: the mean of x0 is that of exactly these rows.
    pair.clients[0].build("p", "m", "x0")
    mean = float(pair.clients[0].model("p", "m")["extra"]["mean_x0"]["data"][0][0])
    if keyed:
        assert mean == pytest.approx(99.5, rel=1e-12)
    else:
        assert sum(learned.acknowledged) <= round(mean * rows) <= sum(learned.acknowledged) + sum(learned.unknown)
    pair.assert_clean()


@dataclass
class Storm:
    """Threads that do something again and again until it is over; refusals are fine, failures are kept."""

    over: threading.Event = field(default_factory=threading.Event)
    failures: list[BaseException] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def of(self, *actions: Callable[[], object]) -> Iterator[None]:
        threads = [threading.Thread(target=self._repeat, args=(action,)) for action in actions]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)

    def rage(self, seconds: float, *actions: Callable[[], object]) -> None:
        """For so long, and until each of these was done at least once: a busy machine may need more."""
        end = time.monotonic() + seconds
        while (missing := [each for each in actions if not self.done[each.__name__]]) or time.monotonic() < end:
            assert time.monotonic() < end + PATIENCE_S, (missing, self.failures)
            time.sleep(0.1)

    def _repeat(self, action: Callable[[], object]) -> None:
        name = action.__name__
        while not self.over.is_set():
            try:
                action()
                self.done[name] += 1
            except (BadRequest, ConflictError):
                self.done[f"{name} refused"] += 1
            except (ClientError, AssertionError) as error:
                self.failures.append(error)


@dataclass
class Life:
    """What users do with one federated project, from both servers."""

    one: Client
    two: Client
    nats_url: str
    rows: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).normal(size=(20, 4)))
    acknowledged: Counter[str] = field(default_factory=Counter)

    def create(self) -> None:
        self.one.create_federation("p", nats_hosts=self.nats_url, **FEDERATION)

    def delete_and_create(self) -> None:
        time.sleep(1)
        self.two.delete_project("p")
        self.create()

    def learn(self) -> None:
        self.one.learn("p", NAMES, "CCCC", self.rows)
        self.acknowledged["one"] += len(self.rows)

    def learn_with_key(self) -> None:
        self.two.learn("p", NAMES, "CCCC", self.rows, idempotency_key=secrets.token_hex(8))
        self.acknowledged["two"] += len(self.rows)

    def forget(self) -> None:
        self.one.forget("p", NAMES, "CCCC", self.rows)

    def sync_one(self) -> None:
        self.one.sync("p")

    def sync_two(self) -> None:
        self.two.sync("p")

    def build(self) -> None:
        self.two.build("p", "m", "x0")
        self.one.predict("p", "m", NAMES[1:], self.rows[:, 1:])

    def look(self) -> None:
        self.one.project_info("p")
        self.two.federation_info("p")
        self.two.sync_stats("p")


def everything_at_once(pair: Pair, nats_url: str, seconds: float) -> None:
    """First with deletions and forgets, when only nothing may fail; then without, when all rows must be there."""
    life, storm, calm = Life(*pair.clients, nats_url), Storm(), Storm()
    life.create()
    always = (life.learn, life.learn_with_key, life.sync_one, life.sync_two, life.build, life.look)
    with storm.of(life.delete_and_create, life.forget, *always):
        storm.rage(seconds, life.delete_and_create, *always)
    with suppress(BadRequest):
        life.one.delete_project("p")
    life.create()
    life.acknowledged.clear()
    with calm.of(*always):
        time.sleep(seconds / 4)
    assert not storm.failures + calm.failures, pair.log()[-5000:]
    life.sync_one()
    life.sync_two()
    params = life.two.project_info("p")["params"]
    assert params["local_rows"] == params["fed_rows"] == str(life.acknowledged.total())
    life.build()
    pair.assert_clean()


def test_everything_at_once_on_one_project_ends_consistent(pair: Pair, nats_server: NatsServer) -> None:
    """No 5xx, no traceback, no row too many or too few, nothing left of what was deleted."""
    everything_at_once(pair, nats_server.url, 6)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_at_once_for_a_minute_ends_consistent(pair: Pair, nats_server: NatsServer) -> None:
    """As above, for longer."""
    everything_at_once(pair, nats_server.url, 60)


def test_pulse_of_a_project_that_is_being_deleted_is_refused(federate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pulse stumbles over then is no failure of the server."""
    federation = federate(1)
    client, node = federation.admin.client, federation.admin.node
    client.learn("study", NAMES, "CCCC", np.random.default_rng(0).normal(size=(20, 4)))
    own_schema = ledger.schema

    def late(*arguments: Any) -> Any:
        lifecycle.delete(node, "org0", "study")
        return own_schema(*arguments)

    monkeypatch.setattr(ledger, "schema", late)
    with pytest.raises(BadRequest, match=r"Cannot Find SYMETRYML id\[study\]"):
        client.sync("study")


def test_calls_that_outlive_their_project_leave_nothing(site) -> None:
    """A learn takes back what it wrote; what other calls wrote is tidied up."""
    here = site("a")
    here.client.create_project("p")
    project = lifecycle.find(here.node, "a", "p")
    here.client.delete_project("p")
    rows_ = frame.decode(b'{"attributeNames":["x"],"attributeTypes":["C"],"data":[["1"]]}')
    with pytest.raises(InvalidRequest, match="Cannot Find"):
        rows.learn(here.node, project, rows_)
    assert here.node.state.query(project.partition) == []
    here.node.state.write(Put(project.partition, "late", b""))
    here.node.blobs.put(project.uid, b"late")
    upkeep.tidy(here.node)
    assert here.node.state.query(project.partition) == []
    assert list(here.node.blobs.list(project.uid)) == []


def eventually(holds: Callable[[], bool], timeout_s: float = 40) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.1)


def test_due_pulses_of_two_servers_run_once_each(pair: Pair, nats_server: NatsServer) -> None:
    """Every pulse takes its project's lease once, whose fencing number counts them; being due is written by hand."""
    projects, rounds = [f"p{number}" for number in range(5)], 4
    for pid in projects:
        pair.clients[0].create_federation(pid, nats_hosts=nats_server.url, **FEDERATION)
        pair.clients[0].start_pulse(pid)
    with opened(Settings(), pair.home) as (node, _):
        places = [lifecycle.find(node, "a", pid).partition for pid in projects]

        def pulses() -> list[int]:
            """How many are over."""
            leases = [records.load(node.state, place, records.LEASE, records.Lease) for place in places]
            return [lease.record.fence - (lease.record.until > 0) if lease else 0 for lease in leases]

        for number in range(rounds):
            eventually(lambda: min(pulses()) > number)  # noqa: B023
            due = canonical_json({"next_due": int(time.time()) - 5, "schedule": "d1"})
            node.state.write(*(Put("pulses", f"a/{pid}", due) for pid in projects))
        eventually(lambda: min(pulses()) > rounds)
        time.sleep(2.5)  # more than one look of both schedulers
        assert pulses() == [1 + rounds] * len(projects)
    pair.assert_clean()
