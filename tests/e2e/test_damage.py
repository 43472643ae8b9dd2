"""Disks that are full or damaged: the call gets a clear error, the log says what to do, other projects go on."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from gramian.client import Client, ServerError
from gramian.errors import PluginError
from gramian_local import process
from gramian_local.process import ServerProcess

NAMES = [f"x{i}" for i in range(40)]
PAGE_BYTES, INDEX_LEAF = 4096, 0x0A


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(60, len(NAMES)))


@pytest.fixture
def server(tmp_path: Path):
    with ServerProcess(tmp_path / "home", "--port", "0", "--no-nats") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Client:
    client = server.create_user("a")
    for pid in ("sick", "sound"):
        client.create_project(pid)
        client.learn(pid, NAMES, "C" * len(NAMES), rows(1))
    return client


def blob_files(home: Path) -> list[Path]:
    return [path for path in (home / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_damaged_blob_fails_its_project_alone(server: ServerProcess, client: Client, damage: str) -> None:
    """503 at the call, the file's digest and a remedy in the log, the other project unharmed."""
    before = set(blob_files(server.home))
    client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    (blob,) = set(blob_files(server.home)) - before
    if damage == "truncate":
        blob.write_bytes(blob.read_bytes()[:100])
    else:
        blob.unlink()
    with pytest.raises(ServerError, match=r"try again|change too quickly"):
        client.build("sick", "m", "x0")
    client.build("sound", "m", "x0")
    if damage == "truncate":
        assert blob.name in server.log_path.read_text()
        assert "restore" in server.log_path.read_text().lower()


def test_full_disk_is_an_error_of_the_call_and_nothing_more(server: ServerProcess, client: Client) -> None:
    """No row is half there; with room again, everything goes on."""
    limited = psutil.Process(server.pid)
    limited.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    with pytest.raises(ServerError, match="try again"):
        client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    assert "check free space" in server.log_path.read_text()
    assert client.project_info("sound")["params"]["local_rows"] == "60"
    limited.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert client.project_info("sick")["params"]["local_rows"] == "60"
    client.learn("sick", NAMES, "C" * len(NAMES), rows(2))
    assert client.project_info("sick")["params"]["local_rows"] == "120"
    client.build("sick", "m", "x0")


def test_server_on_a_home_that_is_read_only_says_so(
    server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As file systems become when their disk fails: in one line, with what to look at. Writable again, all is there."""
    server.stop()
    mounts = f"mount --bind '{server.home}' '{server.home}' && mount -o remount,bind,ro '{server.home}'"
    mounted = ("unshare", "--mount", "sh", "-c", mounts + ' && exec "$0" "$@"', sys.executable, "-m", "gramian_local")
    if subprocess.run([*mounted[:5], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mounts are permitted here")
    with monkeypatch.context() as patch:
        patch.setattr(process, "_COMMAND", mounted)
        with pytest.raises(PluginError, match="whether the disk is mounted read-only"):
            server.start()
    assert "Traceback" not in server.log_path.read_text()
    server.start()
    assert Client(server.url, "a", client.secret_key).project_info("sick")["params"]["local_rows"] == "60"


def test_damaged_page_of_the_database_fails_what_stands_on_it_alone(server: ServerProcess, client: Client) -> None:
    """A page with rows of one project: its calls fail, the log names file and remedy, the other project goes on."""
    for seed in range(30):  # fewer than are folded
        for pid in ("sick", "sound"):
            client.learn(pid, NAMES[:10], "C" * 10, rows(seed)[:, :10])
    server.stop()
    damage_a_page_of("sick", server.home / "gramian.db")
    server.start()
    client = Client(server.url, "a", client.secret_key)
    with pytest.raises(ServerError, match="try again"):
        client.build("sick", "m", "x0")
    log = server.log_path.read_text()
    assert "gramian.db" in log
    assert "restore a backup" in log
    assert client.project_info("sound")["params"]["local_rows"] == str(31 * 60)
    client.forget("sound", NAMES[:10], "C" * 10, rows(7)[:, :10])
    assert client.project_info("sound")["params"]["local_rows"] == str(30 * 60)


def damage_a_page_of(pid: str, database: Path) -> None:
    """One that holds items of this project and nothing else."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        owners = connection.execute(
            "SELECT key, value FROM items WHERE CAST(partition AS TEXT) LIKE 'projects/%'"
        ).fetchall()
    uids = {bytes(key).decode(): json.loads(value)["uid"].encode() for key, value in owners}
    content = bytearray(database.read_bytes())
    pages = [content[start : start + PAGE_BYTES] for start in range(0, len(content), PAGE_BYTES)]
    others = [uid for other, uid in uids.items() if other != pid]
    own = [
        number
        for number, page in enumerate(pages)
        if page[0] == INDEX_LEAF and page.count(uids[pid]) > 1 and not any(uid in page for uid in others)
    ]
    assert len(own) >= 3, "none has such pages on both sides"
    place = own[len(own) // 2] * PAGE_BYTES
    content[place : place + PAGE_BYTES] = b"\xff" * PAGE_BYTES
    database.write_bytes(content)


def test_damaged_database_is_named_with_the_remedy(server: ServerProcess, client: Client) -> None:
    """A server on it says what is broken instead of serving nonsense."""
    server.stop()
    database = server.home / "gramian.db"
    content = bytearray(database.read_bytes())
    content[0:100] = b"\xff" * 100
    database.write_bytes(bytes(content))
    with pytest.raises(PluginError, match=r"gramian\.db.*restore") as refused:
        server.start()
    assert "Traceback" not in str(refused.value)


def test_home_without_its_key_is_refused_with_the_remedy(server: ServerProcess, client: Client) -> None:
    """A fresh key could open nothing of what the lost one sealed."""
    server.stop()
    (server.home / "master.key").unlink()
    with pytest.raises(PluginError, match=r"master\.key is missing"):
        server.start()
