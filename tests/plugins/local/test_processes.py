"""Several processes on one home, and processes that are killed at the worst moment."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import pytest

from gramian.errors import BlobMissing
from gramian.ports import Put
from gramian.testing.clock import FakeClock
from gramian_local.blobs import FileBlobStore
from gramian_local.home import open_home
from gramian_local.state import SqliteStateStore
from gramian_local.tokens import SqliteTokenStore

PROCESSES = 3

OPEN_HOME = """
import sys
from gramian_local.home import open_home
from gramian_local.state import SqliteStateStore
print("ready", flush=True)
sys.stdin.readline()
home = open_home(sys.argv[1])
SqliteStateStore(home.database).close()
print(home.master_key.hex())
"""

COUNT_AND_CLAIM = """
import sys
from gramian.errors import ConditionFailed
from gramian.ports import ABSENT, Put
from gramian_local.state import SqliteStateStore
from gramian_local.tokens import SqliteTokenStore
state, tokens = SqliteStateStore(sys.argv[1]), SqliteTokenStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(40):
    won += tokens.claim(f"token{number}", b"", now=100, expires_at=200) is None
    while True:
        item = state.get("p", "count")
        value, version = (int(item.value), item.version) if item else (0, ABSENT)
        try:
            state.write(Put("p", "count", b"%d" % (value + 1), version))
        except ConditionFailed:
            continue
        break
print(won)
"""

WRITE_PAIRS = """
import sys
from gramian.ports import Put
from gramian_local.state import SqliteStateStore
store = SqliteStateStore(sys.argv[1])
number = 0
while True:
    number += 1
    value = b"%d" % number + b" " * 20_000
    store.write(Put("p", "a", value), Put("p", "b", value))
    print(number, flush=True)
"""

HANG_INSIDE_GROUP = """
import sys, time
from gramian.ports import Put
from gramian_local import state
store = state.SqliteStateStore(sys.argv[1])
apply = state._apply
def hang_at_second(connection, write):
    if write.key == "b":
        print("inside", flush=True)
        time.sleep(60)
    apply(connection, write)
state._apply = hang_at_second
store.write(Put("p", "a", b"new"), Put("p", "b", b"new"))
"""

HANG_BEFORE_NAMING = """
import sys, time
from pathlib import Path
from gramian_local.blobs import FileBlobStore
def hang(path, target):
    print(target.name, flush=True)
    time.sleep(60)
Path.replace = hang
FileBlobStore(sys.argv[1]).put("00", b"data")
"""


def _race(spawn, script, argument):
    """Run the script in several processes that start their work at the same moment; their last lines."""
    processes = [spawn(script, argument) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    return answers


def _kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_processes_opening_a_new_home_agree_on_its_key(tmp_path, spawn):
    """Key and database are made once, whoever comes first."""
    answers = _race(spawn, OPEN_HOME, tmp_path / "home")
    assert set(answers) == {open_home(tmp_path / "home").master_key.hex()}


def test_processes_share_claims_and_counters(database_path, spawn):
    """Each token has one winner, and no increment is lost."""
    won = _race(spawn, COUNT_AND_CLAIM, database_path)
    assert sum(map(int, won)) == 40
    with closing(SqliteStateStore(database_path)) as store:
        item = store.get("p", "count")
    assert item is not None
    assert int(item.value) == 40 * PROCESSES


@pytest.mark.parametrize("writes", [1, 17])
def test_killed_writer_leaves_whole_groups(database_path, spawn, writes):
    """Both items of a pair are of the same write, and nothing that returned is lost."""
    process = spawn(WRITE_PAIRS, database_path)
    lines = [process.stdout.readline() for _ in range(writes)]
    time.sleep(0.003 * writes)
    _kill(process)
    lines += process.stdout.readlines()
    acknowledged = max(int(line) for line in lines if line.endswith("\n"))
    with closing(SqliteStateStore(database_path)) as store:
        values = [int(item.value) for _, item in store.query("p")]
        assert len(set(values)) == 1
        assert len(values) == 2
        assert values[0] in (acknowledged, acknowledged + 1)
        store.write(Put("p", "a", b"next"))


def test_writer_killed_inside_a_group_leaves_nothing_of_it(database_path, spawn):
    """And its lock is gone with it."""
    with closing(SqliteStateStore(database_path)) as store:
        store.write(Put("p", "a", b"old"))
        process = spawn(HANG_INSIDE_GROUP, database_path)
        assert process.stdout.readline() == "inside\n"
        _kill(process)
        assert [(key, item.value) for key, item in store.query("p")] == [("a", b"old")]
        store.write(Put("p", "b", b"next"))
    with closing(SqliteTokenStore(database_path)) as tokens:
        assert tokens.claim("key", b"", now=0, expires_at=1) is None


def test_process_killed_before_naming_a_blob_leaves_none(tmp_path, spawn):
    """The half made file is never seen, and removed after an hour."""
    process = spawn(HANG_BEFORE_NAMING, tmp_path)
    digest = process.stdout.readline().strip()
    _kill(process)
    clock = FakeClock(time.time())
    store = FileBlobStore(tmp_path, clock=clock)
    assert list(store.list("00")) == []
    with pytest.raises(BlobMissing):
        store.get("00", digest)
    shard = tmp_path / "00" / digest[:2]
    assert len(list(shard.iterdir())) == 1
    clock.advance(3700)
    assert list(store.list("00")) == []
    assert list(shard.iterdir()) == []
    assert store.put("00", b"data") == digest
