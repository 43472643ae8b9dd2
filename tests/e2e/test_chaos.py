"""Chaos with a seed: nodes die at any write, NATS dies, clocks jump, processes get in each other's way.

Nodes are driven through the use cases, on real stores and a real nats-server. A node dies by an exception that nothing
handles, raised before or after one of its writes; from then on no write of it goes through, not even in `finally`.

GRAMIAN_CHAOS_SEED and GRAMIAN_CHAOS_STEPS choose another run; `make soak` runs seed after seed.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import nats
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.client.rows import dataframe
from gramian.domain import frame as frames
from gramian.domain.crypto import SIGNATURE_BYTES
from gramian.domain.protocol.sharing import minimum_rows
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.derived import covariance, means
from gramian.domain.statistics.moments import Moments
from gramian.errors import InvalidRequest, TransportError, Unavailable
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import removal, upkeep, users
from gramian.usecases.federation import (
    control,
    found,
    invite,
    members,
    membership,
    merging,
    outgoing,
    pulse,
    recovery,
)
from gramian.usecases.federation import join as joining
from gramian.usecases.modeling import models
from gramian.usecases.modeling.context import MLContext
from gramian.usecases.projects import folding, ledger, lifecycle
from gramian.usecases.projects import rows as local_rows
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened

T = TypeVar("T")
SEED = int(os.environ.get("GRAMIAN_CHAOS_SEED", "1"))
STEPS = int(os.environ.get("GRAMIAN_CHAOS_STEPS", "1000"))
SETTLE_EVERY = 250
NAMES, TYPES, PID = ["age", "dose", "response", "smoker"], "CCCB", "study"
LEAST = minimum_rows(len(NAMES))
HOUR_S, MOST_OFF_S = 3600, 6 * 3600
LATER_S = 7200
"""Past the grace of blobs, and past the lease after which blobs in the transport are freed again."""
MAP = {"fed_name": "study", "sync_sched": "m30", "nats_stream_max_memory": 2**22}
POINTERS = ("blob", "stored", "snapshot")
RECOVERY_KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC_KEY = RECOVERY_KEY.public_key().public_bytes_raw().hex()
CHANGING = {
    "state": {"write"},
    "blobs": {"put", "delete", "clear"},
    "scheduler": {"set", "remove"},
    "link": {"create", "destroy", "put_roster", "put_head", "put_blob", "free_blob", "nudge"},
}
"""Calls that leave something behind, by kind of plugin."""


class Killed(BaseException):
    """The process is no more. Not an Exception: what handles errors must not handle this."""


class Mortal:
    """Passes every call on; something may happen to the process before or after one that leaves something behind."""

    def __init__(self, target: Any, kind: str, process: Process) -> None:
        self._target, self._changing, self._process = target, CHANGING[kind], process

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if name not in self._changing:
            return method
        return lambda *args, **keys: self._process.change(lambda: method(*args, **keys))


class MortalTransport:
    """Opens mortal links."""

    def __init__(self, transport: Any, process: Process) -> None:
        self._transport, self._process = transport, process

    def open(self, options: Any) -> Mortal:
        return Mortal(self._transport.open(options), "link", self._process)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Inline:
    """A job runner that runs at once."""

    patience_s = 0.0

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        execute()
        return ""

    def failure(self, handle: str) -> str:
        return ""

    def close(self) -> None: ...


class Process:
    """A server's process on a home. A moment passes before and after each of its writes."""

    def __init__(self, site: Site) -> None:
        self._stack = ExitStack()
        self._events: list[tuple[int, Callable[[], None]]] = []
        self._is_dead = False
        node, _ = self._stack.enter_context(opened(Settings(), site.home))
        self.node = dataclasses.replace(
            node,
            state=Mortal(node.state, "state", self),
            blobs=Mortal(node.blobs, "blobs", self),
            scheduler=Mortal(node.scheduler, "scheduler", self),
            jobs=Inline(),
            clock=site.now,
            sleep=lambda _seconds: None,
            _made={"transport.nats": MortalTransport(node.transport("nats"), self)},
        )

    def expect(self, *events: tuple[int, Callable[[], None]]) -> None:
        """What is to happen: each event so many moments after the one before, in place of what was expected so far."""
        self._events = list(events)

    def die(self) -> None:
        self._is_dead = True
        raise Killed

    def change(self, call: Callable[[], T]) -> T:
        self._pass_moment()
        result = call()
        self._pass_moment()
        return result

    def _pass_moment(self) -> None:
        if self._is_dead:
            raise Killed
        if not self._events:
            return
        moments, event = self._events.pop(0)
        if moments > 1:
            self._events.insert(0, (moments - 1, event))
        else:
            event()

    def close(self) -> None:
        self._stack.close()


@dataclass
class Site:
    """An organisation with one home. `batches`: the rows that count, by number; `busy_with`: that which a call is
    about; `shown`: source and rows of the last publication that was looked at."""

    name: str
    home: Path
    offset_s: float = 0.0
    most_ahead_s: float = 0.0
    is_member: bool = False
    batches: dict[int, np.ndarray] = field(default_factory=dict)
    busy_with: int = 0
    shown: tuple[str, int] = ("", 0)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(self)
        users.create(self.node, self.name)

    def now(self) -> float:
        self.most_ahead_s = max(self.most_ahead_s, self.offset_s)
        return time.time() + self.offset_s

    @property
    def node(self) -> Node:
        return self.process.node

    @property
    def project(self) -> lifecycle.Project:
        return lifecycle.find(self.node, self.name, PID)

    @property
    def rows(self) -> int:
        return sum(len(batch) for batch in self.batches.values())

    def restart(self) -> None:
        self.process.close()
        self.process = Process(self)
        upkeep.at_start(self.node)

    @contextmanager
    def another_process(self) -> Iterator[Node]:
        """A second server on the same home."""
        with closing(Process(self)) as other:
            yield other.node


class World:
    """Three organisations and one NATS. What happens is drawn from a seed unless it is `calm`; then only what `doom`
    says happens, to the next call of that name: an event, after so many moments."""

    def __init__(self, directory: Path, server: NatsServer, seed: int, *, calm: bool = False) -> None:
        self.server, self.random, self.numbers = server, random.Random(seed), np.random.default_rng(seed)
        self.sites = [Site(name, directory / name) for name in ("a", "b", "c")]
        self.calm = calm
        self.doom: tuple[str, str, int] | None = None
        self.has_struck, self.nats_up, self.may_fail = False, True, False
        self.numbering = itertools.count(1)
        self.log: list[str] = []

    @property
    def members(self) -> list[Site]:
        return [site for site in self.sites if site.is_member]

    def close(self) -> None:
        for site in self.sites:
            site.process.close()

    def run(self, steps: int) -> None:
        self.found()
        self.join(self.sites[1])
        for number in range(1, steps + 1):
            if number >= steps // 3 and self.nats_up and not self.sites[2].is_member:
                self.join(self.sites[2])
            self.step()
            if number % SETTLE_EVERY == 0:
                self.settle()
        self.settle()
        self.assert_nothing_is_left_over()

    # Membership: repeated until it is done

    def found(self) -> None:
        admin, encrypt = self.sites[0], self.random.random() < 0.5
        wanted = {**MAP, "nats_hosts": self.server.url, "fed_encrypt": encrypt, "fed_recovery_key": PUBLIC_KEY}
        self.until_done(admin, "found", lambda node: found.create(node, admin.name, PID, wanted, persist=True))
        admin.is_member = True

    def join(self, site: Site) -> None:
        admin = self.sites[0]
        invitation = invite.invite(admin.node, admin.name, PID, {}, default_host="http://127.0.0.1:1").to_map()
        self.until_done(site, "join", lambda node: joining.join(node, site.name, PID, invitation, persist=True))
        site.is_member = True

    def redeem(self, _url: str, body: bytes, **_limits: Any) -> bytes:
        """What the admin's server answers to a joiner, in place of HTTP."""
        admin = self.sites[0]
        self.plan(admin, "redeem")
        try:
            reply = invite.redeem(admin.node, admin.name, PID, body, "127.0.0.1")
        except Killed:
            admin.restart()
            raise InvalidRequest("the admin cannot be reached") from None
        finally:
            admin.process.expect()
        return json.dumps({"values": {"fedRedemption": base64.b64encode(reply).decode()}}).encode()

    def leave(self, site: Site) -> None:
        self.until_done(site, "leave", lambda node: members.leave(node, site.name, PID))
        site.is_member = False

    def delete(self, site: Site) -> None:
        self.until_done(site, "delete", lambda node: removal.delete(node, site.name, PID))
        site.is_member = False

    def evict(self, site: Site) -> None:
        admin, peer_id = self.sites[0], membership.load(site.node, site.name, PID).peer_id
        self.until_done(admin, "evict", lambda node: members.evict(node, admin.name, PID, peer_id))
        site.is_member = False

    def recover(self, site: Site) -> None:
        """It is the admin from then on."""

        def unless_done(node: Node) -> None:
            if not membership.load(node, site.name, PID).is_admin:
                recovery.recover(node, site.name, PID, RECOVERY_KEY)

        self.until_done(site, "recover", unless_done)

    def until_done(self, site: Site, what: str, work: Callable[[Node], object]) -> None:
        existed = lifecycle.exists(site.node, site.name, PID)
        for _ in range(50):
            self.plan(site, what)
            try:
                work(site.node)
            except Killed:
                site.restart()
                if lifecycle.exists(site.node, site.name, PID) != existed:
                    return
            except InvalidRequest as error:
                if "cannot be reached" not in str(error):
                    raise
            else:
                site.process.expect()
                return
        raise AssertionError(f"{what} is never done")

    # Daily life

    def step(self) -> None:
        site = self.random.choice(self.members)
        (act,) = self.random.choices(
            [self.learn, self.forget, self.pulse, self.build, self.jump, self.tidy, self.restart, self.nats],
            [30, 20, 40, 4, 4, 2, 3, 2],
        )
        if not self.nats_up and self.random.random() < 0.25:
            act = self.nats
        act(site)
        self.check(site)

    def check(self, site: Site) -> None:
        """The rows are those that were acknowledged, and what was published since the last look differs by enough."""
        assert ledger.read(site.node, site.project).rows == site.rows
        item = site.node.state.get(site.project.partition, "publication")
        publication = json.loads(item.value) if item else {"source": "", "rows": 0}
        shown = publication["source"], publication["rows"]
        if shown[0] != site.shown[0]:
            assert abs(shown[1] - site.shown[1]) >= LEAST
            site.shown = shown

    def learn(self, site: Site) -> None:
        batch, number = self.batch(self.random.randint(LEAST, 3 * LEAST)), next(self.numbering)
        operation = f"{number:032x}" if self.random.random() < 0.5 else None
        self.note(f"{site.name} learns {number}, {len(batch)} rows")

        def work() -> None:
            local_rows.learn(site.node, site.project, frame(batch), operation)

        if self.is_counted(site, "learn", work, len(batch), operation):
            site.batches[number] = batch

    def forget(self, site: Site, number: int = 0) -> None:
        """One of the last batches, or the one that is named."""
        if not site.batches:
            return
        site.busy_with = number or self.random.choice(sorted(site.batches)[-20:])
        batch = site.batches[site.busy_with]
        operation = f"{next(self.numbering):032x}" if self.random.random() < 0.5 else None
        self.note(f"{site.name} forgets {site.busy_with}, {len(batch)} rows")

        def work() -> None:
            local_rows.forget(site.node, site.project, frame(batch), operation)

        if self.is_counted(site, "forget", work, -len(batch), operation):
            del site.batches[site.busy_with]
        site.busy_with = 0

    def is_counted(self, site: Site, what: str, work: Callable[[], None], change: int, operation: str | None) -> bool:
        """Acknowledged, or killed and then wholly in or out; with an operation id repeated until acknowledged."""
        while True:
            self.plan(site, what)
            try:
                work()
            except Killed:
                site.restart()
                counted = ledger.read(site.node, site.project).rows - site.rows
                assert counted in (0, change)
                if operation is None:
                    return counted == change
            else:
                site.process.expect()
                return True

    def pulse(self, site: Site) -> None:
        self.note(f"{site.name} pulses")
        self.may_fail = not self.nats_up
        self.plan(site, "pulse")
        try:
            pulse.run(site.node, site.name, PID)
        except Killed:
            site.restart()
        except (TransportError, Unavailable) as error:
            self.note(f"    fails: {error}")
            if not self.may_fail:
                raise
        site.process.expect()

    def build(self, site: Site) -> None:
        if not site.rows:
            return
        self.note(f"{site.name} builds")
        self.plan(site, "build")
        try:
            models.build(site.node, site.name, PID, "m", "mlr", MLContext(target_attribute_names=["response"]))
        except Killed:
            site.restart()
        site.process.expect()

    def jump(self, site: Site) -> None:
        jump_s = self.random.choice([-HOUR_S, HOUR_S])
        if abs(site.offset_s + jump_s) <= MOST_OFF_S:
            site.offset_s += jump_s
            self.note(f"the clock of {site.name} jumps by {jump_s} s")

    def tidy(self, site: Site) -> None:
        self.note(f"{site.name} tidies up")
        upkeep.tidy(site.node)

    def restart(self, site: Site) -> None:
        self.note(f"{site.name} restarts")
        site.restart()

    def nats(self, _site: Site) -> None:
        """kill -9, or a start. Heads are on its disk, blobs were in its memory."""
        if self.nats_up:
            self.server.kill()
        else:
            self.server.restart()
        self.nats_up = not self.nats_up
        self.note(f"NATS is {'up' if self.nats_up else 'dead'}")

    # What happens in the middle of a call

    def plan(self, site: Site, what: str) -> None:
        if self.doom is not None and self.doom[0] == what:
            _, name, moments = self.doom
            site.process.expect((moments, lambda: self.strike(site, name)))
            self.doom = None
        elif not self.calm:
            site.process.expect(*self.drawn_events(site, 45 if what == "pulse" else 12))

    def drawn_events(self, site: Site, most_moments: int) -> Iterator[tuple[int, Callable[[], None]]]:
        """Nothing, a death, or something in between and then perhaps a death."""
        chance = self.random.random()
        if chance < 0.25 and site.is_member:
            name = self.random.choice([name for name in EVENTS if name != "dies"])
            yield self.random.randint(1, most_moments), lambda: self.strike(site, name)
        if chance > 0.75 or (chance < 0.05 and site.is_member):
            yield self.random.randint(1, most_moments), lambda: self.strike(site, "dies")

    def strike(self, site: Site, name: str) -> None:
        self.has_struck = True
        self.note(f"    {name}")
        EVENTS[name](self, site)

    def die(self, site: Site) -> None:
        site.process.die()

    def another_learns(self, site: Site) -> None:
        batch = self.batch(LEAST)
        with site.another_process() as node:
            local_rows.learn(node, site.project, frame(batch))
        site.batches[next(self.numbering)] = batch

    def another_forgets(self, site: Site) -> None:
        """The newest batch that this call is not about."""
        numbers = [number for number in site.batches if number != site.busy_with]
        if numbers:
            with site.another_process() as node:
                local_rows.forget(node, site.project, frame(site.batches[max(numbers)]))
            del site.batches[max(numbers)]

    def another_pulses(self, site: Site) -> None:
        """A process that takes the first for dead, which was frozen for longer than its lease."""
        site.offset_s += 90
        self.may_fail = True
        with site.another_process() as node:
            try:
                pulse.run(node, site.name, PID)
            except TransportError:
                if self.nats_up:
                    raise

    def nats_dies(self, site: Site) -> None:
        if self.nats_up:
            self.may_fail = True
            self.nats(site)

    # What must hold in the end

    def settle(self) -> None:
        """Enough rows for everybody to publish, and pulses: equal inputs, equal bits, the statistics of all rows."""
        self.note("settling")
        if not self.nats_up:
            self.nats(self.sites[0])
        for site in self.members:
            removed = folding.compact(site.node, site.project).record.removed
            batch = self.batch(LEAST + removed)
            local_rows.learn(site.node, site.project, frame(batch))
            site.batches[next(self.numbering)] = batch
        for site in self.members * 3:
            pulse.run(site.node, site.name, PID)
            self.check(site)
        merged = [merging.current(site.node, site.project.partition).record for site in self.members]
        assert len({record.inputs for record in merged}) == 1
        assert len({record.digest for record in merged}) == 1
        everything = np.vstack([batch for site in self.members for batch in site.batches.values()])
        for site, record in zip(self.members, merged, strict=True):
            own = np.vstack(list(site.batches.values()))
            assert_statistics_are_of(folding.moments(site.node, site.project), own)
            federated = snapshot.decode(site.node.blobs.get(site.project.uid, record.blob))
            assert_statistics_are_of(federated, everything)

    def assert_nothing_is_left_over(self) -> None:
        """After a last pulse and a sweep, both later: no blob too many or too few, here and in NATS."""
        for site in self.members:
            site.offset_s = site.most_ahead_s + LATER_S
            pulse.run(site.node, site.name, PID)
            upkeep.tidy(site.node)
            assert site.node.state.query(found.FOUNDINGS) == []
            assert_blobs_are_those_named(site)
        contents = asyncio.run(in_nats(self.server.url))
        assert len(contents) == 2, "streams of a federation that does not exist"
        heads, chunks = (next(found for name, found in contents.items() if name.endswith(kind)) for kind in "HB")
        shown = {subject.split(".")[-1]: json.loads(data[SIGNATURE_BYTES:]) for subject, data in heads.items()}
        active = [peer["id"] for peer in shown.pop("r")["members"] if peer["state"] == "active"]
        current = [head for head in shown.values() if head["id"] in active]
        assert {subject.split(".")[4] for subject in chunks} == {head["blob_id"] for head in current if head["chunks"]}

    def batch(self, count: int) -> np.ndarray:
        """Around 1,000 and 0, so that origins matter."""
        inputs = self.numbers.normal(size=(count, 2)) * [1.0, 50.0] + [0.0, 1000.0]
        smoker = self.numbers.integers(0, 2, size=count)
        response = inputs @ [1.0, -2.0] + smoker + self.numbers.normal(size=count)
        return np.column_stack([inputs, response, smoker])

    def note(self, text: str) -> None:
        self.log.append(text)


EVENTS = {
    "dies": World.die,
    "another learns": World.another_learns,
    "another forgets": World.another_forgets,
    "another pulses": World.another_pulses,
    "nats dies": World.nats_dies,
}


def frame(batch: np.ndarray) -> frames.Frame:
    return frames.decode(json.dumps(dataframe(NAMES, TYPES, batch)).encode())


def assert_statistics_are_of(found: Moments | None, rows: np.ndarray) -> None:
    """Columns are in the order of statistics already: C by name, then B."""
    assert found is not None
    assert found.n == len(rows)
    np.testing.assert_allclose(means(found), rows.mean(axis=0), rtol=1e-10)
    expected = np.cov(rows, rowvar=False, bias=True)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((covariance(found) - expected) / scale).max() < 1e-9


def assert_blobs_are_those_named(site: Site) -> None:
    """By the items of the project; nothing waits to be freed in the transport."""
    items = dict(site.node.state.query(site.project.partition))
    assert json.loads(items["publication"].value)["stale"] == []
    values = [json.loads(item.value or b"{}") for key, item in items.items() if key != "roster"]
    named = {value[name] for value in values for name in POINTERS if value.get(name)}
    named.update(*(value.get("nodes", {}).values() for value in values))
    assert {info.digest for info in site.node.blobs.list(site.project.uid)} == named


async def in_nats(url: str) -> dict[str, dict[str, bytes]]:
    """The last message of every subject of every stream; what was freed and waits for its removal is left out."""
    client = await nats.connect(url, allow_reconnect=False)
    jetstream, contents = client.jetstream(), {}
    try:
        for name in [info.config.name for info in await jetstream.streams_info()]:
            subjects = (await jetstream.stream_info(name, subjects_filter=">")).state.subjects or {}
            read = {subject: (await jetstream.get_last_msg(name, subject)).data for subject in subjects}
            contents[name] = {subject: data for subject, data in read.items() if data}
    finally:
        await client.close()
    return contents


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: only processes die here, and disks are slow."""
    shared_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory if os.access(shared_memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.fixture
def world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Makes worlds, each with a NATS of its own, that end with the test."""
    with ExitStack() as stack:

        def make(*, calm: bool = False) -> World:
            place = Path(tempfile.mkdtemp(dir=directory))
            server = stack.enter_context(NatsServer.start(place / "nats"))
            made = stack.enter_context(closing(World(place, server, SEED, calm=calm)))
            monkeypatch.setattr(outgoing, "post", made.redeem)
            stack.callback(lambda: print(f"GRAMIAN_CHAOS_SEED={SEED}; its last steps:", *made.log[-50:], sep="\n"))
            return made

        yield make


@pytest.mark.timeout(0 if "GRAMIAN_CHAOS_STEPS" in os.environ else 300)
def test_federation_survives_chaos(world: Callable[..., World]) -> None:
    """An acknowledged learn is never lost, another is in or out; in the end all have the statistics of all rows."""
    world().run(STEPS)


QUICK = {(act, event) for act in ("learn", "forget listed") for event in EVENTS} | {("pulse", "dies")}


@pytest.mark.parametrize(
    ("act", "event"),
    [
        pytest.param(act, event, marks=[] if (act, event) in QUICK else pytest.mark.slow, id=f"{act}: {event}")
        for act in ("learn", "forget listed", "forget folded", "pulse")
        for event in EVENTS
    ],
)
def test_call_survives_what_happens_at_any_of_its_moments(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, act: str, event: str
) -> None:
    """Before and after each of its writes, one after the other; of batches that have blobs, which are more writes."""
    monkeypatch.setattr(local_rows, "INLINE_BYTES", 0)
    here = world(calm=True)
    here.found()
    here.join(here.sites[1])
    site, other = here.sites[:2]
    for moments in itertools.count(1):
        here.learn(other)
        here.pulse(other)
        here.learn(site)
        folded = max(site.batches)
        here.pulse(site)
        here.learn(site)
        here.has_struck, here.doom = False, (act.split()[0], event, moments)
        match act:
            case "learn":
                here.learn(site)
            case "forget listed":
                here.forget(site, max(site.batches))
            case "forget folded":
                here.forget(site, folded)
            case "pulse":
                here.pulse(site)
        here.check(site)
        here.settle()
        if not here.has_struck:
            break
    assert moments > 4


@pytest.mark.parametrize("what", ["found", "join", "redeem", "leave", "evict", "recover", "delete"])
def test_membership_survives_death_at_any_write(world: Callable[..., World], what: str) -> None:
    """Repeated, it is done: those who are members have the statistics of members, nobody else, and nothing is left."""
    for moments in itertools.count(1):
        here = world(calm=True)
        peer = here.sites[1]
        here.doom = (what, "dies", moments)
        here.found()
        here.join(peer)
        if what in ("leave", "evict", "recover", "delete"):
            here.settle()
            control.start_pulse(peer.node, peer.name, PID)
            {"leave": here.leave, "evict": here.evict, "recover": here.recover, "delete": here.delete}[what](peer)
        here.settle()
        here.assert_nothing_is_left_over()
        if what == "delete":
            assert_deleted(peer)
        if not here.has_struck:
            break
    assert moments > 2


def assert_deleted(site: Site) -> None:
    """No item, no blob, no pulse."""
    site.restart()
    pulse.scheduled(site.node, site.name, PID)
    assert lifecycle.listed(site.node, site.name) == []
    assert site.node.state.query("pulses") == []
    (uid,) = [uid for uid, _ in site.node.state.query(lifecycle.GARBAGE)]
    assert site.node.state.query(lifecycle.partition(uid)) == []
    assert list(site.node.blobs.list(uid)) == []
