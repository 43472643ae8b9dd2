"""What only other processes can show: races between them, and what one leaves behind that is killed.

A `Worker` is a process that has the plugin open and does what it is told, one line of JSON each way
(`gramian.testing.worker`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gramian.errors import BlobMissing, ContentMissing
from gramian.ports import BlobStore, Identity, Link, Put, StateStore, TokenStore
from gramian.settings import Settings
from gramian.testing.link_nudges import LinkNudges
from gramian.testing.links import ALICE, BOB

StartWorkers = Callable[[int], "list[Worker]"]

PROCESSES = 4
ROUNDS = 10
LIVES_S = (0.03, 0.1, 0.25)
"""How long workers write until they are killed."""


class Worker:
    """Another process with the plugin `<kind>.<name>` open."""

    def __init__(self, plugin: str, settings: Settings) -> None:
        home = {} if settings.home is None else {"GRAMIAN_HOME": str(settings.home)}
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "gramian.testing.worker", plugin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **settings.environment, **home, **path},
        )

    def wait_until_open(self) -> None:
        """Raises AssertionError with its last words if it could not open the plugin."""
        assert self.answer() == "open"

    def start(self, task: str, **arguments: object) -> None:
        """Have it do something; `answer` gives the result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, "arguments": arguments}) + "\n")
        self._process.stdin.flush()

    def ask(self, task: str, **arguments: object) -> Any:
        """Have it do something; the result."""
        self.start(task, **arguments)
        return self.answer()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the other process ended: {self._last_words()}"
        return json.loads(line)

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return (self._errors.read().strip().splitlines() or ["without a word"])[-1]


def at_once(workers: list[Worker], task: str, numbered: str = "", **arguments: object) -> list[Any]:
    """Have all do the same thing, the argument `numbered` being each one's number; the results in that order."""
    for number, worker in enumerate(workers):
        worker.start(task, **arguments, **({numbered: str(number)} if numbered else {}))
    return [worker.answer() for worker in workers]


def killed_while(worker: Worker, life_s: float, task: str, **arguments: object) -> None:
    """Have it do something endless and kill it in the middle."""
    worker.start(task, **arguments)
    assert worker.answer() == "started"
    time.sleep(life_s)
    worker.kill()


class StateStoreAcrossProcesses:
    """Of state stores."""

    def test_put_absent_from_many_processes_has_one_winner(
        self, store: StateStore, partition: str, workers: StartWorkers
    ) -> None:
        """Round after round; the winner's value stands."""
        running = workers(PROCESSES)
        for number in range(ROUNDS):
            key = f"key{number}"
            won = at_once(running, "put_absent", "value", partition=partition, key=key)
            assert won.count(True) == 1
            item = store.get(partition, key)
            assert item is not None
            assert item.value == b"%d" % won.index(True)

    def test_compare_and_swap_from_many_processes_loses_no_update(
        self, store: StateStore, partition: str, workers: StartWorkers
    ) -> None:
        """Counting under the version that was read adds up."""
        store.write(Put(partition, "count", b"0"))
        at_once(workers(PROCESSES), "count", partition=partition, rounds=ROUNDS)
        item = store.get(partition, "count")
        assert item is not None
        assert item.value == b"%d" % (PROCESSES * ROUNDS)

    def test_group_of_a_killed_process_is_whole_or_absent(
        self, store: StateStore, partition: str, workers: StartWorkers
    ) -> None:
        """Wherever the process died: two items that are always written together are equal, and can be written on."""
        for number, worker in enumerate(workers(len(LIVES_S))):
            place = f"{partition}-other" if number else partition
            killed_while(worker, LIVES_S[number], "write_pairs", partition=place)
            first, second = store.get(place, "first"), store.get(place, "second")
            assert first is not None
            assert second is not None
            assert first.value == second.value
            store.write(Put(place, "first", b"", first.version), Put(place, "second", b"", second.version))


class TokenStoreAcrossProcesses:
    """Of token stores."""

    def test_claim_from_many_processes_has_one_winner(
        self, store: TokenStore, key: str, now: float, workers: StartWorkers
    ) -> None:
        """Round after round; every loser, also one that comes later, is told the winner's value."""
        running = workers(PROCESSES)
        for number in range(ROUNDS):
            name = f"{key}-{number}"
            answers = at_once(running, "claim", "value", key=name, now=now, expires_at=now + 600)
            assert answers.count(None) == 1
            winner = str(answers.index(None))
            assert set(answers) == {None, winner}
            assert store.claim(name, b"late", now=now, expires_at=now + 600) == winner.encode()
            store.release(name, expect=winner.encode())

    def test_claim_of_a_killed_process_holds(
        self, store: TokenStore, key: str, now: float, workers: StartWorkers
    ) -> None:
        """What was seen was seen, whatever became of the process."""
        (worker,) = workers(1)
        worker.start("claim", key=key, value="seen", now=now, expires_at=now + 600)
        assert worker.answer() is None
        worker.kill()
        assert store.claim(key, b"replay", now=now, expires_at=now + 600) == b"seen"
        store.release(key, expect=b"seen")


class BlobStoreAcrossProcesses:
    """Of blob stores."""

    def test_blob_of_a_killed_process_is_whole_or_absent(
        self, store: BlobStore, space: str, workers: StartWorkers
    ) -> None:
        """Wherever the process died: what is listed is whole, and what was acknowledged is there."""
        for worker, life_s in zip(workers(len(LIVES_S)), LIVES_S, strict=True):
            worker.start("put", space=space, size_bytes=1000)
            acknowledged = worker.answer()
            killed_while(worker, life_s, "fill", space=space, size_bytes=4_000_000)
            assert acknowledged in [info.digest for info in store.list(space)]
        listed = list(store.list(space))
        for info in listed:
            assert len(store.get(space, info.digest)) == info.size_bytes

    def test_blob_is_seen_by_other_processes_at_once(self, store: BlobStore, space: str, workers: StartWorkers) -> None:
        """And is gone for this one when another has removed it."""
        (worker,) = workers(1)
        worker.start("put", space=space, size_bytes=100)
        digest = worker.answer()
        assert len(store.get(space, digest)) == 100
        worker.start("delete", space=space, digest=digest)
        worker.answer()
        with pytest.raises(BlobMissing):
            store.get(space, digest)


class TransportAcrossProcesses(LinkNudges):
    """Of transports."""

    def test_head_from_many_processes_has_one_winner(
        self, link: Link, fed_id: str, options: Mapping[str, str], workers: StartWorkers
    ) -> None:
        """Of those that saw the same revision one gets through, and its bytes stay."""
        running = workers(PROCESSES)
        for _ in range(ROUNDS):
            peer = secrets.token_hex(16)
            won = at_once(running, "put_entry", "data", options=dict(options), fed_id=fed_id, peer_id=peer)
            assert won.count(True) == 1
            assert link.cut(fed_id, [peer]).heads[peer].data == b"%d" % won.index(True)

    def test_roster_from_many_processes_has_one_winner(
        self, link: Link, fed_id: str, options: Mapping[str, str], workers: StartWorkers
    ) -> None:
        """The same of the roster, each round upon the one before; no data comes twice, as those of nodes never do."""
        running = workers(PROCESSES)
        revision = link.put_roster(fed_id, b"first", expect=None)
        for number in range(ROUNDS):
            about = {"options": dict(options), "fed_id": fed_id, "peer_id": "", "expect": revision}
            for each, worker in enumerate(running):
                worker.start("put_entry", **about, data=f"{number}/{each}")
            won = [worker.answer() for worker in running]
            assert won.count(True) == 1
            roster = link.cut(fed_id, []).roster
            assert roster is not None
            assert roster.data == b"%d/%d" % (number, won.index(True))
            revision = roster.revision

    def test_blob_of_another_process_can_be_read(
        self, link: Link, fed_id: str, options: Mapping[str, str], workers: StartWorkers
    ) -> None:
        """Other nodes are other processes: what one puts, overwrites or frees is so for all."""
        (worker,) = workers(1)
        about = {"options": dict(options), "fed_id": fed_id, "peer_id": ALICE, "blob_id": "01"}
        worker.ask("put_blob", **about, chunks=["one", "two"])
        assert link.missing_chunks(fed_id, ALICE, "01", 2) == []
        assert list(link.get_blob(fed_id, ALICE, "01", 2, max_bytes=6)) == [b"one", b"two"]
        mark = link.put_blob(fed_id, ALICE, "01", [b"one", b"two"])
        worker.ask("put_blob", **about, chunks=["bad"])
        assert link.missing_chunks(fed_id, ALICE, "01", 2, since=mark) == [0, 1]
        worker.ask("free_blob", **about, count=2)
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 2, max_bytes=6)

    @pytest.mark.usefixtures("link")
    def test_nudge_of_another_process_is_heard(
        self, listeners: Callable[[], Link], fed_id: str, options: Mapping[str, str], workers: StartWorkers
    ) -> None:
        """That is what nudges are for."""
        (worker,) = workers(1)
        heard = threading.Event()
        stop = listeners().listen(fed_id, BOB, lambda _: heard.set())
        worker.ask("nudge", options=dict(options), fed_id=fed_id, data="news")
        assert heard.wait(self.settle_s)
        stop()


class IdentityAcrossProcesses:
    """Of identities."""

    end_s: float | None = None
    """How long after its end a process may be taken for alive, if that can be told."""

    def test_processes_of_a_node_share_its_key_and_tell_each_other_apart(
        self, identity: Identity, workers: StartWorkers
    ) -> None:
        """What one sealed the next can open; what one began another leaves alone while it runs."""
        running = workers(2)
        told = [worker.ask("describe") for worker in running]
        key = hashlib.sha256(identity.master_key).hexdigest()
        assert [each["key"] == key for each in told] == [True, True]
        marks = [each["instance"] for each in told]
        assert len({identity.instance, *marks}) == 3
        assert [identity.alive(mark) for mark in marks] == [True, True]
        assert running[0].ask("alive", instance=identity.instance) is True

    def test_killed_process_is_seen_as_gone(self, identity: Identity, workers: StartWorkers) -> None:
        """Others take up what it had begun."""
        if self.end_s is None:
            pytest.skip("it was not told how long a process may be taken for alive after its end (`end_s`)")
        (worker,) = workers(1)
        mark = worker.ask("describe")["instance"]
        worker.kill()
        deadline = time.monotonic() + self.end_s
        while identity.alive(mark):
            assert time.monotonic() < deadline, f"a killed process is alive after {self.end_s} s"
            time.sleep(0.05)
